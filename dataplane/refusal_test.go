package dataplane

import (
	"errors"
	"testing"

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
