package dataplane

import (
	"math"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// watch adds up the time that packets take while it runs.
type watch struct {
	wall, cpu       time.Duration
	allocs, bytes   uint64
	packets         int
	wallAt, cpuAt   time.Duration
	allocAt, byteAt uint64
}

var started = time.Now()

func wallTime() time.Duration { return time.Since(started) }

// cpuTime is what the process has used of all processors.
func cpuTime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

func (w *watch) start() {
	w.cpuAt = cpuTime()
	w.wallAt = wallTime()
}

func (w *watch) stop(packets int) {
	w.wall += wallTime() - w.wallAt
	w.cpu += cpuTime() - w.cpuAt
	w.packets += packets
}

// count begins, or ends, the counting of allocations. It stops the world.
func (w *watch) count() (done func()) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	w.allocAt, w.byteAt = m.Mallocs, m.TotalAlloc
	return func() {
		runtime.ReadMemStats(&m)
		w.allocs += m.Mallocs - w.allocAt
		w.bytes += m.TotalAlloc - w.byteAt
	}
}

// report tells what one thing, say a packet, took.
func (w *watch) report(b *testing.B, thing string) {
	n := float64(w.packets)
	b.ReportMetric(0, "ns/op") // counts what is not timed
	b.ReportMetric(float64(w.wall.Nanoseconds())/n, "ns/"+thing)
	b.ReportMetric(float64(w.cpu.Nanoseconds())/n, "cpu-ns/"+thing)
	b.ReportMetric(math.Round(float64(w.allocs)/n*1000)/1000, "allocs/"+thing) // counting costs a few itself
}
