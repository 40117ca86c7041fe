package recordfile

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"strings"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// csv reads what Export-Csv writes: perhaps a line "#TYPE ...", then a header,
// then a line a record; the separator is a comma, or what the culture has.
func (p *parser) csv(b []byte) {
	skipped := 0
	if bytes.HasPrefix(b, []byte("#TYPE")) {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			i = len(b) - 1
		}
		b = b[i+1:]
		skipped = 1
	}
	r := csv.NewReader(bytes.NewReader(b))
	r.Comma = separator(b)
	r.FieldsPerRecord = -1
	header, err := r.Read()
	if errors.Is(err, io.EOF) {
		return
	}
	if err != nil {
		p.csvError(err, skipped)
		return
	}
	setters := p.header(header, 1+skipped)
	if len(p.errs) > 0 {
		return
	}
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			p.csvError(err, skipped)
			return
		}
		line, _ := r.FieldPos(0)
		line += skipped
		if len(row) != len(header) {
			p.fail(line, "%d fields, but the header has %d", len(row), len(header))
			continue
		}
		var rec v1.LookupRecord
		good := true
		for i, set := range setters {
			if v := strings.TrimSpace(row[i]); set != nil && v != "" {
				if err := set(&rec, v); err != nil {
					p.fail(line, "%v", err)
					good = false
				}
			}
		}
		if good {
			p.add(line, rec)
		}
	}
}

func (p *parser) header(header []string, line int) []set {
	setters := make([]set, len(header))
	have := map[string]bool{}
	for i, name := range header {
		key := strings.ToLower(strings.TrimSpace(name))
		s, ok := fields[key]
		if !ok {
			p.fail(line, "unknown column %q: a lookup record has %s", name, knownFields)
			continue
		}
		if have[key] {
			p.fail(line, "column %q is there twice", name)
		}
		have[key] = true
		setters[i] = s
	}
	short := map[string]string{"VirtualSubnetID": "vsid", "MACAddress": "mac", "ProviderAddress": "pa"}
	for _, name := range required {
		if !have[strings.ToLower(name)] && !have[short[name]] && len(p.errs) == 0 {
			p.fail(line, "column %s is missing; it has %s", name, strings.Join(header, ", "))
		}
	}
	return setters
}

// separator is the one that the header is made with.
func separator(b []byte) rune {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	best, most := ',', bytes.Count(line, []byte(","))
	for _, c := range []rune{';', '\t'} {
		if n := bytes.Count(line, []byte(string(c))); n > most {
			best, most = c, n
		}
	}
	return best
}

func (p *parser) csvError(err error, skipped int) {
	var pe *csv.ParseError
	if errors.As(err, &pe) {
		p.fail(pe.Line+skipped, "malformed CSV: %v", pe.Err)
		return
	}
	p.fail(1, "malformed CSV: %v", err)
}
