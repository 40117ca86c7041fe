package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/dataplane/capture"
)

// traceFlags are what trace takes.
type traceFlags struct {
	v1.TraceRequest
	packet   v1.TracePacket
	icmpType uint8
	file     string
	number   int
}

func (c *cli) traceCommand() *cobra.Command {
	var f traceFlags
	cmd := &cobra.Command{
		Use: "trace [--port PORT | --from-fabric] (--src-ca CA --dst-ca ADDR [flags] | --pcap FILE)", Short: "Show what becomes of a packet, and why", Args: takesAtMost(0),
		Long: `Take a packet through the layers for show. It takes the very way that a real one
would take now, and each decision on it is told: who vouches for the source, what
the flow table knows, what every group of rules says, where it is routed, and what
would leave. Nothing is sent, counted or remembered.

The packet is described by flags, or taken from a capture. Of a described one, what
no flag says is as its sender would make it; without --port and --from-fabric it is
sent by the port of its source, if that is on the machine, and comes from the fabric
if not. Of a captured one, the name of the interface says which port sent it, as in
captures of gatewayctl, unless --port does.`,
		Example: `  gatewayctl trace --vsid 5001 --src-ca 10.1.1.11 --dst-ca 10.1.2.11 --proto tcp --dport 443
  gatewayctl trace --port vm1 --src-ca 10.1.1.99 --dst-ca 10.1.2.11 --proto udp --dport 53
  gatewayctl trace --from-fabric --vsid 5001 --src-ca 10.1.1.12 --dst-ca 10.1.1.11 --src-pa 192.168.1.66
  gatewayctl trace --pcap drops.pcapng --number 7`,
	}
	fl := cmd.Flags()
	fl.StringVar(&f.Port, "port", "", "port that sends it: its interface, or compartment/TENANT")
	fl.BoolVar(&f.FromFabric, "from-fabric", false, "it comes from the fabric")
	fl.BoolVar(&f.NewFlow, "new-flow", false, "take it for the first packet of its flow, whatever flows are known")
	p := &f.packet
	endFlags(cmd, &p.VSID, &p.SrcCA, &p.DstCA)
	fl.StringVar(&p.SrcMAC, "src-mac", "", "MAC address it is from")
	fl.StringVar(&p.DstMAC, "dst-mac", "", "MAC address it is to")
	fl.StringVar(&p.SrcPA, "src-pa", "", "provider address it comes from over the fabric")
	fl.StringVar(&p.DstPA, "dst-pa", "", "provider address it is sent to over the fabric")
	fl.BoolVar(&p.Ask, "ask", false, "it asks for the MAC address of --dst-ca, by ARP or neighbor discovery")
	fl.StringVar(&p.Proto, "proto", "", "protocol: tcp, udp, icmp, icmpv6 or a number (default: icmp, or icmpv6)")
	fl.Uint16Var(&p.SrcPort, "sport", 0, "source port")
	fl.Uint16Var(&p.DstPort, "dport", 0, "destination port")
	fl.StringVar(&p.TCPFlags, "tcp-flags", "", "TCP flags, separated by commas (default: syn)")
	fl.Uint8Var(&f.icmpType, "icmp-type", 0, "type of ICMP (default: echo request)")
	fl.Uint8Var(&p.ICMPCode, "icmp-code", 0, "code of ICMP")
	fl.IntVar(&p.Payload, "payload", 0, "bytes behind the headers")
	fl.Uint8Var(&p.TTL, "ttl", 0, "TTL or hop limit (default: 64)")
	fl.Uint8Var(&p.DSCP, "dscp", 0, "DSCP, 0 to 63")
	fl.BoolVar(&p.DF, "df", false, "it may not be fragmented")
	fl.StringVar(&f.file, "pcap", "", "take it from this pcapng or pcap file, or - for standard input")
	fl.IntVar(&f.number, "number", 1, "with --pcap: which packet of the file, from 1 on")
	_ = cmd.MarkFlagFilename("pcap", "pcapng", "pcap")
	cmd.MarkFlagsRequiredTogether("src-ca", "dst-ca")
	cmd.MarkFlagsMutuallyExclusive("port", "from-fabric")
	cmd.MarkFlagsOneRequired("src-ca", "pcap")
	cmd.MarkFlagsMutuallyExclusive("src-ca", "pcap")
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		if fl.Changed("icmp-type") {
			p.ICMPType = &f.icmpType
		}
		if f.file == "" {
			if f.Port == "" && p.VSID == 0 {
				return usagef("give --port, or --vsid of the source")
			}
			f.Packet = p
		} else if err := f.fromFile(c.in); err != nil {
			return err
		}
		t, err := c.client.Trace(ctx, f.TraceRequest)
		if err != nil {
			return err
		}
		return c.show(t, func(w io.Writer) { writeTrace(w, t) })
	})
	return c.shows(cmd)
}

// fromFile takes the packet from a capture.
func (f *traceFlags) fromFile(in io.Reader) error {
	if f.number < 1 {
		return usagef("--number %d is out of range: packets are counted from 1 on", f.number)
	}
	if f.file != "-" {
		file, err := os.Open(f.file)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	k, err := numbered(in, f.number)
	if err != nil {
		return fmt.Errorf("%s: %w", f.file, err)
	}
	if len(k.Data) < k.Length {
		return fmt.Errorf("%s: of packet %d only %d of %d bytes were kept: capture with a greater snap length", f.file, f.number, len(k.Data), k.Length)
	}
	f.Frame = k.Data
	switch {
	case k.Link == capture.RawIP:
		if f.Port != "" {
			return fmt.Errorf("%s: packet %d is one of the fabric, which no port sends: leave --port out", f.file, f.number)
		}
		f.FromFabric = true
	case k.Link != capture.Ethernet:
		return fmt.Errorf("%s: packet %d is of link type %d: only Ethernet frames (1) and IP packets (101) can be traced", f.file, f.number, k.Link)
	case f.FromFabric:
		f.Frame, err = withoutEthernet(k.Data)
	case f.Port == "":
		if f.Port = k.Interface; f.Port == "" {
			return usagef("the file does not say which port sent packet %d: give --port, or --from-fabric", f.number)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: packet %d: %w", f.file, f.number, err)
	}
	return nil
}

// numbered reads the n-th packet.
func numbered(in io.Reader, n int) (k capture.Record, err error) {
	r, err := capture.NewReader(in)
	for i := 0; err == nil && i < n; i++ {
		if k, err = r.Next(); errors.Is(err, io.EOF) {
			err = fmt.Errorf("it has %d packets, and no number %d", i, n)
		}
	}
	return k, err
}

// withoutEthernet takes the header of a link of the fabric off, with its VLAN.
func withoutEthernet(b []byte) ([]byte, error) {
	at := 12
	for len(b) >= at+2 {
		switch typ := uint16(b[at])<<8 | uint16(b[at+1]); typ {
		case 0x8100, 0x88a8:
			at += 4
		case 0x0800, 0x86dd:
			return b[at+2:], nil
		default:
			return nil, fmt.Errorf("it holds no IP packet: its EtherType is %#04x", typ)
		}
	}
	return nil, fmt.Errorf("it is too short for an Ethernet frame")
}

func writeTrace(w io.Writer, t v1.Trace) {
	steps := table{header: []string{"STAGE", "AT", "RESULT", "WHY"}}
	for _, s := range t.Steps {
		stage, why := s.Stage, s.Detail
		if s.Layer != "" {
			stage += " " + s.Layer
			why = fmt.Sprintf("group %q: %s", s.Group, s.Detail)
			if s.Rule != "" {
				why = fmt.Sprintf("group %q, rule %q: %s", s.Group, s.Rule, s.Detail)
			}
		}
		steps.add(stage, s.At, s.Verdict, why)
	}
	steps.write(w)
	fmt.Fprintln(w)
	var f facts
	f.add("Tenant", t.Tenant)
	verdict := t.Verdict
	if t.Reason != "" {
		verdict += ": " + t.Reason + ", " + strings.TrimSuffix(t.Meaning, ".")
	}
	f.add("Verdict", verdict)
	for _, o := range t.Outputs {
		f.add("To "+o.To, o.Summary)
	}
	f.write(w)
}
