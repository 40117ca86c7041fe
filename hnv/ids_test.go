package hnv

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestVSIDRange(t *testing.T) {
	for s, ok := range map[string]bool{
		"4096": true, "16777214": true, "5001": true,
		"4095": false, "16777215": false, "0": false, "-1": false, "4294967297": false, "0x2000": false, "": false, " 5001": false,
	} {
		v, err := ParseVSID(s)
		if (err == nil) != ok {
			t.Errorf("ParseVSID(%q) = %v, %v", s, v, err)
		}
		if err != nil && (!errors.Is(err, ErrInvalid) || v.IsValid()) {
			t.Errorf("ParseVSID(%q): error %v, value %v", s, err, v)
		}
	}
}

func TestRDID(t *testing.T) {
	const want = "6f9619ff-8b86-d011-b42d-00cf4fc964ff"
	for _, s := range []string{want, "{" + want + "}", "{" + strings.ToUpper(want) + "}"} {
		r, err := ParseRDID(s)
		if err != nil || r.String() != want {
			t.Errorf("ParseRDID(%q) = %v, %v", s, r, err)
		}
	}
	for _, s := range []string{"", "{" + want, want[1:], strings.Replace(want, "6f", "6g", 1), "00000000-0000-0000-0000-000000000000", strings.ReplaceAll(want, "-", "")} {
		if r, err := ParseRDID(s); err == nil || r.IsValid() {
			t.Errorf("ParseRDID(%q) = %v, want an error", s, r)
		}
	}
	a, b := NewRDID(), NewRDID()
	if a == b || !a.IsValid() || a.String()[14] != '4' {
		t.Errorf("NewRDID gave %v and %v", a, b)
	}
}

func TestMAC(t *testing.T) {
	for _, s := range []string{"00:15:5d:00:00:01", "00-15-5D-00-00-01", "00155D000001"} {
		if m, err := ParseMAC(s); err != nil || m.String() != "00:15:5d:00:00:01" {
			t.Errorf("ParseMAC(%q) = %v, %v", s, m, err)
		}
	}
	for _, s := range []string{"", "00:15:5d:00:00", "00:15-5d:00:00:01", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "00:15:5d:00:00:0g"} {
		if m, err := ParseMAC(s); err == nil {
			t.Errorf("ParseMAC(%q) = %v, want an error", s, m)
		}
	}
	lo, _ := NewVSID(MinVSID)
	hi, _ := NewVSID(MaxVSID)
	for _, v := range []VSID{lo, hi} {
		if CompartmentMAC(v) == RouterMAC {
			t.Errorf("compartment MAC of VSID %v is the router's", v)
		}
	}
	if got := CompartmentMAC(hi).String(); got != "02:68:6e:ff:ff:fe" {
		t.Errorf("CompartmentMAC = %s", got)
	}
}

func TestName(t *testing.T) {
	for s, ok := range map[string]bool{
		"contoso": true, "a": true, "a-1": true, "": false, "-a": false, "a-": false, "A": false, "a/b": false, "a.b": false, "ü": false,
		strings.Repeat("x", MaxName): true, strings.Repeat("x", MaxName+1): false,
	} {
		if _, err := ParseName(s); (err == nil) != ok {
			t.Errorf("ParseName(%q): %v", s, err)
		}
	}
}

func TestExternalRange(t *testing.T) {
	for s, want := range map[string]string{
		"203.0.113.10": "203.0.113.10", "203.0.113.10:20000-29999": "203.0.113.10:20000-29999",
		"2001:db8::1": "2001:db8::1", "[2001:db8::1]:1024-2047": "[2001:db8::1]:1024-2047",
		"203.0.113.10:0-5": "", "203.0.113.10:0-0": "", "203.0.113.10:9-5": "", "203.0.113.10:1-70000": "", "x": "", "127.0.0.1": "", "224.0.0.1": "",
		"fe80::1%eth0": "", "::ffff:1.2.3.4": "", "203.0.113.10:80": "",
	} {
		r, err := ParseExternalRange(s)
		if want == "" && err == nil || want != "" && r.String() != want {
			t.Errorf("ParseExternalRange(%q) = %v, %v; want %q", s, r, err, want)
		}
	}
}

// What is stored is JSON; reading it back must check it again.
func TestJSONChecks(t *testing.T) {
	for _, doc := range []string{
		`{"name":"contoso","rdid":"x"}`, `{"name":"Contoso"}`,
		`{"subnets":[{"vsid":"1"}]}`,
	} {
		var x Tenant
		if err := json.Unmarshal([]byte(doc), &x); err == nil {
			t.Errorf("%s was taken: %+v", doc, x)
		}
	}
}

func FuzzParsers(f *testing.F) {
	for _, s := range []string{"5001", "{6f9619ff-8b86-d011-b42d-00cf4fc964ff}", "00-15-5D-00-00-01", "contoso", "203.0.113.10:1-2", "5001/10.1.1.11", "5001/00:15:5d:00:00:01"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := ParseVSID(s); err == nil && (v.Uint32() < MinVSID || v.Uint32() > MaxVSID) {
			t.Errorf("VSID %v built from %q", v, s)
		}
		if r, err := ParseRDID(s); err == nil {
			if again, err := ParseRDID(r.String()); err != nil || again != r {
				t.Errorf("RDID %q does not survive its text", s)
			}
		}
		if m, err := ParseMAC(s); err == nil {
			if again, err := ParseMAC(m.String()); err != nil || again != m || m.Bytes()[0]&1 != 0 {
				t.Errorf("MAC %q does not survive its text", s)
			}
		}
		if n, err := ParseName(s); err == nil && strings.ContainsAny(n.String(), "/. \x00") {
			t.Errorf("name %q was taken", s)
		}
		if r, err := ParseExternalRange(s); err == nil {
			if again, err := ParseExternalRange(r.String()); err != nil || again != r {
				t.Errorf("range %q does not survive its text %q", s, r)
			}
		}
		if k, err := ParseRecordKey(s); err == nil {
			if again, err := ParseRecordKey(k.String()); err != nil || again != k {
				t.Errorf("record key %q does not survive its text %q", s, k)
			}
		}
	})
}
