package recordfile

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// File is what a file holds.
type File struct {
	Records []v1.LookupRecord
	Lines   []int // Lines[i] is where Records[i] begins, counted from 1
	// Gateway counts records that a gateway made for its compartments, Subnet
	// those that virtual subnets have of themselves: router and DHCP server. They
	// are left out, since every gateway and every host makes its own.
	Gateway, Subnet int
	// Wildcards counts records of the addresses 0.0.0.0 and ::, by which Windows
	// says that a gateway speaks for addresses that no record has: the record of
	// the gateway's own address has type gateway-wildcard for it.
	Wildcards int
}

// Error is one thing that is wrong and its line.
type Error struct {
	File    string
	Line    int
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Message) }

// maxErrors bounds what is told at once.
const maxErrors = 50

// Parse reads a file, which is JSON if it begins with a bracket or brace and CSV
// if not, in UTF-8 or UTF-16 with a byte order mark. The error joins an *Error
// for each thing that is wrong.
func Parse(name string, data []byte) (*File, error) {
	text, err := decodeText(data)
	if err != nil {
		return nil, &Error{name, 1, err.Error()}
	}
	p := &parser{name: name}
	if t := bytes.TrimSpace(text); len(t) > 0 && (t[0] == '[' || t[0] == '{') {
		p.json(text)
	} else {
		p.csv(text)
	}
	if len(p.errs) == 0 {
		p.wildcards()
	}
	if len(p.errs) == 0 {
		p.duplicates()
	}
	if n := len(p.errs); n > maxErrors {
		p.errs = append(p.errs[:maxErrors], fmt.Errorf("and %d more", n-maxErrors))
	}
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	if len(p.file.Records) == 0 && p.file.Gateway == 0 && p.file.Subnet == 0 {
		return nil, &Error{name, 1, "the file holds no lookup record"}
	}
	return &p.file, nil
}

// decodeText takes off a byte order mark and the encoding it stands for:
// PowerShell 5 writes UTF-16 where its output is redirected.
func decodeText(b []byte) ([]byte, error) {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(b, []byte{0xef, 0xbb, 0xbf}):
		b = b[3:]
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}):
		order = binary.LittleEndian
	case bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		order = binary.BigEndian
	}
	if order != nil {
		b = b[2:]
		if len(b)%2 != 0 {
			return nil, errors.New("the file is cut off: UTF-16 has an even number of bytes")
		}
		units := make([]uint16, len(b)/2)
		for i := range units {
			units[i] = order.Uint16(b[2*i:])
		}
		return []byte(string(utf16.Decode(units))), nil
	}
	if !utf8.Valid(b) {
		return nil, errors.New("the file is not text in UTF-8, or UTF-16 with a byte order mark")
	}
	return b, nil
}

type parser struct {
	name string
	file File
	errs []error
}

func (p *parser) fail(line int, format string, args ...any) {
	p.errs = append(p.errs, &Error{p.name, line, fmt.Sprintf(format, args...)})
}

// windowsDHCP is the VM name under which a Windows host lists the DHCP service
// of its own switch.
const windowsDHCP = "DHCPExt.sys"

func (p *parser) add(line int, r v1.LookupRecord) {
	switch {
	case r.Origin == v1.OriginGateway:
		p.file.Gateway++
		return
	case r.Origin == v1.OriginSubnet, r.VMName == windowsDHCP:
		p.file.Subnet++
		return
	}
	r.Origin = ""
	p.file.Records = append(p.file.Records, r)
	p.file.Lines = append(p.file.Lines, line)
}

// duplicates refuses a record that the file holds twice.
func (p *parser) duplicates() {
	type key struct {
		vsid uint32
		id   string
	}
	seen := make(map[key]int, len(p.file.Records))
	for i, r := range p.file.Records {
		k := key{r.VSID, r.CA}
		if r.CA == "" {
			k.id = plainMAC(r.MAC)
		}
		if first, ok := seen[k]; ok {
			p.fail(p.file.Lines[i], "record %d/%s is given twice: it is in line %d already", k.vsid, cmp.Or(r.CA, r.MAC), first)
			continue
		}
		seen[k] = p.file.Lines[i]
	}
}
