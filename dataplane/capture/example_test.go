package capture_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/capture"
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/hnv"
)

// A capture of what one tenant's subnet loses, to a file, for at most a minute
// and a thousand packets.
func Example() {
	var tap capture.Tap // the switch's

	dir, err := os.MkdirTemp("", "capture")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	file, err := os.Create(filepath.Join(dir, "contoso.pcapng"))
	if err != nil {
		panic(err)
	}
	defer file.Close()

	rdid, _ := hnv.ParseRDID("11111111-2222-4333-8444-555555555555")
	vsid, _ := hnv.NewVSID(5001)
	s, err := capture.NewSession(file, capture.Options{
		Filter:      capture.Filter{Tenant: rdid, VSID: vsid, OnlyDrops: true},
		MaxPackets:  1000,
		Application: "gatewayd 1.0",
	})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	ended := make(chan error)
	go func() { ended <- tap.Run(ctx, s) }()
	for tap.Sessions() == nil {
		time.Sleep(time.Millisecond)
	}

	// This is a worker, which drops a frame that its port sent.
	frame := make([]byte, 60)
	if taps := tap.Sessions(); taps != nil && taps.Want(capture.Drop) {
		taps.Offer(&capture.Meta{
			Time: time.Now().UnixNano(), Point: capture.Drop, Link: capture.Ethernet,
			RDID: rdid, VSID: 5001, Port: "c11", Reason: drop.SourceCASpoofed,
			Src: netip.MustParseAddr("10.1.1.99"),
		}, frame)
	}

	stop()
	if err := <-ended; err != nil {
		panic(err)
	}
	fmt.Println(s.Filter(), "->", s.Stats().Packets, "packet")
	// Output: rdid=11111111-2222-4333-8444-555555555555 vsid=5001 drops -> 1 packet
}
