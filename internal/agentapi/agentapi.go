package agentapi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"
)

// Names below an agent's run folder.
const (
	SocketName  = "agent.sock"
	LockName    = "lock"
	DesiredName = "desired.sealed"
	LogName     = "log"
	// NewsName is a file that is written when the state has changed, by itself.
	NewsName = "news"
)

// MaxBody bounds a request and an answer, in bytes.
const MaxBody = 32 << 20

// The parts that an agent may have.
const (
	S2S = "s2s"
	BGP = "bgp"
)

// Desired is the whole wanted state of one compartment's agent.
type Desired struct {
	// Parts holds what each part is to do, by name; a part that is not named has
	// nothing to do. It may hold secrets: S2S is what s2s.Encode writes.
	Parts map[string]json.RawMessage
}

// Digest tells two Desired apart.
func (d Desired) Digest() (string, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// State is what an agent tells of itself.
type State struct {
	Version string
	Tenant  string
	PID     int
	Started time.Time
	// Digest is that of the Desired that it works by; "" before the first one.
	Digest string
	// Confined lists what binds the process, as "seccomp".
	Confined []string
	// Parts holds each part's state, Errors why it is not as wanted.
	Parts  map[string]json.RawMessage
	Errors map[string]string `json:",omitempty"`
}

// Error is the body of an answer that is not a success.
type Error struct{ Message string }
