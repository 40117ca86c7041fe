package peers

import (
	"encoding/json"
	"testing"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

// What can be read of a report is no more than its sender may say.
func FuzzReadReport(f *testing.F) {
	f.Add([]byte(`{"origin":"hnv@a","pas":["192.168.1.11"],"put":[{"record":{"vsid":5001,"ca":"10.1.0.11","mac":"00:15:5d:00:00:01","pa":"192.168.1.11","rule":"vxlan","type":"dynamic"},"ageMillis":5}]}`))
	f.Add([]byte(`{"origin":"hnv@a","pas":[],"withdraw":[{"vsid":5001,"ca":"10.1.0.11","pa":"192.168.1.11"}]}`))
	now := time.UnixMilli(1_800_000_000_000)
	f.Fuzz(func(t *testing.T, b []byte) {
		var in v1.LearnedReport
		if json.Unmarshal(b, &in) != nil {
			return
		}
		r, err := readReport(in, now)
		if err != nil {
			return
		}
		for _, p := range r.put {
			if p.rec.Type != hnv.Dynamic || !ofSender(r.pas, p.rec) || p.at.After(now) || len(p.rec.Context) > 256 {
				t.Errorf("%+v", p)
			}
			if m, ok := parseMark(p.rec.Context); !ok || m.origin != in.Origin {
				t.Errorf("mark %q of origin %q", p.rec.Context, in.Origin)
			}
		}
		if len(r.put)+len(r.held) != len(in.Put) || len(r.withdraw) != len(in.Withdraw) {
			t.Errorf("%d and %d of %d records, %d of %d withdrawals", len(r.put), len(r.held), len(in.Put), len(r.withdraw), len(in.Withdraw))
		}
	})
}
