// Package gen turns the list of drop reasons into Go, C and documentation.
// Only the generator and the test that the generated files are current import
// it.
package gen

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"go/format"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// Reason is one line of the list.
type Reason struct {
	Number  int
	Name    string // lower-case words joined by hyphens
	Source  string // the document that asks for the drop; "" if none
	Meaning string // one sentence
	Group   string // the comment above the reason's paragraph
}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

// Parse reads the list and checks it: numbers count up from 1 without a gap,
// names are unique, every meaning is a sentence. It reports every fault.
func Parse(r io.Reader) ([]Reason, error) {
	var (
		reasons []Reason
		errs    []error
		group   string
		seen    = map[string]bool{}
		line    int
	)
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		line++
		text := strings.TrimSpace(sc.Text())
		if comment, ok := strings.CutPrefix(text, "#"); ok {
			group = strings.TrimSpace(comment)
			continue
		}
		if text == "" {
			continue
		}
		reason, err := parseLine(text)
		if err == nil && reason.Number != len(reasons)+1 {
			err = fmt.Errorf("number %d is out of order: expected %d", reason.Number, len(reasons)+1)
		}
		if err == nil && seen[reason.Name] {
			err = fmt.Errorf("name %q stands twice", reason.Name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("line %d: %w", line, err))
			continue
		}
		seen[reason.Name] = true
		reason.Group = group
		reasons = append(reasons, reason)
	}
	if err := sc.Err(); err != nil {
		errs = append(errs, fmt.Errorf("read list: %w", err))
	}
	if len(reasons) > 254 {
		errs = append(errs, fmt.Errorf("%d reasons do not fit a byte", len(reasons)))
	}
	return reasons, errors.Join(errs...)
}

func parseLine(text string) (Reason, error) {
	col := strings.Split(text, "|")
	if len(col) != 4 {
		return Reason{}, fmt.Errorf("%d columns: expected number | name | source | meaning", len(col))
	}
	for i := range col {
		col[i] = strings.TrimSpace(col[i])
	}
	n, err := strconv.Atoi(col[0])
	if err != nil {
		return Reason{}, fmt.Errorf("number %q: %w", col[0], err)
	}
	switch {
	case !nameForm.MatchString(col[1]) || col[1] == "none" || col[1] == "unknown":
		return Reason{}, fmt.Errorf("name %q: expected lower-case words joined by hyphens, not none or unknown", col[1])
	case col[2] == "":
		return Reason{}, fmt.Errorf("%s: the source is empty: write - where there is none", col[1])
	case !strings.HasSuffix(col[3], "."):
		return Reason{}, fmt.Errorf("%s: the meaning is not a sentence", col[1])
	}
	if col[2] == "-" {
		col[2] = ""
	}
	return Reason{Number: n, Name: col[1], Source: col[2], Meaning: col[3]}, nil
}

// spelling has the words that Go names do not simply capitalize.
var spelling = map[string]string{
	"acl": "ACL", "arp": "ARP", "dhcp": "DHCP", "ca": "CA", "ecn": "ECN", "ethertype": "EtherType", "gre": "GRE",
	"gso": "GSO", "mac": "MAC", "nat": "NAT", "nd": "ND", "pa": "PA", "ttl": "TTL", "udp": "UDP",
	"vlan": "VLAN", "vni": "VNI", "vsid": "VSID", "vxlan": "VXLAN",
}

// GoName gives the constant's name: "source-pa-mismatch" is SourcePAMismatch.
func (r Reason) GoName() string {
	var b strings.Builder
	for word := range strings.SplitSeq(r.Name, "-") {
		if s, ok := spelling[word]; ok {
			b.WriteString(s)
		} else {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}

const header = "Code generated from dataplane/drop/reasons.txt by reasongen; DO NOT EDIT."

// Go writes the constants and the table of package drop.
func Go(reasons []Reason) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "// %s\n\npackage drop\n\n// The reasons.\nconst (\n\tNone Reason = 0 // not dropped\n", header)
	group := ""
	for _, r := range reasons {
		if r.Group != group {
			group = r.Group
			fmt.Fprintf(&b, "\n\t// %s\n\n", group)
		}
		fmt.Fprintf(&b, "\t// %s: %s\n\t%[1]s Reason = %[3]d\n", r.GoName(), r.Meaning, r.Number)
	}
	fmt.Fprintf(&b, "\n\t// Count is one more than the greatest reason.\n\tCount = %d\n)\n\n", len(reasons)+1)
	b.WriteString("var table = [Count]struct{ name, meaning, source string }{\n\tNone: {name: \"none\", meaning: \"Not dropped.\"},\n")
	for _, r := range reasons {
		fmt.Fprintf(&b, "\t%s: {%q, %q, %q},\n", r.GoName(), r.Name, r.Meaning, r.Source)
	}
	b.WriteString("}\n")
	return format.Source(b.Bytes())
}

// CName gives the constant's name in C: "source-pa-mismatch" is
// DROP_SOURCE_PA_MISMATCH.
func (r Reason) CName() string {
	return "DROP_" + strings.ToUpper(strings.ReplaceAll(r.Name, "-", "_"))
}

// C writes the constants for the eBPF programs.
func C(reasons []Reason) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */\n/* %s */\n#pragma once\n\nenum drop_reason {\n", header)
	for _, r := range reasons {
		fmt.Fprintf(&b, "\t%s = %d,\n", r.CName(), r.Number)
	}
	b.WriteString("};\n")
	return b.Bytes()
}

// Markdown writes the page for operators.
func Markdown(reasons []Reason) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<!-- %s -->\n", header)
	b.WriteString("# Drop reasons\n\nEvery packet that the dataplane drops is counted under one of these reasons, by tenant;\n" +
		"packets dropped before their tenant is known are counted under no tenant. The names are\n" +
		"the same in `gatewayctl status`, in the API, in the metrics and in the eBPF programs.\n")
	group := ""
	for _, r := range reasons {
		if r.Group != group {
			group = r.Group
			fmt.Fprintf(&b, "\n## %s\n\n| No. | Reason | Meaning | Source |\n|---:|---|---|---|\n", strings.TrimSuffix(group, "."))
		}
		fmt.Fprintf(&b, "| %d | `%s` | %s | %s |\n", r.Number, r.Name, r.Meaning, r.Source)
	}
	return b.Bytes()
}
