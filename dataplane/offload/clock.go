//go:build linux

package offload

import "golang.org/x/sys/unix"

// machineClock is the programs' clock: nanoseconds since the machine was started, as
// of the last tick.
func machineClock() uint64 { return clockNano(unix.CLOCK_MONOTONIC_COARSE) }

// fineClock is the same to the nanosecond.
func fineClock() uint64 { return clockNano(unix.CLOCK_MONOTONIC) }

func clockNano(id int32) uint64 {
	var t unix.Timespec
	if unix.ClockGettime(id, &t) != nil {
		return 0
	}
	return uint64(t.Nano())
}
