//go:build linux

package gateway

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of /proc/stat: USER_HZ, which is 100 on every architecture that
// Go runs on.
const tick = 10 * time.Millisecond

// busy gives how long the machine's processors have worked since it started, all of
// them added up. It counts whatever runs on the machine: packets are forwarded on
// behalf of no process in particular, so nothing smaller would count all of a
// gateway's work.
func busy() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return busyIn(string(b))
}

func busyIn(stat string) (time.Duration, error) {
	line, _, _ := strings.Cut(stat, "\n")
	f := strings.Fields(line)
	if len(f) < 8 || f[0] != "cpu" {
		return 0, errors.New("/proc/stat begins with no line of all processors")
	}
	var ticks uint64
	for i, v := range f[1:8] { // user nice system idle iowait irq softirq
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		if i != 3 && i != 4 {
			ticks += n
		}
	}
	return time.Duration(ticks) * tick, nil
}
