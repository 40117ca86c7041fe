package dataplane

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

func TestRefusalsChangeNothing(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	sw := l.hosts[0].sw
	thief := contoso.Tenant
	thief.Name, thief.RDID = mustName("thief"), hnv.NewRDID()
	if err := sw.Apply(thief); !errors.Is(err, ErrConflict) {
		t.Errorf("a tenant with another one's VSIDs: %v", err)
	}
	broken := contoso.Tenant
	broken.Records = append(broken.Records[:1:1], record(6001, "10.1.1.11", mac11, paHost1, hnv.RuleNVGRE))
	if err := sw.Apply(broken); err == nil {
		t.Error("a record in another tenant's VSID is taken")
	}
	if err := sw.UpdateRecords(contoso.RDID, []hnv.Record{record(6001, "10.1.1.11", mac11, paHost1, hnv.RuleNVGRE)}, nil); err == nil {
		t.Error("an update in another tenant's VSID is taken")
	}
	if err := sw.UpdateRecords(hnv.NewRDID(), nil, nil); !errors.Is(err, ErrUnknown) {
		t.Errorf("an update of nobody: %v", err)
	}
	for what, spec := range map[string]PortSpec{
		"no tenant":      {VSID: mustVSID(7777), MAC: mac11, Kind: PortVM},
		"taken":          {VSID: mustVSID(5000), MAC: hnv.CompartmentMAC(mustVSID(5000)), Kind: PortVM},
		"the router's":   {VSID: mustVSID(5000), MAC: hnv.RouterMAC, Kind: PortVM},
		"no MAC":         {VSID: mustVSID(5000), Kind: PortVM},
		"no kind":        {VSID: mustVSID(5000), MAC: mac11},
		"no VSID at all": {MAC: mac11, Kind: PortVM},
		"another owner":  {RDID: fabrikam.RDID, VSID: mustVSID(5000), MAC: mac11, Kind: PortVM},
	} {
		if id, err := sw.AddPort(spec, &wire{}); err == nil {
			t.Errorf("port with %s: taken as %d", what, id)
		}
	}
	sw.RemovePort(99)
	sw.Remove(hnv.NewRDID())
	snap := sw.Snapshot()
	for _, p := range snap.Ports {
		if want := map[hnv.VSID]hnv.RDID{mustVSID(5000): contoso.RDID, mustVSID(6000): fabrikam.RDID}[p.Spec.VSID]; p.Spec.RDID != want {
			t.Errorf("port %+v is not of %s", p, want)
		}
	}
	if len(snap.Tenants) != 2 || len(snap.Ports) != 2 || snap.Tenants[0].Records != 10 || snap.Tenants[0].Name.String() != "contoso" {
		t.Errorf("snapshot is %+v", snap)
	}
	for _, s := range []*site{contoso, fabrikam} {
		s.vm11.send(udp(mac11, hnv.RouterMAC, "10.1.1.11", "203.0.113.5", "still there"))
		expect(t, l, s.gw, "still there", contoso, fabrikam)
	}
}

// Counters survive updates of the tenant and the end of workers.
func TestCountersSurvive(t *testing.T) {
	l, contoso, _ := exampleLab(t)
	h := l.hosts[1]
	good := udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "x")
	bad := udp(mac11, mac12, "10.1.1.99", "10.1.1.12", "x")
	contoso.vm11.send(good)
	contoso.vm11.send(bad)
	renamed := contoso.Tenant
	renamed.Name = mustName("renamed")
	if err := h.sw.Apply(renamed); err != nil {
		t.Fatal(err)
	}
	contoso.vm11.send(bad)
	h.w.Close()
	h.w = h.sw.NewWorker(h.out)
	contoso.vm11.send(bad)
	l.settle()
	for _, c := range h.sw.Counters() {
		if c.RDID != contoso.RDID {
			continue
		}
		bytes := uint64(4 * len(good))
		if c.Name.String() != "renamed" || c.DropsByReason[drop.SourceCAUnknown] != 3 || c.Drops() != 3 ||
			c.FromPorts != (Traffic{4, bytes}) || c.ToFabric != (Traffic{1, uint64(len(good)) + 28}) {
			t.Errorf("counters are %+v", c)
		}
	}
	for _, c := range l.hosts[2].sw.Counters() {
		if c.Name.String() == "contoso" && (c.FromFabric != (Traffic{1, uint64(len(good)) + 28}) || c.ToPorts != (Traffic{1, uint64(len(good))})) {
			t.Errorf("the receiver's counters are %+v", c)
		}
	}
	// Removed and applied again is a new tenant.
	h.sw.Remove(contoso.RDID)
	if err := h.sw.Apply(contoso.Tenant); err != nil {
		t.Fatal(err)
	}
	if d := h.drops("contoso"); len(d) != 0 {
		t.Errorf("a new tenant begins with %v", d)
	}
}

// What a Writer does not take is counted for the tenant.
func TestWritersThatRefuse(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	h := l.hosts[1]
	batch := func(frames ...[]byte) {
		var fs []*packet.Frame
		for _, b := range frames {
			f := packet.NewFrame(2048)
			f.Set(b)
			fs = append(fs, f)
		}
		h.w.FromPort(contoso.vm11.id, fs)
		h.w.Flush()
	}
	local := udp(mac11, mac13, "10.1.1.11", "10.1.1.13", "x")
	far := udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "x")

	contoso.vm13.take = 1
	batch(local, local, local)
	contoso.vm13.take, contoso.vm13.err = 0, errors.New("down")
	batch(local)
	h.out.take = 2
	batch(far, far, far)
	h.out.take, h.out.err = 0, errors.New("no route to host")
	batch(far)
	d := h.drops("contoso")
	if d[drop.QueueFull] != 3 || d[drop.PortDown] != 1 || d[drop.TransmitError] != 1 || len(d) != 3 {
		t.Errorf("drops are %v", d)
	}

	// Of a mixed batch nobody knows whose packets were refused.
	f := packet.NewFrame(2048)
	f.Set(udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "x"))
	h.w.FromPort(fabrikam.vm11.id, []*packet.Frame{f})
	batch(far)
	if d := h.drops(""); d[drop.TransmitError] != 2 {
		t.Errorf("drops of nobody are %v", d)
	}
	h.w.FromPort(4711, []*packet.Frame{f, f})
	if d := h.drops(""); d[drop.NoPort] != 2 {
		t.Errorf("drops of nobody are %v", d)
	}
}

// A destination with a record but no port is not somebody else's.
func TestPortRemoved(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	l.hosts[1].sw.RemovePort(contoso.vm13.id)
	contoso.vm11.send(udp(mac11, mac13, "10.1.1.11", "10.1.1.13", "x"))
	contoso.vm13.send(udp(mac13, mac11, "10.1.1.13", "10.1.1.11", "x"))
	contoso.vm12.send(udp(mac12, mac13, "10.1.1.12", "10.1.1.13", "x"))
	expect(t, l, nil, "", contoso, fabrikam)
	if d := l.hosts[1].drops("contoso"); d[drop.NoPort] != 1 || d[drop.NotLocal] != 1 {
		t.Errorf("drops are %v", d)
	}
	fabrikam.vm11.send(udp(mac11, mac13, "10.1.1.11", "10.1.1.13", "x"))
	expect(t, l, fabrikam.vm13, "x", contoso, fabrikam)
}

// Our own PAs may change: what was local is so no more.
func TestProviderChanges(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	l.hosts[0].sw.SetProvider(Provider{Addrs: []netip.Addr{ip("192.168.1.2")}})
	l.hosts[0].inject(goodNVGRE())
	l.hosts[0].inject(outerPacket(hnv.NVGRE, paHost1, "192.168.1.2", 5000, goodInner(5000)))
	expect(t, l, nil, "", contoso, fabrikam)
	if d := l.hosts[0].allDrops(); d[drop.OuterNotOurs] != 1 || d[drop.NotLocal] != 1 {
		t.Errorf("drops are %v", d)
	}
	if m := l.hosts[0].sw.Snapshot().Provider.MTU; m != 1500 {
		t.Errorf("the MTU is %d where none was given", m)
	}
}
