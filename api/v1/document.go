package v1

import "encoding/json"

// APIVersion is the version that documents carry.
const APIVersion = "v1"

// Document is a set of objects to apply as a whole: what `gatewayctl apply`
// reads, POST /v1/apply takes and GET /v1/export gives.
type Document struct {
	APIVersion        string            `json:"apiVersion,omitempty" doc:"Version of the document's form. Left out: v1." enum:"v1"`
	ProviderAddresses []ProviderAddress `json:"providerAddresses,omitempty" doc:"Addresses of this machine on the fabric." nullable:"false"`
	ProviderRoutes    []ProviderRoute   `json:"providerRoutes,omitempty" doc:"Routes to provider addresses that are not on-link." nullable:"false"`
	Tenants           []Tenant          `json:"tenants,omitempty" doc:"Tenants." nullable:"false"`
	ACLs              []ACL             `json:"acls,omitempty" doc:"Access control lists." nullable:"false"`
	Ports             []Port            `json:"ports,omitempty" doc:"VM interfaces on this machine." nullable:"false"`
	LookupRecords     []LookupRecord    `json:"lookupRecords,omitempty" doc:"Lookup records." nullable:"false"`
	CustomerRoutes    []CustomerRoute   `json:"customerRoutes,omitempty" doc:"Customer routes." nullable:"false"`
	NATMappings       []NATMapping      `json:"natMappings,omitempty" doc:"Static NAT mappings." nullable:"false"`
	Attachments       []Attachment      `json:"attachments,omitempty" doc:"Attachments to physical networks." nullable:"false"`
	S2SConnections    []S2SConnection   `json:"s2sConnections,omitempty" doc:"Site-to-site connections." nullable:"false"`
	BGPRouters        []BGPRouter       `json:"bgpRouters,omitempty" doc:"BGP speakers." nullable:"false"`
	BGPPeers          []BGPPeer         `json:"bgpPeers,omitempty" doc:"Their BGP peers." nullable:"false"`
}

// Len is the number of objects in the document.
func (d *Document) Len() int {
	return len(d.ProviderAddresses) + len(d.ProviderRoutes) + len(d.Tenants) + len(d.ACLs) + len(d.Ports) +
		len(d.LookupRecords) + len(d.CustomerRoutes) + len(d.NATMappings) +
		len(d.Attachments) + len(d.S2SConnections) + len(d.BGPRouters) + len(d.BGPPeers)
}

// What an apply did, or would do, to an object.
const (
	ActionCreated   = "created"
	ActionUpdated   = "updated"
	ActionUnchanged = "unchanged"
)

// ObjectAction is one object and what became of it.
type ObjectAction struct {
	Kind   string `json:"kind" doc:"Kind of object." example:"tenant"`
	Key    string `json:"key" doc:"What is unique about it among its kind." example:"contoso"`
	Action string `json:"action" doc:"What was done, or with dryRun would be." enum:"created,updated,unchanged"`

	Old json.RawMessage `json:"old,omitempty" doc:"With diff: the object as it was, where it is updated; as a document has it."`
	New json.RawMessage `json:"new,omitempty" doc:"With diff: the object as it is then, where it is created or updated; with what was left out filled in."`
}

// ApplyResult is what POST /v1/apply answers.
type ApplyResult struct {
	DryRun   bool           `json:"dryRun,omitempty" doc:"True when nothing was written."`
	Revision int64          `json:"revision" doc:"Store revision that holds all of the document; with dryRun the present one."`
	Objects  []ObjectAction `json:"objects" doc:"The document's objects in the order of their kinds." nullable:"false"`
}

// RecordImport is what POST /v1/lookup-records/import takes.
type RecordImport struct {
	Items []LookupRecord `json:"items" doc:"Records to write; one that exists is replaced." maxItems:"1000000" nullable:"false"`
}

// RecordImportResult is what POST /v1/lookup-records/import answers.
type RecordImportResult struct {
	DryRun    bool  `json:"dryRun,omitempty" doc:"True when nothing was written."`
	Created   int   `json:"created" doc:"Records that are new."`
	Updated   int   `json:"updated" doc:"Records that were replaced."`
	Unchanged int   `json:"unchanged" doc:"Records that were there already, just so."`
	Revision  int64 `json:"revision" doc:"Store revision that holds all of them."`
}

// DeleteResult is what DELETE of a tenant answers.
type DeleteResult struct {
	Revision int64       `json:"revision" doc:"Store revision without the objects."`
	Deleted  []KindCount `json:"deleted" doc:"What was deleted." nullable:"false"`
}

// KindCount is a number of objects of one kind.
type KindCount struct {
	Kind  string `json:"kind" doc:"Kind of object." example:"record"`
	Count int    `json:"count" doc:"How many."`
}
