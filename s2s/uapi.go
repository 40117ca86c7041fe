package s2s

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// wgDevice is what a WireGuard device tells of itself, or should be.
type wgDevice struct {
	private Secret
	port    uint16
	peers   map[Key]wgPeer
}

type wgPeer struct {
	preshared Secret
	endpoint  netip.AddrPort
	keepalive uint16
	prefixes  map[netip.Prefix]bool

	// told only
	handshake time.Time
	rx, tx    uint64
}

// parseDevice reads WireGuard's configuration protocol
// (www.wireguard.com/xplatform/#configuration-protocol).
func parseDevice(text string) (wgDevice, error) {
	d := wgDevice{peers: map[Key]wgPeer{}}
	var at Key
	var p wgPeer
	keep := func() {
		if !at.IsZero() {
			d.peers[at] = p
		}
	}
	var sec int64
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), "=")
		var err error
		switch key {
		case "private_key":
			d.private.key, err = parseHex(value)
		case "listen_port":
			d.port, err = parsePort(value)
		case "public_key":
			keep()
			p, sec = wgPeer{prefixes: map[netip.Prefix]bool{}}, 0
			var k [keyLen]byte
			k, err = parseHex(value)
			at = k
		case "preshared_key":
			p.preshared.key, err = parseHex(value)
		case "endpoint":
			p.endpoint, err = netip.ParseAddrPort(value)
		case "persistent_keepalive_interval":
			p.keepalive, err = parsePort(value)
		case "allowed_ip":
			var q netip.Prefix
			q, err = netip.ParsePrefix(value)
			p.prefixes[q] = true
		case "last_handshake_time_sec":
			sec, err = strconv.ParseInt(value, 10, 64)
		case "last_handshake_time_nsec":
			var nsec int64
			nsec, err = strconv.ParseInt(value, 10, 64)
			if sec != 0 || nsec != 0 {
				p.handshake = time.Unix(sec, nsec)
			}
		case "rx_bytes":
			p.rx, err = strconv.ParseUint(value, 10, 64)
		case "tx_bytes":
			p.tx, err = strconv.ParseUint(value, 10, 64)
		}
		if err != nil {
			return d, fmt.Errorf("device tells a malformed %s", key)
		}
	}
	keep()
	return d, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err
}

func parseHex(s string) (k [keyLen]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != keyLen {
		return k, errors.New("malformed key")
	}
	return [keyLen]byte(b), nil
}

// planDevice writes what brings a device from have to want, in the
// configuration protocol; "" if nothing differs. told has the endpoints that
// were set before: a peer that has moved since is left where it is. What does
// not differ is not mentioned, so that no peer notices another's change.
func planDevice(have, want wgDevice, told map[Key]netip.AddrPort) string {
	var b strings.Builder
	line := func(key, value string) { b.WriteString(key + "=" + value + "\n") }
	if have.private != want.private {
		line("private_key", want.private.hex())
	}
	if want.port != 0 && have.port != want.port {
		line("listen_port", strconv.Itoa(int(want.port)))
	}
	for _, k := range sortedKeys(have.peers) {
		if _, stays := want.peers[k]; !stays {
			line("public_key", k.hex())
			line("remove", "true")
		}
	}
	// First every peer loses what is not its own any more, then each gets what it
	// lacks: a prefix never has two owners.
	for _, k := range sortedKeys(want.peers) {
		h, there := have.peers[k]
		lost := missing(h.prefixes, want.peers[k].prefixes)
		if there && len(lost) > 0 {
			line("public_key", k.hex())
			for _, q := range lost {
				line("allowed_ip", "-"+q.String())
			}
		}
	}
	for _, k := range sortedKeys(want.peers) {
		h, there := have.peers[k]
		w := want.peers[k]
		var c strings.Builder
		set := func(key, value string) { c.WriteString(key + "=" + value + "\n") }
		if h.preshared != w.preshared {
			set("preshared_key", w.preshared.hex())
		}
		if w.endpoint.IsValid() && (!there || told[k] != w.endpoint) {
			set("endpoint", w.endpoint.String())
		}
		if h.keepalive != w.keepalive {
			set("persistent_keepalive_interval", strconv.Itoa(int(w.keepalive)))
		}
		for _, q := range missing(w.prefixes, h.prefixes) {
			set("allowed_ip", q.String())
		}
		if !there || c.Len() > 0 {
			line("public_key", k.hex())
			b.WriteString(c.String())
		}
	}
	return b.String()
}

func sortedKeys(m map[Key]wgPeer) []Key {
	out := make([]Key, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b Key) int { return slices.Compare(a[:], b[:]) })
	return out
}

// missing gives what is in a and not in b, sorted.
func missing(a, b map[netip.Prefix]bool) []netip.Prefix {
	var out []netip.Prefix
	for q := range a {
		if !b[q] {
			out = append(out, q)
		}
	}
	slices.SortFunc(out, comparePrefix)
	return out
}

// everything is what a peer that speaks BGP may send and be sent: which of it is
// good, BGP's policy says, and there is no other peer to be taken for.
var everything = []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}

// wanted is the device that a tunnel asks for.
func (t Tunnel) wanted() wgDevice {
	// The device keeps the key clamped, and would take any other for a new one.
	private := t.PrivateKey
	private.key[0] &= 248
	private.key[31] = private.key[31]&127 | 64
	d := wgDevice{private: private, port: t.ListenPort, peers: map[Key]wgPeer{}}
	for _, p := range t.Peers {
		w := wgPeer{preshared: p.PresharedKey, endpoint: p.Endpoint, keepalive: p.Keepalive, prefixes: map[netip.Prefix]bool{}}
		for _, q := range p.Prefixes {
			w.prefixes[q] = true
		}
		if p.FromBGP {
			for _, q := range everything {
				w.prefixes[q] = true
			}
		}
		d.peers[p.PublicKey] = w
	}
	return d
}
