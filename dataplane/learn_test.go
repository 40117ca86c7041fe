package dataplane

import (
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/hnv"
)

var mac14 = mustMAC("00:15:5d:00:00:14")

// learnLab is the example lab with a station more on host 1 whose CAs nobody
// configured; what a host learns, the others are told, as by a control plane.
func learnLab(t *testing.T, learning hnv.Learning) (l *lab, contoso, fabrikam *site, stations map[*site]*nic, events *[]LearnEvent) {
	l, contoso, fabrikam = exampleLab(t)
	stations, events = map[*site]*nic{}, new([]LearnEvent)
	for _, h := range l.hosts {
		h.sw.opt.OnLearn = func(e LearnEvent) {
			*events = append(*events, e)
			for _, o := range l.hosts {
				if o == h {
					continue
				}
				var err error
				switch e.Kind {
				case Learned, LearnedMove:
					err = o.sw.UpdateRecords(e.RDID, []hnv.Record{e.Record}, nil)
				case LearnedAged:
					err = o.sw.UpdateRecords(e.RDID, nil, []hnv.RecordKey{e.Record.RecordKey()})
				}
				if err != nil {
					t.Error(err)
				}
			}
		}
	}
	for _, s := range []*site{contoso, fabrikam} {
		l.apply(s, func(t *Tenant) {
			t.Subnets[1].Learning = &learning
			t.Records = append(t.Records, hnv.Record{VSID: mustVSID(s.base + 1), MAC: mac14, PA: ip(paHost1), Rule: hnv.Rule(t.Encap), Type: hnv.L2Only})
		})
		stations[s] = l.hosts[1].plug(s.base+1, mac14, PortVM)
	}
	return l, contoso, fabrikam, stations, events
}

func (l *lab) upkeep() {
	for _, h := range l.hosts {
		h.sw.Upkeep()
	}
}

func announce(mac hnv.MAC, ca string) []byte { return arpFrame(1, mac, macBroadcast, mac, ca, ca) }

// A CA that a station announces is its own from then on, on every host, and it
// is forgotten when the station does not answer any more. The neighbour's
// station with the same addresses has nothing to do with it.
func TestLearn(t *testing.T) {
	l, contoso, fabrikam, stations, events := learnLab(t, hnv.Learning{AgeSeconds: 100})
	vm := stations[contoso]
	up := udp(mac14, mac12, "10.1.1.14", "10.1.1.12", "up")
	vm.send(up)
	expect(t, l, nil, "", contoso, fabrikam)
	if n := l.hosts[1].drops("contoso")[drop.SourceCAUnknown]; n != 1 {
		t.Errorf("drops are %v, want source-ca-unknown: data teaches nothing", l.hosts[1].drops("contoso"))
	}
	vm.send(announce(mac14, "10.1.1.14"))
	l.upkeep()
	if len(*events) != 1 || (*events)[0].Kind != Learned || (*events)[0].RDID != contoso.RDID || (*events)[0].Record.CA != ip("10.1.1.14") {
		t.Fatalf("events are %+v", *events)
	}
	vm.send(up)
	expect(t, l, contoso.vm12, "up", contoso, fabrikam)
	contoso.vm12.send(udp(mac12, mac14, "10.1.1.12", "10.1.1.14", "down"))
	l.settle()
	if got := vm.drain(); len(got) != 1 {
		t.Errorf("the station got %d frames, want 1", len(got))
	}
	fabrikam.vm12.send(udp(mac12, mac14, "10.1.1.12", "10.1.1.14", "down"))
	l.settle()
	if got := stations[fabrikam].drain(); len(got) != 1 {
		// Its MAC is known there, its CA is not.
		t.Errorf("the neighbour's station got %d frames by its MAC, want 1", len(got))
	}

	// The station is asked, and answers.
	l.now = l.now.Add(80 * time.Second)
	l.upkeep()
	if got := vm.drain(); len(got) != 1 {
		t.Fatalf("the station was asked %d times, want once", len(got))
	}
	vm.send(arpFrame(2, mac14, hnv.RouterMAC, mac14, "10.1.1.14", "10.1.1.1"))
	for range 10 {
		l.now = l.now.Add(7 * time.Second)
		l.upkeep()
	}
	if list, _ := l.hosts[1].sw.Learned(); len(list) != 1 {
		t.Fatalf("%d CAs are known 70 s after the answer, want 1", len(list))
	}
	for range 10 { // it is silent for good
		l.now = l.now.Add(7 * time.Second)
		l.upkeep()
	}
	if list, _ := l.hosts[1].sw.Learned(); len(list) != 0 {
		t.Errorf("the CA is still known: %+v", list)
	}
	vm.send(up)
	expect(t, l, nil, "", contoso, fabrikam)
	if d := l.hosts[2].sw.byRDID[contoso.RDID].domain.Load(); d.Record(5001, ip("10.1.1.14")) != nil {
		t.Error("another host still knows the CA")
	}
}

// What is configured cannot be claimed, nor what no station can have.
func TestLearnRefuses(t *testing.T) {
	l, contoso, fabrikam, stations, events := learnLab(t, hnv.Learning{MaxPerPort: 2})
	vm := stations[contoso]
	for _, ca := range []string{"10.1.1.1", "10.1.1.12", "10.1.1.0", "10.1.1.255", "10.1.2.14", "203.0.113.5", "10.254.254.2"} {
		vm.send(announce(mac14, ca))
		l.upkeep()
	}
	contoso.vm11.send(announce(mac11, "10.1.1.77")) // its CAs are configured
	l.upkeep()
	if len(*events) != 0 {
		t.Errorf("events are %+v, want none", *events)
	}
	for _, ca := range []string{"10.1.1.21", "10.1.1.22", "10.1.1.23", "10.1.1.24"} {
		vm.send(announce(mac14, ca))
		l.upkeep()
	}
	kinds := []LearnKind{}
	for _, e := range *events {
		kinds = append(kinds, e.Kind)
	}
	if len(kinds) != 3 || kinds[0] != Learned || kinds[1] != Learned || kinds[2] != LearnOverLimit {
		t.Errorf("events are %v, want two learned and the limit, once", kinds)
	}
	expect(t, l, nil, "", contoso, fabrikam)
}
