package v1

import (
	"fmt"

	"github.com/hnvgate/hnvgate/hnv"
)

// ACL is a named list of rules of one tenant, which virtual subnets and ports
// name.
type ACL struct {
	Tenant string    `json:"tenant" doc:"Tenant it belongs to." example:"contoso"`
	Name   string    `json:"name" doc:"Name of the ACL among those of its tenant: a DNS label (RFC 1123) of at most 40 characters." example:"web" maxLength:"40"`
	Rules  []ACLRule `json:"rules" doc:"The rules, by direction and priority. What none of them allows is denied, in both directions, so an ACL without rules denies everything; replies to what was allowed pass without a rule." nullable:"false" maxItems:"2048"`
}

// ACLRule allows or denies what it matches; a field that is left out matches
// anything.
type ACLRule struct {
	Priority  uint16   `json:"priority" doc:"The lowest that matches decides; unique within a direction of the ACL." minimum:"1" maximum:"65535" example:"100"`
	Direction string   `json:"direction" doc:"inbound: to the VM; outbound: from it." enum:"inbound,outbound"`
	Action    string   `json:"action" doc:"What becomes of a packet that matches." enum:"allow,deny"`
	Proto     string   `json:"proto,omitempty" doc:"any, tcp, udp, icmp, icmpv6 or the number of a protocol. Left out: any." example:"tcp"`
	Src       []string `json:"src,omitempty" doc:"Source prefixes, of one address family with dst. Left out: any." example:"[\"10.1.2.0/24\"]" nullable:"false" maxItems:"128"`
	Dst       []string `json:"dst,omitempty" doc:"Destination prefixes. Left out: any." nullable:"false" maxItems:"128"`
	SrcPorts  []string `json:"srcPorts,omitempty" doc:"Source ports, each 80 or 8000-8999; with tcp and udp only. Left out: any." nullable:"false" maxItems:"128"`
	DstPorts  []string `json:"dstPorts,omitempty" doc:"Destination ports, likewise." example:"[\"443\", \"8000-8999\"]" nullable:"false" maxItems:"128"`
}

// ACLList is what GET /v1/acls answers.
type ACLList struct {
	Items []ACL `json:"items" doc:"The ACLs, sorted by tenant and name." nullable:"false"`
}

// Object gives the domain's object. All malformed fields are joined into the
// error, a *FieldError each. The result need not pass Check.
func (a ACL) Object() (hnv.ACL, error) {
	var f fields
	out := hnv.ACL{
		Tenant: f.named("tenant", "tenant", a.Tenant),
		Name:   read(&f, "name", a.Name, parseName),
	}
	for i, r := range a.Rules {
		rule := &fields{}
		out.Rules = append(out.Rules, r.object(rule, fmt.Sprintf("rules[%d].", i)))
		if r.Priority != 0 {
			f.within(fmt.Sprintf("rule %d", r.Priority), rule)
		} else {
			f.within(fmt.Sprintf("rule number %d of the list", i+1), rule)
		}
	}
	return out, f.err()
}

func (r ACLRule) object(f *fields, at string) hnv.ACLRule {
	out := hnv.ACLRule{Priority: r.Priority}
	if r.Priority == 0 {
		f.failf(at+"priority", "the priority is missing: use 1 to 65535, the lowest decides")
	}
	if r.Direction == "" {
		f.failf(at+"direction", "the direction is missing: use inbound (to the VM) or outbound (from it)")
	} else {
		out.Direction = read(f, at+"direction", r.Direction, hnv.ParseDirection)
	}
	if r.Action == "" {
		f.failf(at+"action", "the action is missing: use allow or deny")
	} else {
		out.Action = read(f, at+"action", r.Action, hnv.ParseACLAction)
	}
	out.Proto = read(f, at+"proto", r.Proto, hnv.ParseACLProto)
	for i, p := range r.Src {
		out.Src = append(out.Src, f.prefix(fmt.Sprintf("%ssrc[%d]", at, i), "source prefix", p))
	}
	for i, p := range r.Dst {
		out.Dst = append(out.Dst, f.prefix(fmt.Sprintf("%sdst[%d]", at, i), "destination prefix", p))
	}
	for i, p := range r.SrcPorts {
		out.SrcPorts = append(out.SrcPorts, read(f, fmt.Sprintf("%ssrcPorts[%d]", at, i), p, hnv.ParsePortRange))
	}
	for i, p := range r.DstPorts {
		out.DstPorts = append(out.DstPorts, read(f, fmt.Sprintf("%sdstPorts[%d]", at, i), p, hnv.ParsePortRange))
	}
	return out
}

// NewACL gives the ACL as the interface shows it.
func NewACL(a hnv.ACL) ACL {
	out := ACL{Tenant: a.Tenant.String(), Name: a.Name.String(), Rules: make([]ACLRule, 0, len(a.Rules))}
	for _, r := range a.Rules {
		out.Rules = append(out.Rules, ACLRule{
			Priority: r.Priority, Direction: string(r.Direction), Action: string(r.Action), Proto: r.Proto,
			Src: texts(r.Src), Dst: texts(r.Dst), SrcPorts: texts(r.SrcPorts), DstPorts: texts(r.DstPorts),
		})
	}
	return out
}
