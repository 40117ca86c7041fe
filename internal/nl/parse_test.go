//go:build linux

package nl

import (
	"net/netip"
	"testing"
)

// What the kernel says is trusted, but a new kernel may say it differently:
// whatever it is, parsing does not panic.
func FuzzParse(f *testing.F) {
	f.Add(make([]byte, 16))
	f.Add(append(make([]byte, 16), 8, 0, 3, 0, 'l', 'o', 0, 0, 12, 0, 26, 0x80, 8, 0, 2, 0, 4, 0, 1, 0))
	f.Add(append(make([]byte, 12), 8, 0, 1, 0, 10, 0, 0, 1, 10, 0, 2, 0, 2, 0, 0, 0, 0, 1, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := parseLink(b); err == nil {
			l.Conf4(Forwarding4)
			l.Conf6(DisableIPv6)
		}
		_, _, _ = parseRoute(b, 0)
		_, _, _ = parseAnyRoute(b)
		_ = maybeContains(b, netip.IPv4Unspecified())
		_, _ = parseRule(b)
		_, _, _ = parseNeighbour(b)
		_, _, _, _ = parseNeighbourTable(b)
		_, _, _ = parseFilter(b)
	})
}

func TestConf(t *testing.T) {
	var l Link
	if _, ok := l.Conf4(RPFilter); ok {
		t.Error("a setting that was not shown")
	}
	l.PutConf4(RPFilter, 2)
	l.PutConf4(Forwarding4, 1)
	l.PutConf6(ProxyNDP, -1)
	for c, want := range map[Conf4]int{RPFilter: 2, Forwarding4: 1, SendRedirects: 0} {
		if v, ok := l.Conf4(c); !ok || v != want {
			t.Errorf("setting %d: %d, %v", c, v, ok)
		}
	}
	if v, ok := l.Conf6(ProxyNDP); !ok || v != -1 {
		t.Errorf("IPv6: %d, %v", v, ok)
	}
}
