package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestPeers(t *testing.T) {
	c, err := Parse([]byte(`
paInterfaces: [pa0]
aclDefault: deny
peers:
  - {name: gw1, server: "https://10.99.0.1:8443", certificate: /tls/c, key: /tls/k, ca: /tls/ca}
  - {name: gw2, server: "https://gw2.example.net:8443/", certificate: /tls/c, key: /tls/k}
  - {name: gw3, socket: /run/gw3.sock}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Peer{
		{Name: "gw1", Server: "https://10.99.0.1:8443", Certificate: "/tls/c", Key: "/tls/k", CA: "/tls/ca"},
		{Name: "gw2", Server: "https://gw2.example.net:8443/", Certificate: "/tls/c", Key: "/tls/k"},
		{Name: "gw3", Socket: "/run/gw3.sock"},
	}
	if !reflect.DeepEqual(c.Peers, want) || c.ACLDefault != "deny" {
		t.Errorf("%+v, %s", c.Peers, c.ACLDefault)
	}
}

func TestPeerRefusals(t *testing.T) {
	for doc, says := range map[string][]string{
		"[{}]":                             {"peers[0].name", "either server"},
		"[{name: a, socket: s}]":           {"peers[0].socket", "absolute"},
		"[{name: a, socket: /s, key: /k}]": {"a socket needs none"},
		"[{name: a, socket: /s, server: 'https://h:1'}]":                      {"either server"},
		"[{name: a, server: 'http://h:1', certificate: /c, key: /k}]":         {"peers[0].server", "not https://HOST:PORT"},
		"[{name: a, server: 'https://h', certificate: /c, key: /k}]":          {"peers[0].server"},
		"[{name: a, server: 'https://h:1/x', certificate: /c, key: /k}]":      {"peers[0].server"},
		"[{name: a, server: 'https://h:1'}]":                                  {"peers[0].certificate", "peers[0].key"},
		"[{name: a, server: 'https://h:1', certificate: /c, key: k, ca: ca}]": {"peers[0].key", "peers[0].ca"},
		"[{name: a, socket: /s}, {name: a, socket: /t}]":                      {"peers[1].name"},
		"[{name: a, socket: /s}, {name: b, socket: /s}]":                      {"peers[1]: it is at /s, as peers[0] is"},
		"[{name: 'a b', socket: /s}]":                                         {"peers[0].name"},
		"[{name: a, sock: /s}]":                                               {"sock"},
	} {
		_, err := Parse([]byte("paInterfaces: [pa0]\npeers: " + doc))
		if err == nil {
			t.Errorf("%q was taken", doc)
			continue
		}
		for _, s := range says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%q: %v does not say %q", doc, err, s)
			}
		}
	}
}
