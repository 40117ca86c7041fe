package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/control"
	"github.com/hnvgate/hnvgate/dataplane/offload"
	"github.com/hnvgate/hnvgate/internal/config"
)

// path is who forwards packets on this machine.
type path struct {
	fast   *offload.FastPath // nil: gatewayd itself
	reason string
	uplink *offload.Uplink // nil: the kernel's rules and routes
	slow   string          // why, if there are uplinks and a fast path
}

// openPath opens the fast path, or finds out why there is none. Where the
// configuration leaves the choice, there need not be one.
func openPath(c config.Config, log *slog.Logger, open func(offload.Options) (*offload.FastPath, error)) (path, error) {
	said := "the configuration says so (path: " + c.Path + ")"
	switch c.Path {
	case config.PathGo:
		return path{reason: said}, nil
	case config.PathAuto:
		said = "the kernel can (path: auto)"
	}
	f, err := open(fastOptions(c, log))
	switch {
	case err == nil:
		return path{fast: f, reason: said}, nil
	case c.Path == config.PathAuto:
		log.Warn("there is no fast path", "err", err)
		return path{reason: err.Error()}, nil
	}
	return path{}, fmt.Errorf("path: ebpf: %w", err)
}

func fastOptions(c config.Config, log *slog.Logger) offload.Options {
	return offload.Options{Instance: c.Instance, NATOffload: c.NATOffload.Possible() && len(c.Uplinks) > 0, Log: log}
}

// wire tells the Wire of the path. Where gatewayd forwards, it takes over from what
// an earlier process with a fast path left, once it has all ports.
func (p path) wire(c config.Config, o control.WireOptions) control.WireOptions {
	if p.fast != nil {
		o.Fast = p.fast
		return o
	}
	o.NoFastPath = p.reason
	o.Settled = func() error {
		removed, err := offload.Uninstall(fastOptions(c, o.Log))
		if len(removed) > 0 {
			o.Log.Info("removed the fast path of an earlier process", "what", removed)
		}
		return err
	}
	return o
}

// openUplink has the fast path take the uplinks' packets too, if there are any.
// Without it, the kernel's rules and routes do.
func (p *path) openUplink(c config.Config, log *slog.Logger) {
	if p.fast == nil || len(c.Uplinks) == 0 {
		return
	}
	u, err := offload.OpenUplink(offload.UplinkOptions{Instance: c.Instance, FastPath: p.fast})
	if err != nil {
		log.Warn("the fast path does not take the uplinks", "err", err)
		p.slow = err.Error()
		return
	}
	p.uplink = u
}

// exits gives control the uplinks' side.
func (p path) exits() control.Exits {
	if p.uplink == nil {
		return nil // and not an interface of nothing
	}
	return p.uplink
}

func (p path) close() error {
	var err error
	if p.uplink != nil {
		err = p.uplink.Close()
	}
	if p.fast != nil {
		err = errors.Join(err, p.fast.Close())
	}
	return err
}

// uplinkFeatures tell who forwards between compartments and the outside.
func (p path) uplinkFeatures(c config.Config) []v1.Feature {
	if len(c.Uplinks) == 0 {
		return nil
	}
	up := v1.Feature{Name: "uplink", Path: "kernel", Reason: "the dataplane's path is " + config.PathGo}
	switch {
	case p.uplink != nil:
		up.Path, up.Reason = config.PathEBPF, ""
	case p.slow != "":
		up.Reason = p.slow
	}
	nat := v1.Feature{Name: "nat-offload", Path: "kernel", Reason: p.untranslated(c)}
	if nat.Reason == "" {
		nat.Path = config.PathEBPF
		if c.NATOffload == config.OffloadAsked {
			nat.Reason = "for tenants that ask for it (natOffload: tenants)"
		}
	}
	return []v1.Feature{up, nat}
}

// untranslated tells why the programs translate nobody's connections; "" if they can.
func (p path) untranslated(c config.Config) string {
	switch {
	case !c.NATOffload.Possible():
		return "the configuration says so (natOffload: false)"
	case p.uplink == nil && p.slow != "":
		return "it needs the uplink's programs: " + p.slow
	case p.uplink == nil:
		return "it needs the uplink's programs: the dataplane's path is " + config.PathGo
	}
	if err := p.uplink.NATOffload(); err != nil {
		return err.Error()
	}
	return ""
}

func (p path) features() []v1.Feature {
	if p.fast == nil {
		return []v1.Feature{{Name: "dataplane", Path: config.PathGo, Reason: p.reason}}
	}
	merging := v1.Feature{Name: "vxlan-gro", Path: "kernel", Reason: "received VXLAN packets are merged for the fast path"}
	if why := p.fast.Unmerged(); why != "" {
		merging.Path, merging.Reason = "none", why
	}
	out := []v1.Feature{{Name: "dataplane", Path: config.PathEBPF, Reason: p.reason}, merging}
	for _, c := range p.fast.Capabilities() {
		if !c.OK {
			out = append(out, v1.Feature{Name: c.Name, Path: "none", Reason: c.Reason})
		}
	}
	return out
}

// status tells what the programs do.
func (p path) status() *v1.FastPathStatus {
	if p.fast == nil {
		return nil
	}
	tables, left, _ := p.fast.Load() // what cannot be read is left out
	out := &v1.FastPathStatus{Tables: []v1.FastPathTable{}, Left: []v1.FastPathLeft{}}
	for _, t := range tables {
		out.Tables = append(out.Tables, v1.FastPathTable(t))
	}
	for why, n := range left {
		if n > 0 {
			out.Left = append(out.Left, v1.FastPathLeft{Reason: why.String(), Packets: n})
		}
	}
	slices.SortFunc(out.Left, func(a, b v1.FastPathLeft) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), cmp.Compare(a.Reason, b.Reason))
	})
	return out
}

// uninstall removes what the fast path has in the kernel while gatewayd does not
// run: with it, packets would go nowhere.
func uninstall(c config.Config, out io.Writer, log *slog.Logger) error {
	if conn, err := net.DialTimeout("unix", c.Socket, time.Second); err == nil {
		return errors.Join(fmt.Errorf("gatewayd answers on %s: stop it first", c.Socket), conn.Close())
	}
	removed, err := offload.Uninstall(fastOptions(c, log))
	if err != nil {
		return err
	}
	if len(removed) == 0 {
		_, err = fmt.Fprintln(out, "there was nothing to remove")
		return err
	}
	_, err = fmt.Fprintf(out, "removed:\n  %s\n", strings.Join(removed, "\n  "))
	return err
}
