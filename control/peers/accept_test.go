package peers

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

func millis(d time.Duration) *int64 { n := d.Milliseconds(); return &n }

func wireRecord(v uint32, ca string, m byte, pa string, age *int64) v1.LearnedRecord {
	return v1.LearnedRecord{
		Record:    v1.LookupRecord{VSID: v, CA: ca, MAC: mac(m).String(), PA: pa, Rule: "vxlan", Type: "dynamic"},
		AgeMillis: age,
	}
}

// What a peer must not bring about, whatever it says.
func TestReportsAreJudged(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newHost(t, "g", paG)
		defer startAll(g)()
		static := hnv.Record{VSID: vsid(5001), CA: netip.MustParseAddr("10.1.0.50"), MAC: mac(50), PA: netip.MustParseAddr(paB), Rule: hnv.RuleVXLAN, Type: hnv.Static}
		plain := hnv.Record{VSID: vsid(5001), CA: netip.MustParseAddr("10.1.0.51"), MAC: mac(51), PA: netip.MustParseAddr(paA), Rule: hnv.RuleVXLAN, Type: hnv.Dynamic}
		g.apply(hnv.Change{Put: static}, hnv.Change{Put: plain})
		g.learn(5001, "10.1.0.52", 52)
		settle()
		say := func(r v1.LearnedReport) v1.LearnedResult {
			t.Helper()
			res, err := g.x.AcceptLearned(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			return res
		}
		b := v1.LearnedReport{Origin: "hnv@b", PAs: []string{paB}, Put: []v1.LearnedRecord{wireRecord(5001, "10.1.0.60", 60, paB, millis(0))}}
		if res := say(b); res.Stored != 1 || len(res.Held) != 0 {
			t.Fatalf("%+v", res)
		}
		revision := g.store.Revision()

		notDynamic := wireRecord(5001, "10.1.0.61", 61, paA, nil)
		notDynamic.Record.Type = "static"
		garbled := wireRecord(5001, "10.1.0.62", 62, paA, nil)
		garbled.Record.MAC = "what"
		for outcome, rec := range map[string]v1.LearnedRecord{
			"refused: only what was learned":               notDynamic,
			"refused: \"what\"":                            garbled,
			"refused: not the sender's":                    wireRecord(5001, "10.1.0.63", 63, paB, nil),
			"refused: this machine's own":                  wireRecord(5001, "10.1.0.64", 64, paG, nil),
			"refused: is not on the fabric":                wireRecord(5001, "10.1.0.65", 65, "10.99.0.1", nil),
			"refused: outside VSID 5001":                   wireRecord(5001, "10.9.0.65", 65, paA, nil),
			"static: is configured (static":                wireRecord(5001, "10.1.0.50", 66, paA, millis(0)),
			"static: MAC 00:15:5d:00:00:32":                wireRecord(5001, "10.1.0.67", 50, paA, millis(0)),
			"static: the distributed router's":             wireRecord(5001, "10.1.0.1", 68, paA, millis(0)),
			"unneeded: VSID 7777 belongs to no tenant":     wireRecord(7777, "10.1.0.69", 69, paA, nil),
			"superseded: was learned at " + paB:            wireRecord(5001, "10.1.0.60", 60, paA, millis(time.Hour)),
			"superseded: was learned at " + paB + " since": wireRecord(5001, "10.1.0.60", 60, paA, nil),
			"superseded: MAC 00:15:5d:00:00:3c":            wireRecord(5001, "10.1.0.70", 60, paA, millis(time.Hour)),
			"superseded: was learned at " + paG:            wireRecord(5001, "10.1.0.52", 52, paA, millis(time.Hour)),
		} {
			pas := []string{paA}
			if strings.Contains(outcome, "own") {
				pas = []string{paG} // it claims ours
			}
			if strings.Contains(outcome, "on the fabric") {
				pas = []string{"10.99.0.1"}
			}
			res := say(v1.LearnedReport{Origin: "hnv@a", PAs: pas, Put: []v1.LearnedRecord{rec}})
			kind, text, _ := strings.Cut(outcome, ": ")
			if res.Stored != 0 || len(res.Held) != 1 || res.Held[0].Outcome != kind || !strings.Contains(res.Held[0].Message, text) {
				t.Errorf("%s: %+v", outcome, res)
			}
		}
		if g.store.Revision() != revision {
			t.Error("something was written")
		}

		// One that cannot be keeps no other from being stored.
		res := say(v1.LearnedReport{Origin: "hnv@a", PAs: []string{paA}, Put: []v1.LearnedRecord{
			wireRecord(5001, "10.9.0.65", 80, paA, nil), wireRecord(5001, "10.1.0.81", 81, paA, nil), wireRecord(5001, "10.1.0.82", 50, paA, nil), wireRecord(5001, "10.1.0.83", 83, paA, nil),
		}})
		if res.Stored != 2 || len(res.Held) != 2 || g.has(5001, "10.1.0.81") != paA || g.has(5001, "10.1.0.83") != paA {
			t.Errorf("%+v", res)
		}

		// Withdrawals reach only what the sender may speak for.
		for _, w := range []v1.LearnedKey{
			{VSID: 5001, CA: "10.1.0.50", PA: paB}, // configured
			{VSID: 5001, CA: "10.1.0.51", PA: paA}, // learned, but nobody reported it
			{VSID: 5001, CA: "10.1.0.52", PA: paG}, // the receiver's own
			{VSID: 5001, CA: "10.1.0.60", PA: paA}, // elsewhere by now
			{VSID: 5001, CA: "10.1.0.60", PA: paB}, // another's
			{VSID: 5001, CA: "10.1.0.99", PA: paA}, // not there
		} {
			if res := say(v1.LearnedReport{Origin: "hnv@a", PAs: []string{paA}, Withdraw: []v1.LearnedKey{w}}); res.Withdrawn != 0 {
				t.Errorf("%+v was withdrawn", w)
			}
		}
		if res := say(v1.LearnedReport{Origin: "hnv@b", PAs: []string{paB}, Withdraw: []v1.LearnedKey{{VSID: 5001, CA: "10.1.0.60", PA: paB}}}); res.Withdrawn != 1 {
			t.Errorf("%+v", res)
		}
		// A machine that was renamed still speaks for its PAs.
		if res := say(v1.LearnedReport{Origin: "new@a", PAs: []string{paA}, Withdraw: []v1.LearnedKey{{VSID: 5001, CA: "10.1.0.81", PA: paA}}}); res.Withdrawn != 1 {
			t.Errorf("%+v", res)
		}
	})
}

func TestReportsThatNoPeerWouldMake(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newHost(t, "g", paG)
		defer startAll(g)()
		one := wireRecord(5001, "10.1.0.60", 60, paA, nil)
		for name, r := range map[string]v1.LearnedReport{
			"no origin":       {PAs: []string{paA}},
			"origin of lines": {Origin: "a\nb"},
			"no PA":           {Origin: "a", PAs: []string{"x"}},
			"many PAs":        {Origin: "a", PAs: make([]string, 65)},
			"many records":    {Origin: "a", Put: make([]v1.LearnedRecord, 1001)},
			"twice":           {Origin: "a", PAs: []string{paA}, Put: []v1.LearnedRecord{one, one}},
			"put and gone":    {Origin: "a", PAs: []string{paA}, Put: []v1.LearnedRecord{one}, Withdraw: []v1.LearnedKey{{VSID: 5001, CA: "10.1.0.60", PA: paA}}},
			"bad VSID":        {Origin: "a", Withdraw: []v1.LearnedKey{{VSID: 1, CA: "10.1.0.60", PA: paA}}},
			"bad CA":          {Origin: "a", Withdraw: []v1.LearnedKey{{VSID: 5001, CA: "x", PA: paA}}},
			"bad PA":          {Origin: "a", Withdraw: []v1.LearnedKey{{VSID: 5001, CA: "10.1.0.60", PA: "x"}}},
		} {
			if _, err := g.x.AcceptLearned(t.Context(), r); !errors.Is(err, hnv.ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if g.store.Revision() != 1 {
			t.Error("something was written")
		}
	})
}

func TestMarks(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_123).UTC()
	for _, m := range []mark{{"hnv@host7", now}, {"a", time.Time{}}, {strings.Repeat("x", 128), now}} {
		got, ok := parseMark(m.String())
		if !ok || got != m {
			t.Errorf("%q: %+v, %v", m, got, ok)
		}
		if n := len(m.String()); n > 256 {
			t.Errorf("%q has %d bytes, a context has 256 at most", m, n)
		}
	}
	for _, s := range []string{"", "learned-by:", "learned-by: at x", "rack 7, learned-by:a", "learned-by:a b", "learned-by:" + strings.Repeat("x", 129)} {
		if m, ok := parseMark(s); ok {
			t.Errorf("%q is %+v", s, m)
		}
	}
	if m, ok := parseMark("learned-by:a at noon"); !ok || !m.at.IsZero() {
		t.Errorf("%+v, %v", m, ok)
	}
}

func FuzzParseMark(f *testing.F) {
	f.Add("learned-by:hnv@host7 at 2026-11-20T09:30:56.123Z")
	f.Add("learned-by:hnv@host7")
	f.Add("rack 7")
	f.Fuzz(func(t *testing.T, s string) {
		m, ok := parseMark(s)
		if !ok {
			return
		}
		again, ok := parseMark(m.String())
		if !ok || !again.at.Equal(m.at) || again.origin != m.origin {
			t.Errorf("%q is %+v, which reads as %+v", s, m, again)
		}
	})
}
