package peers

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

// The bounds of a report.
const (
	maxReport = 1000 // records in it
	maxPAs    = 64   // provider addresses of one machine
)

// refusal is a sentence of one of hnv's kinds.
type refusal struct {
	text string
	kind error
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.kind }

func invalidf(format string, args ...any) error {
	return &refusal{fmt.Sprintf(format, args...), hnv.ErrInvalid}
}

// report is a v1.LearnedReport that could be read.
type report struct {
	origin   string
	pas      map[netip.Addr]bool
	put      []reported
	withdraw []withdrawn
	held     []v1.LearnedOutcome // what could not be read
}

type reported struct {
	rec hnv.Record
	at  time.Time // when it was learned, by this machine's clock; zero: not known
}

type withdrawn struct {
	key hnv.RecordKey
	pa  netip.Addr
}

func held(vsid uint32, ca, outcome, format string, args ...any) v1.LearnedOutcome {
	return v1.LearnedOutcome{VSID: vsid, CA: ca, Outcome: outcome, Message: fmt.Sprintf(format, args...)}
}

// readReport refuses the whole of what no peer of ours would say, and singles
// out records that cannot be.
func readReport(in v1.LearnedReport, now time.Time) (report, error) {
	out := report{origin: in.Origin, pas: map[netip.Addr]bool{}}
	switch {
	case !validOrigin(in.Origin):
		return out, invalidf("origin %q is not 1 to %d printable characters without spaces", in.Origin, maxOrigin)
	case len(in.PAs) > maxPAs:
		return out, invalidf("the report names %d provider addresses, a machine has at most %d", len(in.PAs), maxPAs)
	case len(in.Put)+len(in.Withdraw) > maxReport:
		return out, invalidf("the report has %d records, at most %d are taken at once", len(in.Put)+len(in.Withdraw), maxReport)
	}
	for _, p := range in.PAs {
		a, err := netip.ParseAddr(p)
		if err != nil {
			return out, invalidf("%q is no provider address", p)
		}
		out.pas[a] = true
	}
	seen := map[hnv.RecordKey]bool{}
	for _, p := range in.Put {
		rec, err := p.Record.Object()
		switch {
		case err != nil:
			out.held = append(out.held, held(p.Record.VSID, p.Record.CA, v1.LearnedRefused, "%v", err))
			continue
		case rec.Type != hnv.Dynamic:
			out.held = append(out.held, held(p.Record.VSID, p.Record.CA, v1.LearnedRefused, "it is of type %s, but only what was learned can be reported", rec.Type))
			continue
		case !ofSender(out.pas, rec):
			out.held = append(out.held, held(p.Record.VSID, p.Record.CA, v1.LearnedRefused, "provider address %s is not the sender's", rec.PA))
			continue
		case seen[rec.RecordKey()]:
			return out, invalidf("lookup record %s is reported twice", rec.Key())
		}
		seen[rec.RecordKey()] = true
		r := reported{rec: rec}
		if p.AgeMillis != nil {
			// Not longer than a Duration can say, which is long enough ago.
			r.at = now.Add(-time.Duration(min(max(*p.AgeMillis, 0), int64(time.Hour/time.Millisecond)*24*365)) * time.Millisecond)
		}
		r.rec.Context = mark{in.Origin, r.at}.String()
		out.put = append(out.put, r)
	}
	for _, w := range in.Withdraw {
		v, err := hnv.NewVSID(w.VSID)
		if err != nil {
			return out, err
		}
		ca, err := netip.ParseAddr(w.CA)
		if err != nil {
			return out, invalidf("%q is no customer address", w.CA)
		}
		pa, err := netip.ParseAddr(w.PA)
		if err != nil {
			return out, invalidf("%q is no provider address", w.PA)
		}
		k := hnv.RecordKey{VSID: v, CA: ca}
		if seen[k] {
			return out, invalidf("lookup record %s is reported twice", k)
		}
		seen[k] = true
		out.withdraw = append(out.withdraw, withdrawn{k, pa})
	}
	return out, nil
}

func ofSender(pas map[netip.Addr]bool, r hnv.Record) bool {
	for _, pa := range r.PAs() {
		if pas[pa] {
			return true
		}
	}
	return false
}

// AcceptLearned takes a report over, each record for itself.
func (x *Exchange) AcceptLearned(ctx context.Context, in v1.LearnedReport) (v1.LearnedResult, error) {
	r, err := readReport(in, time.Now())
	if err != nil {
		return v1.LearnedResult{}, err
	}
	if err := x.ledger.caughtUp(ctx); err != nil {
		return v1.LearnedResult{}, err
	}
	refused := map[string]v1.LearnedOutcome{}
	for {
		j := &judgement{ledger: x.ledger, report: &r, refused: refused}
		revision, err := x.o.Store.UpdateFunc(ctx, j.plan)
		if err == nil {
			out := j.result
			out.Epoch, out.Revision = x.epoch, revision
			out.Held = append(out.Held, r.held...)
			return out, nil
		}
		if !j.singleOut(err) {
			return v1.LearnedResult{}, err
		}
	}
}

// judgement decides on a report by the state that it meets.
type judgement struct {
	ledger  *ledger
	report  *report
	refused map[string]v1.LearnedOutcome // by record key: what the state refused before
	result  v1.LearnedResult
}

// plan may be called several times.
func (j *judgement) plan(f *hnv.Fabric) ([]hnv.Change, error) {
	l := j.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	j.result = v1.LearnedResult{}
	var changes []hnv.Change
	gone := map[hnv.RecordKey]bool{}
	added := map[hnv.Name]int{}
	for _, w := range j.report.withdraw {
		old, ok := f.Record(w.key)
		m, marked := parseMark(old.Context)
		// What it reported itself, or what is at a PA of its now: a PA that it
		// had may be another's by now.
		may := marked && (m.origin == j.report.origin || j.report.pas[old.PA])
		if ok && may && old.Type == hnv.Dynamic && old.PA == w.pa {
			gone[w.key] = true
			changes = append(changes, hnv.Change{Delete: old})
			j.result.Withdrawn++
		}
	}
	for _, p := range j.report.put {
		if out, ok := j.refused[p.rec.Key()]; ok {
			j.result.Held = append(j.result.Held, out)
			continue
		}
		verdict, why := j.weigh(f, p, gone, added)
		switch verdict {
		case "":
			changes = append(changes, hnv.Change{Put: p.rec})
			j.result.Stored++
			for _, o := range l.elsewhere(f, p.rec) {
				if k := o.RecordKey(); !gone[k] {
					gone[k] = true
					changes = append(changes, hnv.Change{Delete: o})
				}
			}
		case unchanged:
			j.result.Unchanged++
		default:
			j.result.Held = append(j.result.Held, held(p.rec.VSID.Uint32(), p.rec.CA.String(), verdict, "%s", why))
		}
	}
	return changes, nil
}

// unchanged is the verdict on what is just so already.
const unchanged = "unchanged"

// weigh tells what becomes of a record: an outcome with its reason, or nothing
// where it is to be stored.
func (j *judgement) weigh(f *hnv.Fabric, p reported, gone map[hnv.RecordKey]bool, added map[hnv.Name]int) (verdict, why string) {
	l, rec := j.ledger, p.rec
	t, ok := f.TenantOfVSID(rec.VSID)
	if !ok {
		return v1.LearnedUnneeded, fmt.Sprintf("VSID %s belongs to no tenant here", rec.VSID)
	}
	if l.isOwn(rec) {
		return v1.LearnedRefused, fmt.Sprintf("lookup record %s: provider address %s is this machine's own, which knows best what is behind it", rec.Key(), rec.PA)
	}
	old, exists := f.Record(rec.RecordKey())
	if exists && old.Type != hnv.Dynamic {
		return v1.LearnedStatic, fmt.Sprintf("lookup record %s is configured (%s, MAC %s at %s)", rec.Key(), old.Type, old.MAC, old.PA)
	}
	senders := exists && ofSender(j.report.pas, old)
	if exists && sameMapping(old, rec) {
		return unchanged, ""
	}
	if exists && !senders && !l.later(p.at, old) {
		return v1.LearnedSuperseded, fmt.Sprintf("lookup record %s was learned at %s since", rec.Key(), old.PA)
	}
	for _, o := range l.elsewhere(f, rec) {
		if o.RecordKey() != rec.RecordKey() && !gone[o.RecordKey()] && !ofSender(j.report.pas, o) && !l.later(p.at, o) {
			return v1.LearnedSuperseded, fmt.Sprintf("lookup record %s: MAC %s was learned at %s since, with %s", rec.Key(), rec.MAC, o.PA, o.CA)
		}
	}
	if senders {
		return "", ""
	}
	mine := added[t.Name]
	for pa := range j.report.pas {
		mine += l.reported[share{t.Name, pa}]
	}
	switch {
	case mine >= l.limits.PerPeer:
		return v1.LearnedLimit, fmt.Sprintf("%s has %d learned records of tenant %s here already, as many as one machine may", j.report.origin, mine, t.Name)
	case !exists && l.total[t.Name]+added[t.Name] >= l.limits.Reported:
		return v1.LearnedLimit, fmt.Sprintf("tenant %s has %d learned records already, as many as may be", t.Name, l.total[t.Name]+added[t.Name])
	}
	added[t.Name]++
	return "", ""
}

// later tells whether something learned at that time is not older than a learned
// record of the state; with mu. What has no time is older than what has.
func (l *ledger) later(at time.Time, than hnv.Record) bool {
	if at.IsZero() {
		return false
	}
	since := time.Time{}
	if m, ok := parseMark(than.Context); ok {
		since = m.at
	} else if e := l.all[than.RecordKey()]; sameMapping(e.rec, than) {
		since = e.since
	}
	return !at.Before(since)
}

// elsewhere gives the learned records of the record's station that lie at
// another host: a MAC is in one place; with mu.
func (l *ledger) elsewhere(f *hnv.Fabric, r hnv.Record) []hnv.Record {
	var out []hnv.Record
	for k := range l.stations[station{r.VSID, r.MAC}] {
		o, ok := f.Record(k)
		if ok && k != r.RecordKey() && o.Type == hnv.Dynamic && o.MAC == r.MAC && !samePlace(o, r) {
			out = append(out, o)
		}
	}
	return out
}

// singleOut notes which records the state refused, so that the others can be
// stored; false where it is not about records at all.
func (j *judgement) singleOut(err error) bool {
	puts := map[string]hnv.Record{}
	for _, p := range j.report.put {
		if _, already := j.refused[p.rec.Key()]; !already {
			puts[p.rec.Key()] = p.rec
		}
	}
	found := false
	for _, e := range flatten(err) {
		about := new(hnv.ObjectError)
		if !errors.As(e, &about) || about.Kind != hnv.KindRecord {
			continue
		}
		rec, ok := puts[about.Key]
		if !ok {
			continue
		}
		outcome := v1.LearnedRefused
		if errors.Is(e, hnv.ErrConflict) {
			outcome = v1.LearnedStatic
		}
		j.refused[about.Key] = held(rec.VSID.Uint32(), rec.CA.String(), outcome, "%v", e)
		found = true
	}
	return found
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, flatten(e)...)
	}
	return out
}
