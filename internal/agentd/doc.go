// Package agentd is the inside of a compartment's agent: it takes the desired
// state over a unix socket (package agentapi), keeps a sealed copy by which it
// comes up by itself, and has the parts bring it about, again and again.
//
// One agent runs for each run folder; a lock in it sees to that, and an agent
// whose folder is gone ends, with all that it made. The parts are
// handed in, so that this package knows no engine. cmd/compartmentd and tests
// import it.
package agentd
