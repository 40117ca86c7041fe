//go:build linux

package offload

import (
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Status tells what the fast path does.
type Status struct {
	PuntLink   string            // where user space reads
	Interfaces []InterfaceStatus // by index
	Tables     []TableStatus     // by name
	Punts      map[Why]uint64    // packets taken to user space, since the tables were made
	// Unmerged is why the kernel does not merge VXLAN packets on receipt (GRO), so
	// that throughput is less; "" is that it does.
	Unmerged string
	// Capabilities are what the kernel can do of what the programs use.
	Capabilities []Capability
}

// InterfaceStatus is an interface whose packets the programs take.
type InterfaceStatus struct {
	Ifindex int
	Program string    // "from_fabric" or "from_port"
	Tag     string    // of the program's instructions, as bpftool-prog(8) shows it
	Loaded  time.Time // the program; zero where the kernel does not say
	// Missing tells that somebody has taken the program off.
	Missing bool
}

// TableStatus is how full a table is.
type TableStatus struct {
	Name      string
	Used, Max uint32
}

// Status looks at the kernel. What cannot be told is left out, and in the error.
func (f *FastPath) Status() (Status, error) {
	f.links.Lock()
	defer f.links.Unlock()
	s := Status{PuntLink: f.PuntLink(), Unmerged: f.mergeless, Capabilities: f.capabilities}
	var errs []error
	for ifindex, program := range f.attached {
		i := InterfaceStatus{Ifindex: ifindex, Program: program, Missing: true}
		all, _, err := f.h.Filters(ifindex)
		errs = append(errs, err)
		for _, x := range all {
			if x.Name != filterName(f.instance, program) {
				continue
			}
			i.Missing, i.Tag = false, hex.EncodeToString(x.Tag[:])
			i.Loaded = loaded(ebpf.ProgramID(x.Program))
		}
		s.Interfaces = append(s.Interfaces, i)
	}
	slices.SortFunc(s.Interfaces, func(a, b InterfaceStatus) int { return a.Ifindex - b.Ifindex })
	var err error
	s.Tables, s.Punts, err = f.Load()
	return s, errors.Join(append(errs, err)...)
}

// Load is Status without the interfaces, of which there may be many.
func (f *FastPath) Load() (tables []TableStatus, punts map[Why]uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	punts = map[Why]uint64{}
	all, err := f.collect()
	for _, t := range all {
		for w, n := range t.punts {
			punts[w] += n
		}
	}
	for _, t := range f.tenants {
		for w, n := range t.retired.punts {
			punts[w] += n
		}
	}
	return f.fill(), punts, err
}

// Capabilities is Status.Capabilities.
func (f *FastPath) Capabilities() []Capability { return f.capabilities }

// Unmerged is Status.Unmerged.
func (f *FastPath) Unmerged() string { return f.mergeless }

// loaded gives the time at which the program was loaded.
func loaded(id ebpf.ProgramID) time.Time {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return time.Time{}
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return time.Time{}
	}
	since, ok := info.LoadTime()
	if !ok {
		return time.Time{}
	}
	return time.Now().Add(since - sinceBoot()).Truncate(time.Second)
}

// sinceBoot is what the clock by which programs are loaded shows.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// fill tells how much of the tables is used; with mirror.mu. Settled or not, it
// counts what was written by this process.
func (f *FastPath) fill() []TableStatus {
	var subnets, records int
	for _, t := range f.tenants {
		subnets += len(t.subnets)
		if t.domain != nil {
			records += t.domain.Records()
		}
	}
	s := f.sizes
	return []TableStatus{
		{"hop sets", uint32(len(f.hopSets.taken)), s.HopSets},
		{"ports", uint32(len(f.ports)), s.Ports},
		{"records", uint32(records), s.Records},
		{"teams", uint32(len(f.teams.taken)), s.Teams},
		{"tenants", uint32(len(f.tenants)), s.Tenants},
		{"virtual subnets", uint32(subnets), s.VSIDs},
	}
}
