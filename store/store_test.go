package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/hnvgate/hnvgate/hnv"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		childMain(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

var site = hnv.Site{Uplinks: []string{"internet"}, PAInterfaces: []string{"eth1"}}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(context.Background(), Options{Dir: dir, Site: site, Log: slog.New(slog.DiscardHandler), unsynced: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fresh(t *testing.T) *Store {
	t.Helper()
	s := open(t, t.TempDir())
	t.Cleanup(s.Close)
	return s
}

func vsid(n uint32) hnv.VSID { return must(hnv.NewVSID(n)) }
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// tenant gives one of several tenants with the very same addresses.
func tenant(name string, n uint32, encap hnv.Encap, external string) hnv.Tenant {
	pfx := func(s string) []hnv.SubnetPrefix { return []hnv.SubnetPrefix{{Prefix: netip.MustParsePrefix(s)}} }
	return hnv.Tenant{
		Name:  must(hnv.ParseName(name)),
		Encap: encap,
		Subnets: []hnv.Subnet{
			{VSID: vsid(n), Prefixes: pfx("10.254.254.0/29")},
			{VSID: vsid(n + 1), Prefixes: pfx("10.1.0.0/16")},
		},
		Gateway: &hnv.Gateway{VSID: vsid(n), Uplink: "internet", NAT: &hnv.NAT{Pool: []hnv.ExternalRange{{Addr: netip.MustParseAddr(external)}}}},
	}
}

func record(n uint32, ca string, mac string, rule hnv.Rule) hnv.Record {
	return hnv.Record{
		VSID: vsid(n), CA: netip.MustParseAddr(ca), MAC: must(hnv.ParseMAC(mac)),
		PA: netip.MustParseAddr("192.168.1.10"), Rule: rule, Type: hnv.Static,
	}
}

func put(objects ...hnv.Object) []hnv.Change {
	var out []hnv.Change
	for _, o := range objects {
		out = append(out, hnv.Change{Put: o})
	}
	return out
}

// twoTenants is a state with contoso and fabrikam, whose addresses are equal.
func twoTenants() []hnv.Object {
	objects := []hnv.Object{
		hnv.ProviderAddress{Addr: netip.MustParsePrefix("192.168.1.1/24"), Interface: "eth1"},
		hnv.ProviderRoute{Prefix: netip.MustParsePrefix("192.168.2.0/24"), NextHop: netip.MustParseAddr("192.168.1.254")},
		tenant("contoso", 5000, hnv.NVGRE, "203.0.113.10"),
		tenant("fabrikam", 6000, hnv.VXLAN, "203.0.113.11"),
	}
	for _, n := range []uint32{5001, 6001} {
		rule := map[uint32]hnv.Rule{5001: hnv.RuleNVGRE, 6001: hnv.RuleVXLAN}[n]
		objects = append(objects,
			record(n, "10.1.1.11", "00:15:5d:00:00:01", rule),
			record(n, "10.1.1.12", "00:15:5d:00:00:02", rule),
			hnv.Port{Interface: fmt.Sprintf("vm%d", n), VSID: vsid(n), MAC: must(hnv.ParseMAC("00:15:5d:00:00:01"))})
	}
	return objects
}

func contents(s *Store) map[string]hnv.Object {
	out := map[string]hnv.Object{}
	s.View(func(f *hnv.Fabric) {
		for _, k := range hnv.Kinds() {
			for _, o := range f.List(k) {
				out[keyOf(k, o.Key())] = o
			}
		}
	})
	return out
}

// inEtcd is what etcd holds, without the mirror's help.
func inEtcd(t *testing.T, s *Store) map[string]string {
	t.Helper()
	resp, err := s.client.Get(context.Background(), root, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, kv := range resp.Kvs {
		out[string(kv.Key)] = string(kv.Value)
	}
	return out
}

func TestRestartKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if s.Revision() != 0 {
		t.Errorf("revision of an empty store = %d", s.Revision())
	}
	rev, err := s.Update(t.Context(), put(twoTenants()...))
	if err != nil {
		t.Fatal(err)
	}
	if rev != s.Revision() || rev == 0 {
		t.Errorf("revision = %d, store says %d", rev, s.Revision())
	}
	want := contents(s)
	if len(want) != len(twoTenants()) {
		t.Fatalf("%d objects, want %d", len(want), len(twoTenants()))
	}
	s.Close()

	s = open(t, dir)
	defer s.Close()
	if got := contents(s); !reflect.DeepEqual(got, want) {
		t.Errorf("after restart\n%v\nbefore\n%v", got, want)
	}
	if s.Revision() != rev {
		t.Errorf("revision after restart = %d, want %d", s.Revision(), rev)
	}
	// The same CA, one record of each tenant, told apart by the VSID.
	s.View(func(f *hnv.Fabric) {
		for _, key := range []string{"5001/10.1.1.11", "6001/10.1.1.11"} {
			if _, ok := f.Get(hnv.KindRecord, key); !ok {
				t.Errorf("record %s is gone", key)
			}
		}
	})
	if _, err := s.Update(t.Context(), []hnv.Change{{Delete: record(5001, "10.1.1.11", "00:15:5d:00:00:01", hnv.RuleNVGRE)}}); err != nil {
		t.Fatal(err)
	}
	if _, ok := contents(s)["/hnvgate/v1/record/6001/10.1.1.11"]; !ok {
		t.Error("deleting contoso's record took fabrikam's along")
	}
}

func TestDataIsPrivate(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "store"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	defer s.Close()
	err := filepath.WalkDir(filepath.Join(dir, "store"), func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", p, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	defer s.Close()
	_, err := Open(t.Context(), Options{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "in use by another gatewayd") {
		t.Errorf("second Open: %v", err)
	}
}

func TestRejectedChangeTouchesNothing(t *testing.T) {
	s := fresh(t)
	if _, err := s.Update(t.Context(), put(twoTenants()...)); err != nil {
		t.Fatal(err)
	}
	mirror, stored, rev := contents(s), inEtcd(t, s), s.Revision()
	good := record(5001, "10.1.1.13", "00:15:5d:00:00:03", hnv.RuleNVGRE)
	for name, tc := range map[string]struct {
		changes []hnv.Change
		kind    error
	}{
		"ca outside":        {put(good, record(5001, "10.9.1.1", "00:15:5d:00:00:04", hnv.RuleNVGRE)), hnv.ErrInvalid},
		"vsid taken":        {put(good, tenant("litware", 6000, hnv.NVGRE, "203.0.113.12")), hnv.ErrConflict},
		"external overlaps": {put(good, tenant("litware", 7000, hnv.NVGRE, "203.0.113.11")), hnv.ErrConflict},
		"duplicate create":  {append(put(good), hnv.Change{Create: true, Put: record(6001, "10.1.1.11", "00:15:5d:00:00:09", hnv.RuleVXLAN)}), hnv.ErrConflict},
		"unknown":           {append(put(good), hnv.Change{Delete: record(5001, "10.1.1.99", "00:15:5d:00:00:04", hnv.RuleNVGRE)}), hnv.ErrNotFound},
		"in use":            {[]hnv.Change{{Delete: hnv.Tenant{Name: must(hnv.ParseName("contoso"))}}}, hnv.ErrInUse},
		"neither":           {append(put(good), hnv.Change{}), hnv.ErrInvalid},
	} {
		if _, err := s.Update(t.Context(), tc.changes); !errors.Is(err, tc.kind) {
			t.Errorf("%s: error %v, want one that is %v", name, err, tc.kind)
		}
		err := s.CheckFunc(t.Context(), func(*hnv.Fabric) ([]hnv.Change, error) { return tc.changes, nil })
		if !errors.Is(err, tc.kind) {
			t.Errorf("%s: CheckFunc says %v, want one that is %v", name, err, tc.kind)
		}
		if !reflect.DeepEqual(contents(s), mirror) {
			t.Errorf("%s: the mirror changed", name)
		}
		if !reflect.DeepEqual(inEtcd(t, s), stored) || s.Revision() != rev {
			t.Errorf("%s: etcd changed", name)
		}
	}
	if err := s.CheckFunc(t.Context(), func(*hnv.Fabric) ([]hnv.Change, error) { return put(good), nil }); err != nil {
		t.Errorf("CheckFunc of a good change: %v", err)
	}
	if !reflect.DeepEqual(contents(s), mirror) || !reflect.DeepEqual(inEtcd(t, s), stored) {
		t.Error("CheckFunc wrote something")
	}
}

// brokenKV fails transactions, before or after they reach etcd.
type brokenKV struct {
	clientv3.KV
	after bool
}

type brokenTxn struct {
	clientv3.Txn
	kv *brokenKV
}

var errDisk = errors.New("disk on fire")

func (b *brokenKV) Txn(ctx context.Context) clientv3.Txn { return &brokenTxn{b.KV.Txn(ctx), b} }
func (b *brokenTxn) If(c ...clientv3.Cmp) clientv3.Txn   { b.Txn = b.Txn.If(c...); return b }
func (b *brokenTxn) Then(o ...clientv3.Op) clientv3.Txn  { b.Txn = b.Txn.Then(o...); return b }
func (b *brokenTxn) Else(o ...clientv3.Op) clientv3.Txn  { b.Txn = b.Txn.Else(o...); return b }
func (b *brokenTxn) Commit() (*clientv3.TxnResponse, error) {
	if b.kv.after {
		if _, err := b.Txn.Commit(); err != nil {
			return nil, err
		}
	}
	return nil, errDisk
}

func TestFailedCommitTakesTheMirrorBack(t *testing.T) {
	s := fresh(t)
	if _, err := s.Update(t.Context(), put(twoTenants()...)); err != nil {
		t.Fatal(err)
	}
	want := contents(s)
	kv := s.client.KV
	s.client.KV = &brokenKV{KV: kv}
	add := put(record(5001, "10.1.1.13", "00:15:5d:00:00:03", hnv.RuleNVGRE))
	if _, err := s.Update(t.Context(), add); !errors.Is(err, errDisk) {
		t.Fatalf("error %v, want %v", err, errDisk)
	}
	if !reflect.DeepEqual(contents(s), want) {
		t.Error("the mirror holds what etcd does not")
	}

	// The answer is lost, the change is not: the mirror follows etcd.
	s.client.KV = &brokenKV{KV: kv, after: true}
	if _, err := s.Update(t.Context(), add); !errors.Is(err, errDisk) {
		t.Fatalf("error %v, want %v", err, errDisk)
	}
	s.client.KV = kv
	if _, err := s.Update(t.Context(), put(record(5001, "10.1.1.14", "00:15:5d:00:00:04", hnv.RuleNVGRE))); err != nil {
		t.Fatal(err)
	}
	got := contents(s)
	for _, key := range []string{"/hnvgate/v1/record/5001/10.1.1.13", "/hnvgate/v1/record/5001/10.1.1.14"} {
		if _, ok := got[key]; !ok {
			t.Errorf("%s is missing from the mirror", key)
		}
	}
	if len(got)+1 != len(inEtcd(t, s)) {
		t.Errorf("mirror has %d objects, etcd %d keys", len(got), len(inEtcd(t, s)))
	}
}

func TestUnchangedWritesNothing(t *testing.T) {
	s := fresh(t)
	rev, err := s.Update(t.Context(), put(twoTenants()...))
	if err != nil {
		t.Fatal(err)
	}
	before := inEtcd(t, s)
	again, err := s.Update(t.Context(), put(twoTenants()...))
	if err != nil {
		t.Fatal(err)
	}
	if again != rev || !reflect.DeepEqual(before, inEtcd(t, s)) {
		t.Errorf("revision %d became %d, the RDIDs drawn or the values changed", rev, again)
	}
}

func TestSeveralWriters(t *testing.T) {
	a := fresh(t)
	if _, err := a.Update(t.Context(), put(twoTenants()...)); err != nil {
		t.Fatal(err)
	}
	b, err := New(t.Context(), a.client, Options{Site: site, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()

	const each = 25
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := map[string]int{}
	for i, s := range []*Store{a, b, a, b} {
		wg.Go(func() {
			for n := range each {
				// Everybody's own, and one that all want.
				own := record(5001, fmt.Sprintf("10.1.%d.%d", 10+i, n+1), fmt.Sprintf("00:15:5d:01:%02x:%02x", i, n), hnv.RuleNVGRE)
				if _, err := s.Update(context.Background(), []hnv.Change{{Put: own, Create: true}}); err != nil {
					t.Errorf("writer %d: %v", i, err)
				}
				shared := record(6001, fmt.Sprintf("10.1.99.%d", n+1), fmt.Sprintf("00:15:5d:02:%02x:%02x", i, n), hnv.RuleVXLAN)
				switch _, err := s.Update(context.Background(), []hnv.Change{{Put: shared, Create: true}}); {
				case err == nil:
					mu.Lock()
					won[shared.Key()]++
					mu.Unlock()
				case !errors.Is(err, hnv.ErrConflict):
					t.Errorf("writer %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	for n := range each {
		if key := fmt.Sprintf("6001/10.1.99.%d", n+1); won[key] != 1 {
			t.Errorf("record %s was created %d times", key, won[key])
		}
	}
	waitFor(t, func() bool { return a.Revision() == b.Revision() })
	if ca, cb := contents(a), contents(b); !reflect.DeepEqual(ca, cb) || len(ca) != len(twoTenants())+5*each {
		t.Errorf("the writers disagree: %d and %d objects, want %d", len(ca), len(cb), len(twoTenants())+5*each)
	}
	if n := len(inEtcd(t, a)); n != len(contents(a))+1 {
		t.Errorf("etcd has %d keys", n)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

func TestLoadNamesTheKey(t *testing.T) {
	s := fresh(t)
	if _, err := s.Update(t.Context(), put(twoTenants()...)); err != nil {
		t.Fatal(err)
	}
	s.stop() // so that the store does not follow what comes now
	s.done.Wait()
	good := inEtcd(t, s)
	key := "/hnvgate/v1/record/5001/10.1.1.11"
	for name, tc := range map[string]struct{ key, value, want string }{
		"not JSON":      {key, `{"format":1,`, "unreadable"},
		"other format":  {key, `{"format":2,"object":{}}`, "format 2"},
		"unknown field": {key, `{"format":1,"object":{"vsid":"5001","ca":"10.1.1.11","mac":"00:15:5d:00:00:01","pa":"192.168.1.10","rule":"nvgre","type":"static","colour":"red"}}`, "colour"},
		"wrong key":     {key, `{"format":1,"object":{"vsid":"5001","ca":"10.1.1.12","mac":"00:15:5d:00:00:01","pa":"192.168.1.10","rule":"nvgre","type":"static"}}`, "5001/10.1.1.12"},
		"unknown kind":  {"/hnvgate/v1/balloon/red", `{"format":1,"object":{}}`, "balloon"},
		"no kind":       {"/hnvgate/v1/balloon", `{"format":1,"object":{}}`, "none of this release"},
		"contradiction": {"/hnvgate/v1/record/7001/10.1.1.12", `{"format":1,"object":{"vsid":"7001","ca":"10.1.1.12","mac":"00:15:5d:00:00:01","pa":"192.168.1.10","rule":"nvgre","type":"static"}}`, "belongs to no tenant"},
		"two values":    {key, `{"format":1,"object":{}}{}`, "more after"},
		"generation":    {generationKey, `{"format":9}`, "format 9"},
	} {
		if _, err := s.client.Put(t.Context(), tc.key, tc.value); err != nil {
			t.Fatal(err)
		}
		other, err := New(t.Context(), s.client, Options{Site: site, Log: slog.New(slog.DiscardHandler)})
		switch {
		case err == nil:
			other.Close()
			t.Errorf("%s: it started", name)
		case !strings.Contains(err.Error(), tc.want) || tc.key != generationKey && !strings.Contains(err.Error(), tc.key):
			t.Errorf("%s: error %q does not name %s and %q", name, err, tc.key, tc.want)
		}
		if old, ok := good[tc.key]; ok {
			_, err = s.client.Put(t.Context(), tc.key, old)
		} else {
			_, err = s.client.Delete(t.Context(), tc.key)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// An uplink that is another one in the configuration now, or gone, keeps what is stored
// for it from being made, not from being read, changed and stored again.
func TestSiteThatLostItsUplink(t *testing.T) {
	dir, contoso := t.TempDir(), must(hnv.ParseName("contoso"))
	s := open(t, dir)
	edge := hnv.Attachment{Tenant: contoso, Name: must(hnv.ParseName("edge")), Uplink: "internet", Addresses: []netip.Prefix{netip.MustParsePrefix("203.0.113.77/32")}}
	if _, err := s.Update(t.Context(), put(append(twoTenants(), edge)...)); err != nil {
		t.Fatal(err)
	}
	want := contents(s)
	s.Close()
	for _, now := range []hnv.Site{
		{PAInterfaces: []string{"eth1"}},
		{PAInterfaces: []string{"eth1"}, Uplinks: []string{"internet"}, UplinkKinds: map[string]string{"internet": hnv.UplinkVLAN}},
	} {
		s, err := Open(t.Context(), Options{Dir: dir, Site: now, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		s.View(func(f *hnv.Fabric) {
			if aside := f.Aside(contoso); len(aside) != 1 || len(f.Attachments(contoso)) != 0 {
				t.Errorf("aside are %v", aside)
			}
		})
		if !reflect.DeepEqual(contents(s), want) {
			t.Error("what is stored is not what was stored")
		}
		s.Close()
	}
	s = open(t, dir)
	s.View(func(f *hnv.Fabric) {
		if len(f.Aside(contoso)) != 0 || len(f.Attachments(contoso)) != 1 {
			t.Error("it is aside although it fits again")
		}
	})
	s.Close()
}
