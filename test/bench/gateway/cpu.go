//go:build linux

package gateway

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// work gives the processor time that the rig has taken so far. The kernel forwards
// packets on behalf of whoever made them move: of this process, whose threads are the
// generator and the probes, of iperf3, of the gateway's daemons, or of the kernel's own
// threads for what is left over. What else runs on the machine is not in it, except
// in the latter.
func (r *rig) work() (time.Duration, error) {
	var all time.Duration
	add := func(clock int32) error {
		var t unix.Timespec
		if err := unix.ClockGettime(clock, &t); err != nil {
			return err
		}
		all += time.Duration(t.Nano())
		return nil
	}
	if err := add(unix.CLOCK_PROCESS_CPUTIME_ID); err != nil {
		return 0, err
	}
	threads, err := softirqThreads()
	if err != nil {
		return 0, err
	}
	for _, pid := range threads {
		if err := add(clockOf(pid)); err != nil {
			return 0, fmt.Errorf("processor time of ksoftirqd: %w", err)
		}
	}
	for _, p := range r.daemons {
		if err := add(clockOf(p.PID())); err != nil {
			return 0, fmt.Errorf("processor time of %s: %w", p.Name, err)
		}
	}
	var children unix.Rusage // those that have ended: iperf3's clients
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &children); err != nil {
		return 0, err
	}
	return all + time.Duration(children.Utime.Nano()+children.Stime.Nano()), nil
}

// clockOf gives the clock of a process's processor time, as clock_getcpuclockid(3)
// makes it: the scheduler's account, in nanoseconds, not ticks.
func clockOf(pid int) int32 { return int32(^pid)<<3 | 2 }

// softirqThreads finds the kernel's threads for packets that interrupted work did not
// get to.
func softirqThreads() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var out []int
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscan(e.Name(), &pid); err != nil || pid > 1000 {
			continue // they are among the first that the kernel makes
		}
		name, err := os.ReadFile("/proc/" + e.Name() + "/comm")
		if err == nil && strings.HasPrefix(string(name), "ksoftirqd/") {
			out = append(out, pid)
		}
	}
	return out, nil
}
