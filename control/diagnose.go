package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/capture"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// Sight looks into the dataplane; Wire.Sight gives one.
type Sight interface {
	NextHop(q dataplane.NextHopQuery) (dataplane.NextHop, error)
	Ping(ctx context.Context, q dataplane.PingQuery) (dataplane.PingResult, error)
	Trace(q dataplane.TraceQuery) (dataplane.Trace, error)
	Inspect(port string, flows int, of netip.Prefix) (dataplane.PortInspection, error)
	LayerCounters(r hnv.RDID) []dataplane.LayerTraffic
	Tap() *capture.Tap
}

// sight is a Switch that sends to the fabric by a Writer.
type sight struct {
	*dataplane.Switch
	fabric dataplane.Writer
}

func (s sight) Ping(ctx context.Context, q dataplane.PingQuery) (dataplane.PingResult, error) {
	return s.Switch.Ping(ctx, q, s.fabric)
}

// Sight looks into the dataplane that is wired.
func (w *Wire) Sight() Sight { return sight{w.sw, w.provider} }

// kinded is a sentence of one of hnv's kinds, which it does not repeat.
type kinded struct {
	text string
	kind error
}

func (k *kinded) Error() string { return k.text }
func (k *kinded) Unwrap() error { return k.kind }

func invalidf(format string, a ...any) error {
	return &kinded{fmt.Sprintf(format, a...), hnv.ErrInvalid}
}

// kindly gives errors of the dataplane's diagnostics their kind: a query names
// what is not there, contradicts what is, or means nothing.
func kindly(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, k := range []struct{ is, kind error }{{dataplane.ErrUnknown, hnv.ErrNotFound}, {dataplane.ErrConflict, hnv.ErrConflict}} {
		if errors.Is(err, k.is) {
			return &kinded{strings.TrimSuffix(text, ": "+k.is.Error()), k.kind}
		}
	}
	for _, busy := range []error{dataplane.ErrPings, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, busy) {
			return err
		}
	}
	return &kinded{text, hnv.ErrInvalid}
}

// portName gives the dataplane's name of a port: interfaces are named alone.
func portName(port string) string {
	if port == "" || strings.Contains(port, "/") {
		return port
	}
	return vmPort(port)
}

// parser reads the fields of a request and keeps all that is wrong with them.
type parser struct{ errs []error }

func (p *parser) err() error { return errors.Join(p.errs...) }

func (p *parser) fail(format string, a ...any) { p.errs = append(p.errs, invalidf(format, a...)) }

func (p *parser) vsid(n uint32) hnv.VSID {
	v, err := hnv.NewVSID(n)
	if err != nil {
		p.errs = append(p.errs, err)
	}
	return v
}

// addr reads an address; one that is empty is left unset if it may be.
func (p *parser) addr(field, s string, optional bool) netip.Addr {
	if s == "" && optional {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		p.fail("%s %q is not an IP address", field, s)
	}
	return a.Unmap()
}

// prefix reads an address or a prefix; empty is none.
func (p *parser) prefix(field, s string) netip.Prefix {
	if s == "" {
		return netip.Prefix{}
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
	}
	pfx, err := netip.ParsePrefix(s)
	if err != nil || pfx.Addr().Is4In6() {
		p.fail("%s %q is neither an IP address nor a prefix", field, s)
	}
	return pfx.Masked()
}

func (p *parser) mac(field, s string) hnv.MAC {
	if s == "" {
		return hnv.MAC{}
	}
	m, err := hnv.ParseMAC(s)
	if err != nil {
		p.fail("%s: %v", field, err)
	}
	return m
}

// protos are the protocols that have names.
var protos = map[string]uint8{"tcp": packet.ProtoTCP, "udp": packet.ProtoUDP, "icmp": packet.ProtoICMP, "icmpv6": packet.ProtoICMPv6}

func (p *parser) proto(s string) uint8 {
	if n, ok := protos[strings.ToLower(s)]; ok {
		return n
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		p.fail("protocol %q is unknown: use tcp, udp, icmp, icmpv6 or a number", s)
	}
	return uint8(n)
}

// protoName is the other way round.
func protoName(n uint8) string {
	for name, k := range protos {
		if k == n {
			return name
		}
	}
	return strconv.Itoa(int(n))
}

// NextHop tells where packets from a customer address to another one go.
func (c *Controller) NextHop(_ context.Context, vsid uint32, src, dst string) (v1.NextHop, error) {
	var p parser
	q := dataplane.NextHopQuery{VSID: p.vsid(vsid), SrcCA: p.addr("source", src, false), DstCA: p.addr("destination", dst, false)}
	if err := p.err(); err != nil {
		return v1.NextHop{}, err
	}
	n, err := c.o.Sight.NextHop(q)
	if err != nil {
		return v1.NextHop{}, kindly(err)
	}
	out := v1.NextHop{
		Tenant: n.Tenant.String(), RDID: n.RDID.String(), Routed: n.Routed, Router: n.Router, CustomerRoute: n.CustomerRoute, Wildcard: n.Wildcard,
		NextHop: said(n.CA), Equal: sayAll(n.Equal), VSID: n.VSID, SentTo: saidMAC(n.SentTo), SrcMAC: saidMAC(n.Source), DstMAC: saidMAC(n.Destination),
		SrcPAs: sayAll(n.SrcPAs), DstPAs: sayAll(n.DstPAs), Rule: string(n.Rule), Type: string(n.Type), Local: n.Local, Compartment: n.Compartment,
	}
	if n.Match.IsValid() {
		out.Match = n.Match.String()
	}
	if n.Reason != 0 {
		out.Reason, out.Meaning = n.Reason.String(), n.Reason.Meaning()
	}
	return out, nil
}

func said(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func sayAll(as []netip.Addr) (out []string) {
	for _, a := range as {
		out = append(out, a.String())
	}
	return out
}

func saidMAC(m hnv.MAC) string {
	if !m.IsValid() {
		return ""
	}
	return m.String()
}
