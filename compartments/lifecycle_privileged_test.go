//go:build privileged && linux

package compartments

import (
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/internal/netns"
)

func apply(t *testing.T, e *Engine, s Spec) Result {
	t.Helper()
	r, err := e.Apply(t.Context(), s)
	must(t, err)
	return r
}

func settled(t *testing.T, e *Engine, s Spec) {
	t.Helper()
	if r := apply(t, e, s); len(r.Repaired) > 0 {
		t.Errorf("applied again, %s changed %q", s.Name, r.Repaired)
	}
}

func TestCreateAdoptDelete(t *testing.T) {
	m := newMachine(t)
	before := m.state()
	e := m.engine()
	s := specOf(t, "contoso", 5000, "203.0.113.10")
	r := apply(t, e, s)
	if r.Namespace != netns.Path(m.id+"-contoso") || r.Port != e.names.overlayPeer(s.VSID) || len(r.Repaired) != 1 {
		t.Errorf("%+v", r)
	}
	t.Log(m.ip(m.id+"-contoso", "-d addr"))
	t.Log(m.ip(m.id+"-contoso", "route"))
	t.Log(m.state())
	settled(t, e, s)
	settled(t, m.engine(), s) // as after a restart

	must(t, e.Delete(t.Context(), s.Name))
	must(t, e.Delete(t.Context(), s.Name))
	if netns.Exists(m.id + "-contoso") {
		t.Error("the namespace is still there")
	}
	if after := m.state(); after != before {
		t.Errorf("left behind:\n%s\nbefore it was:\n%s", after, before)
	}
}

// state is the gateway's namespace without what stays for good.
func (m *machine) state() string {
	gw := m.id + ".gw"
	out := ""
	for _, c := range []string{"-o link", "route", "-6 route", "neigh show nud permanent", "-6 neigh show nud permanent", "neigh show proxy", "-6 neigh show proxy"} {
		for _, line := range strings.Split(m.ip(gw, c), "\n") {
			if h := (names{m.id}).hash4(); !strings.Contains(line, "h"+h) {
				out += line + "\n"
			}
		}
	}
	rules, _ := m.try(gw, "nft list ruleset")
	for _, line := range strings.Split(rules, "\n") {
		if strings.Contains(line, "elements") && !strings.Contains(line, "up0") {
			out += line + "\n"
		}
	}
	return out
}
