//go:build linux

package s2s

import (
	"errors"
	"fmt"

	"github.com/hnvgate/hnvgate/internal/nft"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// Sweep removes what an Engine made in the namespace with the path, without the
// Engine: it is for when the process that had it cannot be run any more. Links and
// routes are known by their marks.
func Sweep(namespace string) (removed []string, err error) {
	h, err := nl.Open(namespace)
	if err != nil {
		return nil, fmt.Errorf("sweep tunnels: %w", err)
	}
	defer h.Close()
	links, err := h.Links()
	if err != nil {
		return nil, fmt.Errorf("sweep tunnels: %w", err)
	}
	var errs []error
	for _, l := range links {
		if !isOurs(l) {
			continue
		}
		if err := h.DelLink(l.Name); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, "link "+l.Name)
	}
	routes, err := h.Routes(RouteProtocol, 0) // those without a link: it took the others along
	errs = append(errs, err)
	for _, r := range routes {
		if err := h.DelRoute(r); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, "route "+r.String())
	}
	there, err := sweepMarking(namespace)
	if there {
		removed = append(removed, "marking of packets")
	}
	if err := errors.Join(append(errs, err)...); err != nil {
		return removed, fmt.Errorf("sweep tunnels: %w", err)
	}
	return removed, nil
}

func sweepMarking(namespace string) (there bool, err error) {
	c, err := nft.Open(namespace)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if there, err = c.Exists(nft.Inet, tableName); err != nil || !there {
		return false, err
	}
	return true, c.Delete(nft.Inet, tableName)
}
