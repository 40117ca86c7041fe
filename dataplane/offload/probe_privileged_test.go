//go:build privileged && linux

package offload

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nstest"
)

// The kernel that tests run on can do everything, but perhaps what is newer than
// it, and says so.
func TestProbe(t *testing.T) {
	all := Probe()
	for _, c := range all {
		if c.Name == capUnmark {
			if c.OK != (c.Reason == "") || c.Needed {
				t.Errorf("%+v", c)
			}
			continue
		}
		if !c.OK || c.Reason != "" {
			t.Errorf("%+v", c)
		}
	}
	if len(all) != 9 {
		t.Errorf("%d capabilities: %+v", len(all), all)
	}
	if err := adjustRoom(-28, 1<<30); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a flag that no kernel knows: %v", err)
	}
}

// Without what it needs there is no fast path, and the error says what.
func TestUnsupported(t *testing.T) {
	ns := nstest.New(t, "old")
	for _, c := range probe(nil) {
		o := Options{Instance: "old", Namespace: netns.Path(ns), without: []string{c.Name}}
		f, err := Open(dataplane.New(dataplane.Options{}), o)
		if err == nil {
			must(t, f.Close())
		}
		if errors.Is(err, ErrUnsupported) != c.Needed || c.Needed && !strings.Contains(err.Error(), c.Name) {
			t.Errorf("without %s: %v", c.Name, err)
		}
		if _, err := Uninstall(o); err != nil {
			t.Error(err)
		}
	}
}

// Where decapsulation does not set a packet's family, user space takes the packets
// of which it would have to be another one, and the programs the others.
func TestFamilyUnset(t *testing.T) {
	for _, e := range examples[1:3] {
		t.Run(e.name, func(t *testing.T) {
			s := newFabric(t, e, false)
			s.gw.without = []string{capDecap}
			s.gw.start(s.c)
			s.gw.plug(s.compVM, "w0", e.tunnelMTU())
			s.gw.serve()
			s.pings()
			s.transfers(1 << 18)
			st, err := s.gw.f.Status()
			must(t, err)
			var all trafficValue
			must(t, s.gw.f.t.traffic.all(func(_ uint32, v trafficValue) bool { all.add(v); return true }))
			if st.Punts[WhyShape] < 20 || all.FromFabric.Packets < 20 {
				t.Errorf("punted: %v, taken: %+v", st.Punts, all)
			}
		})
	}
}

// Where programs do not see what is unfinished of checksums, user space takes all
// that VMs send, whose guests could have them written anywhere, and the programs
// what they get, and all of compartments'.
func TestChecksumsUnseen(t *testing.T) {
	s := newFabric(t, examples[0], false)
	s.gw.without = []string{capContext}
	s.gw.object = bytes.ReplaceAll(object, []byte("bpf_cast_to_kern_ctx"), []byte("bpf_cast_to_kern_ctY"))
	s.gw.start(s.c)
	s.gw.plug(s.compVM, "w0", s.e.tunnelMTU())
	s.gw.serve()
	s.pings()
	s.transfers(1 << 18)
	st, err := s.gw.f.Status()
	must(t, err)
	if n := st.Punts[WhyShape]; n > 0 {
		t.Fatalf("%d packets of a compartment went through user space", n)
	}
	ns, v := s.local("10.1.2.12")
	run(t, ns, "ping -c 3 -i 0.01 -W30 %s", s.hostVM.four)
	transfer(t, ns, s.vm, s.hostVM.four, 1<<18)
	transfer(t, s.vm, ns, v.four, 1<<18)
	if st, err = s.gw.f.Status(); err != nil || st.Punts[WhyShape] < 20 {
		t.Errorf("left to user space: %v, %v", st.Punts, err)
	}
}
