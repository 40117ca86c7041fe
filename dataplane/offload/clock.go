//go:build linux

package offload

import "golang.org/x/sys/unix"

// machineClock is the programs' clock: nanoseconds since the machine was started.
func machineClock() uint64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &t) != nil {
		return 0
	}
	return uint64(t.Nano())
}
