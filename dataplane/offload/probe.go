//go:build linux

package offload

import (
	"errors"
	"fmt"
	"slices"
)

// Capability is something that the fast path uses of the kernel.
type Capability struct {
	Name string
	OK   bool
	// Reason is what is missing, and what that means where it is not Needed.
	Reason string
	// Needed tells that there is no fast path without it.
	Needed bool
}

// The capabilities' names.
const (
	capTypes    = "kernel types (BTF)"
	capHelpers  = "redirection to neighbours and peers"
	capEncap    = "encapsulation of Ethernet frames"
	capFilters  = "filters at interfaces (clsact, cls_bpf)"
	capDecap    = "decapsulation across address families"
	capUnmark   = "unmarking of what was decapsulated"
	capContext  = "sight of unfinished checksums"
	capSockets  = "merging of VXLAN packets (vxlan)"
	capPrograms = "the programs"
)

// Probe tries what the kernel can do of what the fast path uses. It takes up to a
// second, and CAP_SYS_ADMIN and CAP_NET_ADMIN.
func Probe() []Capability {
	all := probe(nil)
	err := missing(all)
	if err == nil {
		err = tryPrograms(all)
	}
	return append(all, capability(capPrograms, err))
}

// probe tries all but the programs. Those named in without are taken for missing.
func probe(without []string) []Capability {
	filters, sockets := tryLinks()
	all := []Capability{
		capability(capTypes, tryTypes()),
		capability(capHelpers, tryHelpers()),
		capability(capEncap, tryEncap()),
		capability(capFilters, filters),
		instead(capability(capDecap, tryDecap()), "IPv6 in tunnels over IPv4, and IPv4 in those over IPv6, go through user space"),
		instead(capability(capUnmark, tryUnmark()), "super-packets that go into another tunnel go through user space, and a NIC that offloads tunnels may take them for tunnelled"),
		instead(capability(capContext, tryContext()), "what VMs of this machine send goes through user space"),
		instead(capability(capSockets, sockets), "there is less throughput"),
	}
	for i := range all {
		if slices.Contains(without, all[i].Name) {
			all[i].OK, all[i].Reason = false, "it is not to be used"
		}
	}
	return all
}

func capability(name string, err error) Capability {
	if err != nil {
		return Capability{Name: name, Reason: err.Error(), Needed: true}
	}
	return Capability{Name: name, OK: true, Needed: true}
}

// instead says what becomes of packets without the capability.
func instead(c Capability, what string) Capability {
	if c.Needed = false; !c.OK {
		c.Reason += ": " + what
	}
	return c
}

// missing is ErrUnsupported with the capabilities that are needed and not there;
// nil if all are.
func missing(all []Capability) error {
	var errs []error
	for _, c := range all {
		if c.Needed && !c.OK {
			errs = append(errs, fmt.Errorf("%s: %s", c.Name, c.Reason))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrUnsupported, errors.Join(errs...))
}

func has(all []Capability, name string) bool {
	return slices.ContainsFunc(all, func(c Capability) bool { return c.Name == name && c.OK })
}

// use loads the programs for these capabilities.
func (l *loadOptions) use(all []Capability) {
	l.familyUnset, l.unmarks = !has(all, capDecap), has(all, capUnmark)
}
