package s2s

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func key(b byte) (k Key) { k[0] = b; return k }

func set(list string) map[netip.Prefix]bool {
	m := map[netip.Prefix]bool{}
	for _, p := range prefixList(list) {
		m[p] = true
	}
	return m
}

// play is a device: it applies a plan to what it has.
func play(t *testing.T, have wgDevice, plan string) wgDevice {
	t.Helper()
	out := wgDevice{private: have.private, port: have.port, peers: map[Key]wgPeer{}}
	for k, p := range have.peers {
		out.peers[k] = p
	}
	var at Key
	for _, l := range strings.Split(strings.TrimSpace(plan), "\n") {
		k, v, _ := strings.Cut(l, "=")
		p := out.peers[at]
		switch k {
		case "private_key":
			out.private.key, _ = parseHex(v)
		case "listen_port":
			out.port, _ = parsePort(v)
		case "public_key":
			b, _ := parseHex(v)
			at = b
			if _, ok := out.peers[at]; !ok {
				out.peers[at] = wgPeer{prefixes: map[netip.Prefix]bool{}}
			}
			continue
		case "remove":
			delete(out.peers, at)
			continue
		case "preshared_key":
			p.preshared.key, _ = parseHex(v)
		case "endpoint":
			p.endpoint = netip.MustParseAddrPort(v)
		case "persistent_keepalive_interval":
			p.keepalive, _ = parsePort(v)
		case "allowed_ip":
			q, minus := strings.CutPrefix(v, "-")
			now := map[netip.Prefix]bool{}
			for x := range p.prefixes {
				now[x] = true
			}
			if minus {
				delete(now, netip.MustParsePrefix(q))
			} else {
				for other, o := range out.peers {
					if other != at && o.prefixes[netip.MustParsePrefix(q)] {
						t.Errorf("%s is taken from peer %x", q, other[0])
					}
				}
				now[netip.MustParsePrefix(q)] = true
			}
			p.prefixes = now
		}
		if !at.IsZero() {
			out.peers[at] = p
		}
	}
	return out
}

func TestPlanDevice(t *testing.T) {
	ep := netip.MustParseAddrPort
	base := func() wgDevice {
		return wgDevice{private: Secret{key(9)}, port: 51820, peers: map[Key]wgPeer{
			key(1): {endpoint: ep("1.1.1.1:1"), prefixes: set("10.1.0.0/16 10.3.0.0/16")},
			key(2): {endpoint: ep("2.2.2.2:2"), keepalive: 25, prefixes: set("10.2.0.0/16")},
		}}
	}
	told := map[Key]netip.AddrPort{key(1): ep("1.1.1.1:1"), key(2): ep("2.2.2.2:2")}
	one, two := "public_key="+key(1).hex()+"\n", "public_key="+key(2).hex()+"\n"
	for name, c := range map[string]struct {
		change func(*wgDevice)
		want   string
	}{
		"nothing":       {func(*wgDevice) {}, ""},
		"port":          {func(d *wgDevice) { d.port = 7 }, "listen_port=7\n"},
		"any port":      {func(d *wgDevice) { d.port = 0 }, ""},
		"key":           {func(d *wgDevice) { d.private = Secret{key(8)} }, "private_key=" + key(8).hex() + "\n"},
		"one peer gone": {func(d *wgDevice) { delete(d.peers, key(1)) }, one + "remove=true\n"},
		"keepalive": {func(d *wgDevice) {
			p := d.peers[key(2)]
			p.keepalive = 0
			d.peers[key(2)] = p
		}, two + "persistent_keepalive_interval=0\n"},
		"endpoint": {func(d *wgDevice) {
			p := d.peers[key(2)]
			p.endpoint = ep("3.3.3.3:3")
			d.peers[key(2)] = p
		}, two + "endpoint=3.3.3.3:3\n"},
		"a prefix changes hands": {func(d *wgDevice) {
			d.peers[key(1)], d.peers[key(2)] = wgPeer{endpoint: ep("1.1.1.1:1"), prefixes: set("10.1.0.0/16")},
				wgPeer{endpoint: ep("2.2.2.2:2"), keepalive: 25, prefixes: set("10.2.0.0/16 10.3.0.0/16")}
		}, one + "allowed_ip=-10.3.0.0/16\n" + two + "allowed_ip=10.3.0.0/16\n"},
		"a peer's key rotates": {func(d *wgDevice) { d.peers[key(3)] = d.peers[key(2)]; delete(d.peers, key(2)) },
			two + "remove=true\npublic_key=" + key(3).hex() + "\nendpoint=2.2.2.2:2\npersistent_keepalive_interval=25\nallowed_ip=10.2.0.0/16\n"},
	} {
		want := base()
		c.change(&want)
		got := planDevice(base(), want, told)
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if got == "" {
			continue
		}
		after := play(t, base(), got)
		if again := planDevice(after, want, map[Key]netip.AddrPort{key(1): want.peers[key(1)].endpoint, key(2): want.peers[key(2)].endpoint, key(3): want.peers[key(3)].endpoint}); again != "" {
			t.Errorf("%s: after the change there is still %q to do", name, again)
		}
	}
	// A peer that has moved is left where it is.
	moved := base()
	p := moved.peers[key(1)]
	p.endpoint = ep("7.7.7.7:7")
	moved.peers[key(1)] = p
	if got := planDevice(moved, base(), told); got != "" {
		t.Errorf("a peer that moved is told %q", got)
	}
}

func TestParseDevice(t *testing.T) {
	text := "private_key=" + key(9).hex() + "\nlisten_port=5\npublic_key=" + key(1).hex() + "\npreshared_key=" + key(0).hex() +
		"\nprotocol_version=1\nendpoint=[fd00::1]:9\nlast_handshake_time_sec=5\nlast_handshake_time_nsec=6\ntx_bytes=7\nrx_bytes=8\n" +
		"persistent_keepalive_interval=3\nallowed_ip=10.0.0.0/8\npublic_key=" + key(2).hex() + "\nlast_handshake_time_sec=0\nlast_handshake_time_nsec=0\n"
	d, err := parseDevice(text)
	if err != nil {
		t.Fatal(err)
	}
	p := d.peers[key(1)]
	if d.port != 5 || len(d.peers) != 2 || p.endpoint.Port() != 9 || p.handshake.Unix() != 5 || p.tx != 7 || p.rx != 8 || p.keepalive != 3 ||
		!p.prefixes[netip.MustParsePrefix("10.0.0.0/8")] || !d.peers[key(2)].handshake.IsZero() {
		t.Errorf("got %+v", p)
	}
	for _, bad := range []string{"private_key=zz", "listen_port=70000", "public_key=00", "endpoint=x", "allowed_ip=x", "rx_bytes=-1"} {
		if _, err := parseDevice("public_key=" + key(1).hex() + "\n" + bad); err == nil {
			t.Errorf("%s is accepted", bad)
		} else if strings.Contains(err.Error(), "zz") {
			t.Error("the error repeats a key")
		}
	}
}

// A peer that speaks BGP may be sent everything; the device keeps a private key
// clamped.
func TestWanted(t *testing.T) {
	tun := Tunnel{PrivateKey: Secret{key(7)}, Peers: []Peer{{Name: "a", PublicKey: key(1), FromBGP: true, Prefixes: prefixList("10.0.0.1/32")}}}
	d := tun.wanted()
	if diff := cmp.Diff(set("10.0.0.1/32 0.0.0.0/0 ::/0"), d.peers[key(1)].prefixes, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if d.private.key[0] != 0 || d.private.key[31] != 64 {
		t.Errorf("private key begins with %d and ends with %d", d.private.key[0], d.private.key[31])
	}
}
