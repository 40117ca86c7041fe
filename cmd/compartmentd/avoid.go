//go:build linux

package main

import (
	"context"
	"log/slog"
	"net/netip"
)

// avoid tells BGP which next hops the tunnels do not carry packets to, each time that
// may have changed: a session can live on through a tunnel that forwards nothing.
func avoid(ctx context.Context, log *slog.Logger, tunnels interface{ Silent() []netip.Prefix },
	routes interface {
		SetSilent(ctx context.Context, hops []netip.Prefix) error
	}, moved <-chan struct{},
) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-moved:
		}
		if err := routes.SetSilent(ctx, tunnels.Silent()); err != nil && ctx.Err() == nil {
			log.Error("BGP does not hear of tunnels that are down", "error", err)
		}
	}
}
