package server_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/api/server"
	"github.com/hnvgate/hnvgate/api/server/servertest"
	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

// Keys of the test: this end's, the peer's public one, a pre-shared one.
var (
	ownPrivate, ownPublic = servertest.Key(200)
	_, peerPublic         = servertest.Key(201)
	psk, _                = servertest.Key(202)
)

const bgpPassword = "correct horse battery"

func connection(tenant, name, rest string) string {
	return `{"tenant":"` + tenant + `","name":"` + name + `","addresses":["169.254.10.1/30"],` + rest +
		`"peers":[{"name":"edge","publicKey":"` + peerPublic.String() + `","endpoint":"198.51.100.7:51820","prefixes":["169.254.10.2/32","172.16.0.0/16"]}]}`
}

func bgpPeer(tenant, name, rest string) string {
	return `{"tenant":"` + tenant + `","name":"` + name + `",` + rest + `"address":"169.254.10.2","asn":65001}`
}

// sites gives both tenants a connection with all secrets, BGP and contoso an
// attachment: everywhere the same addresses and names.
func (g *gateway) sites() {
	g.twoTenants()
	for _, tenant := range []string{"contoso", "fabrikam"} {
		c := connection(tenant, "hq", `"privateKey":"`+ownPrivate+`",`)
		c = strings.Replace(c, `"endpoint"`, `"presharedKey":"`+psk+`","endpoint"`, 1)
		g.must("POST", "/v1/s2s-connections", c, 201)
		g.must("POST", "/v1/bgp-routers", `{"tenant":"`+tenant+`","asn":64512,"networks":[{"prefix":"10.77.0.0/16","med":5,"communities":["64512:7"]}]}`, 201)
		g.must("POST", "/v1/bgp-peers", bgpPeer(tenant, "edge", `"password":"`+bgpPassword+`","bfd":{},"maxPrefixes":{"ipv4":1000},`+
			`"import":{"rules":[{"name":"theirs","match":{"prefixes":["172.16.0.0/12 le 24"],"asPath":["^65001_"]},"set":{"localPref":200,"communities":{"mode":"add","list":["64512:1"]}}}],"default":"reject"},`), 201)
	}
	g.must("POST", "/v1/attachments", `{"tenant":"contoso","name":"dc","uplink":"internet","addresses":["203.0.113.50/32"],"routes":[{"prefix":"192.0.2.0/24"}]}`, 201)
}

// lostKey opens nothing that was sealed before it was lost.
type lostKey struct {
	*servertest.Secrets
	lost map[hnv.Secret]bool
}

func (l lostKey) Open(at hnv.SecretPlace, s hnv.Secret) (string, error) {
	if l.lost[s] {
		return "", errors.New("not sealed under this key")
	}
	return l.Secrets.Open(at, s)
}

// Where the machine's key is lost, writing the same secrets again brings all back.
func TestSameSecretsAfterALoss(t *testing.T) {
	store := servertest.NewStore(site)
	keys := lostKey{new(servertest.Secrets), map[hnv.Secret]bool{}}
	g := &gateway{t, store, server.New(store, &servertest.Backend{Store: store}, keys, slog.New(slog.DiscardHandler)).Handler()}
	g.sites()
	contoso, err := hnv.ParseName("contoso")
	if err != nil {
		t.Fatal(err)
	}
	conn := func() (c hnv.S2SConnection) {
		store.View(func(f *hnv.Fabric) { c = f.Connections(contoso)[0] })
		return c
	}
	was := conn()
	full := connection("contoso", "hq", `"privateKey":"`+ownPrivate+`",`)
	full = strings.Replace(full, `"endpoint"`, `"presharedKey":"`+psk+`","endpoint"`, 1)
	g.must("PUT", "/v1/s2s-connections/contoso/hq", full, 200)
	if now := conn(); now.PrivateKey != was.PrivateKey || now.Peers[0].PresharedKey != was.Peers[0].PresharedKey {
		t.Error("the same again was sealed anew")
	}
	keys.lost[was.PrivateKey], keys.lost[was.Peers[0].PresharedKey] = true, true
	g.must("POST", "/v1/s2s-connections/contoso/hq/export-key", `{}`, 503)
	// A change that would have no effect is refused, one that changes nothing is not, and
	// secrets may be brought one by one.
	kept := connection("contoso", "hq", "")
	g.must("PUT", "/v1/s2s-connections/contoso/hq", kept, 200)
	if body := g.must("PUT", "/v1/s2s-connections/contoso/hq", connection("contoso", "hq", `"dscp":46,`), 409); !strings.Contains(fmt.Sprint(body), "the private key that is kept cannot be opened") {
		t.Errorf("%v", body)
	}
	g.must("PUT", "/v1/s2s-connections/contoso/hq", connection("contoso", "hq", `"dscp":46,"privateKey":"`+ownPrivate+`",`), 200)
	g.must("PUT", "/v1/s2s-connections/contoso/hq", connection("contoso", "hq", `"dscp":0,`), 409)
	g.must("PUT", "/v1/s2s-connections/contoso/hq", full, 200)
	if key := decode[v1.S2SKey](t, g.must("POST", "/v1/s2s-connections/contoso/hq/export-key", `{}`, 200)); key.PrivateKey != ownPrivate {
		t.Error("the key that was given out is another")
	}
	if key := decode[v1.S2SKey](t, g.must("POST", "/v1/s2s-connections/contoso/hq/export-key", `{"peer":"edge"}`, 200)); key.PresharedKey != psk {
		t.Error("the pre-shared key that was given out is another")
	}
}

// What was sealed for no place is sealed for its own when the object is written.
func TestSealedAnew(t *testing.T) {
	store := servertest.NewStore(site)
	g := &gateway{t, store, server.New(store, &servertest.Backend{Store: store}, new(servertest.Secrets), slog.New(slog.DiscardHandler)).Handler()}
	g.sites()
	var c hnv.S2SConnection
	store.View(func(f *hnv.Fabric) { c = f.List(hnv.KindS2SConnection)[0].(hnv.S2SConnection) })
	old, _, _ := strings.Cut(string(c.PrivateKey[len("sealed1:"):]), ":")
	c.PrivateKey = hnv.Secret("sealed1:" + old)
	if _, err := store.UpdateFunc(t.Context(), func(*hnv.Fabric) ([]hnv.Change, error) { return []hnv.Change{{Put: c}}, nil }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		g.must("PUT", "/v1/s2s-connections/contoso/hq", connection("contoso", "hq", ""), 200)
	}
	store.View(func(f *hnv.Fabric) { c = f.List(hnv.KindS2SConnection)[0].(hnv.S2SConnection) })
	if !strings.HasSuffix(string(c.PrivateKey), string(c.PrivateKeyPlace())) || !strings.Contains(string(c.PrivateKey), old) {
		t.Errorf("it is kept as %q", []byte(c.PrivateKey))
	}
}

// A secret goes in and nothing brings it out again but the one operation for it.
func TestSecretsStayInside(t *testing.T) {
	var log bytes.Buffer
	store := servertest.NewStore(site)
	s := server.New(store, &servertest.Backend{Store: store}, new(servertest.Secrets), slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	g := &gateway{t, store, s.Handler()}
	g.sites()
	conn := connection("contoso", "hq", `"privateKey":"`+ownPrivate+`",`)
	var said bytes.Buffer
	for _, r := range []struct{ method, path, body string }{
		{"GET", "/v1/s2s-connections", ""},
		{"GET", "/v1/s2s-connections/contoso/hq", ""},
		{"GET", "/v1/s2s-connections/contoso/hq/status", ""},
		{"GET", "/v1/s2s-connections/contoso/hq/peers/edge/config", ""},
		{"GET", "/v1/s2s-connections/contoso/hq/peers/edge/config?bgp=frr", ""},
		{"GET", "/v1/s2s-connections/contoso/hq/peers/edge/config?bgp=vyos", ""},
		{"GET", "/v1/tenants/contoso/s2s", ""},
		{"GET", "/v1/tenants/contoso/bgp", ""},
		{"GET", "/v1/tenants/contoso/status", ""},
		{"GET", "/v1/bgp-peers", ""},
		{"GET", "/v1/bgp-peers/contoso/edge", ""},
		{"GET", "/v1/export", ""},
		{"GET", "/v1/status", ""},
		{"PUT", "/v1/s2s-connections/contoso/hq", conn},
		{"PUT", "/v1/s2s-connections/contoso/other", conn},
		{"POST", "/v1/s2s-connections", conn},
		{"POST", "/v1/s2s-connections", strings.Replace(conn, `"hq"`, `"x y"`, 1)},
		{"POST", "/v1/s2s-connections", strings.Replace(conn, `"privateKey":`, `"privateKy":`, 1)},
		{"POST", "/v1/s2s-connections", strings.Replace(conn, `"privateKey":"`, `"publicKey":"x`, 1)},
		{"POST", "/v1/s2s-connections", strings.Replace(conn, `"privateKey":"`, `"privateKey":5,"name":"`, 1)},
		{"POST", "/v1/s2s-connections", strings.Replace(conn, `,`, `,,`, 1)},
		{"PUT", "/v1/bgp-peers/contoso/edge", bgpPeer("contoso", "edge", `"password":"`+bgpPassword+`","colour":1,`)},
		{"PUT", "/v1/bgp-peers/contoso/edge", bgpPeer("contoso", "edge", `"password":"`+bgpPassword+`","holdSeconds":1,`)},
		{"POST", "/v1/apply?diff=true&dryRun=true", `{"s2sConnections":[` + strings.Replace(conn, "172.16", "172.17", 1) + `],"bgpPeers":[` + bgpPeer("contoso", "edge", `"password":"`+bgpPassword+`","passive":true,`) + `]}`},
		{"POST", "/v1/apply", `{"s2sConnections":[` + strings.Replace(conn, "172.16.0.0", "10.1.1.0", 1) + `],"bgpPeers":[` + bgpPeer("nobody", "edge", `"password":"`+bgpPassword+`",`) + `]}`},
	} {
		said.WriteString(r.method + " " + r.path + "\n")
		said.Write(g.call(r.method, r.path, r.body).body)
	}
	said.Write(log.Bytes())
	stored, err := json.Marshal(store.Objects())
	if err != nil {
		t.Fatal(err)
	}
	said.Write(stored)
	for what, secret := range map[string]string{"private key": ownPrivate, "pre-shared key": psk, "password": bgpPassword} {
		if i := strings.Index(said.String(), secret); i >= 0 {
			t.Errorf("the %s is in %s", what, said.String()[max(0, i-500):i])
		}
	}
	if strings.Contains(log.String(), "a key was given out") {
		t.Error("the log tells of a key that nobody asked for")
	}
	key := decode[v1.S2SKey](t, g.must("POST", "/v1/s2s-connections/contoso/hq/export-key", `{}`, 200))
	shared := decode[v1.S2SKey](t, g.must("POST", "/v1/s2s-connections/contoso/hq/export-key", `{"peer":"edge"}`, 200))
	if key.PrivateKey != ownPrivate || key.PublicKey != ownPublic.String() || key.PresharedKey != "" || shared.PresharedKey != psk || shared.PrivateKey != "" {
		t.Error("the keys that were given out are others")
	}
	if n := strings.Count(log.String(), "a key was given out"); n != 2 || strings.Contains(log.String(), ownPrivate) || strings.Contains(log.String(), psk) {
		t.Errorf("the log tells %d times of it, or of the key itself", n)
	}
	for path, want := range map[string]string{
		"/v1/s2s-connections/contoso/nine/export-key": "connection contoso/nine does not exist",
		"/v1/s2s-connections/contoso/hq/export-key":   "has no peer edge2",
	} {
		if r := g.call("POST", path, `{"peer":"edge2"}`); r.code != 404 || !strings.Contains(r.Detail, want) {
			t.Errorf("%s: %s", path, r.body)
		}
	}
}

// What a replacement does not say of secrets stays; what it says is taken; and
// only a change changes something.
func TestSecretsAreKept(t *testing.T) {
	g := newGateway(t)
	g.sites()
	const path = "/v1/s2s-connections/contoso/hq"
	tag := func(path string) string { return g.must("GET", path, "", 200).header.Get("ETag") }
	revision, before := g.store.Revision(), tag(path)
	same := func(what string) {
		t.Helper()
		if tag(path) != before || g.store.Revision() != revision {
			t.Errorf("%s changed something", what)
		}
	}
	shown := string(g.must("GET", path, "", 200).body)
	g.must("PUT", path, shown, 200)
	same("writing what was read")
	c := decode[v1.S2SConnection](t, g.must("PUT", path, connection("contoso", "hq", ""), 200))
	same("a PUT without secrets")
	if c.PublicKey != ownPublic.String() || !c.Peers[0].HasPresharedKey || c.ListenPort != 51820 {
		t.Errorf("%+v", c)
	}
	g.must("PUT", path, strings.Replace(connection("contoso", "hq", `"privateKey":"`+ownPrivate+`",`), `"endpoint"`, `"presharedKey":"`+psk+`","endpoint"`, 1), 200)
	same("a PUT with the same secrets")

	fabrikam := tag("/v1/s2s-connections/fabrikam/hq")
	other, _ := servertest.Key(77)
	g.must("PUT", path, strings.Replace(connection("contoso", "hq", ""), `"endpoint"`, `"presharedKey":"`+other+`","endpoint"`, 1), 200)
	if tag(path) == before {
		t.Error("another pre-shared key has the same ETag")
	}
	if k := decode[v1.S2SKey](t, g.must("POST", path+"/export-key", `{"peer":"edge"}`, 200)); k.PresharedKey != other {
		t.Error("the pre-shared key was not replaced")
	}
	c = decode[v1.S2SConnection](t, g.must("PUT", path, strings.Replace(connection("contoso", "hq", ""), `"endpoint"`, `"presharedKey":"","endpoint"`, 1), 200))
	if c.Peers[0].HasPresharedKey || c.PublicKey != ownPublic.String() {
		t.Errorf("an empty pre-shared key left %+v", c)
	}
	c = decode[v1.S2SConnection](t, g.must("PUT", path, connection("contoso", "hq", `"privateKey":"`+other+`",`), 200))
	if _, public := servertest.Key(77); c.PublicKey != public.String() {
		t.Errorf("another private key left public key %s", c.PublicKey)
	}
	// A key is drawn where none is, for each connection its own.
	a := decode[v1.S2SConnection](t, g.must("POST", "/v1/s2s-connections", strings.Replace(connection("contoso", "b", ""), `"169.254.10.1/30"`, "", 1), 201))
	b := decode[v1.S2SConnection](t, g.must("POST", "/v1/s2s-connections", strings.Replace(connection("contoso", "c", ""), `"169.254.10.1/30"`, "", 1), 201))
	if a.PublicKey == "" || a.PublicKey == b.PublicKey || a.ListenPort == b.ListenPort {
		t.Errorf("%+v, %+v", a, b)
	}

	const peer = "/v1/bgp-peers/contoso/edge"
	before, revision = tag(peer), g.store.Revision()
	g.must("PUT", peer, string(g.must("GET", peer, "", 200).body), 200)
	if tag(peer) != before || g.store.Revision() != revision {
		t.Error("writing a BGP peer as it was read changed something")
	}
	g.must("PUT", peer, bgpPeer("contoso", "edge", `"password":"another",`), 200)
	if tag(peer) == before {
		t.Error("another password has the same ETag")
	}
	if p := decode[v1.BGPPeer](t, g.must("PUT", peer, bgpPeer("contoso", "edge", ""), 200)); !p.HasPassword {
		t.Error("a PUT without a password took it away")
	}
	if p := decode[v1.BGPPeer](t, g.must("PUT", peer, bgpPeer("contoso", "edge", `"password":"",`), 200)); p.HasPassword {
		t.Error("an empty password left the old one")
	}
	if tag("/v1/s2s-connections/fabrikam/hq") != fabrikam {
		t.Error("fabrikam's connection of the same name changed")
	}
}

func TestExportOfSites(t *testing.T) {
	g := newGateway(t)
	g.sites()
	before := g.store.Objects()
	exported := g.must("GET", "/v1/export", "", 200)
	r := decode[v1.ApplyResult](t, g.must("POST", "/v1/apply", string(exported.body), 200))
	for _, o := range r.Objects {
		if o.Action != v1.ActionUnchanged {
			t.Errorf("%+v", o)
		}
	}
	if !g.store.Same(before) {
		t.Error("applying what was exported changed something")
	}
	// Elsewhere the keys are missing, and it is said which.
	other := newGateway(t)
	refused := other.call("POST", "/v1/apply", string(exported.body))
	for _, want := range []string{
		"body.s2sConnections[0].publicKey", "the private key of public key " + ownPublic.String() + " is not known here: give privateKey",
		"body.s2sConnections[0].peers[0].presharedKey", "hasPresharedKey says that there is a pre-shared key",
		"body.bgpPeers[1].password", "hasPassword says that there is a password",
	} {
		if !strings.Contains(string(refused.body), want) {
			t.Errorf("%d, without %q: %s", refused.code, want, refused.body)
		}
	}
	if len(refused.Errors) != 6 || len(other.store.Objects()) != 0 {
		t.Errorf("%d errors, %d objects", len(refused.Errors), len(other.store.Objects()))
	}
	// With them it becomes the same.
	d := decode[v1.Document](t, exported)
	password := bgpPassword
	for i := range d.S2SConnections {
		d.S2SConnections[i].PrivateKey, d.S2SConnections[i].Peers[0].PresharedKey = ownPrivate, &psk
		d.BGPPeers[i].Password = &password
	}
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	other.must("POST", "/v1/apply", string(b), 200)
	if again := other.must("GET", "/v1/export", "", 200); !bytes.Equal(again.body, exported.body) {
		t.Errorf("%s\n%s", again.body, exported.body)
	}
	r2 := decode[v1.DeleteResult](t, g.must("DELETE", "/v1/tenants/contoso?cascade=true", "", 200))
	deleted := map[string]int{}
	for _, k := range r2.Deleted {
		deleted[k.Kind] = k.Count
	}
	for _, k := range []hnv.Kind{hnv.KindAttachment, hnv.KindS2SConnection, hnv.KindBGPRouter, hnv.KindBGPPeer} {
		if deleted[string(k)] != 1 {
			t.Errorf("%d objects of kind %s were deleted", deleted[string(k)], k)
		}
	}
	g.must("GET", "/v1/s2s-connections/fabrikam/hq", "", 200)
}

// Without a key for secrets, what has none still works.
func TestNoKeyForSecrets(t *testing.T) {
	store := servertest.NewStore(site)
	g := &gateway{t, store, server.New(store, &servertest.Backend{Store: store}, nil, slog.New(slog.DiscardHandler)).Handler()}
	g.twoTenants()
	if r := g.call("POST", "/v1/s2s-connections", connection("contoso", "hq", "")); r.code != 503 || !strings.Contains(r.Detail, "no key to keep secrets") {
		t.Errorf("%d %s", r.code, r.body)
	}
	g.must("POST", "/v1/bgp-routers", `{"tenant":"contoso","asn":64512}`, 201)
	g.must("POST", "/v1/bgp-peers", bgpPeer("contoso", "edge", ""), 201)
}

// Bad input is refused with its field and what to do, and changes nothing.
func TestSiteRefusals(t *testing.T) {
	g := newGateway(t)
	g.sites()
	before, revision := g.store.Objects(), g.store.Revision()
	conn := connection("contoso", "b", "")
	peer2 := func(key, prefixes string) string {
		return strings.Replace(conn, `}]}`, `},{"name":"two","publicKey":"`+key+`","prefixes":[`+prefixes+`]}]}`, 1)
	}
	_, third := servertest.Key(203)
	policy := func(rule string) string {
		return bgpPeer("contoso", "b", `"import":{"rules":[`+rule+`]},`)
	}
	for name, tc := range map[string]struct {
		path, body string
		code       int
		at, says   string
	}{
		"own key as peer key":       {"s2s-connections", strings.Replace(connection("contoso", "b", `"privateKey":"`+ownPrivate+`",`), peerPublic.String(), ownPublic.String(), 1), 422, "body", "peer edge: public key " + ownPublic.String() + " is this end's own: give the other end's"},
		"key of wrong length":       {"s2s-connections", strings.Replace(conn, peerPublic.String(), "AAAA", 1), 422, "body.peers[0].publicKey", "peer edge: a WireGuard key is 32 bytes, written as 44 characters of base64"},
		"key with a blank":          {"s2s-connections", strings.Replace(conn, peerPublic.String(), peerPublic.String()+" ", 1), 422, "body.peers[0].publicKey", "what was given has 45 characters"},
		"no key":                    {"s2s-connections", strings.Replace(conn, peerPublic.String(), "", 1), 422, "body.peers[0].publicKey", "the public key is missing: give the other end's"},
		"private key of no length":  {"s2s-connections", connection("contoso", "b", `"privateKey":"abc",`), 422, "body.privateKey", "the private key is not one of WireGuard: it is 32 bytes"},
		"public key of another":     {"s2s-connections", connection("contoso", "b", `"privateKey":"`+ownPrivate+`","publicKey":"`+third.String()+`",`), 422, "body.publicKey", "is not that of the private key"},
		"public key alone":          {"s2s-connections", connection("contoso", "b", `"publicKey":"`+third.String()+`",`), 422, "body.publicKey", "give privateKey"},
		"pre-shared key":            {"s2s-connections", strings.Replace(conn, `"endpoint"`, `"presharedKey":"abc","endpoint"`, 1), 422, "body.peers[0].presharedKey", "as «wg genpsk» prints it"},
		"pre-shared key not there":  {"s2s-connections", strings.Replace(conn, `"endpoint"`, `"hasPresharedKey":true,"endpoint"`, 1), 422, "body.peers[0].presharedKey", "give presharedKey"},
		"two peers, one prefix":     {"s2s-connections", peer2(third.String(), `"172.16.0.0/16"`), 422, "body", "peer two: prefix 172.16.0.0/16 is claimed by peer edge too"},
		"two peers, one key":        {"s2s-connections", peer2(peerPublic.String(), `"172.18.0.0/16"`), 422, "body", "is that of peer edge"},
		"own endpoint":              {"s2s-connections", strings.Replace(conn, "198.51.100.7", "203.0.113.10", 1), 409, "body", "endpoint 203.0.113.10:51820 is the tenant's own"},
		"listen port of another":    {"s2s-connections", connection("contoso", "b", `"listenPort":51820,`), 409, "body", "UDP port 51820 at 203.0.113.10 is that of connection contoso/hq already: choose another, or leave it out"},
		"address of others":         {"s2s-connections", connection("contoso", "b", `"localAddress":"203.0.113.11",`), 409, "body", "local address 203.0.113.11"},
		"prefix of the tenant":      {"s2s-connections", strings.Replace(conn, "172.16.0.0/16", "10.1.1.0/24", 1), 409, "body", "map the site's prefix to another with remoteMaps"},
		"endpoint without port":     {"s2s-connections", strings.Replace(conn, "198.51.100.7:51820", "198.51.100.7", 1), 422, "body.peers[0].endpoint", `peer edge: other end "198.51.100.7" is malformed`},
		"prefix without length":     {"s2s-connections", strings.Replace(conn, "172.16.0.0/16", "172.16.0.0", 1), 422, "body.peers[0].prefixes[1]", "has no prefix length"},
		"map":                       {"s2s-connections", connection("contoso", "b", `"remoteMaps":[{"real":"x","mapped":"10.0.0.0/8"}],`), 422, "body.remoteMaps[0].real", "write it as ADDRESS/LENGTH"},
		"dscp":                      {"s2s-connections", connection("contoso", "b", `"dscp":64,`), 422, "body.dscp", "use 0 to 63"},
		"protocol":                  {"s2s-connections", connection("contoso", "b", `"protocol":"ipsec",`), 422, "body", `protocol "ipsec" is unknown: use wireguard`},
		"connection of nobody":      {"s2s-connections", connection("nobody", "b", ""), 404, "body", "tenant nobody does not exist"},
		"AS 0":                      {"bgp-peers", strings.Replace(bgpPeer("contoso", "b", ""), "65001", "0", 1), 422, "body", "0 is no AS number"},
		"AS 23456":                  {"bgp-peers", strings.Replace(bgpPeer("contoso", "b", ""), "65001", "23456", 1), 422, "body", "23456 stands for numbers of four octets"},
		"router of AS 0":            {"PUT bgp-routers/fabrikam", `{"tenant":"fabrikam","asn":0}`, 422, "body", "0 is no AS number"},
		"router of AS 23456":        {"PUT bgp-routers/fabrikam", `{"tenant":"fabrikam","asn":23456}`, 422, "body", "23456 stands for numbers of four octets"},
		"own address":               {"bgp-peers", strings.Replace(bgpPeer("contoso", "b", ""), "169.254.10.2", "169.254.10.1", 1), 409, "body", "169.254.10.1 is the compartment's own address"},
		"address of another peer":   {"bgp-peers", bgpPeer("contoso", "x", ""), 409, "body", "169.254.10.2 is peer edge already"},
		"no address":                {"bgp-peers", strings.Replace(bgpPeer("contoso", "b", ""), "169.254.10.2", "", 1), 422, "body.address", "the address is missing"},
		"address and prefix":        {"bgp-peers", bgpPeer("contoso", "b", `"prefix":"172.20.0.0/24",`), 422, "body.prefix", "both address and prefix"},
		"hold time":                 {"bgp-peers", bgpPeer("contoso", "b", `"holdSeconds":2,`), 422, "body", "hold"},
		"keepalive":                 {"bgp-peers", bgpPeer("contoso", "b", `"keepaliveSeconds":90,`), 422, "body", "not below the hold time"},
		"family":                    {"bgp-peers", bgpPeer("contoso", "b", `"families":["l2vpn"],`), 422, "body.families[0]", "use ipv4 or ipv6"},
		"octet":                     {"bgp-peers", bgpPeer("contoso", "b", `"ttlSecurity":256,`), 422, "body.ttlSecurity", "use 0 to 255"},
		"long password":             {"bgp-peers", bgpPeer("contoso", "b", `"password":"`+strings.Repeat("x", 81)+`",`), 422, "body.password", "has 81 bytes: TCP MD5 takes at most 80"},
		"password not there":        {"bgp-peers", bgpPeer("contoso", "b", `"hasPassword":true,`), 422, "body.password", "give password"},
		"peer of nobody":            {"bgp-peers", bgpPeer("nobody", "b", ""), 404, "body", "tenant nobody"},
		"prefixes of no length":     {"bgp-peers", policy(`{"name":"x","match":{"prefixes":["10.0.0.0/8 ge 7"]}}`), 422, "body.import.rules[0].match.prefixes[0]", `import rule "x": prefix range "10.0.0.0/8 ge 7" matches nothing`},
		"prefixes of ge over le":    {"bgp-peers", policy(`{"match":{"prefixes":["10.0.0.0/8 ge 24 le 16"]}}`), 422, "body.import.rules[0].match.prefixes[0]", "matches nothing: ge 24 is more than le 16"},
		"prefixes with host bits":   {"bgp-peers", policy(`{"match":{"prefixes":["10.0.0.1/8"]}}`), 422, "body", "host bits"},
		"prefixes malformed":        {"bgp-peers", policy(`{"match":{"prefixes":["10.0.0.0/8 lt 24"]}}`), 422, "body.import.rules[0].match.prefixes[0]", "write 10.0.0.0/8"},
		"community":                 {"bgp-peers", policy(`{"match":{"communities":["65536:1"]}}`), 422, "body.import.rules[0].match.communities[0]", "as in 65001:100"},
		"pattern":                   {"bgp-peers", policy(`{"match":{"asPath":["^AS65001"]}}`), 422, "body", "neither of an AS path nor of a pattern"},
		"next hop self on import":   {"bgp-peers", policy(`{"set":{"nextHopSelf":true}}`), 422, "body", "is for export"},
		"action":                    {"bgp-peers", policy(`{"action":"permit"}`), 422, "body", `"permit" is not "accept"`},
		"attachment without uplink": {"attachments", `{"tenant":"contoso","name":"x","addresses":["172.20.0.2/24"]}`, 422, "body.uplink", "the uplink is missing"},
		"attachment of no uplink":   {"attachments", `{"tenant":"contoso","name":"x","uplink":"moon","addresses":["172.20.0.2/24"]}`, 404, "body", `uplink "moon" is not one of this gateway's: it has internet`},
		"attachment with a prefix":  {"attachments", `{"tenant":"contoso","name":"x","uplink":"internet","addresses":["172.20.0.2/24"]}`, 409, "body", "write 172.20.0.2/24 as a single address, 172.20.0.2/32"},
		"attachment without":        {"attachments", `{"tenant":"contoso","name":"x","uplink":"internet","addresses":[]}`, 422, "body.addresses", "the address is missing"},
		"VLAN on a routed uplink":   {"attachments", `{"tenant":"contoso","name":"x","uplink":"internet","vlan":7,"addresses":["203.0.113.60/32"]}`, 409, "body", "which has no VLANs"},
		"next hop on routed":        {"attachments", `{"tenant":"contoso","name":"x","uplink":"internet","addresses":["203.0.113.60/32"],"routes":[{"prefix":"192.0.2.0/24","nextHop":"203.0.113.1"}]}`, 422, "body", "next hop 203.0.113.1"},
		"reverse path":              {"attachments", `{"tenant":"contoso","name":"x","uplink":"internet","addresses":["203.0.113.60/32"],"reversePath":"maybe"}`, 422, "body", "use strict, loose or off"},
	} {
		method, path, ok := strings.Cut(tc.path, " ")
		if !ok {
			method, path = "POST", tc.path
		}
		r := g.call(method, "/v1/"+path, tc.body)
		if r.code != tc.code || !strings.Contains(r.Detail+r.said(), tc.says) {
			t.Errorf("%s: %d %s\nwant %d with %q", name, r.code, r.body, tc.code, tc.says)
			continue
		}
		if len(r.Errors) == 0 || r.Errors[0].Location != tc.at {
			t.Errorf("%s: it is at %+v, want %s", name, r.Errors, tc.at)
		}
		if !g.store.Same(before) || g.store.Revision() != revision {
			t.Fatalf("%s: the state changed", name)
		}
	}
	for path, says := range map[string]string{
		"/v1/attachments/contoso/zz":                                      "attachment contoso/zz does not exist",
		"/v1/attachments?tenant=nobody":                                   "tenant nobody",
		"/v1/s2s-connections/contoso/zz":                                  "site-to-site connection contoso/zz does not exist",
		"/v1/s2s-connections/contoso/zz/status":                           "site-to-site connection contoso/zz does not exist",
		"/v1/s2s-connections/contoso/hq/peers/zz/config":                  "has no peer zz",
		"/v1/bgp-routers/litware":                                         "BGP router litware does not exist",
		"/v1/bgp-peers/contoso/zz":                                        "BGP peer contoso/zz does not exist",
		"/v1/tenants/nobody/bgp":                                          "tenant nobody",
		"/v1/tenants/contoso/bgp/routes?table=received":                   "name it with peer",
		"/v1/tenants/contoso/bgp/routes?peer=edge":                        "leave peer out",
		"/v1/tenants/contoso/bgp/routes?within=10":                        `"10" is not a prefix`,
		"/v1/tenants/contoso/bgp/routes?limit=0":                          "limit",
		"/v1/tenants/contoso/path?dst=x":                                  `destination "x" is not an IP address`,
		"/v1/tenants/contoso/path?dst=10.0.0.1&src=fd00::1":               "not of one address family",
		"/v1/tenants/contoso/path":                                        "dst",
		"/v1/s2s-connections/contoso/hq/peers/edge/config?bgp=junos":      "bgp",
		"/v1/tenants/contoso/bgp/routes?table=best&peer=edge&color=green": "color",
	} {
		if r := g.call("GET", path, ""); r.code < 400 || r.code > 422 || !strings.Contains(r.Detail+r.said(), says) {
			t.Errorf("%s: %d %s", path, r.code, r.body)
		}
	}
}

// What only follows from another refusal is not said.
func TestSiteRefusalsThatFollow(t *testing.T) {
	g := newGateway(t)
	g.twoTenants()
	doc := `{"bgpRouters":[{"tenant":"contoso","asn":23456}],"bgpPeers":[` + bgpPeer("contoso", "edge", "") + `],"s2sConnections":[` + connection("contoso", "hq", "") + `]}`
	r := g.call("POST", "/v1/apply", doc)
	if r.code != 422 || len(r.Errors) != 1 || r.Errors[0].Location != "body.bgpRouters[0]" {
		t.Errorf("%d %s", r.code, r.body)
	}
}

// Of connections that are written at once, each gets a listen port of its own, and
// keeps it.
func TestListenPortsOfManyAtOnce(t *testing.T) {
	g := newGateway(t)
	g.twoTenants()
	var list []string
	for _, name := range []string{"a", "b", "c"} {
		list = append(list, strings.Replace(connection("contoso", name, ""), `"169.254.10.1/30"`, "", 1))
	}
	doc := `{"apiVersion":"v1","s2sConnections":[` + strings.Join(list, ",") + `]}`
	ports := func() string {
		t.Helper()
		g.must("POST", "/v1/apply", doc, 200)
		var out []string
		for _, c := range decode[v1.S2SConnectionList](t, g.must("GET", "/v1/s2s-connections", "", 200)).Items {
			out = append(out, fmt.Sprint(c.Name, c.ListenPort))
		}
		return strings.Join(out, " ")
	}
	first := ports()
	if first != "a51820 b51821 c51822" {
		t.Errorf("ports: %s", first)
	}
	if again := ports(); again != first {
		t.Errorf("written again: %s, and first %s", again, first)
	}
}
