package recordfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// json reads what ConvertTo-Json writes, a list or, for a single record, an
// object; and {"items": [...]}, as `gatewayctl record list -o json` prints.
func (p *parser) json(b []byte) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	lines := newlines(b)
	here := func() int {
		// The decoder stands behind the last token; the value begins past the
		// white space and the comma that follow it.
		at := int(d.InputOffset())
		for at < len(b) && strings.IndexByte(" \t\r\n,:", b[at]) >= 0 {
			at++
		}
		n, _ := slices.BinarySearch(lines, at)
		return n + 1
	}
	fail := func(err error) {
		var syntax *json.SyntaxError
		at := int(d.InputOffset())
		if errors.As(err, &syntax) {
			at = int(syntax.Offset)
		}
		n, _ := slices.BinarySearch(lines, at)
		p.fail(n+1, "malformed JSON: %v", err)
	}
	if b[bytes.IndexAny(b, "[{")] == '{' {
		var object map[string]json.RawMessage
		line := here()
		if err := d.Decode(&object); err != nil {
			fail(err)
			return
		}
		items, wrapped := object["items"]
		switch {
		case wrapped && len(object) == 1:
			inner := parser{name: p.name}
			if t := bytes.TrimSpace(items); len(t) == 0 || t[0] != '[' {
				p.fail(line, "items must be a list of lookup records")
				return
			}
			// Lines are counted from where the list begins in the file.
			first, _ := slices.BinarySearch(lines, bytes.Index(b, items))
			inner.json(items)
			for _, err := range inner.errs {
				var e *Error
				if errors.As(err, &e) {
					e.Line += first
				}
				p.errs = append(p.errs, err)
			}
			for i, r := range inner.file.Records {
				p.add(inner.file.Lines[i]+first, r)
			}
			p.file.Gateway += inner.file.Gateway
			p.file.Subnet += inner.file.Subnet
		default:
			p.object(line, object)
		}
		p.end(d, fail)
		return
	}
	if _, err := d.Token(); err != nil {
		fail(err)
		return
	}
	for d.More() {
		line := here()
		var object map[string]json.RawMessage
		if err := d.Decode(&object); err != nil {
			var kind *json.UnmarshalTypeError
			if errors.As(err, &kind) {
				p.fail(line, "a lookup record must be an object, not a %s", kind.Value)
				continue
			}
			fail(err)
			return
		}
		p.object(line, object)
	}
	if _, err := d.Token(); err != nil {
		fail(err)
		return
	}
	p.end(d, fail)
}

func (p *parser) end(d *json.Decoder, fail func(error)) {
	switch _, err := d.Token(); {
	case err == nil:
		fail(errors.New("there is more after the records"))
	case !errors.Is(err, io.EOF):
		fail(err)
	}
}

func (p *parser) object(line int, object map[string]json.RawMessage) {
	var r v1.LookupRecord
	bad := len(p.errs)
	have := map[string]bool{}
	names := make([]string, 0, len(object))
	for name := range object {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		key := strings.ToLower(name)
		set, ok := fields[key]
		if !ok {
			p.fail(line, "unknown field %q: a lookup record has %s", name, knownFields)
			continue
		}
		if set == nil {
			continue
		}
		text, ok := scalar(object[name])
		if !ok && (key == "teampas" || key == "teamprovideraddresses") {
			text, ok = list(object[name])
		}
		if !ok {
			p.fail(line, "%s must be one value, not a list or an object", name)
			continue
		}
		have[key] = true
		if text == "" {
			continue
		}
		if err := set(&r, text); err != nil {
			p.fail(line, "%v", err)
		}
	}
	short := map[string]string{"VirtualSubnetID": "vsid", "MACAddress": "mac", "ProviderAddress": "pa"}
	for _, name := range required {
		if !have[strings.ToLower(name)] && !have[short[name]] {
			p.fail(line, "%s is missing", name)
		}
	}
	if len(p.errs) == bad {
		p.add(line, r)
	}
}

// scalar gives a string, number or boolean as text; null as none.
func scalar(raw json.RawMessage) (string, bool) {
	t := bytes.TrimSpace(raw)
	if len(t) == 0 || t[0] == '[' || t[0] == '{' {
		return "", false
	}
	if t[0] == '"' {
		var s string
		err := json.Unmarshal(t, &s)
		return strings.TrimSpace(s), err == nil
	}
	if string(t) == "null" {
		return "", true
	}
	return string(t), true
}

// list gives a list of strings as text with blanks between.
func list(raw json.RawMessage) (string, bool) {
	var all []string
	if err := json.Unmarshal(raw, &all); err != nil {
		return "", false
	}
	return strings.Join(all, " "), true
}

// newlines gives where lines end.
func newlines(b []byte) []int {
	var out []int
	for i, c := range b {
		if c == '\n' {
			out = append(out, i)
		}
	}
	return out
}
