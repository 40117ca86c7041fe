package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/offload"
	"github.com/hnvgate/hnvgate/internal/config"
)

// Who forwards packets is what the configuration says, and else what there is; and
// the reason is told.
func TestOpenPath(t *testing.T) {
	none := fmt.Errorf("open the fast path: %w: this kernel is too old", offload.ErrUnsupported)
	for _, c := range []struct {
		path   string
		err    error
		asked  bool
		want   string
		reason string
	}{
		{config.PathGo, nil, false, "go", "path: go"},
		{config.PathEBPF, nil, true, "ebpf", "path: ebpf"},
		{config.PathEBPF, none, true, "", "this kernel is too old"},
		{config.PathAuto, nil, true, "ebpf", "path: auto"},
		{config.PathAuto, none, true, "go", "this kernel is too old"},
	} {
		asked := false
		p, err := openPath(config.Config{Instance: "gw1", Path: c.path}, slog.New(slog.DiscardHandler), func(o offload.Options) (*offload.FastPath, error) {
			asked = true
			if o.Instance != "gw1" {
				t.Errorf("the fast path of instance %q is opened", o.Instance)
			}
			if c.err != nil {
				return nil, c.err
			}
			return new(offload.FastPath), nil
		})
		if asked != c.asked {
			t.Errorf("path %s: the fast path was asked for: %v", c.path, asked)
		}
		if c.want == "" {
			if !errors.Is(err, offload.ErrUnsupported) || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("path %s: %v", c.path, err)
			}
			continue
		}
		if f := p.features()[0]; err != nil || f.Name != "dataplane" || f.Path != c.want || !strings.Contains(f.Reason, c.reason) {
			t.Errorf("path %s: %+v, %v", c.path, f, err)
		}
	}
}

// The status tells who forwards at the uplinks, and why not the programs.
func TestUplinkFeatures(t *testing.T) {
	up := []config.Uplink{{Name: "internet", Interface: "eth1"}}
	for _, c := range []struct {
		path   path
		config config.Config
		want   string
	}{
		{path{}, config.Config{}, "[]"},
		{path{}, config.Config{Uplinks: up, NATOffload: config.OffloadAll}, "[{uplink kernel the dataplane's path is go} {nat-offload kernel it needs the uplink's programs: the dataplane's path is go}]"},
		{path{slow: "no room"}, config.Config{Uplinks: up, NATOffload: config.OffloadAll}, "[{uplink kernel no room} {nat-offload kernel it needs the uplink's programs: no room}]"},
		{path{uplink: new(offload.Uplink)}, config.Config{Uplinks: up, NATOffload: config.OffloadNone}, "[{uplink ebpf } {nat-offload kernel the configuration says so (natOffload: false)}]"},
	} {
		if got := fmt.Sprint(c.path.uplinkFeatures(c.config)); got != c.want {
			t.Errorf("%s, not %s", got, c.want)
		}
	}
}
