package recordfile

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

const rdid = "5b1c6a3e-0d0c-4f55-9a5e-1f3c2f0a7b11"

// all are records of every type and rule, of a tenant with NVGRE.
var all = []v1.LookupRecord{
	{VSID: 5001, CA: "10.1.1.11", MAC: "00:15:5d:00:00:01", PA: "192.168.1.10", Rule: "nvgre", Type: "static", VMName: `SQL "one", the first`, RDID: rdid, TeamPAs: []string{"192.168.1.11", "192.168.1.12"}},
	{VSID: 5001, CA: "10.1.1.12", MAC: "00:15:5d:00:00:02", PA: "192.168.2.10", Rule: "vxlan", Type: "dynamic", Context: "learned\nhere", RDID: rdid},
	{VSID: 5001, CA: "fd00::13", MAC: "00:15:5d:00:00:03", PA: "fd00:1::1", Rule: "rewrite", Type: "static", UseVMMAC: true, RDID: rdid},
	{VSID: 5001, MAC: "00:15:5d:00:00:04", PA: "192.168.1.10", Rule: "nvgre", Type: "l2only", RDID: rdid},
	{VSID: 5000, CA: "10.254.254.2", MAC: "00:15:5d:00:00:05", PA: "192.168.1.1", Rule: "nvgre", Type: "gateway-wildcard", RDID: rdid},
}

func write(t *testing.T, f Format, records []v1.LookupRecord) []byte {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out, f)
	for _, r := range records {
		if err := w.Write(r, "nvgre"); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// What is written is read again as it was, except that the tenant's
// encapsulation goes without saying and names are written in Windows' way.
func TestWrittenIsReadAgain(t *testing.T) {
	var want []v1.LookupRecord
	for _, r := range all {
		if r.Rule == "nvgre" {
			r.Rule = ""
		}
		r.MAC, r.RDID = plainMAC(r.MAC), "{"+strings.ToUpper(r.RDID)+"}"
		want = append(want, r)
	}
	for _, f := range []Format{CSV, JSON} {
		b := write(t, f, all)
		got, err := Parse("f", b)
		if err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		if diff := cmp.Diff(want, got.Records); diff != "" {
			t.Errorf("%s: %s\n%s", f, diff, b)
		}
		if got, err := Parse("f", write(t, f, nil)); err == nil || !strings.Contains(err.Error(), "holds no lookup record") {
			t.Errorf("%s of nothing: %v, %v", f, got, err)
		}
	}
}

func TestWrittenAsWindowsDoes(t *testing.T) {
	const csv = `"CustomerAddress","ProviderAddress","MACAddress","VirtualSubnetID","CustomerID","Context","Rule","VMName","UseVmMACAddress","Type","Unusable","Unsynchronized","TeamProviderAddresses"
"10.1.1.11","192.168.1.10","00155D000001","5001","{5B1C6A3E-0D0C-4F55-9A5E-1F3C2F0A7B11}","","TranslationMethodEncap","SQL ""one"", the first","False","Static","False","False","192.168.1.11 192.168.1.12"
"0.0.0.0","192.168.1.10","00155D000004","5001","{5B1C6A3E-0D0C-4F55-9A5E-1F3C2F0A7B11}","","TranslationMethodEncap","","False","L2Only","False","False",""
`
	if diff := cmp.Diff(csv, string(write(t, CSV, []v1.LookupRecord{all[0], all[3]}))); diff != "" {
		t.Error(diff)
	}
	const json = `[
    {
        "CustomerAddress": "fd00::13",
        "ProviderAddress": "fd00:1::1",
        "MACAddress": "00155D000003",
        "VirtualSubnetID": 5001,
        "CustomerID": "{5B1C6A3E-0D0C-4F55-9A5E-1F3C2F0A7B11}",
        "Context": "",
        "Rule": 0,
        "VMName": "",
        "UseVmMACAddress": true,
        "Type": 0,
        "Unusable": false,
        "Unsynchronized": false
    }
]
`
	if diff := cmp.Diff(json, string(write(t, JSON, all[2:3]))); diff != "" {
		t.Error(diff)
	}
}

type full struct{ room int }

func (f *full) Write(b []byte) (int, error) {
	if f.room -= len(b); f.room < 0 {
		return 0, errors.New("no space left")
	}
	return len(b), nil
}

func TestWriteTellsOfFailures(t *testing.T) {
	for _, f := range []Format{CSV, JSON} {
		w := NewWriter(&full{100}, f)
		for range 100 {
			_ = w.Write(all[0], "nvgre")
		}
		if err := w.Close(); err == nil {
			t.Errorf("%s: nothing is said", f)
		}
	}
	if _, err := ParseFormat("xml"); err == nil {
		t.Error("xml is a format")
	}
}

// A gateway that speaks for addresses without a record, as Windows says it: by
// further records of 0.0.0.0 and ::, in its own type or, before that existed,
// as static ones.
func TestWildcards(t *testing.T) {
	const head = "VirtualSubnetID,CustomerAddress,MACAddress,ProviderAddress,Type,VMName\n"
	f, err := Parse("f", []byte(head+
		"5001,0.0.0.0,00155d05df03,192.168.1.101,GatewayWildcard,wildcard v4\n"+
		"5001,10.6.0.2,00-15-5D-05-DF-03,192.168.1.101,Static,gw\n"+
		"5001,2001:db8:ba::2,00155d05df03,192.168.1.101,Static,gw\n"+
		"5002,10.6.0.2,00155d05df03,192.168.1.101,Static,of another subnet\n"+
		"5001,::,00155d05df03,192.168.1.101,Static,wildcard v6\n"+
		"5001,10.6.0.3,00155d05df04,192.168.1.101,Static,dc\n"+
		"5001,0.0.0.0,00155d05df05,192.168.1.101,L2Only,guest\n"+
		"5001,10.6.0.4,005056000001,1.1.1.1,Static,DHCPExt.sys\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, r := range f.Records {
		got = append(got, strings.Join([]string{r.CA, r.Type, r.VMName}, " "))
		if want := []int{3, 4, 5, 7, 8}[i]; f.Lines[i] != want {
			t.Errorf("record %d is of line %d, want %d", i, f.Lines[i], want)
		}
	}
	want := []string{"10.6.0.2 gateway-wildcard gw", "2001:db8:ba::2 gateway-wildcard gw", "10.6.0.2 static of another subnet", "10.6.0.3 static dc", " l2only guest"}
	if diff := cmp.Diff(want, got); diff != "" || f.Wildcards != 2 || f.Subnet != 1 {
		t.Errorf("%d wildcards, %d of subnets, %s", f.Wildcards, f.Subnet, diff)
	}
	for in, says := range map[string]string{
		"5001,0.0.0.0,00155d05df03,192.168.1.101,Static,x\n":                                                             "f:2: the record of 0.0.0.0 says that MAC 00155d05df03 in VSID 5001 is a gateway",
		"5001,10.6.0.2,00155d05df03,192.168.1.101,Static,x\n5001,::,00155d05df03,192.168.1.101,Static,x\n":               "f:3: the record of ::",
		"5001,10.6.0.2,00155d05df03,192.168.1.101,Static,x\n5001,0.0.0.0,00155d05df03,192.168.1.102,GatewayWildcard,x\n": "f:3: the gateway of 0.0.0.0 in VSID 5001 is behind 192.168.1.102 here, but behind 192.168.1.101 in line 2",
		"5001,0.0.0.0,00155d05df03,192.168.1.101,L2Only,x\n5001,0.0.0.0,00-15-5D-05-DF-03,192.168.1.101,L2Only,x\n":      "f:3: record 5001/00-15-5D-05-DF-03 is given twice: it is in line 2 already",
	} {
		if _, err := Parse("f", []byte(head+in)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", in, err)
		}
	}
}
