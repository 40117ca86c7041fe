//go:build privileged && linux

package scenario

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/crypto/blake2s"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/test/lab"
)

// connectionOf is a connection as the gateway shows it.
func connectionOf(t *testing.T, tenant, name string) v1.S2SConnection {
	t.Helper()
	doc, err := world.Export(later(t), "gw")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range doc.S2SConnections {
		if c.Tenant == tenant && c.Name == name {
			return c
		}
	}
	t.Fatalf("no connection %s of %s", name, tenant)
	return v1.S2SConnection{}
}

// sitesSecrets asks for keys wherever they must not be: in what is configured, in the
// gateway's store and logs.
func sitesSecrets(t *testing.T) {
	const psk = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U="
	doc, err := world.SitesDocument("cbr")
	if err != nil {
		t.Fatal(err)
	}
	only := func(psk string) {
		t.Helper()
		change := v1.Document{APIVersion: v1.APIVersion, S2SConnections: doc.S2SConnections}
		change.S2SConnections[0].Peers[0].PresharedKey = &psk
		if err := world.Apply(later(t), "gw", "psk.yaml", change); err != nil {
			t.Fatal(err)
		}
		c := connectionOf(t, "contoso", "br-1")
		at, err := world.Listens(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := world.ConnectSite(later(t), "cbr", 0, c.PublicKey, at, psk); err != nil {
			t.Fatal(err)
		}
	}
	only(psk)
	t.Cleanup(func() { only(""); reachesSite(t, siteOf(t, "cbr")) })
	reachesSite(t, siteOf(t, "cbr"))

	c := api(t)
	key, err := c.ExportS2SKey(t.Context(), "contoso", "br-1", "")
	if err != nil {
		t.Fatal(err)
	}
	if len(key.PrivateKey) != 44 {
		t.Fatalf("the exported key has %d characters", len(key.PrivateKey))
	}
	secrets := map[string]string{"private key": key.PrivateKey, "pre-shared key": psk}
	clean := func(where string, text []byte) {
		for what, s := range secrets {
			raw, err := base64.StdEncoding.DecodeString(s)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(text, []byte(s)) || bytes.Contains(text, raw) || bytes.Contains(text, []byte(hex.EncodeToString(raw))) {
				t.Errorf("%s has the %s", where, what)
			}
		}
	}
	tunnels, err := c.S2SStatuses(t.Context(), "contoso")
	if err != nil {
		t.Fatal(err)
	}
	config, err := c.S2SPeerConfig(t.Context(), "contoso", "br-1", "cbr", "bird")
	if err != nil {
		t.Fatal(err)
	}
	clean("the state", []byte(text(tunnels)))
	clean("what the other end needs", []byte(text(config)))
	for _, argv := range [][]string{{"export"}, {"status", "-o", "json"}} {
		clean(strings.Join(argv, " "), []byte(ctl(t, "gw", argv...)))
	}
	clean("gatewayd's log", []byte(world.Daemon("gw").Output()))
	files := 0
	err = filepath.WalkDir(filepath.Join(world.Dir(), "gw"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Base(path) == "psk.yaml" {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		clean(path, b)
		return nil
	})
	if err != nil || files < 3 {
		t.Errorf("%d files of gatewayd were looked at: %v", files, err)
	}
}

// sitesRefused gives the gateway what it must refuse; nothing changes.
func sitesRefused(t *testing.T) {
	before := ctl(t, "gw", "export")
	own := connectionOf(t, "contoso", "hq-1").PublicKey
	other := connectionOf(t, "contoso", "hq-2").PublicKey
	conn := func(more string) string {
		return "s2sConnections:\n- {tenant: contoso, name: bad, addresses: [169.254.77.1/30], " + more + "}\n"
	}
	peer := func(more string) string {
		return conn("peers: [{name: p, publicKey: " + other + ", " + more + "}]")
	}
	bgp := func(more string) string {
		return "bgpPeers:\n- {tenant: contoso, name: bad, " + more + "}\n"
	}
	for _, c := range []struct {
		name, text string
		says       []string
	}{
		{"own key as peer's", strings.Replace(conn("peers: [{name: p, publicKey: OWN, prefixes: [172.16.99.0/24]}]"), "name: bad", "name: hq-1", 1), []string{"own"}},
		{"key of wrong length", conn("peers: [{name: p, publicKey: c2hvcnQ=, prefixes: [172.16.99.0/24]}]"), []string{"32 bytes"}},
		{"one prefix of two peers", conn("peers: [{name: p, publicKey: " + other + ", prefixes: [172.16.99.0/24]}, {name: q, publicKey: " + own + ", prefixes: [172.16.99.0/24]}]"), []string{"172.16.99.0/24", "p"}},
		{"endpoint inside its own tunnel", peer("endpoint: '172.16.99.9:51820', prefixes: [172.16.99.0/24]"), []string{"172.16.99.9"}},
		{"listen port in use", conn(fmt.Sprintf("listenPort: %d, peers: []", connectionOf(t, "contoso", "hq-1").ListenPort)), []string{"hq-1"}},
		{"unknown external address", conn("localAddress: 203.0.113.99, peers: []"), []string{"203.0.113.99"}},
		{"another tenant's external address", conn("localAddress: 203.0.113.20, peers: []"), []string{"203.0.113.20"}},
		{"DSCP out of range", conn("dscp: 64, peers: []"), []string{"64"}},
		{"maps of different lengths", conn("remoteMaps: [{real: 10.0.0.0/8, mapped: 100.64.0.0/16}], peers: []"), []string{"100.64.0.0/16"}},
		{"unknown tenant", strings.Replace(conn("peers: []"), "contoso", "tailspin", 1), []string{"tailspin"}},
		{"AS 0", bgp("address: 169.254.1.9, asn: 0"), []string{"asn"}},
		{"AS 23456", bgp("address: 169.254.1.9, asn: 23456"), []string{"23456"}},
		{"peer address equal to own", bgp("address: 169.254.1.1, asn: 65101"), []string{"169.254.1.1"}},
		{"peer address twice", bgp("address: 169.254.1.2, asn: 65101"), []string{"169.254.1.2", "hq-1"}},
		{"prefix list that matches nothing", bgp("address: 169.254.1.9, asn: 65101, import: {rules: [{match: {prefixes: [10.0.0.0/8 ge 28 le 24]}}]}"), []string{"10.0.0.0/8"}},
		{"malformed AS path pattern", bgp("address: 169.254.1.9, asn: 65101, import: {rules: [{match: {asPath: ['65001(']}}]}"), []string{"65001("}},
		{"attachment to an unknown uplink", "attachments:\n- {tenant: contoso, name: bad, uplink: moon, addresses: [10.41.0.1/24]}\n", []string{"moon"}},
		{"attachment inside the tenant's prefixes", "attachments:\n- {tenant: contoso, name: bad, uplink: servers, addresses: [10.1.1.99/24]}\n", []string{"10.1.1"}},
		{"one bad among good ones", "s2sConnections:\n- {tenant: contoso, name: good, addresses: [169.254.78.1/30]}\n" + bgp("address: 169.254.1.9, asn: 0"), []string{"asn"}},
	} {
		file := filepath.Join(t.TempDir(), "bad.yaml")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(c.text, "OWN", own)), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := world.Ctl(t.Context(), "gw", "apply", "-f", file)
		if err == nil {
			t.Errorf("%s: it was accepted: %s", c.name, out)
			continue
		}
		for _, w := range c.says {
			if !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(w)) {
				t.Errorf("%s: the refusal does not say %q: %v", c.name, w, err)
			}
		}
	}
	if after := ctl(t, "gw", "export"); after != before {
		t.Errorf("something was applied: before\n%s\nafter\n%s", before, after)
	}
}

// initiation makes a handshake initiation from nobody that the receiver of the key
// has to look at: its first MAC is right (WireGuard's paper, 5.4.4).
func initiation(t *testing.T, receiver string) []byte {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(receiver)
	if err != nil {
		t.Fatal(err)
	}
	msg := make([]byte, 148)
	_, _ = rand.Read(msg[:116])
	binary.LittleEndian.PutUint32(msg, 1)
	macKey := blake2s.Sum256(append([]byte("mac1----"), key...))
	h, err := blake2s.New128(macKey[:])
	if err != nil {
		t.Fatal(err)
	}
	h.Write(msg[:116])
	copy(msg[116:], h.Sum(nil))
	return msg
}

// fromInternet is a frame at the gateway's door.
func fromInternet(t *testing.T, src net.IP, sport, dport uint16, dst string, payload []byte) []byte {
	t.Helper()
	g := world.Topology().Gateway
	ip := &layers.IPv4{Version: 4, TTL: 60, Protocol: layers.IPProtocolUDP, SrcIP: src, DstIP: net.ParseIP(dst)}
	udp := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	eth := ethernet(mac(t, lab.MACOf(g.Internet)), mac(t, lab.MACOf(g.External.Addr())), layers.EthernetTypeIPv4)
	return serialize(t, eth, ip, udp, gopacket.Payload(payload))
}

// sitesInitiations floods one tenant's tunnel with beginnings of handshakes, from very
// many sources. What is under way goes on, the kernel remembers nothing of the flood,
// and the peer is where it was.
func sitesInitiations(t *testing.T) {
	c := connectionOf(t, "contoso", "hq-1")
	external := tenant(t, "contoso").External.String()
	streams := both(t, "hq")
	flowing(t, streams)

	var frames [][]byte
	for i := range 20_000 {
		src := net.IPv4(100, 80+byte(i>>16), byte(i>>8), byte(i))
		frames = append(frames, fromInternet(t, src, uint16(1024+i), c.ListenPort, external, initiation(t, c.PublicKey)))
	}
	inject(t, "inet", "gw0", frames...)
	flowing(t, streams)
	entries, err := world.Exec(t.Context(), world.Compartment("contoso"), "conntrack", "-L", "-p", "udp")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(entries, "src=100.8"); n > 0 {
		t.Errorf("the flood has %d entries of conntrack", n)
	}

	s := siteOf(t, "chq")
	if st, err := api(t).S2SStatus(t.Context(), "contoso", "hq-1"); err != nil || st.Peers[0].Endpoint != s.Endpoint(0).String() {
		t.Errorf("the peer is elsewhere now: %v %s", err, text(st))
	}
	intact(t, streams)
}
