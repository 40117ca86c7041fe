package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// pingFlags are what ping takes.
type pingFlags struct {
	v1.PingRequest
	provider, from    string
	count             int
	interval, timeout time.Duration
}

func (c *cli) pingCommand() *cobra.Command {
	var f pingFlags
	cmd := &cobra.Command{
		Use: "ping (--vsid VSID --src-ca CA --dst-ca ADDR | --provider PA) [flags]", Short: "Try the way between two addresses", Args: takesAtMost(0),
		Long: `Try the way from a VM or compartment of the machine to another address of its
virtual network. The echo goes through all layers of the source's port, and the
answer is taken in front of it: the guest knows of nothing and need not be there.

If the destination is on a hnvgate, the dataplane there answers in the place of the
guest, so that a dead guest is told from a dead way; --guest has the guest answer.

With --provider, the way to a provider address, over the fabric and outside of all
tunnels.

The exit code is 1 where no answer came.`,
		Example: `  gatewayctl ping --vsid 5001 --src-ca 10.1.1.11 --dst-ca 10.1.2.11
  gatewayctl ping --vsid 5001 --src-ca 10.1.1.11 --dst-ca 10.1.2.11 -c 1 --size 1430 --df
  gatewayctl ping --provider 192.168.2.10 --size 1472 --df`,
	}
	endFlags(cmd, &f.VSID, &f.SrcCA, &f.DstCA)
	fl := cmd.Flags()
	fl.StringVar(&f.provider, "provider", "", "provider address to try, instead of a customer address")
	fl.StringVar(&f.from, "from", "", "with --provider: provider address of the machine to ask from")
	fl.IntVarP(&f.count, "count", "c", 4, "how many echoes")
	fl.DurationVarP(&f.interval, "interval", "i", time.Second, "time between two echoes")
	fl.DurationVarP(&f.timeout, "timeout", "W", time.Second, "how long to wait for an answer")
	fl.IntVarP(&f.Size, "size", "s", 56, "bytes of data; 40 at least to a customer address")
	fl.BoolVar(&f.DF, "df", false, "do not let the packet be fragmented")
	fl.BoolVar(&f.Guest, "guest", false, "have the destination's guest answer, and not the dataplane of its host")
	cmd.MarkFlagsOneRequired("provider", "vsid")
	cmd.MarkFlagsRequiredTogether("vsid", "src-ca", "dst-ca")
	for _, name := range []string{"vsid", "src-ca", "dst-ca", "guest"} {
		cmd.MarkFlagsMutuallyExclusive("provider", name)
	}
	cmd.MarkFlagsMutuallyExclusive("from", "vsid")
	cmd.RunE = c.does(func(ctx context.Context, _ []string) error {
		switch {
		case f.count < 1 || f.count > 65535:
			return usagef("--count %d is out of range: use 1 to 65535", f.count)
		case f.interval < 0 || f.timeout < time.Millisecond || f.timeout > 20*time.Second:
			return usagef("--interval is from 0s on, --timeout from 1ms to 20s")
		}
		return c.ping(ctx, &f)
	})
	return c.shows(cmd)
}

// pingSummary is what ping prints.
type pingSummary struct {
	Sent     int            `json:"sent"`
	Received int            `json:"received"`
	Min      int64          `json:"minNanoseconds,omitempty"`
	Avg      int64          `json:"avgNanoseconds,omitempty"`
	Max      int64          `json:"maxNanoseconds,omitempty"`
	Replies  []v1.PingReply `json:"replies"`
}

func (s *pingSummary) add(r v1.PingReply) {
	s.Sent++
	s.Replies = append(s.Replies, r)
	if r.Outcome != v1.PingReplied {
		return
	}
	if s.Received == 0 || r.RTT < s.Min {
		s.Min = r.RTT
	}
	s.Max = max(s.Max, r.RTT)
	s.Avg += (r.RTT - s.Avg) / int64(s.Received+1)
	s.Received++
}

func (c *cli) ping(ctx context.Context, f *pingFlags) error {
	people := c.format == "table"
	to := f.DstCA
	if f.provider != "" {
		to = f.provider
	}
	sum := pingSummary{Replies: []v1.PingReply{}}
	for i := range f.count {
		begun := time.Now()
		r, err := c.echo(ctx, f, i+1)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			return err
		}
		if ctx.Err() != nil {
			break // what came before is worth telling
		}
		if people {
			if i == 0 {
				c.say("%s", pingHead(f))
			}
			c.say("%s", pingLine(r))
		}
		sum.add(r)
		if i+1 < f.count && !pause(ctx, f.interval-time.Since(begun)) {
			break
		}
	}
	if err := c.show(sum, func(w io.Writer) { writePingSummary(w, to, sum) }); err != nil {
		return err
	}
	if sum.Received == 0 {
		return saidError{}
	}
	return nil
}

// echo sends one, the n-th.
func (c *cli) echo(ctx context.Context, f *pingFlags, n int) (v1.PingReply, error) {
	if f.provider == "" {
		q := f.PingRequest
		q.Seq, q.Timeout = uint16(n), int(f.timeout/time.Millisecond)
		return c.client.Ping(ctx, q)
	}
	r, err := c.client.ProviderPing(ctx, v1.ProviderPingRequest{To: f.provider, From: f.from, Size: f.Size, DF: f.DF, Timeout: int(f.timeout / time.Millisecond)})
	r.Seq = uint16(n)
	return r, err
}

// pause tells whether there is to be another echo.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(max(0, d))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func pingHead(f *pingFlags) string {
	if f.provider != "" {
		return fmt.Sprintf("PING provider address %s: %d bytes of data", f.provider, f.Size)
	}
	return fmt.Sprintf("PING %s from %s in VSID %d: %d bytes of data", f.DstCA, f.SrcCA, f.VSID, f.Size)
}

func pingLine(r v1.PingReply) string {
	switch r.Outcome {
	case v1.PingReplied:
		line := fmt.Sprintf("%d bytes from %s: seq=%d ttl=%d time=%s ms", r.Bytes, r.From, r.Seq, r.TTL, milliseconds(r.RTT))
		if r.By != "" {
			line += " (" + r.By + ")"
		}
		return line
	case v1.PingError:
		return fmt.Sprintf("from %s: seq=%d %s", r.From, r.Seq, r.Message)
	}
	return fmt.Sprintf("seq=%d %s", r.Seq, r.Message)
}

func milliseconds(ns int64) string { return fmt.Sprintf("%.3f", float64(ns)/1e6) }

func writePingSummary(w io.Writer, to string, s pingSummary) {
	if s.Sent == 0 {
		return
	}
	fmt.Fprintf(w, "--- %s ---\n%d sent, %d answered, %d%% lost\n", to, s.Sent, s.Received, 100*(s.Sent-s.Received)/s.Sent)
	if s.Received > 0 {
		fmt.Fprintf(w, "rtt min/avg/max = %s/%s/%s ms\n", milliseconds(s.Min), milliseconds(s.Avg), milliseconds(s.Max))
	}
}
