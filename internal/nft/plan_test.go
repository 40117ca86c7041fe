package nft

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hnvgate/hnvgate/internal/nfnl"
)

func mustCompile(t testing.TB, table Table) compiled {
	t.Helper()
	c, err := compile(table)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// asKernel gives the table as a kernel that was just told of it would hold it.
func asKernel(c compiled) observed {
	o := observed{exists: true, generation: 1}
	for i, name := range c.counters {
		o.objects = append(o.objects, observedObject{name: name, typ: objectCounter, counter: Counter{uint64(i + 1), 100}})
	}
	for _, s := range c.sets {
		o.sets = append(o.sets, observedSet{name: s.name, def: s.def, elems: slices.Clone(s.elems)})
	}
	for _, ch := range c.chains {
		oc := observedChain{name: ch.name, rules: slices.Clone(ch.rules)}
		if ch.hook != nil {
			h := *ch.hook
			oc.hook = &h
		}
		o.chains = append(o.chains, oc)
	}
	return o
}

func whats(msgs []nfnl.Message) (list []string) {
	for _, m := range msgs {
		if n := len(list); n == 0 || list[n-1] != m.What {
			list = append(list, m.What)
		}
	}
	return list
}

func TestPlanOfWhatIsRightIsEmpty(t *testing.T) {
	c := mustCompile(t, everything())
	msgs, changes := plan(c, asKernel(c))
	if len(msgs)+len(changes) != 0 {
		t.Errorf("plan is %q: %q", whats(msgs), changes)
	}
}

// The plan for a single difference touches what differs, in an order the kernel
// takes, and nothing else.
func TestPlanTouchesWhatDiffers(t *testing.T) {
	want := mustCompile(t, everything())
	chain := func(o *observed, name string) *observedChain {
		return &o.chains[slices.IndexFunc(o.chains, func(c observedChain) bool { return c.name == name })]
	}
	set := func(o *observed, name string) *observedSet {
		return &o.sets[slices.IndexFunc(o.sets, func(s observedSet) bool { return s.name == name })]
	}
	for _, c := range []struct {
		spoil   func(*observed)
		msgs    []string
		changes []string
	}{
		{func(o *observed) { chain(o, "early").rules = chain(o, "early").rules[1:] },
			[]string{"empty chain early", "add rule to chain early"}, []string{"rules of chain early rewritten"}},
		{func(o *observed) { chain(o, "early").rules = nil },
			[]string{"add rule to chain early"}, []string{"rules of chain early rewritten"}},
		{func(o *observed) { r := chain(o, "bounds").rules; r[0], r[1] = r[1], r[0] },
			[]string{"empty chain bounds", "add rule to chain bounds"}, []string{"rules of chain bounds rewritten"}},
		{func(o *observed) { chain(o, "early").rules[1].userdata = nil },
			[]string{"empty chain early", "add rule to chain early"}, []string{"rules of chain early rewritten"}},
		{func(o *observed) { chain(o, "forward").hook.Drop = false },
			[]string{"add chain forward"}, []string{"policy of chain forward set"}},
		{func(o *observed) { o.flags = 1 }, []string{"add table example"}, []string{"table example woken"}},
		{func(o *observed) { set(o, "map4").elems = set(o, "map4").elems[1:] },
			[]string{"add elements to set map4"}, []string{"set map4: 1 elements put in, 0 taken out"}},
		{func(o *observed) { set(o, "external4").elems[0].alien = true },
			[]string{"delete elements of set external4", "add elements to set external4"}, []string{"set external4: 1 elements put in, 1 taken out"}},
		{func(o *observed) { e := &set(o, "map4").elems[0]; e.data = strings.Repeat("x", 8) },
			[]string{"delete elements of set map4", "add elements to set map4"}, []string{"set map4: 1 elements put in, 1 taken out"}},
		{func(o *observed) {
			set(o, "inside4").elems = append(set(o, "inside4").elems, elem{key: "\x01\x02\x03\x04"})
		},
			[]string{"empty set inside4", "add elements to set inside4"}, []string{"set inside4: 0 elements put in, 1 taken out"}},
		{func(o *observed) { o.objects = o.objects[1:] }, []string{"add counter drop-invalid"}, []string{"counter drop-invalid made"}},
		{func(o *observed) {
			o.chains = append(o.chains, observedChain{name: "more", rules: make([]compiledRule, 1)})
			o.sets = append(o.sets, observedSet{name: "more"}, observedSet{name: "__set0", anonymous: true})
			o.objects = append(o.objects, observedObject{name: "more", typ: 2})
		}, []string{"empty chain more", "delete set more", "delete chain more", "delete object more"},
			[]string{"set more removed", "chain more removed", "object more removed"}},
		{func(o *observed) { o.chains = o.chains[:len(o.chains)-1] },
			[]string{"add chain srcnat", "add rule to chain srcnat"}, []string{"chain srcnat made"}},
		{func(o *observed) { o.sets = o.sets[1:] },
			[]string{"add set inside4", "add elements to set inside4"}, []string{"set inside4 made"}},
	} {
		have := asKernel(want)
		c.spoil(&have)
		msgs, changes := plan(want, have)
		if diff := cmp.Diff(c.msgs, whats(msgs)); diff != "" {
			t.Errorf("%q: (-want +got)\n%s", c.changes, diff)
		}
		if diff := cmp.Diff(c.changes, changes); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
}

// What cannot be changed in place is made anew, with its counters as they were.
func TestPlanRebuilds(t *testing.T) {
	want := mustCompile(t, everything())
	for says, spoil := range map[string]func(*observed){
		"chain early was attached elsewhere": func(o *observed) { o.chains[0].hook.Priority++ },
		"set inside4 was of another type":    func(o *observed) { o.sets[0].def.flags = 0 },
	} {
		have := asKernel(want)
		spoil(&have)
		msgs, changes := plan(want, have)
		if len(changes) != 1 || !strings.HasSuffix(changes[0], says) {
			t.Errorf("changes are %q", changes)
		}
		if msgs[0].Type != msgDelTable || msgs[1].Type != msgNewTable || msgs[2].Type != msgNewObj {
			t.Fatalf("begins with %q", whats(msgs)[:3])
		}
		for a := range nfnl.Attrs(msgs[2].Data) {
			if a.Type == objData {
				var c Counter
				if err := c.read(a.Data); err != nil || c != have.objects[0].counter {
					t.Errorf("counter starts at %+v, %v", c, err)
				}
			}
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	a4, a6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for says, table := range map[string]Table{
		"uses set absent":     {Chains: []Chain{{Name: "c", Rules: []Rule{R(In("absent", SAddr4), Drop())}}}},
		"uses chain absent":   {Chains: []Chain{{Name: "c", Rules: []Rule{R(Jump("absent"))}}}},
		"uses counter absent": {Chains: []Chain{{Name: "c", Rules: []Rule{R(Count("absent"))}}}},
		"named twice":         {Counters: []string{"a", "a"}},
		"not of type":         {Sets: []Set{{Name: "s", Key: []Type{IPv4Addr}, Elements: []Element{E(Addr(a6))}}}},
		"has not the fields":  {Sets: []Set{{Name: "s", Key: []Type{IPv4Addr}, Elements: []Element{E(Addr(a4), Port(1))}}}},
		"single values":       {Sets: []Set{{Name: "s", Key: []Type{IPv4Addr}, Elements: []Element{E(Prefix(netip.PrefixFrom(a4, 24)))}}}},
		"a range stands": {Sets: []Set{{Name: "s", Key: []Type{IPv4Addr}, Value: []Type{InetService},
			Elements: []Element{E(Addr(a4)).To(Ports(1, 2))}}}},
		"a dynamic set has a size": {Sets: []Set{{Name: "s", Key: []Type{Mark}, Dynamic: true}}},
		"127 bytes":                {Chains: []Chain{{Name: "c", Rules: []Rule{R(Drop()).Note(strings.Repeat("x", 128))}}}},
	} {
		table.Family, table.Name = Inet, "t"
		if _, err := compile(table); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want a refusal that says %q, got %v", says, err)
		}
	}
}

// A difference in any value of a rule is seen.
func TestEqualRulesSeesEveryChange(t *testing.T) {
	values := 0
	for _, ch := range mustCompile(t, everything()).chains {
		for n, r := range ch.rules {
			if !equalRules([]compiledRule{r}, []compiledRule{r}) {
				t.Fatalf("chain %s: rule %d differs from itself", ch.name, n)
			}
			for _, at := range valueBytes(r.exprs) {
				values++
				other := slices.Clone(r.exprs)
				other[at] ^= 0x44
				if equalRules([]compiledRule{r}, []compiledRule{{exprs: other, userdata: r.userdata}}) {
					t.Errorf("chain %s: byte %d of rule %d is not compared", ch.name, at, n)
				}
			}
			for m, o := range ch.rules {
				if m != n && equalRules([]compiledRule{r}, []compiledRule{o}) {
					t.Errorf("chain %s: rules %d and %d are taken for the same", ch.name, m, n)
				}
			}
		}
	}
	if values < 1000 {
		t.Errorf("only %d bytes were tried", values)
	}
}

// valueBytes gives the offsets of all bytes in b that are an attribute's value.
func valueBytes(b []byte) (offsets []int) {
	at := 0
	for a := range nfnl.Attrs(b) {
		if a.Nested {
			for _, o := range valueBytes(a.Data) {
				offsets = append(offsets, at+4+o)
			}
		} else {
			for i := range a.Data {
				offsets = append(offsets, at+4+i)
			}
		}
		at += 4 + align4(len(a.Data))
	}
	return offsets
}

// fakeKernel answers every question with the same bytes.
type fakeKernel struct{ data []byte }

func (k fakeKernel) Dump(m nfnl.Message, each func(nfnl.Reply) error) error {
	data := append(nfnl.AppendString(nil, tableName, "t"), k.data...)
	return each(nfnl.Reply{Type: m.Type, Family: uint8(Inet), Data: data})
}

func (k fakeKernel) Get(m nfnl.Message, each func(nfnl.Reply) error) error {
	return each(nfnl.Reply{Data: nfnl.AppendUint32(nil, genID, 1)})
}

// Whatever the kernel is made to say, reading it ends in an error or in a plan.
func FuzzObserve(f *testing.F) {
	c := mustCompile(f, everything())
	msgs, _ := plan(c, observed{})
	for _, m := range msgs {
		f.Add(m.Data)
	}
	want := mustCompile(f, Table{Family: Inet, Name: "t", Chains: []Chain{{Name: "early"}}})
	f.Fuzz(func(t *testing.T, b []byte) {
		have, err := observe(fakeKernel{b}, Inet, "t")
		if err != nil {
			return
		}
		msgs, _ := plan(want, have)
		if len(msgs) == 0 && len(have.chains) == 0 {
			t.Fatal("no plan although the chain is missing")
		}
		_, _ = splitValues(string(b), "", []Type{IPv4Addr, InetService})
	})
}
