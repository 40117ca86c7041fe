//go:build linux

package compartments

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nft"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// Feature is something the kernel may or may not offer.
type Feature struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Note says what follows from it, and what to do about it, if it is missing.
	Note string `json:"note,omitempty"`
}

const featureIPv6 = "ipv6"

func (e *Engine) has(feature string) bool {
	return slices.ContainsFunc(e.features, func(f Feature) bool { return f.Name == feature && f.OK })
}

// attempt is one trial in a scratch namespace.
type attempt struct {
	name     string
	required bool
	note     string
	try      func(h *nl.Handle, c *nft.Conn) error
}

var attempts = []attempt{
	{"veth", true, "the kernel needs virtual Ethernet pairs: load the module veth (CONFIG_VETH)", tryVeth},
	{"nftables", true, "the kernel needs nftables with sets, counters and ingress hooks: load nf_tables and nf_tables_netdev (CONFIG_NF_TABLES_INET, _NETDEV, CONFIG_NFT_FWD_NETDEV)", tryTables},
	{"conntrack", true, "the kernel needs connection tracking: load the module nf_conntrack", trySetting("netfilter/nf_conntrack_tcp_be_liberal")},
	{"conntrack-ignore-invalid-rst", false, "before Linux 5.14 a stray TCP reset may end a connection's entry", trySetting("netfilter/nf_conntrack_tcp_ignore_invalid_rst")},
	{featureIPv6, false, "the kernel has no IPv6: tenants cannot have IPv6 addresses", trySetting("ipv6/conf/all/forwarding")},
	{"address-owner", false, "before Linux 5.18 addresses do not say who added them: provider addresses that are no longer wanted stay on their interface", tryAddrOwner},
	{"provider-vlan", false, "provider addresses cannot be on a VLAN: load the module 8021q", tryVLAN},
}

// probe tries out what the engine needs, in a namespace that vanishes at once.
func probe() ([]Feature, error) {
	var out []Feature
	err := netns.Scratch(func() error {
		h, err := nl.Open("")
		if err != nil {
			return err
		}
		defer h.Close()
		c, err := nft.Open("")
		if err != nil {
			return fmt.Errorf("%w: the kernel needs nftables: load the module nf_tables", err)
		}
		defer func() { _ = c.Close() }()
		var errs []error
		for _, a := range attempts {
			err := a.try(h, c)
			f := Feature{Name: a.name, OK: err == nil}
			if err != nil {
				f.Note = a.note
				if a.required {
					errs = append(errs, fmt.Errorf("%s: %w: %s", a.name, err, a.note))
				}
			}
			out = append(out, f)
		}
		return errors.Join(errs...)
	})
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("%w: making network namespaces needs root, or the capabilities CAP_NET_ADMIN and CAP_SYS_ADMIN (the process has user ID %d)", err, os.Geteuid())
	}
	return out, err
}

func tryVeth(h *nl.Handle, _ *nft.Conn) error {
	return h.AddVeth(nl.LinkEnd{Name: "probe0"}, nl.LinkEnd{Name: "probe1"})
}

func tryTables(_ *nl.Handle, c *nft.Conn) error {
	n := names{"probe"}
	devices := netdevTable(n, nil, nil, nil)
	devices.Chains[0].Hook.Device = "probe1"
	for _, t := range []nft.Table{inetTable(n, []string{"probe0"}, nil), devices} {
		if _, err := c.Apply(t); err != nil {
			return err
		}
	}
	return nil
}

func trySetting(key string) func(*nl.Handle, *nft.Conn) error {
	return func(h *nl.Handle, _ *nft.Conn) error {
		_, err := h.Sysctl(key)
		return err
	}
}

func tryAddrOwner(h *nl.Handle, _ *nft.Conn) error {
	l, err := h.Link("probe0")
	if err != nil {
		return err
	}
	if err := h.AddAddr(nl.Addr{Prefix: netip.MustParsePrefix("192.0.2.1/32"), Link: l.Index, Protocol: nl.Protocol}); err != nil {
		return err
	}
	addrs, err := h.Addrs(l.Index)
	for _, a := range addrs {
		if a.Protocol == nl.Protocol {
			return nil
		}
	}
	return errors.Join(err, errors.New("the kernel does not keep an address's protocol"))
}

func tryVLAN(h *nl.Handle, _ *nft.Conn) error {
	l, err := h.Link("probe0")
	if err != nil {
		return err
	}
	return h.AddVLAN(nl.LinkEnd{Name: "probe2"}, l.Index, 2)
}
