package recordfile

import (
	"encoding/binary"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// What Windows Server gives, and the records it means.
const (
	exportCSV = `#TYPE Microsoft.Management.Infrastructure.CimInstance#root/standardcimv2/MSFT_NetVirtualizationLookupRecordSettingData
"Caption","Description","ElementName","InstanceID","Context","CustomerAddress","CustomerID","MACAddress","ProviderAddress","Rule","Type","Unsynchronized","Unusable","UseVmMACAddress","VirtualSubnetID","VMName","PSComputerName"
,,,,,"10.1.1.11","{5B1C6A3E-0D0C-4F55-9A5E-1F3C2F0A7B11}","00155D000001","192.168.1.10","TranslationMethodEncap","Static","False","False","False","5001","SQL, the first",
,,,,"moved",10.1.1.12,{00000000-0000-0000-0000-000000000000},00155D000002,192.168.2.10,TranslationMethodNat,L2Only,False,True,True,5001,,
`
	convertJSON = `[
    {
        "Context":  null,
        "CustomerAddress":  "10.1.1.11",
        "CustomerID":  "{5B1C6A3E-0D0C-4F55-9A5E-1F3C2F0A7B11}",
        "MACAddress":  "00155D000001",
        "ProviderAddress":  "192.168.1.10",
        "Rule":  1,
        "Type":  0,
        "Unusable":  false,
        "UseVmMACAddress":  false,
        "VirtualSubnetID":  5001,
        "VMName":  "SQL, the first",
        "CimClass":  { "CimSuperClassName":  "MSFT_NetSettingData" },
        "PSComputerName":  null
    },
    {
        "Context":  "moved",
        "CustomerAddress":  "10.1.1.12",
        "CustomerID":  "{00000000-0000-0000-0000-000000000000}",
        "MACAddress":  "00155D000002",
        "ProviderAddress":  "192.168.2.10",
        "Rule":  0,
        "Type":  6,
        "UseVmMACAddress":  true,
        "VirtualSubnetID":  5001
    }
]
`
)

var wantRecords = []v1.LookupRecord{
	{VSID: 5001, CA: "10.1.1.11", MAC: "00155D000001", PA: "192.168.1.10", Type: "static", VMName: "SQL, the first", RDID: "{5B1C6A3E-0D0C-4F55-9A5E-1F3C2F0A7B11}"},
	{VSID: 5001, CA: "10.1.1.12", MAC: "00155D000002", PA: "192.168.2.10", Type: "l2only", Rule: "rewrite", Context: "moved", UseVMMAC: true},
}

func utf16le(s string) []byte {
	out := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(s)) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return out
}

func TestParse(t *testing.T) {
	crlf := strings.ReplaceAll(exportCSV, "\n", "\r\n")
	for name, tc := range map[string]struct {
		data  []byte
		lines []int
	}{
		"csv":       {[]byte(exportCSV), []int{3, 4}},
		"crlf":      {[]byte(crlf), []int{3, 4}},
		"bom":       {[]byte("\ufeff" + exportCSV), []int{3, 4}},
		"utf-16":    {utf16le(crlf), []int{3, 4}},
		"no type":   {[]byte(exportCSV[strings.Index(exportCSV, "\n")+1:]), []int{2, 3}},
		"json":      {[]byte(convertJSON), []int{2, 17}},
		"json bom":  {utf16le(convertJSON), []int{2, 17}},
		"wrapped":   {[]byte("{\n\"items\":\n" + convertJSON + "}\n"), []int{4, 19}},
		"semicolon": {[]byte("vsid;ca;mac;pa;type;rule;usevmmac;context;vmname;rdid\n5001;10.1.1.11;00155D000001;192.168.1.10;Static;;;;SQL, the first;{5B1C6A3E-0D0C-4F55-9A5E-1F3C2F0A7B11}\n5001;10.1.1.12;00155D000002;192.168.2.10;l2-only;rewrite;true;moved;;\n"), []int{2, 3}},
	} {
		f, err := Parse("f", tc.data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(wantRecords, f.Records); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if diff := cmp.Diff(tc.lines, f.Lines); diff != "" {
			t.Errorf("%s: lines: %s", name, diff)
		}
	}
}

func TestSingleObject(t *testing.T) {
	f, err := Parse("f", []byte(`{"VirtualSubnetID": "5001", "CustomerAddress": "10.1.1.11", "MACAddress": "00155D000001", "ProviderAddress": "192.168.1.10"}`))
	if err != nil || len(f.Records) != 1 || f.Records[0].VSID != 5001 {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestOwnListIsReadAgain(t *testing.T) {
	list := v1.LookupRecordList{Items: []v1.LookupRecord{
		{VSID: 5000, CA: "10.254.254.2", MAC: "02:68:6e:00:13:88", PA: "192.168.1.1", Rule: "nvgre", Type: "static", Tenant: "contoso", Origin: v1.OriginGateway},
		{VSID: 5001, CA: "10.1.1.11", MAC: "00:15:5d:00:00:01", PA: "192.168.1.10", Rule: "nvgre", Type: "gateway-wildcard", Tenant: "contoso", Origin: v1.OriginConfigured, UseVMMAC: true, TeamPAs: []string{"192.168.1.11", "192.168.1.12"}},
		{VSID: 5001, CA: "10.1.1.1", MAC: "02:68:6e:00:00:01", Rule: "nvgre", Type: "static", Tenant: "contoso", Origin: v1.OriginSubnet},
	}}
	b, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse("f", b)
	if err != nil {
		t.Fatal(err)
	}
	want := list.Items[1]
	want.Origin = ""
	if diff := cmp.Diff([]v1.LookupRecord{want}, f.Records); diff != "" || f.Gateway != 1 || f.Subnet != 1 {
		t.Errorf("%d of a gateway, %d of subnets; %s", f.Gateway, f.Subnet, diff)
	}
}

func TestRefusals(t *testing.T) {
	const head = "VirtualSubnetID,CustomerAddress,MACAddress,ProviderAddress,Rule,Type,UseVmMACAddress\n"
	for name, tc := range map[string]struct {
		in   string
		want []string
	}{
		"empty":          {"", []string{"f:1: the file holds no lookup record"}},
		"header only":    {head, []string{"f:1: the file holds no lookup record"}},
		"empty list":     {"[]", []string{"f:1: the file holds no lookup record"}},
		"unknown column": {"VirtualSubnetID,Colour,MACAddress,ProviderAddress\n", []string{`f:1: unknown column "Colour"`}},
		"missing column": {"VirtualSubnetID,MACAddress\n", []string{"f:1: column ProviderAddress is missing"}},
		"column twice":   {"vsid,mac,pa,mac\n", []string{`f:1: column "mac" is there twice`}},
		"all rows": {head + "x,10.1.1.11,1,2,TranslationMethodNone,Odd,perhaps\n5001,10.1.1.12\n5001,10.1.1.13,00155D000001,192.168.1.10,,,\n", []string{
			`f:2: VirtualSubnetID "x" is not a whole number`, `f:2: rule "TranslationMethodNone" is not taken`, `f:2: type "Odd" is unknown`,
			`f:2: UseVmMACAddress "perhaps" must be True or False`, "f:3: 2 fields, but the header has 7"}},
		"twice":       {head + "5001,10.1.1.11,00155D000001,192.168.1.10,,,\n5001,10.1.1.11,00155D000002,192.168.1.10,,,\n", []string{"f:3: record 5001/10.1.1.11 is given twice: it is in line 2 already"}},
		"bad quotes":  {head + "5001,\"10.1.1.11,x\n", []string{"f:2: malformed CSV"}},
		"json syntax": {"[\n{\"vsid\": 5001,}\n]", []string{"f:2: malformed JSON"}},
		"json tail":   {"[]\n[]", []string{"f:2: malformed JSON: there is more after the records"}},
		"json fields": {"[\n{\"vsid\": 5001, \"colour\": 1, \"mac\": [1], \"pa\": \"192.168.1.10\"},\n7\n]", []string{`f:2: unknown field "colour"`, "f:2: mac must be one value", "f:2: MACAddress is missing", "f:3: a lookup record must be an object, not a number"}},
		"items":       {`{"items": 5}`, []string{"f:1: items must be a list"}},
		"binary":      {"\x80\x81", []string{"f:1: the file is not text"}},
		"half utf-16": {"\xff\xfea", []string{"f:1: the file is cut off"}},
	} {
		_, err := Parse("f", []byte(tc.in))
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, w := range tc.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q is not among the errors:\n%v", name, w, err)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{exportCSV, convertJSON, `{"items":[{"vsid":1}]}`, "vsid;mac;pa\n5001;x;y\n", "[{},[1],null]",
		"vsid,ca,mac,pa,type,teamPAs\n5001,0.0.0.0,x,y,2,a b\n5001,1.2.3.4,x,y,,\n5001,::,z,y,6,\n", `[{"vsid":1,"mac":"x","pa":"y","teamPAs":["a","b c"]}]`} {
		f.Add([]byte(s))
	}
	f.Add(utf16le(exportCSV))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := Parse("f", b)
		if err != nil {
			return
		}
		if len(file.Records) != len(file.Lines) {
			t.Fatalf("%d records, %d lines", len(file.Records), len(file.Lines))
		}
		last := 0
		for _, l := range file.Lines {
			if l < last {
				t.Errorf("line %d after %d", l, last)
			}
			last = l
		}
		if len(file.Records) == 0 {
			return
		}
		out, err := json.Marshal(v1.LookupRecordList{Items: file.Records})
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("g", out)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if diff := cmp.Diff(file.Records, again.Records); diff != "" {
			t.Error(diff)
		}
		for _, r := range again.Records {
			if r.CA == "" && r.Type != "l2only" {
				return // none that a gateway would have
			}
		}
		for _, f := range []Format{CSV, JSON} {
			b := write(t, f, again.Records)
			written, err := Parse("h", b)
			if err != nil {
				t.Fatalf("%v\n%s", err, b)
			}
			if len(written.Records) != len(again.Records) {
				t.Errorf("%d records were written, %d are read: %s", len(again.Records), len(written.Records), b)
			}
		}
	})
}
