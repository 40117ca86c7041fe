//go:build linux

package s2s

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl"

	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// wireguard is the WireGuard of a running tunnel.
type wireguard interface {
	// kind is what implements it.
	kind() Implementation
	// show tells how it is configured, and what its peers did.
	show() (wgDevice, error)
	// change brings it from have to want and has it work, with its sockets in the
	// namespace; done tells whether anything differed. told is as planDevice has it.
	change(ns netns.NS, have, want wgDevice, told map[Key]netip.AddrPort) (done bool, err error)
	// shape sets what happens to packets before encryption, as far as that is not
	// for nftables.
	shape(t Tunnel, mtu int)
	// drops counts what was over the limits, likewise.
	drops() (in, out uint64)
	// ended tells whether it will never work again.
	ended() bool
	// close gives up what this process has of it; the link stays.
	close()
}

// linkKind is the kind of link that an implementation has.
func (i Implementation) linkKind() string {
	if i == Kernel {
		return "wireguard"
	}
	return "tun"
}

// Why a tunnel is as it is.
const (
	reasonHad     = "this kernel has WireGuard"
	reasonForced  = "the configuration says so"
	reasonMapped  = "prefixes are translated in user space"
	reasonMissing = "this kernel has no WireGuard"
)

var errNoWireGuard = errors.New(reasonMissing)

// pick chooses what implements a tunnel, and says why. probe tells why the kernel's
// WireGuard cannot be used, nil where it can; it is asked only where that matters.
func pick(want Implementation, t Tunnel, probe func() error) (Implementation, string, error) {
	if want == Embedded {
		return Embedded, reasonForced, nil
	}
	why := ""
	if len(t.LocalMaps)+len(t.RemoteMaps) > 0 {
		why = reasonMapped
	} else if err := probe(); err != nil {
		why = err.Error()
	}
	switch {
	case want == Kernel && why != "":
		return "", "", fmt.Errorf("the kernel's WireGuard is demanded (agents.wireguard: kernel), but %s", why)
	case why != "":
		return Embedded, why, nil
	case want == Kernel:
		return Kernel, reasonForced, nil
	}
	return Kernel, reasonHad, nil
}

// probeLink is the name of the link that the probe makes for a moment.
const probeLink = "hnv-s2s-probe"

// probeAgain is how often it is looked again whether the kernel has WireGuard by now,
// where nothing else will do. Each time it may look for a module.
const probeAgain = time.Minute

// kernelProbe is what is known of the kernel's WireGuard.
type kernelProbe struct {
	ctl  *wgctrl.Client // nil where it cannot be used
	err  error          // why
	when time.Time
}

// probeKernel finds out, once, whether the kernel's WireGuard can be used here: by
// making a link of it, as a module may be missing or not be allowed to be loaded.
func (e *Engine) probeKernel() error {
	p := &e.kernel
	if p.ctl != nil || !p.when.IsZero() && (e.spec.Implementation != Kernel || time.Since(p.when) < probeAgain) {
		return p.err
	}
	p.when = time.Now()
	p.err = e.tryKernel()
	if p.err != nil && !errors.Is(p.err, errNoWireGuard) {
		p.err = fmt.Errorf("the kernel's WireGuard cannot be used: %w", p.err)
	}
	return p.err
}

func (e *Engine) tryKernel() error {
	// One that an earlier process left says as much as a new one.
	err := e.nl.AddWireGuard(nl.LinkEnd{Name: probeLink})
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return errNoWireGuard
	case err != nil && !errors.Is(err, errExist):
		return err
	}
	defer func() { _ = e.nl.DelLink(probeLink) }()
	var ctl *wgctrl.Client
	err = e.ns.Do(func() (err error) { // a socket is the namespace's that it was opened in
		ctl, err = wgctrl.New()
		return err
	})
	if err != nil {
		return err
	}
	if _, err := (&kernel{ctl: ctl, link: probeLink}).show(); err != nil {
		_ = ctl.Close()
		return err
	}
	e.kernel.ctl = ctl
	return nil
}
