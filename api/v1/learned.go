package v1

import "time"

// LearnedRecord is a lookup record that a machine learned, on its way to a peer.
type LearnedRecord struct {
	Record LookupRecord `json:"record" doc:"The record, of type dynamic, at a provider address of the sender."`
	// AgeMillis instead of a time, since clocks differ.
	AgeMillis *int64 `json:"ageMillis,omitempty" doc:"Milliseconds since it was learned. Left out: longer ago than the sender knows." minimum:"0"`
}

// LearnedKey names a record that was reported and is no longer so.
type LearnedKey struct {
	VSID uint32 `json:"vsid" doc:"Virtual subnet of the record." example:"5001"`
	CA   string `json:"ca" doc:"Customer address." example:"10.1.1.11"`
	PA   string `json:"pa" doc:"Provider address it was reported at. A record that is elsewhere by now is left alone." example:"192.168.1.10"`
}

// LearnedReport is what a machine tells a peer of what it learned.
type LearnedReport struct {
	Origin   string          `json:"origin" doc:"Name of the machine that learned; it is kept in the records' context." maxLength:"128" example:"hnv@host7"`
	PAs      []string        `json:"pas" doc:"Provider addresses of that machine. It may say what is behind these, and nothing else." maxItems:"64" nullable:"false"`
	Put      []LearnedRecord `json:"put,omitempty" doc:"Records to take over." nullable:"false"`
	Withdraw []LearnedKey    `json:"withdraw,omitempty" doc:"Records to forget." nullable:"false"`
}

// What became of a reported record that was not stored.
const (
	LearnedStatic     = "static"     // what is configured there, a record or another object, stands against it
	LearnedUnneeded   = "unneeded"   // the VSID belongs to no tenant there
	LearnedSuperseded = "superseded" // it was learned elsewhere since
	LearnedLimit      = "limit"      // there are as many as may be already
	LearnedRefused    = "refused"    // it cannot be, or is not the sender's to report
)

// LearnedOutcome tells why a record was not taken over.
type LearnedOutcome struct {
	VSID    uint32 `json:"vsid" doc:"Virtual subnet of the record."`
	CA      string `json:"ca" doc:"Customer address of the record."`
	Outcome string `json:"outcome" doc:"What stands against it." enum:"static,unneeded,superseded,limit,refused"`
	Message string `json:"message" doc:"The same in a sentence."`
}

// LearnedResult is what POST /v1/learned-records answers.
type LearnedResult struct {
	Epoch     string           `json:"epoch" doc:"Changes when gatewayd is started anew."`
	Revision  int64            `json:"revision" doc:"Store revision after it."`
	Stored    int              `json:"stored" doc:"Records created or replaced."`
	Unchanged int              `json:"unchanged" doc:"Records that were just so already."`
	Withdrawn int              `json:"withdrawn" doc:"Records deleted."`
	Held      []LearnedOutcome `json:"held" doc:"Records that were not taken over." nullable:"false"`
}

// LearnedState is what GET /v1/learned-records answers.
type LearnedState struct {
	Epoch    string         `json:"epoch" doc:"Changes when gatewayd is started anew."`
	Revision int64          `json:"revision" doc:"Store revision."`
	Items    []LookupRecord `json:"items" doc:"Records that were reported at the provider addresses asked for, in no order." nullable:"false"`
}

// PeerStatus is the state of a machine to which learned records are reported.
type PeerStatus struct {
	Name        string     `json:"name" doc:"Name of the peer." example:"gw1"`
	Target      string     `json:"target" doc:"Where it is reached." example:"https://10.99.0.1:8443"`
	Phase       Phase      `json:"phase" doc:"The state in one word." enum:"Ready,Pending,Degraded,Error"`
	Connected   bool       `json:"connected" doc:"Whether the last request was answered."`
	Since       time.Time  `json:"since" doc:"When Connected last changed."`
	LastContact *time.Time `json:"lastContact,omitempty" doc:"When a request was last answered."`
	LastError   string     `json:"lastError,omitempty" doc:"Why the last request failed; empty where it did not."`

	Pushed     int    `json:"pushed" doc:"Records of this machine that the peer holds."`
	Pending    int    `json:"pending" doc:"Records to report or withdraw still."`
	Static     int    `json:"static" doc:"Records that the peer has otherwise by configuration, which wins."`
	Unneeded   int    `json:"unneeded" doc:"Records of virtual subnets that the peer does not have."`
	Superseded int    `json:"superseded" doc:"Records that another machine learned since."`
	Refused    int    `json:"refused" doc:"Records that the peer does not take for other reasons."`
	LastHeld   string `json:"lastHeld,omitempty" doc:"Why the peer last did not take a record."`
	Withdrawn  uint64 `json:"withdrawn" doc:"Records withdrawn since gatewayd started."`
	Failures   uint64 `json:"failures" doc:"Requests that failed since gatewayd started."`
}

// LearnedStatus sums up the learned records of a machine.
type LearnedStatus struct {
	Own       int `json:"own" doc:"Records learned behind this machine's provider addresses."`
	Reported  int `json:"reported" doc:"Records that other machines reported."`
	OverLimit int `json:"overLimit" doc:"Own records that are reported to nobody, because the tenant has too many."`
	Unsteady  int `json:"unsteady" doc:"Own records that moved to and fro so often lately that they are not reported for a while."`
}
