package service

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listenStreams(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = serveStreams(t.Context(), l, "server")
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func TestStreamBothWays(t *testing.T) {
	addr := listenStreams(t)
	for _, req := range []StreamRequest{
		{Down, 3_000_001, 0},
		{Up, 3_000_001, 0},
		{Down, 100_000, 1_000_000},
	} {
		var told int
		got, err := Stream(t.Context(), addr, req, func(StreamReport) { told++ })
		if err != nil {
			t.Fatalf("%+v: %v", req, err)
		}
		if !got.Complete || got.Bytes != req.Bytes || got.Name != "server" || !strings.HasPrefix(got.Peer, "127.0.0.1:") {
			t.Errorf("%+v: report %+v", req, got)
		}
		if req.Rate != 0 && got.Elapsed < 50*time.Millisecond {
			t.Errorf("%+v: took %v, the rate was not held", req, got.Elapsed)
		}
	}
}

func TestStreamEndsWithItsContext(t *testing.T) {
	addr := listenStreams(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	got, err := Stream(ctx, addr, StreamRequest{Down, 1 << 30, 1000}, func(StreamReport) {})
	if err != nil {
		t.Fatal(err)
	}
	if got.Complete || got.Error == "" {
		t.Errorf("a stream cut short reports %+v", got)
	}
}

func TestReceiveFindsEveryKindOfDamage(t *testing.T) {
	good := make([]byte, 200_000)
	_, _ = (&pattern{}).Read(good)
	damage := map[string]func([]byte) []byte{
		"flipped bit":     func(b []byte) []byte { b[70_003] ^= 1; return b },
		"lost byte":       func(b []byte) []byte { return append(b[:100], b[101:]...) },
		"lost word":       func(b []byte) []byte { return append(b[:96], b[104:]...) },
		"doubled segment": func(b []byte) []byte { return append(b[:1448:1448], b...) },
		"swapped segments": func(b []byte) []byte {
			return append(append(append([]byte{}, b[1448:2896]...), b[:1448]...), b[2896:]...)
		},
	}
	for name, f := range damage {
		b := f(append([]byte{}, good...))
		if err := receive(bytes.NewReader(b), func(int) {}); err == nil {
			t.Errorf("%s: not found", name)
		}
	}
	// Whatever pieces it comes in, what is right is right.
	var n int
	if err := receive(iotest.HalfReader(bytes.NewReader(good)), func(k int) { n += k }); err != nil || n != len(good) {
		t.Errorf("undamaged: %d bytes, %v", n, err)
	}
	broken := errors.New("broken")
	if err := receive(io.MultiReader(bytes.NewReader(good), iotest.ErrReader(broken)), func(int) {}); !errors.Is(err, broken) {
		t.Errorf("reader's error: %v", err)
	}
}

func TestEchoSaysWhoAsked(t *testing.T) {
	// On every address, as the lab's machines have it: the answer must come from
	// the one that was asked, which is not the one that routing would choose.
	c, err := listenEcho("udp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = serveEcho(c, "server") }()
	defer func() { c.Close(); <-done }()
	id, err := Echo(t.Context(), "127.7.7.7:"+strconv.Itoa(c.LocalAddr().(*net.UDPAddr).Port), "", 4000)
	if err != nil {
		t.Fatal(err)
	}
	if id.Name != "server" || !strings.HasPrefix(id.Peer, "127.0.0.1:") {
		t.Errorf("identity %+v", id)
	}
}
