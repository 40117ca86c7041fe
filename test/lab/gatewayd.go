package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/goccy/go-yaml"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// Uplink is the name of the gateway's way to the Internet.
const Uplink = "internet"

// Socket gives the path of the API of the gatewayd on the machine.
func (l *Lab) Socket(machine string) string {
	return filepath.Join(l.dir, machine, "gatewayd.sock")
}

// Instance gives the name of the gatewayd on the machine; its compartments'
// namespaces begin with it.
func (l *Lab) Instance(machine string) string { return l.NS(machine) }

// Compartment gives the machine name under which the tenant's compartment on
// the gateway can be used in Exec and Capture.
func (l *Lab) Compartment(tenant string) string { return l.topo.Gateway.Name + "-" + tenant }

// Path tells by which path gatewayd on the machine is told to take packets.
func (l *Lab) Path(machine string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return cmp.Or(l.paths[machine], l.opts.Path, "auto")
}

// SetPath tells gatewayd on the machine another path, from its next start on; "" is
// that of the whole lab again.
func (l *Lab) SetPath(machine, path string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paths[machine] = path
}

// Config gives the configuration file of gatewayd on the machine. Each gatewayd
// is the peer of all others.
func (l *Lab) Config(machine string) string {
	dir := filepath.Join(l.dir, machine)
	text := fmt.Sprintf("instance: %s\nstateDir: %s\nsocket: %s\nlog: {level: info}\npaInterfaces: [%s]\npath: %s\n",
		l.Instance(machine), filepath.Join(dir, "state"), l.Socket(machine), strings.Join(l.topo.paInterfaces(machine), ", "), l.Path(machine))
	if g := l.topo.Gateway; g != nil && machine == g.Name {
		text += fmt.Sprintf("uplinks:\n  - {name: %s, kind: routed, interface: ext0}\n", Uplink)
		for _, u := range g.Uplinks {
			text += fmt.Sprintf("  - {name: %s, kind: %s, interface: %s}\n", u.Name, u.Kind, u.Interface)
		}
	}
	if l.opts.NATOffload != "" {
		text += fmt.Sprintf("natOffload: %s\n", l.opts.NATOffload)
	}
	text += "peers:\n"
	for _, other := range l.topo.product() {
		if other != machine {
			text += fmt.Sprintf("  - {name: %s, socket: %s}\n", other, l.Socket(other))
		}
	}
	return text
}

// StartGatewayd starts gatewayd on the machine, the gateway or a host, and
// returns once it answers. After an end of whatever kind it may be started
// again.
func (l *Lab) StartGatewayd(ctx context.Context, machine string) (*Process, error) {
	dir := filepath.Join(l.dir, machine)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "gatewayd.yaml")
	if err := os.WriteFile(file, []byte(l.Config(machine)), 0o644); err != nil {
		return nil, err
	}
	p, err := l.Start(machine, "gatewayd-"+machine, filepath.Join(l.opts.Bin, "gatewayd"), "--config", file)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.daemons[machine] = p
	l.mu.Unlock()
	err = p.waitFor(ctx, func() error {
		_, err := l.ctl(ctx, machine, "status", "-o", "json")
		return err
	})
	return p, err
}

// Daemon gives the gatewayd that was last started on the machine, or nil.
func (l *Lab) Daemon(machine string) *Process {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.daemons[machine]
}

// KillGatewayd ends gatewayd on the machine without giving it a chance to do
// anything about it.
func (l *Lab) KillGatewayd(ctx context.Context, machine string) error {
	p := l.Daemon(machine)
	if p == nil {
		return fmt.Errorf("gatewayd was not started on %s", machine)
	}
	return p.Kill(ctx, syscall.SIGKILL)
}

// Ctl runs gatewayctl against the machine's gatewayd, as its operator does.
func (l *Lab) Ctl(ctx context.Context, machine string, argv ...string) (string, error) {
	if l.opts.Command != nil {
		l.opts.Command(machine, append([]string{"gatewayctl"}, argv...))
	}
	return l.ctl(ctx, machine, argv...)
}

func (l *Lab) ctl(ctx context.Context, machine string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return run(ctx, "", append([]string{filepath.Join(l.opts.Bin, "gatewayctl"), "--socket", l.Socket(machine)}, argv...)...)
}

// Apply gives a document to the machine's gatewayd.
func (l *Lab) Apply(ctx context.Context, machine, name string, doc v1.Document) error {
	file, err := l.WriteDocument(machine, name, doc)
	if err != nil {
		return err
	}
	_, err = l.Ctl(ctx, machine, "apply", "-f", file)
	return err
}

// WriteDocument writes a document as YAML into the machine's folder.
func (l *Lab) WriteDocument(machine, name string, doc v1.Document) (string, error) {
	text, err := DocumentText(doc)
	if err != nil {
		return "", fmt.Errorf("write %s for %s: %w", name, machine, err)
	}
	file := filepath.Join(l.dir, machine, name)
	return file, os.WriteFile(file, []byte(text), 0o644)
}

// DocumentText gives the document as YAML.
func DocumentText(doc v1.Document) (string, error) {
	b, err := yaml.MarshalWithOptions(doc, yaml.IndentSequence(true))
	return string(b), err
}

// Status asks the machine's gatewayd how it is.
func (l *Lab) Status(ctx context.Context, machine string) (v1.GatewayStatus, error) {
	var s v1.GatewayStatus
	out, err := l.ctl(ctx, machine, "status", "-o", "json")
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return s, fmt.Errorf("status of %s: %w", machine, err)
	}
	return s, nil
}

// Ready waits until the machine's gatewayd has carried out all it was told.
func (l *Lab) Ready(ctx context.Context, machine string) error {
	p := l.Daemon(machine)
	if p == nil {
		return fmt.Errorf("gatewayd was not started on %s", machine)
	}
	return p.waitFor(ctx, func() error {
		s, err := l.Status(ctx, machine)
		if err != nil {
			return err
		}
		return notReady(s)
	})
}

func notReady(s v1.GatewayStatus) error {
	var errs []error
	bad := func(what, name string, phase v1.Phase, message string) {
		if phase != v1.PhaseReady {
			errs = append(errs, fmt.Errorf("%s %s is %s: %s", what, name, phase, message))
		}
	}
	for _, x := range s.ProviderAddresses {
		bad("provider address", x.Name, x.Phase, x.Message)
	}
	for _, x := range s.Uplinks {
		bad("uplink", x.Name, x.Phase, x.Message)
	}
	for _, x := range s.Ports {
		bad("port", x.Name, x.Phase, x.Message)
	}
	for _, t := range s.Tenants {
		bad("tenant", t.Name, t.Phase, fmt.Sprintf("%+v", t.Conditions))
	}
	bad("gateway", s.Instance, s.Phase, fmt.Sprintf("%+v", s.Conditions))
	return errors.Join(errs...)
}

// Dropped gives the packets that the machine's gatewayd dropped for the
// reason: of the tenant, or of nobody where tenant is empty.
func Dropped(s v1.GatewayStatus, tenant, reason string) uint64 {
	drops := s.Unattributed
	for _, t := range s.Tenants {
		if t.Name == tenant {
			drops = t.Counters.Drops
		}
	}
	for _, d := range drops {
		if d.Reason == reason {
			return d.Packets
		}
	}
	return 0
}
