package control

import (
	"context"
	"io"
	"strings"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/dataplane/capture"
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// lateWriter is where a capture goes, which is known only when it begins.
type lateWriter struct{ io.Writer }

// Capture prepares a capture, which run writes until it is over or ctx ends.
func (c *Controller) Capture(in v1.CaptureRequest) (run func(context.Context, io.Writer) error, err error) {
	var p parser
	o := capture.Options{Filter: p.filter(&in, c.tenantRDID), SnapLen: in.SnapLen, MaxPackets: in.Packets, MaxBytes: v1.MaxCaptureBytes, Application: "hnvgate gatewayd"}
	if in.Seconds == 0 {
		in.Seconds = v1.DefaultCaptureSeconds
	}
	if in.Seconds < 0 || in.Seconds > v1.MaxCaptureSeconds {
		p.fail("a capture of %d seconds is out of range: use 1 to %d", in.Seconds, v1.MaxCaptureSeconds)
	}
	if in.SnapLen > capture.DefaultSnapLen {
		o.Queue = max(2, capture.MaxMemory/2/in.SnapLen) // rounded up to a power of two
		o.Queue = min(o.Queue, capture.DefaultQueue)
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	late := new(lateWriter)
	s, err := capture.NewSession(late, o)
	if err != nil {
		return nil, &kinded{err.Error(), hnv.ErrInvalid}
	}
	return func(ctx context.Context, w io.Writer) error {
		late.Writer = w
		ctx, cancel := context.WithTimeout(ctx, time.Duration(in.Seconds)*time.Second)
		defer cancel()
		return c.o.Sight.Tap().Run(ctx, s)
	}, nil
}

// tenantRDID finds the routing domain of a tenant.
func (c *Controller) tenantRDID(name string) (hnv.RDID, error) {
	n, err := hnv.ParseName(name)
	if err != nil {
		return hnv.RDID{}, err
	}
	var t hnv.Tenant
	var ok bool
	c.o.Store.View(func(f *hnv.Fabric) { t, ok = f.Tenant(n) })
	if !ok {
		return hnv.RDID{}, &kinded{"tenant " + name + " does not exist", hnv.ErrNotFound}
	}
	return t.RDID, nil
}

// filter reads which packets are wanted.
func (p *parser) filter(in *v1.CaptureRequest, rdid func(string) (hnv.RDID, error)) capture.Filter {
	f := capture.Filter{CA: p.prefix("customer address", in.CA), PA: p.prefix("provider address", in.PA), Port: in.Port, OnlyDrops: in.DropsOnly}
	if in.Tenant != "" {
		var err error
		if f.Tenant, err = rdid(in.Tenant); err != nil {
			p.errs = append(p.errs, err)
		}
	}
	if in.VSID != 0 {
		f.VSID = p.vsid(in.VSID)
	}
	switch {
	case strings.EqualFold(in.Proto, "arp"):
		f.EtherType = packet.EtherTypeARP
	case in.Proto != "":
		f.Proto = p.proto(in.Proto)
	}
	for _, name := range in.Points {
		var at capture.Point
		if err := at.UnmarshalText([]byte(name)); err != nil {
			p.fail("%v", err)
			continue
		}
		f.Points = append(f.Points, at)
	}
	if in.Reason != "" {
		r, ok := drop.Parse(in.Reason)
		if !ok || r == drop.None {
			p.fail("drop reason %q is unknown: docs/drop-reasons.md lists them", in.Reason)
		}
		f.Reason = r
	}
	return f
}
