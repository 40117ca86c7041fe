package store

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

// full gives both tenants, of the same addresses and names, everything that can
// be said of them.
func full() []hnv.Object {
	web := must(hnv.ParseName("web"))
	var out []hnv.Object
	for _, o := range twoTenants() {
		switch x := o.(type) {
		case hnv.Tenant:
			x.QoS = &hnv.QoS{InKbps: 100_000, OutKbps: 50_000, DSCP: "copy"}
			x.StormPPS = 500
			s := &x.Subnets[1]
			s.ACL, s.Learning, s.DHCP = web, &hnv.Learning{MaxPerPort: 4, AgeSeconds: 60}, netip.MustParseAddr("10.1.1.12")
			s.MulticastGroup = netip.AddrFrom4([4]byte{239, 1, 1, byte(s.VSID.Uint32())})
			o = x
			out = append(out, hnv.ACL{Tenant: x.Name, Name: web, Rules: []hnv.ACLRule{{
				Priority: uint16(s.VSID.Uint32()), Direction: hnv.Inbound, Action: hnv.Allow, Proto: "tcp",
				Src: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, DstPorts: []hnv.PortRange{{Lo: 443, Hi: 443}, {Lo: 8000, Hi: 8999}},
			}}})
		case hnv.Record:
			x.TeamPAs = []netip.Addr{netip.MustParseAddr("192.168.2.10")}
			o = x
		case hnv.Port:
			x.ACL, x.InKbps, x.OutKbps = web, 1000, 2000
			o = x
		}
		out = append(out, o)
	}
	return out
}

// ACLs come after their tenants and tenants name them: neither can be read
// before the other.
func TestRestartKeepsACLs(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := s.Update(t.Context(), put(full()...)); err != nil {
		t.Fatal(err)
	}
	want := contents(s)
	s.Close()
	s = open(t, dir)
	defer s.Close()
	if got := contents(s); !reflect.DeepEqual(got, want) || len(got) != len(full()) {
		t.Errorf("after restart\n%v\nbefore\n%v", got, want)
	}
	s.View(func(f *hnv.Fabric) {
		for name, prio := range map[string]uint16{"contoso": 5001, "fabrikam": 6001} {
			a, ok := f.ACL(must(hnv.ParseName(name)), must(hnv.ParseName("web")))
			if !ok || a.Rules[0].Priority != prio {
				t.Errorf("%s has ACL %+v", name, a)
			}
		}
	})
	if rev, err := s.Update(t.Context(), put(full()...)); err != nil || rev != s.Revision() || !reflect.DeepEqual(contents(s), want) {
		t.Errorf("the same once more: revision %d, %v", rev, err)
	}
}

// What was written before there were these fields means what it meant.
func TestOldObjectsAreRead(t *testing.T) {
	for key, object := range map[string]string{
		"tenant/contoso": `{"name":"contoso","rdid":"11111111-1111-4111-8111-111111111111","encap":"nvgre",` +
			`"subnets":[{"vsid":"5001","prefixes":[{"prefix":"10.1.1.0/24","gateway":"10.1.1.1"}]}]}`,
		"port/tap1":             `{"interface":"tap1","vsid":"5001","mac":"00:15:5d:00:00:01"}`,
		"record/5001/10.1.1.11": `{"vsid":"5001","ca":"10.1.1.11","mac":"00:15:5d:00:00:01","pa":"192.168.1.10","rule":"nvgre","type":"static"}`,
	} {
		o, err := decode(root+key, []byte(`{"format":1,"object":`+object+`}`))
		if err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		// Nor does it grow when it is written again: an older release reads it.
		again, err := json.Marshal(o)
		if err != nil || string(again) != object {
			t.Errorf("%s is written again as\n%s\nof\n%s (%v)", key, again, object, err)
		}
	}
}

// A learned address moves in the transaction that moves its VM, and in etcd too.
func TestLearnedRecordsFollow(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	l2 := record(5001, "10.1.1.31", "00:15:5d:00:00:31", hnv.RuleNVGRE)
	learned := l2
	l2.CA, l2.Type, learned.Type = netip.Addr{}, hnv.L2Only, hnv.Dynamic
	if _, err := s.Update(t.Context(), put(append(twoTenants(), l2, learned)...)); err != nil {
		t.Fatal(err)
	}
	events := s.Watch(t.Context())
	<-events // the resync that begins it
	l2.PA = netip.MustParseAddr("192.168.1.20")
	if err := s.CheckFunc(t.Context(), func(*hnv.Fabric) ([]hnv.Change, error) { return put(l2), nil }); err != nil {
		t.Errorf("checking the move: %v", err)
	}
	if _, err := s.Update(t.Context(), put(l2)); err != nil {
		t.Fatal(err)
	}
	if e := <-events; len(e.Changes) != 2 {
		t.Errorf("the move is told as %+v, want both records", e.Changes)
	}
	want := contents(s)
	s.Close()
	s = open(t, dir)
	defer s.Close()
	learned.PA = l2.PA
	if got := contents(s); !reflect.DeepEqual(got, want) || !reflect.DeepEqual(got[keyOf(hnv.KindRecord, learned.Key())], hnv.Object(learned)) {
		t.Errorf("after restart %v\nwant %v", got, want)
	}
}

// The records of one station are written together, however large the import:
// apart they would contradict each other half way.
func TestImportKeepsStationsTogether(t *testing.T) {
	s := fresh(t)
	if _, err := s.Update(t.Context(), put(twoTenants()...)); err != nil {
		t.Fatal(err)
	}
	stations := func(pa string) (l2, learned []hnv.Record) {
		for _, r := range manyRecords(7, 1500) {
			r.PA, r.Type = netip.MustParseAddr(pa), hnv.Dynamic
			learned = append(learned, r)
			r.CA, r.Type = netip.Addr{}, hnv.L2Only
			l2 = append(l2, r)
		}
		return l2, learned
	}
	for _, pa := range []string{"192.168.1.30", "192.168.1.31"} {
		l2, learned := stations(pa)
		slices.Reverse(learned)
		if _, err := importAll(t.Context(), s, append(learned, l2...)); err != nil {
			t.Fatalf("to %s: %v", pa, err)
		}
	}
	s.View(func(f *hnv.Fabric) {
		for _, r := range f.TenantRecords(must(hnv.ParseName("contoso"))) {
			if r.Type != hnv.Static && r.PA.String() != "192.168.1.31" {
				t.Fatalf("%s is at %s", r.Key(), r.PA)
			}
		}
	})
}

// Each key that cannot be put is named, a tenant's ACL among them.
func TestLoadNamesTheACL(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := s.Update(t.Context(), put(full()...)); err != nil {
		t.Fatal(err)
	}
	for key := range inEtcd(t, s) {
		if strings.HasPrefix(key, root+"tenant/contoso") {
			if _, err := s.client.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := s.load(t.Context()); err == nil || !strings.Contains(err.Error(), "/hnvgate/v1/acl/contoso/web is invalid: ACL contoso/web: tenant contoso does not exist") ||
		strings.Contains(err.Error(), "fabrikam") {
		t.Errorf("error %v", err)
	}
	s.Close()
}
