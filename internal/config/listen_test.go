package config

import (
	"reflect"
	"strings"
	"testing"
)

const listening = `
paInterfaces: [pa0]
listen:
  address: 10.99.0.1:8443
  certificate: /etc/hnvgate/tls/gw.crt
  key: /etc/hnvgate/tls/gw.key
  clientCA: /etc/hnvgate/tls/clients.crt
  allow: [ops.example.net]
  peers: [host7]
  readOnly: ["spiffe://dc/monitor"]
`

func TestListen(t *testing.T) {
	c, err := Parse([]byte(listening))
	if err != nil {
		t.Fatal(err)
	}
	want := &Listen{
		Address: "10.99.0.1:8443", Certificate: "/etc/hnvgate/tls/gw.crt", Key: "/etc/hnvgate/tls/gw.key", ClientCA: "/etc/hnvgate/tls/clients.crt",
		Allow: []string{"ops.example.net"}, Peers: []string{"host7"}, ReadOnly: []string{"spiffe://dc/monitor"},
	}
	if !reflect.DeepEqual(c.Listen, want) {
		t.Errorf("%+v", c.Listen)
	}
}

func TestListenRefusals(t *testing.T) {
	for doc, says := range map[string][]string{
		"listen: {}": {"listen.address", "listen.certificate", "listen.key", "listen.clientCA"},
		"listen: {address: ':8443', certificate: /a, key: /b, clientCA: /c}":                                     {"listen.address", "ADDR:PORT"},
		"listen: {address: 'gw:8443', certificate: /a, key: /b, clientCA: /c}":                                   {"listen.address"},
		"listen: {address: '10.0.0.1:0', certificate: /a, key: /b, clientCA: /c}":                                {"listen.address"},
		"listen: {address: '[ff02::1]:8443', certificate: a, key: /b, clientCA: /c}":                             {"multicast", "listen.certificate", "absolute"},
		"listen: {address: '[::1]:1', certificate: /a, key: /b, clientCA: /c, allow: [x, x]}":                    {"listen.allow[1]", "already"},
		"listen: {address: '[::1]:1', certificate: /a, key: /b, clientCA: /c, allow: [x], readOnly: [y, '', x]}": {"listen.readOnly[1]", "listen.readOnly[2]", "in listen.allow"},
		"listen: {address: '[::1]:1', certificate: /a, key: /b, clientCA: /c, deny: [x]}":                        {"deny"},
	} {
		_, err := Parse([]byte("paInterfaces: [pa0]\n" + doc))
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
