package v1

import (
	"fmt"
	"math"
	"net/netip"

	"github.com/hnvgate/hnvgate/hnv"
)

// Attachment is a compartment's foot in a physical network, to and from which
// packets are forwarded as they are, without NAT.
type Attachment struct {
	Tenant      string            `json:"tenant" doc:"Tenant it belongs to; its gateway must be on this machine." example:"contoso"`
	Name        string            `json:"name" doc:"Name of the attachment among those of its tenant: a DNS label (RFC 1123) of at most 40 characters." example:"dc" maxLength:"40"`
	Uplink      string            `json:"uplink" doc:"Name of an uplink of this machine, as its configuration file has it, of any kind." example:"physical"`
	VLAN        uint16            `json:"vlan,omitempty" doc:"802.1Q tag; required on an uplink of kind vlan, and left out on others." maximum:"4094" example:"120"`
	Addresses   []string          `json:"addresses" doc:"Addresses of the compartment in that network, each with the length of its on-link prefix; on an uplink of kind routed single addresses (/32, /128)." minItems:"1" nullable:"false" example:"[\"172.20.0.2/24\"]"`
	MTU         uint16            `json:"mtu,omitempty" doc:"Bytes of the largest IP packet. Left out or 0: the uplink's." maximum:"9216"`
	Routes      []AttachmentRoute `json:"routes,omitempty" doc:"What is behind that network. Left out: what the on-link prefixes and BGP say." nullable:"false"`
	ReversePath string            `json:"reversePath,omitempty" doc:"Check of sources that come in (RFC 3704): strict, the way back must lead over this attachment; loose, there must be one; off. Left out: strict." enum:"strict,loose,off"`
}

// AttachmentRoute leads to a prefix behind a physical network.
type AttachmentRoute struct {
	Prefix  string `json:"prefix" doc:"Destination." example:"172.16.0.0/12"`
	NextHop string `json:"nextHop,omitempty" doc:"Router on the attachment's link. Left out on an uplink of kind routed, where the machine's own routes lead on." example:"172.20.0.1"`
	Metric  uint32 `json:"metric,omitempty" doc:"Of several routes of one prefix the lowest metric wins."`
}

// AttachmentList is what GET /v1/attachments answers.
type AttachmentList struct {
	Items []Attachment `json:"items" doc:"The attachments, sorted by tenant and name." nullable:"false"`
}

// Object gives the domain's object. All malformed fields are joined into the
// error, a *FieldError each. The result need not pass Check.
func (a Attachment) Object() (hnv.Attachment, error) {
	var f fields
	out := hnv.Attachment{
		Tenant: f.named("tenant", "tenant", a.Tenant), Name: read(&f, "name", a.Name, parseName),
		Uplink: a.Uplink, VLAN: a.VLAN, MTU: int(a.MTU), ReversePath: hnv.ReversePath(a.ReversePath),
	}
	if a.Uplink == "" {
		f.failf("uplink", "the uplink is missing: name one of this machine's")
	}
	if len(a.Addresses) == 0 {
		f.failf("addresses", "the address is missing: give at least one as ADDRESS/LENGTH")
	}
	out.Addresses = f.prefixes("addresses", "address", a.Addresses)
	for i, r := range a.Routes {
		at := fmt.Sprintf("routes[%d].", i)
		route := hnv.AttachmentRoute{Prefix: f.prefix(at+"prefix", "destination prefix", r.Prefix), Metric: r.Metric}
		if r.NextHop != "" {
			route.NextHop = f.addr(at+"nextHop", "next hop", r.NextHop)
		}
		out.Routes = append(out.Routes, route)
	}
	return out, f.err()
}

// NewAttachment gives the attachment as the interface shows it.
func NewAttachment(a hnv.Attachment) Attachment {
	out := Attachment{
		Tenant: a.Tenant.String(), Name: a.Name.String(), Uplink: a.Uplink, VLAN: a.VLAN,
		Addresses: textsOf(a.Addresses), MTU: small(a.MTU), ReversePath: string(a.ReversePath),
	}
	for _, r := range a.Routes {
		out.Routes = append(out.Routes, AttachmentRoute{Prefix: r.Prefix.String(), NextHop: addrText(r.NextHop), Metric: r.Metric})
	}
	return out
}

// prefixes reads a list of prefixes.
func (f *fields) prefixes(field, what string, in []string) []netip.Prefix {
	var out []netip.Prefix
	for i, s := range in {
		out = append(out, f.prefix(fmt.Sprintf("%s[%d]", field, i), what, s))
	}
	return out
}

// textsOf is texts that gives a list where there is nothing.
func textsOf[T fmt.Stringer](in []T) []string {
	if out := texts(in); out != nil {
		return out
	}
	return []string{}
}

// small gives n where it fits, and otherwise the largest there is, which is out of
// any range.
func small(n int) uint16 { return uint16(min(max(n, 0), math.MaxUint16)) }
