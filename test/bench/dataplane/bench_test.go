package dataplane

import (
	"flag"
	"testing"
)

// Benchmarks check what they measure: that all packets came through, or were
// dropped for the reason that they were to be dropped for. So each is also run
// once, in small.
func TestBenchmarks(t *testing.T) {
	old := flag.Lookup("test.benchtime").Value.String()
	if err := flag.Set("test.benchtime", "1x"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { flag.Set("test.benchtime", old) })
	few := []int{1, 3000}
	for name, f := range map[string]func(*testing.B){
		"Path":      func(b *testing.B) { benchmarkPath(b, few) },
		"Tunnel":    BenchmarkTunnel,
		"Gateway":   BenchmarkGateway,
		"Size":      BenchmarkSize,
		"ACL":       BenchmarkACL,
		"Meter":     BenchmarkMeter,
		"Hairpin":   BenchmarkHairpin,
		"Broadcast": BenchmarkBroadcast,
		"Segments":  BenchmarkSegments,
		"Full":      BenchmarkFull,
		"Memory":    func(b *testing.B) { benchmarkMemory(b, few[1]) },
		"Migration": func(b *testing.B) { benchmarkMigration(b, few) },
	} {
		t.Run(name, func(t *testing.T) {
			if r := testing.Benchmark(f); r.N == 0 {
				t.Error("it failed")
			}
		})
	}
}
