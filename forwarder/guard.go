//go:build linux

package forwarder

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/nft"
)

// dropGateway counts frames to the gateway itself, broadcasts among them.
const dropGateway = "to-gateway"

// guardTable keeps the gateway's own addresses on a bridge from its ports that are
// compartments': a macvlan or VLAN link could not reach them either.
func guardTable(n names) nft.Table {
	return nft.Table{
		Family: nft.Bridge, Name: n.table(), Counters: []string{dropGateway},
		Chains: []nft.Chain{{
			Name: "input", Hook: &nft.Hook{Type: nft.Filter, At: nft.Input, Priority: -200},
			Rules: []nft.Rule{nft.R(nft.IIfPrefix(n.ports()), nft.Count(dropGateway), nft.Drop())},
		}},
	}
}

// guard sets it up before there is a port. Without it there is none.
func (e *Engine) guard(w *want, res *Result) error {
	var ports []hnv.Name
	for _, l := range w.links {
		if l.kind == KindBridge {
			ports = append(ports, l.attachment)
		}
	}
	if len(ports) == 0 {
		return nil
	}
	e.mu.Lock() // the table is all tenants'
	defer e.mu.Unlock()
	changed, err := e.nft.Apply(guardTable(e.names))
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAFNOSUPPORT) {
		for _, n := range ports {
			res.fail(n, fmt.Errorf("%w: %s", err, notes[featureGuard]))
			w.giveUp(n)
		}
		return nil
	}
	if len(changed) > 0 {
		res.Repaired = append(res.Repaired, "nftables table "+e.names.table()+" set")
	}
	return err
}
