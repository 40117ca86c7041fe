//go:build linux

package s2s

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"

	"golang.zx2c4.com/wireguard/conn"
	wg "golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/hnvgate/hnvgate/internal/netns"
)

// embedded is wireguard-go in this process, on a TUN link.
type embedded struct {
	tun               *device
	wg                *wg.Device
	inKbps, outKbps   uint64
	inDrops, outDrops atomic.Uint64
}

func newEmbedded(file tun.Device, t Tunnel, log *slog.Logger) *embedded {
	w := &embedded{}
	w.tun = newDevice(file, w.policy(t, MinMTU))
	w.wg = wg.NewDevice(w.tun, conn.NewStdNetBind(), wgLog(log, t.Name))
	return w
}

// wgLog takes what WireGuard has to say. It tells of peers by the first
// characters of their public keys.
func wgLog(log *slog.Logger, tunnel string) *wg.Logger {
	return &wg.Logger{
		Verbosef: wg.DiscardLogf,
		Errorf: func(format string, args ...any) {
			log.Debug("wireguard", "tunnel", tunnel, "message", fmt.Sprintf(format, args...))
		},
	}
}

func (w *embedded) kind() Implementation { return Embedded }

func (w *embedded) show() (wgDevice, error) {
	text, err := w.wg.IpcGet()
	if err != nil {
		return wgDevice{}, err
	}
	return parseDevice(text)
}

// change: WireGuard opens its sockets in the calling thread's namespace.
func (w *embedded) change(ns netns.NS, have, want wgDevice, told map[Key]netip.AddrPort) (bool, error) {
	change := planDevice(have, want, told)
	err := ns.Do(func() error {
		if change != "" {
			if err := w.wg.IpcSet(change); err != nil {
				return err
			}
		}
		return w.wg.Up()
	})
	return change != "", err
}

// policy makes the packets' policy; limits that have not changed go on.
func (w *embedded) policy(t Tunnel, mtu int) *policy {
	p := &policy{mtu: mtu, outDrops: &w.outDrops, inDrops: &w.inDrops}
	p.out, p.in = newRewriters(t)
	if w.tun != nil {
		old := w.tun.policy.Load()
		p.outLimit, p.inLimit = old.outLimit, old.inLimit
	}
	if w.outKbps != t.OutboundKbps {
		p.outLimit = newLimit(t.OutboundKbps)
	}
	if w.inKbps != t.InboundKbps {
		p.inLimit = newLimit(t.InboundKbps)
	}
	w.outKbps, w.inKbps = t.OutboundKbps, t.InboundKbps
	return p
}

func (w *embedded) shape(t Tunnel, mtu int) { w.tun.set(w.policy(t, mtu)) }

func (w *embedded) drops() (in, out uint64) { return w.inDrops.Load(), w.outDrops.Load() }

func (w *embedded) ended() bool {
	select {
	case <-w.wg.Wait():
		return true
	default:
		return false
	}
}

func (w *embedded) close() { w.wg.Close() }
