//go:build linux

package gateway

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hnvgate/hnvgate/api/client"
	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/internal/config"
	"github.com/hnvgate/hnvgate/test/lab"
)

// daemon is the gatewayd of a rig.
type daemon struct {
	rig    *rig
	file   string
	proc   *lab.Process
	client *client.Client
}

// NotThere says why a case cannot be measured on this machine, or not yet.
type NotThere struct{ Why string }

func (e *NotThere) Error() string { return e.Why }

// ourGateway starts gatewayd and gives it its configuration.
func (r *rig) ourGateway(ctx context.Context) error {
	r.compartment = gwMachine + "-" + r.site.tenant(0).name
	d, err := r.newDaemon()
	if err != nil {
		return err
	}
	r.ours = d
	if err := d.start(ctx); err != nil {
		return err
	}
	if err := d.goes(ctx, r.ways); err != nil {
		return err
	}
	file, err := r.lab.WriteDocument(gwMachine, "site.yaml", r.document())
	if err != nil {
		return err
	}
	before, err := r.memory()
	if err != nil {
		return err
	}
	begin := time.Now()
	if _, err := r.ctl(ctx, "apply", "-f", file); err != nil {
		return err
	}
	if err := d.ready(ctx); err != nil {
		return err
	}
	if r.size.Tenants > 1 {
		r.put("apply", "s", time.Since(begin).Seconds())
	}
	if err := r.grown(before, "tenant", r.size.Tenants); err != nil {
		return err
	}
	if r.size.Records == 1 {
		return nil
	}
	if before, err = r.memory(); err != nil {
		return err
	}
	if err := r.importRecords(ctx); err != nil {
		return err
	}
	return r.grown(before, "record", r.size.Records)
}

// newDaemon writes the configuration file.
func (r *rig) newDaemon() (*daemon, error) {
	dir := filepath.Join(r.lab.Dir(), gwMachine)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	text := r.lab.Config(gwMachine)
	for _, w := range r.ways {
		if with := chosen(text, w.setting); known(with) {
			text = with
		}
	}
	d := &daemon{rig: r, file: filepath.Join(dir, "gatewayd.yaml"), client: client.New(r.lab.Socket(gwMachine))}
	return d, os.WriteFile(d.file, []byte(text), 0o644)
}

// chosen gives the configuration with the line, in the place of what is said of the
// same.
func chosen(text, line string) string {
	field, _, _ := strings.Cut(line, ":")
	var out strings.Builder
	for l := range strings.Lines(text) {
		if !strings.HasPrefix(l, field+":") {
			out.WriteString(l)
		}
	}
	return out.String() + line + "\n"
}

func known(text string) bool {
	_, err := config.Parse([]byte(text))
	return err == nil
}

// kill ends gatewayd without giving it a chance to do anything about it.
func (d *daemon) kill(ctx context.Context) error {
	if err := d.proc.Kill(ctx, syscall.SIGKILL); err != nil {
		return err
	}
	d.rig.daemons = slices.DeleteFunc(d.rig.daemons, func(p *lab.Process) bool { return p == d.proc })
	return nil
}

// start starts gatewayd and returns when it answers.
func (d *daemon) start(ctx context.Context) error {
	var err error
	d.proc, err = d.rig.start(gwMachine, "gatewayd", filepath.Join(d.rig.lab.Bin(), "gatewayd"), "--config", d.file)
	if err != nil {
		return err
	}
	return d.wait(ctx, func() error { _, err := d.client.Version(ctx); return err })
}

// wait calls f until it succeeds. It pauses longer than f takes, so that asking does
// not take more of the machine than what is waited for.
func (d *daemon) wait(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		asked := time.Now()
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-d.proc.Done():
			return fmt.Errorf("gatewayd ended: %s", d.proc.Output())
		case <-ctx.Done():
			return fmt.Errorf("gatewayd is not ready: %w", err)
		case <-time.After(max(5*time.Millisecond, 4*time.Since(asked))):
		}
	}
}

// goes tells whether packets go as they should; the error says why not.
func (d *daemon) goes(ctx context.Context, ways []way) error {
	st, err := d.client.Status(ctx)
	if err != nil {
		return err
	}
	return notTaken(st.Features, ways)
}

func notTaken(features []v1.Feature, ways []way) error {
	for _, w := range ways {
		i := slices.IndexFunc(features, func(f v1.Feature) bool { return f.Name == w.feature })
		switch {
		case i < 0 && w.only:
			return &NotThere{fmt.Sprintf("gatewayctl status has no feature %s", w.feature)}
		case i >= 0 && features[i].Path != w.path:
			return &NotThere{fmt.Sprintf("gatewayctl status says that the path of %s is %s: %s", w.feature, features[i].Path, features[i].Reason)}
		}
	}
	return nil
}

// ready waits until everything that was configured is in place.
func (d *daemon) ready(ctx context.Context) error {
	return d.wait(ctx, func() error {
		st, err := d.client.Status(ctx)
		if err != nil {
			return err
		}
		if st.Phase == v1.PhaseReady && len(st.Tenants) == d.rig.size.Tenants {
			return nil
		}
		errs := []error{fmt.Errorf("it is %s", st.Phase)}
		for _, t := range st.Tenants {
			if t.Phase != v1.PhaseReady && len(errs) < 4 {
				errs = append(errs, fmt.Errorf("tenant %s is %s", t.Name, t.Phase))
			}
		}
		return errors.Join(errs...)
	})
}

// document is what the gateway is told: its place on the fabric, the tenants, and
// where the first one's VM is.
func (r *rig) document() v1.Document {
	s := r.site
	doc := v1.Document{
		APIVersion:        v1.APIVersion,
		ProviderAddresses: []v1.ProviderAddress{{Address: fmt.Sprintf("%s/%d", s.gatewayPA, s.fabric.Bits()), Interface: "pa0"}},
	}
	for n := range r.size.Tenants {
		t := s.tenant(n)
		doc.Tenants = append(doc.Tenants, v1.Tenant{
			Name: t.name, Encap: string(r.Encap),
			Subnets: []v1.Subnet{
				{VSID: t.gatewayVSID.Uint32(), Prefixes: []string{s.gatewaySubnet.String()}},
				{VSID: t.vmVSID.Uint32(), Prefixes: []string{s.subnet.String()}},
			},
			Gateway: &v1.Gateway{
				VSID: t.gatewayVSID.Uint32(), CAs: []string{s.compartmentCA.String()}, Uplink: lab.Uplink,
				NAT: &v1.NAT{Pool: []string{t.external.String()}, ConnectionLimit: connections},
			},
		})
		doc.LookupRecords = append(doc.LookupRecords, v1.LookupRecord{
			VSID: t.vmVSID.Uint32(), CA: s.ca.String(), MAC: s.vmMAC.String(), PA: s.hostPA.String(),
		})
	}
	return doc
}

// connections is how many connections a tenant may have: no less than the kernel
// tracks in a namespace where nobody limits it.
const connections = 262144
