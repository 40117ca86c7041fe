package dataplane

import (
	"errors"
	"slices"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/hnv"
)

// What is refused moves nobody's flows, neither by a change of records nor by
// the whole state.
func TestRefusalsMoveNoFlows(t *testing.T) {
	for what, try := range map[string]func(sw *Switch, s *site, moved, stolen hnv.Record) error{
		"records": func(sw *Switch, s *site, moved, stolen hnv.Record) error {
			return sw.UpdateRecords(s.RDID, []hnv.Record{moved, stolen}, nil)
		},
		"the whole state": func(sw *Switch, s *site, moved, stolen hnv.Record) error {
			next := s.Tenant
			next.Records = nil
			for _, r := range s.Records {
				if r.CA == moved.CA && r.VSID == moved.VSID {
					r = moved
				}
				next.Records = append(next.Records, r)
			}
			next.Records = append(next.Records, stolen)
			return sw.Apply(next)
		},
		"the whole state, and less than before": func(sw *Switch, s *site, moved, stolen hnv.Record) error {
			next := s.Tenant
			next.Records = append([]hnv.Record{moved, stolen}, s.Records[:5]...)
			return sw.Apply(next)
		},
	} {
		l, contoso, fabrikam := rewriteLab(t)
		h1 := l.hosts[1]
		question := udp(mac13, hnv.RouterMAC, "10.1.1.13", "10.254.254.2", "question")
		fabrikam.vm13.send(question)
		expect(t, l, fabrikam.gw, "question", contoso, fabrikam)

		moved := record(6000, "10.254.254.2", hnv.CompartmentMAC(mustVSID(6000)), "192.168.9.9", hnv.RuleVXLAN)
		stolen := record(6001, "10.1.1.40", mac14, pa11, hnv.RuleRewrite)
		if err := try(h1.sw, fabrikam, moved, stolen); !errors.Is(err, ErrConflict) {
			t.Fatalf("%s: %v, want a conflict", what, err)
		}
		for range 2 {
			fabrikam.vm13.send(question)
			expect(t, l, fabrikam.gw, "question", contoso, fabrikam)
		}
		if l.stray != 0 {
			t.Errorf("%s: %d packets went where a refused record points", what, l.stray)
		}
	}
}

// A whole state in which records alone have changed leaves the layers of ports as
// they are: nobody waits for lists to be compiled again, and flows go on.
func TestApplyOfOtherRecords(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	l.apply(contoso, func(t *Tenant) {
		t.ACLs, t.QoS = []hnv.ACL{outOnly()}, &hnv.QoS{InKbps: 1e6}
		t.Subnets[1].ACL = mustName("out-only")
	})
	p := *l.hosts[1].sw.ports.Load().byID.Get(lookup.Number(contoso.vm11.id))
	before := p.policy.Load()
	l.apply(contoso, func(t *Tenant) {
		t.Records = append(t.Records, record(contoso.base+2, "10.1.2.30", mac21, paHost2, hnv.RuleNVGRE))
	})
	if p.policy.Load() != before {
		t.Error("another record, and the port has other layers")
	}
	contoso.vm11.send(udp(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.2.30", "new"))
	expect(t, l, contoso.v21, "new", contoso, fabrikam)
	for what, change := range map[string]func(t *Tenant){
		"list": func(t *Tenant) {
			t.ACLs = []hnv.ACL{acl("out-only", hnv.ACLRule{Direction: hnv.Inbound, Action: hnv.Allow})}
		},
		"rate":   func(t *Tenant) { t.QoS = &hnv.QoS{InKbps: 2e6} },
		"subnet": func(t *Tenant) { t.Subnets = slices.Clone(t.Subnets); t.Subnets[1].ACL = hnv.Name{} },
	} {
		before := p.policy.Load()
		if l.apply(contoso, change); p.policy.Load() == before {
			t.Errorf("another %s, and the port has the same layers", what)
		}
	}
}
