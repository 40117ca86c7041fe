//go:build linux

package offload

// Capability is something that the fast path needs of the kernel.
type Capability struct {
	Name   string
	OK     bool
	Reason string // why not, or what is done instead
}

// Probe tells what the kernel can do of what the fast path needs.
func Probe() []Capability {
	small := Sizes{VSIDs: 1, Ports: 1, Records: 1, Hosts: 1, Routes: 1, Teams: 1, HopSets: 1, Tenants: 1, PAs: 1}
	programs := Capability{Name: "programs", OK: true}
	k, err := load(loadOptions{sizes: small})
	if err != nil {
		return []Capability{{Name: programs.Name, Reason: err.Error()}}
	}
	if err := k.close(); err != nil {
		programs = Capability{Name: programs.Name, Reason: err.Error()}
	}
	return []Capability{programs}
}
