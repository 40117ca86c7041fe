package bench

import (
	"os"
	"runtime"
	"strings"
)

// Machine is what the numbers were measured on.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	Arch   string `json:"arch"`
	// Load is the average load of the last minute, before and after: how much
	// else the machine was doing.
	Load [2]string `json:"load"`
}

// ThisMachine describes the machine; what it does not say of itself stays empty.
func ThisMachine() Machine {
	return Machine{
		CPU: cpuModel(read("/proc/cpuinfo")), Cores: runtime.NumCPU(), Kernel: strings.TrimSpace(read("/proc/sys/kernel/osrelease")),
		Go: runtime.Version(), Arch: runtime.GOOS + "/" + runtime.GOARCH,
	}
}

// Load gives the average load of the last minute.
func Load() string {
	load, _, _ := strings.Cut(read("/proc/loadavg"), " ")
	return load
}

func read(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

func cpuModel(cpuinfo string) string {
	for line := range strings.Lines(cpuinfo) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
