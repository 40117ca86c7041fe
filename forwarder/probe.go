//go:build linux

package forwarder

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nft"
	"github.com/hnvgate/hnvgate/internal/nl"
)

const featureGuard = "bridge-guard"

// notes say what is to be done where the kernel lacks something.
var notes = map[string]string{
	KindVLAN:     "this kernel has no 802.1Q VLANs: load the module 8021q (CONFIG_VLAN_8021Q)",
	KindMACVLAN:  "this kernel has no macvlan links: load the module macvlan (CONFIG_MACVLAN)",
	KindBridge:   "this kernel has no bridges, or none with isolated ports (Linux 4.18): load the module bridge (CONFIG_BRIDGE)",
	featureGuard: "nftables of family bridge, which keep tenants from the gateway's own addresses, are missing: load the module nf_tables (CONFIG_NF_TABLES_BRIDGE)",
}

// probe tries out what attachments need, in a namespace that vanishes at once.
// Nothing of it is needed by a gateway that has no such uplink.
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
			return err
		}
		defer func() { _ = c.Close() }()
		if err := h.AddVeth(nl.LinkEnd{Name: "probe0"}, nl.LinkEnd{Name: "probe1"}); err != nil {
			return err
		}
		lower, err := h.Link("probe0")
		if err != nil {
			return err
		}
		for _, t := range []struct {
			name string
			try  func() error
		}{
			{KindVLAN, func() error { return h.AddVLAN(nl.LinkEnd{Name: "probe2"}, lower.Index, 2) }},
			{KindMACVLAN, func() error { return h.AddMACVLAN(nl.LinkEnd{Name: "probe3"}, lower.Index) }},
			{KindBridge, func() error { return tryBridge(h) }},
			{featureGuard, func() error { _, err := c.Apply(guardTable(names{instance: "probe"})); return err }},
		} {
			f := Feature{Name: t.name, OK: true}
			if err := t.try(); err != nil {
				f.OK, f.Note = false, fmt.Sprintf("%v: %s", err, notes[t.name])
			}
			out = append(out, f)
		}
		return nil
	})
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("%w: making links needs root, or the capabilities CAP_NET_ADMIN and CAP_SYS_ADMIN (the process has user ID %d)", err, os.Geteuid())
	}
	return out, err
}

func tryBridge(h *nl.Handle) error {
	if err := h.AddBridge(nl.LinkEnd{Name: "probe4"}); err != nil {
		return err
	}
	br, err := h.Link("probe4")
	if err != nil {
		return err
	}
	port, err := h.Link("probe1")
	if err != nil {
		return err
	}
	if err := h.SetLink(port.Index, nl.LinkChange{Master: br.Index}); err != nil {
		return err
	}
	if err := h.IsolatePort(port.Index, true); err != nil {
		return err
	}
	if port, err = h.Link("probe1"); err == nil && !port.Isolated {
		err = errors.New("the port is not isolated")
	}
	return err
}
