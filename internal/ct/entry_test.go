package ct

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hnvgate/hnvgate/internal/nfnl"
)

// What a 6.18 kernel said of three connections: IPv6 UDP through a static
// mapping, TCP and ICMP with their source translated.
const (
	udp6 = "4c0001802c0001801400030020010db80007000000000000000000071400040020010db80000000000000000000000101c00028005000100110000000600020003e8000006000300003500004c0002802c00018014000300fd0000010000000000000000000000121400040020010db80007000000000000000000071c00028005000100110000000600020014e900000600030003e8000008000300000001aa080008000000000008000c0013eaaff408000b0000000001080007000000001d1c0009800c00010000000000000000010c00020000000000000000391c000a800c00010000000000000000010c0002000000000000000044"
	tcp4 = "3400018014000180080001000a01010b08000200c63364071c0002800500010006000000060002009c4000000600030000500000340002801400018008000100c633640708000200cb00710a1c000280050001000600000006000200005000000600030051920000080003000000019e080008000000000008000c001cc551f108000b0000000001080007000006977f300004802c0001800500010003000000050002000a000000050003000a000000060004002300000006000500230000001c0009800c00010000000000000000040c00020000000000000000e11c000a800c00010000000000000000030c00020000000000000000b6"
	icmp = "3c00018014000180080001000a01010b08000200c63364072400028005000100010000000600" +
		"0400c02a0000050005000800000005000600000000003c0002801400018008000100c633640708000200cb00710a240002800500010001000000060004004f1d000005000500000000000500060000000000080003000000019a080008000000000008000c0054a33c0e08000b0000000001080007000000001d1c0009800c00010000000000000000010c00020000000000000000541c000a800c00010000000000000000010c0002000000000000000054"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func TestParseWhatTheKernelSays(t *testing.T) {
	for _, c := range []struct {
		hex        string
		want       Entry
		snat, dnat bool
	}{
		{tcp4, Entry{
			ID:      0x1cc551f1,
			Orig:    Tuple{Proto: 6, Src: ap("10.1.1.11:40000"), Dst: ap("198.51.100.7:80")},
			Reply:   Tuple{Proto: 6, Src: ap("198.51.100.7:80"), Dst: ap("203.0.113.10:20882")},
			Status:  0x19e,
			Timeout: 431999 * time.Second, TCPState: 3, Counted: true,
			OrigTraffic: Traffic{4, 0xe1}, ReplyTraffic: Traffic{3, 0xb6},
		}, true, false},
		{udp6, Entry{
			ID:      0x13eaaff4,
			Orig:    Tuple{Proto: 17, Src: ap("[2001:db8:7::7]:1000"), Dst: ap("[2001:db8::10]:53")},
			Reply:   Tuple{Proto: 17, Src: ap("[fd00:1::12]:5353"), Dst: ap("[2001:db8:7::7]:1000")},
			Status:  0x1aa,
			Timeout: 29 * time.Second, Counted: true,
			OrigTraffic: Traffic{1, 0x39}, ReplyTraffic: Traffic{1, 0x44},
		}, false, true},
		{icmp, Entry{
			ID:      0x54a33c0e,
			Orig:    Tuple{Proto: 1, Src: ap("10.1.1.11:49194"), Dst: ap("198.51.100.7:49194"), ICMPType: 8},
			Reply:   Tuple{Proto: 1, Src: ap("198.51.100.7:20253"), Dst: ap("203.0.113.10:20253")},
			Status:  0x19a,
			Timeout: 29 * time.Second, Counted: true,
			OrigTraffic: Traffic{1, 0x54}, ReplyTraffic: Traffic{1, 0x54},
		}, true, false},
	} {
		got, err := Parse(unhex(t, c.hex))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got, cmpopts.IgnoreUnexported(Entry{}), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Error(diff)
		}
		if got.SNAT() != c.snat || got.DNAT() != c.dnat {
			t.Errorf("%v: SNAT %v, DNAT %v", got, got.SNAT(), got.DNAT())
		}
	}
}

// A tuple that is written, as for deleting, reads as the same one.
func TestTupleRoundTrip(t *testing.T) {
	for _, s := range []string{tcp4, udp6, icmp} {
		e, err := Parse(unhex(t, s))
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(e.Reply.append(e.Orig.append(nil, ctTupleOrig), ctTupleReply))
		if err != nil || again.Orig != e.Orig || again.Reply != e.Reply {
			t.Errorf("%+v became %+v, %v", e, again, err)
		}
	}
}

func TestParseRefusesEveryTruncation(t *testing.T) {
	for _, s := range []string{tcp4, udp6, icmp} {
		b := unhex(t, s)
		for n := range len(b) {
			e, err := Parse(b[:n])
			if err == nil && (!e.Orig.Src.IsValid() || !e.Reply.Dst.IsValid()) {
				t.Errorf("%d bytes read as %+v", n, e)
			}
		}
	}
	if _, err := Parse(nil); !errors.Is(err, nfnl.ErrMalformed) {
		t.Errorf("nothing read as an entry: %v", err)
	}
}

func TestTCPStateNames(t *testing.T) {
	for state, want := range map[TCPState]string{0: "", 1: "SYN_SENT", 3: "ESTABLISHED", 7: "TIME_WAIT", 200: "STATE_200"} {
		if got := state.String(); got != want {
			t.Errorf("state %d is %q, want %q", uint8(state), got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{tcp4, udp6, icmp} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Parse(b)
		if err != nil {
			return
		}
		for _, tuple := range []Tuple{e.Orig, e.Reply} {
			if !tuple.Src.IsValid() || !tuple.Dst.IsValid() || tuple.Src.Addr().Is4() != tuple.Dst.Addr().Is4() {
				t.Fatalf("accepted %+v", tuple)
			}
		}
		_ = e.SNAT() || e.DNAT()
		_ = e.TCPState.String()
		again, err := Parse(e.Reply.append(e.Orig.append(nil, ctTupleOrig), ctTupleReply))
		if err != nil {
			t.Fatalf("%+v is not read back: %v", e, err)
		}
		if again.Orig.Src.Addr() != e.Orig.Src.Addr() || again.Orig.Proto != e.Orig.Proto {
			t.Fatalf("%+v became %+v", e.Orig, again.Orig)
		}
	})
}
