package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func (c *cli) captureCommand() *cobra.Command {
	var q v1.CaptureRequest
	var file string
	cmd := &cobra.Command{
		Use: "capture -w FILE [flags]", Short: "Capture packets on their way through the dataplane", Args: takesAtMost(0),
		Long: `Capture packets into a pcapng file, which Wireshark and tshark read. Each packet has
a comment that says at which point it was seen, whose it is and why it was dropped:

  point=drop tenant=contoso rdid=... vsid=5001 port=vm/vm1 drop=acl-denied (...)

A packet must fit all that flags say. The capture ends with its time, its number of
packets, 1 GiB, or an interrupt; the file is whole in any case.`,
		Example: `  gatewayctl capture --tenant contoso --drops-only --seconds 30 -w drops.pcapng
  gatewayctl capture --vsid 5001 --ca 10.1.1.11 -c 100 -w vm.pcapng
  gatewayctl capture --pa 192.168.2.10 --point fabric-in --point fabric-out -w - | tshark -r -`,
	}
	fl := cmd.Flags()
	fl.StringVarP(&file, "write", "w", "", "file to write, or - for standard output")
	fl.StringVar(&q.Tenant, "tenant", "", "only packets of this tenant")
	fl.Uint32Var(&q.VSID, "vsid", 0, "only packets of this virtual subnet")
	fl.StringVar(&q.CA, "ca", "", "only packets from or to this customer address, or inside this prefix")
	fl.StringVar(&q.PA, "pa", "", "only packets from or to this provider address, or inside this prefix")
	fl.StringVar(&q.Proto, "proto", "", "only packets of this protocol: tcp, udp, icmp, icmpv6, arp or a number")
	fl.Uint16Var(&q.Port, "l4-port", 0, "only packets from or to this TCP or UDP port")
	fl.StringArrayVar(&q.Points, "point", nil, "only packets at this point: fabric-in, fabric-out, port-in, port-out or drop (repeatable)")
	fl.BoolVar(&q.DropsOnly, "drops-only", false, "only packets that are dropped")
	fl.StringVar(&q.Reason, "reason", "", "only packets that are dropped for this reason")
	fl.IntVar(&q.SnapLen, "snap-len", 0, "bytes to keep of a packet (default: 2048)")
	fl.Uint64VarP(&q.Packets, "count", "c", 0, "end after so many packets")
	fl.IntVar(&q.Seconds, "seconds", v1.DefaultCaptureSeconds, "end after so many seconds, 3600 at most")
	require(cmd, "write")
	_ = cmd.MarkFlagFilename("write", "pcapng")
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		if q.Seconds < 1 || q.Seconds > v1.MaxCaptureSeconds {
			return usagef("--seconds %d is out of range: use 1 to %d", q.Seconds, v1.MaxCaptureSeconds)
		}
		n, err := c.capture(ctx, q, file)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.err, "%d packets captured\n", n)
		return nil
	})
	return cmd
}

// capture writes the file; one that a refusal leaves empty is not made.
func (c *cli) capture(ctx context.Context, q v1.CaptureRequest, file string) (n uint64, err error) {
	if file == "-" {
		return c.client.Capture(ctx, q, c.out)
	}
	out := &lateFile{name: file}
	n, err = c.client.Capture(ctx, q, out)
	if e := out.Close(); err == nil {
		err = e
	}
	return n, err
}

// lateFile is made with the first byte that is written to it.
type lateFile struct {
	name string
	f    *os.File
}

func (l *lateFile) Write(b []byte) (int, error) {
	if l.f == nil {
		f, err := os.OpenFile(l.name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) // other people's packets
		if err != nil {
			return 0, err
		}
		l.f = f
	}
	return l.f.Write(b)
}

func (l *lateFile) Close() error {
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}
