package offload

// Sizes bound the tables. The zero value is good.
type Sizes struct {
	VSIDs, Ports, Records, Hosts, Routes, Teams, HopSets, Tenants, PAs uint32
	// Externals are external addresses, and entries of ranges of their ports, of
	// which a range has up to 30; Exits are compartments; Flows are directions of
	// connections that the programs translate.
	Externals, Exits, Flows uint32
	// Verdicts are directions of flows at ports with lists.
	Verdicts uint32
	// Rates are ports with rates, and tenants that have some.
	Rates uint32
}

// The sizes where nothing is said. A hash of so many entries costs 16 bytes for
// each, whether it is there or not, and about 120 more for each that is.
const (
	DefaultVSIDs   = 1 << 14
	DefaultPorts   = 1 << 14
	DefaultRecords = 1 << 20
	DefaultHosts   = 1 << 18
	DefaultRoutes  = 1 << 20
	DefaultTeams   = 1 << 14
	DefaultHopSets = 1 << 14
	DefaultTenants = 1 << 14
	DefaultPAs     = 1 << 14

	DefaultExternals = 1 << 16
	DefaultExits     = 1 << 14
	DefaultFlows     = 1 << 16 // some 300 bytes each, whether it is there or not

	DefaultVerdicts = 1 << 17
	DefaultRates    = 1 << 14 // 64 bytes each, whether it is there or not
)

func (s Sizes) fill() Sizes {
	for _, f := range []struct {
		size *uint32
		or   uint32
	}{
		{&s.VSIDs, DefaultVSIDs}, {&s.Ports, DefaultPorts}, {&s.Records, DefaultRecords}, {&s.Hosts, DefaultHosts},
		{&s.Routes, DefaultRoutes}, {&s.Teams, DefaultTeams}, {&s.HopSets, DefaultHopSets}, {&s.Tenants, DefaultTenants}, {&s.PAs, DefaultPAs},
		{&s.Externals, DefaultExternals}, {&s.Exits, DefaultExits}, {&s.Flows, DefaultFlows},
		{&s.Verdicts, DefaultVerdicts}, {&s.Rates, DefaultRates},
	} {
		if *f.size == 0 {
			*f.size = f.or
		}
	}
	return s
}
