package main

import (
	"log/slog"
	"os"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/compartments/agent"
	"github.com/hnvgate/hnvgate/control"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/config"
	"github.com/hnvgate/hnvgate/s2s"
)

// agentsKey is what the agents' keys are for: none of theirs tells anything of the
// key that secrets are stored under.
const agentsKey = "agents"

// openAgents makes the supervisor of the compartments' agents. A machine without
// uplinks has no compartments, so nil.
func openAgents(c config.Config, s secrets, log *slog.Logger, news func(hnv.Name)) (*agent.Supervisor, error) {
	if len(c.Uplinks) == 0 {
		return nil, nil
	}
	return agent.New(agent.Options{
		Binary: c.Agents.Binary, RunDir: c.Agents.RunDir, Key: s.key.Derive(agentsKey), Log: log.With("component", "agents"),
		Cgroup: c.Agents.Cgroup, MemoryMax: int64(c.Agents.MemoryMiB) << 20, CPUPercent: c.Agents.CPUPercent, OnNews: news, Sweep: s2s.Sweep,
	})
}

// forControl gives control the supervisor, if there is one.
func forControl(s *agent.Supervisor) control.Agents {
	if s == nil {
		return nil // and not an interface of nothing
	}
	return s
}

// agentFeature tells whether agents can be run, and what bounds them.
func agentFeature(c config.Config) v1.Feature {
	f := v1.Feature{Name: "agents", Path: "process", Reason: "no control group is configured (agents.cgroup): memory is bounded by the agents themselves"}
	if _, err := os.Stat(c.Agents.Binary); err != nil {
		return v1.Feature{Name: "agents", Path: "none", Reason: "without compartmentd there are neither tunnels nor BGP: " + err.Error()}
	}
	if c.Agents.Cgroup != "" {
		f.Path, f.Reason = "cgroup", "each agent has a group in "+c.Agents.Cgroup
	}
	return f
}

// implementation is what the configuration has all tunnels be of; "" chooses for each.
func implementation(c config.Config) s2s.Implementation {
	if c.Agents.WireGuard == config.WireGuardAuto {
		return ""
	}
	return s2s.Implementation(c.Agents.WireGuard)
}
