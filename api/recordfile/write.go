package recordfile

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// Format is a form of file.
type Format string

// The forms that Writer writes and Parse reads.
const (
	CSV  Format = "csv"  // as Export-Csv
	JSON Format = "json" // as ConvertTo-Json
)

// ParseFormat checks s.
func ParseFormat(s string) (Format, error) {
	if f := Format(strings.ToLower(s)); f == CSV || f == JSON {
		return f, nil
	}
	return "", fmt.Errorf("format %q is unknown: use csv or json", s)
}

// Writer writes lookup records one by one as Get-NetVirtualizationLookupRecord
// gives them. What Windows has no word for stands in our words, and Parse reads
// it again: a rule that is another encapsulation than the tenant's, and the
// further provider addresses of a team.
type Writer struct {
	w      *bufio.Writer
	format Format
	n      int
}

// NewWriter gives a writer; Close must be called in the end.
func NewWriter(w io.Writer, f Format) *Writer {
	return &Writer{w: bufio.NewWriter(w), format: f}
}

// windowsRecord has the fields of the class, in its order, and ours at the end.
type windowsRecord struct {
	CustomerAddress string
	ProviderAddress string
	MACAddress      string
	VirtualSubnetID uint32
	CustomerID      string
	Context         string
	Rule            any
	VMName          string
	UseVmMACAddress bool
	Type            any
	Unusable        bool
	Unsynchronized  bool

	TeamProviderAddresses []string `json:",omitempty"`
}

// columns are the names of windowsRecord's fields.
var columns = []string{
	"CustomerAddress", "ProviderAddress", "MACAddress", "VirtualSubnetID", "CustomerID", "Context", "Rule", "VMName",
	"UseVmMACAddress", "Type", "Unusable", "Unsynchronized", "TeamProviderAddresses",
}

// Write adds a record, whose RDID and type are set; encap is the encapsulation
// of its tenant.
func (w *Writer) Write(r v1.LookupRecord, encap string) error {
	if r.Rule == encap {
		r.Rule = ""
	}
	rule, kind := byOurs(rules, r.Rule), byOurs(types, r.Type)
	out := windowsRecord{
		CustomerAddress: r.CA, ProviderAddress: r.PA, MACAddress: plainMAC(r.MAC), VirtualSubnetID: r.VSID,
		CustomerID: "{" + strings.ToUpper(r.RDID) + "}", Context: r.Context, Rule: rule.windows, VMName: r.VMName,
		UseVmMACAddress: r.UseVMMAC, Type: kind.windows, TeamProviderAddresses: r.TeamPAs,
	}
	if r.CA == "" {
		out.CustomerAddress = "0.0.0.0"
	}
	w.n++
	if w.format == CSV {
		text := row(
			out.CustomerAddress, out.ProviderAddress, out.MACAddress, strconv.FormatUint(uint64(r.VSID), 10), out.CustomerID, out.Context,
			rule.windows, out.VMName, boolean(out.UseVmMACAddress), kind.windows, boolean(false), boolean(false), strings.Join(r.TeamPAs, " "),
		)
		if w.n == 1 {
			text = row(columns...) + text
		}
		return w.text(text)
	}
	// ConvertTo-Json gives the numbers.
	if rule.number != "" {
		out.Rule = json.Number(rule.number)
	}
	if kind.number != "" {
		out.Type = json.Number(kind.number)
	}
	b, err := json.MarshalIndent(out, "    ", "    ")
	if err != nil {
		return fmt.Errorf("write lookup record: %w", err)
	}
	between := ",\n    "
	if w.n == 1 {
		between = "[\n    "
	}
	return w.text(between + string(b))
}

// Close writes what is left.
func (w *Writer) Close() error {
	tail := ""
	switch {
	case w.format == CSV && w.n == 0:
		tail = row(columns...)
	case w.format == JSON && w.n == 0:
		tail = "[]\n"
	case w.format == JSON:
		tail = "\n]\n"
	}
	if err := w.text(tail); err != nil {
		return err
	}
	return w.w.Flush()
}

func (w *Writer) text(s string) error {
	_, err := w.w.WriteString(s)
	return err
}

// row is a line as Export-Csv writes it, every field in quotes.
func row(cells ...string) string {
	quoted := make([]string, len(cells))
	for i, c := range cells {
		quoted[i] = `"` + strings.ReplaceAll(c, `"`, `""`) + `"`
	}
	return strings.Join(quoted, ",") + "\n"
}

// byOurs finds a value by our name; one that Windows does not have keeps it.
func byOurs(all []named, ours string) named {
	if i := slices.IndexFunc(all, func(n named) bool { return n.ours == ours }); i >= 0 {
		return all[i]
	}
	return named{ours: ours, windows: ours}
}

func boolean(b bool) string {
	if b {
		return "True"
	}
	return "False"
}
