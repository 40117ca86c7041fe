package hnv

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// The VSIDs a provider may hand out: RFC 7637 section 3.4 reserves 0 to 0xFFF
// and 0xFFFFFF.
const (
	MinVSID = 0x1000
	MaxVSID = 0xfffffe
)

// VSID is a virtual subnet ID: 24 bits, unique in the datacenter. The zero
// value means "not virtualized" and is not a valid subnet.
type VSID struct{ n uint32 }

// NewVSID checks n.
func NewVSID(n uint32) (VSID, error) {
	if n < MinVSID || n > MaxVSID {
		return VSID{}, invalidf("VSID %d is out of range: use %d to %d (RFC 7637 reserves the rest)", n, MinVSID, MaxVSID)
	}
	return VSID{n}, nil
}

// ParseVSID reads a decimal VSID.
func ParseVSID(s string) (VSID, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return VSID{}, invalidf("VSID %q is not a decimal number: use %d to %d", s, MinVSID, MaxVSID)
	}
	return NewVSID(uint32(n))
}

// Uint32 gives the number as it rides in the NVGRE key or the VXLAN VNI.
func (v VSID) Uint32() uint32 { return v.n }

// IsValid tells whether v was built by NewVSID or ParseVSID.
func (v VSID) IsValid() bool { return v.n != 0 }

func (v VSID) String() string { return strconv.FormatUint(uint64(v.n), 10) }

// MarshalText and UnmarshalText make a VSID a string in JSON.
func (v VSID) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText checks what it reads.
func (v *VSID) UnmarshalText(b []byte) (err error) { *v, err = ParseVSID(string(b)); return err }

// RDID is a routing domain ID: the GUID of one tenant's virtual network, the
// isolation boundary. The zero value is invalid.
type RDID struct{ b [16]byte }

// NewRDID draws a random RDID (RFC 9562 version 4).
func NewRDID() RDID {
	var r RDID
	_, _ = rand.Read(r.b[:]) // crypto/rand.Read never fails
	r.b[6] = r.b[6]&0x0f | 0x40
	r.b[8] = r.b[8]&0x3f | 0x80
	return r
}

// ParseRDID reads a GUID, with or without braces, in either case.
func ParseRDID(s string) (RDID, error) {
	t := s
	if strings.HasPrefix(t, "{") && strings.HasSuffix(t, "}") {
		t = t[1 : len(t)-1]
	}
	bad := func() (RDID, error) {
		return RDID{}, invalidf("RDID %q is not a GUID: write it as 8-4-4-4-12 hexadecimal digits", s)
	}
	if len(t) != 36 || t[8] != '-' || t[13] != '-' || t[18] != '-' || t[23] != '-' {
		return bad()
	}
	var r RDID
	if n, err := hex.Decode(r.b[:], []byte(strings.ReplaceAll(t, "-", ""))); err != nil || n != 16 {
		return bad()
	}
	if !r.IsValid() {
		return RDID{}, invalidf("the RDID of all zeros is the provider's own routing domain and cannot be a tenant's")
	}
	return r, nil
}

// IsValid tells whether r is a tenant's.
func (r RDID) IsValid() bool { return r.b != [16]byte{} }

// Bytes gives the GUID's bytes in the order in which they are written.
func (r RDID) Bytes() [16]byte { return r.b }

func (r RDID) String() string {
	b := r.b
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// MarshalText gives the lower-case form without braces.
func (r RDID) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText checks what it reads.
func (r *RDID) UnmarshalText(b []byte) (err error) { *r, err = ParseRDID(string(b)); return err }

// MAC is a 48-bit unicast Ethernet address. The zero value is invalid.
type MAC struct{ b [6]byte }

// RouterMAC is the distributed router's address: every host answers with it
// for the gateway address of every subnet. Its last three bytes lie below
// MinVSID, so it never equals a compartment's MAC.
var RouterMAC = MAC{[6]byte{0x02, 0x68, 0x6e, 0, 0, 1}}

// CompartmentMAC is the address of the compartment's overlay interface in its
// gateway subnet: locally administered and as unique as the VSID, so that every
// host can know it without asking.
func CompartmentMAC(v VSID) MAC {
	return MAC{[6]byte{0x02, 0x68, 0x6e, byte(v.n >> 16), byte(v.n >> 8), byte(v.n)}}
}

// MACFrom checks six bytes.
func MACFrom(b [6]byte) (MAC, error) {
	m := MAC{b}
	switch {
	case b == [6]byte{}:
		return MAC{}, invalidf("the MAC address of all zeros is not a station's")
	case b[0]&1 != 0:
		return MAC{}, invalidf("MAC address %s is a group address: use a unicast one", m)
	}
	return m, nil
}

// ParseMAC reads 00:15:5d:00:00:01, 00-15-5D-00-00-01 or 00155D000001.
func ParseMAC(s string) (MAC, error) {
	t := s
	if len(t) == 17 && (t[2] == ':' || t[2] == '-') {
		sep := string(t[2])
		if strings.Count(t, sep) == 5 {
			t = strings.ReplaceAll(t, sep, "")
		}
	}
	var b [6]byte
	if len(t) != 12 {
		return MAC{}, invalidf("MAC address %q is malformed: write it as 00:15:5d:00:00:01, 00-15-5D-00-00-01 or 00155D000001", s)
	}
	if _, err := hex.Decode(b[:], []byte(t)); err != nil {
		return MAC{}, invalidf("MAC address %q has a digit that is not hexadecimal", s)
	}
	return MACFrom(b)
}

// Bytes gives the address in transmission order.
func (m MAC) Bytes() [6]byte { return m.b }

// IsValid tells whether m is a station's address.
func (m MAC) IsValid() bool { return m.b != [6]byte{} }

func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m.b[0], m.b[1], m.b[2], m.b[3], m.b[4], m.b[5])
}

// MarshalText gives the colon form; an unset MAC is empty.
func (m MAC) MarshalText() ([]byte, error) {
	if !m.IsValid() {
		return nil, nil
	}
	return []byte(m.String()), nil
}

// UnmarshalText checks what it reads; empty text is an unset MAC.
func (m *MAC) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*m = MAC{}
		return nil
	}
	*m, err = ParseMAC(string(b))
	return err
}

// Name names a tenant. It ends up in names of namespaces, files and cgroups, so
// it is a DNS label (RFC 1123): lower-case letters, digits and inner hyphens.
type Name struct{ s string }

// MaxName is the longest Name.
const MaxName = 40

// ParseName checks s.
func ParseName(s string) (Name, error) {
	if s == "" || len(s) > MaxName {
		return Name{}, invalidf("name %q has %d characters: use 1 to %d", s, len(s), MaxName)
	}
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alnum && (c != '-' || i == 0 || i == len(s)-1) {
			return Name{}, invalidf("name %q is not a DNS label: use lower-case letters, digits and inner hyphens", s)
		}
	}
	return Name{s}, nil
}

// IsValid tells whether n was parsed.
func (n Name) IsValid() bool { return n.s != "" }

func (n Name) String() string { return n.s }

// MarshalText gives the name.
func (n Name) MarshalText() ([]byte, error) { return []byte(n.s), nil }

// UnmarshalText checks what it reads.
func (n *Name) UnmarshalText(b []byte) (err error) { *n, err = ParseName(string(b)); return err }
