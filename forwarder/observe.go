//go:build linux

package forwarder

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// see reads the compartment, and its ports in the gateway's namespace. What is in
// the way and not ours fails its attachment.
func (e *Engine) see(w *want, in *nl.Handle, res *Result) (seen, error) {
	s := seen{sysctls: map[string]string{}, links: map[string]nl.Link{}, ports: map[string]nl.Link{}, addrs: map[string][]nl.Addr{}}
	for _, k := range w.sysctls {
		v, err := in.Sysctl(k.key)
		if err == nil {
			s.sysctls[k.key] = v
		} else if !errors.Is(err, nl.ErrNotFound) {
			return s, err
		}
	}
	links, err := in.Links()
	if err != nil {
		return s, err
	}
	for _, l := range links {
		s.links[l.Name] = l
	}
	for _, l := range slices.Clone(w.links) {
		have, there := s.links[l.name]
		if there && have.Alias != w.alias && !(have.Alias == "" && have.Kind == netlinkKind(l.kind)) {
			res.fail(l.attachment, fmt.Errorf("link %s is in the way and not ours (alias %q): remove or rename it", l.name, have.Alias))
			w.giveUp(l.attachment)
			continue
		}
		if there {
			if s.addrs[l.name], err = in.Addrs(have.Index); err != nil {
				return s, err
			}
		}
		if l.kind != KindBridge {
			continue
		}
		p, err := e.out.Link(l.port.name)
		if errors.Is(err, nl.ErrNotFound) {
			continue
		}
		if err != nil {
			return s, err
		}
		if p.Alias != w.alias && p.Alias != "" {
			res.fail(l.attachment, fmt.Errorf("link %s in the gateway's network namespace is in the way and not ours (alias %q): remove or rename it", p.Name, p.Alias))
			w.giveUp(l.attachment)
			continue
		}
		s.ports[p.Name] = p
	}
	s.routes, err = in.Routes(RouteProtocol, 0)
	return s, err
}
