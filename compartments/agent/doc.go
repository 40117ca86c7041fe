// Package agent is gatewayd's side of the compartments' agents (compartmentd):
// it starts one inside a tenant's namespace, tells it what to do, starts it again
// when it dies, later each time, and takes over those that an earlier gatewayd
// started. Agents do not end with gatewayd.
//
// Each agent has a run folder of its own below Options.RunDir, with its socket,
// its log and a sealed copy of what it was told last; the key is given to it by a
// pipe. Who answers on the socket is known by the kernel (SO_PEERCRED), not by a
// file with a number in it.
//
// What is told is left in JSON (package agentapi): this package knows no engine.
// It imports hnv and internal; control and test import it. Lock order:
// Supervisor.mu before child.mu; requests to an agent are made without either.
package agent
