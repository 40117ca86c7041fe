package s2s

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func prefixList(list string) (out []netip.Prefix) {
	for _, s := range strings.Fields(list) {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// good is a Spec in which nothing is wrong.
func good() Spec {
	return Spec{Tunnels: []Tunnel{
		{
			Name: "hq", Interface: "s2s0", PrivateKey: NewPrivateKey(), ListenPort: 51820, Addresses: prefixList("169.254.10.1/30 fd10::1/126"),
			OutboundKbps: 100000,
			LocalMaps:    []Map{{netip.MustParsePrefix("10.1.1.0/24"), netip.MustParsePrefix("100.64.1.0/24")}},
			RemoteMaps:   []Map{{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("100.65.0.0/16")}},
			Peers: []Peer{
				{Name: "a", PublicKey: NewPrivateKey().Public(), PresharedKey: NewPresharedKey(), Endpoint: netip.MustParseAddrPort("203.0.113.20:51820"),
					Prefixes: prefixList("169.254.10.2/32 10.1.7.0/24"), Keepalive: 25},
				{Name: "b", PublicKey: NewPrivateKey().Public(), Prefixes: prefixList("fd10::2/128"), Probe: Probe{Target: netip.MustParseAddr("fd10::2")}},
			},
		},
		{
			Name: "hq2", Interface: "s2s1", PrivateKey: NewPrivateKey(), ListenPort: 51821,
			Peers: []Peer{{Name: "a", PublicKey: NewPrivateKey().Public(), Prefixes: prefixList("10.1.7.0/24"), Priority: 1}},
		},
	}}
}

func TestEncodeDecode(t *testing.T) {
	s := good()
	b, err := Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(s, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netip.AddrPort{}, Secret{})); d != "" {
		t.Error(d)
	}
	for name, text := range map[string]string{
		"unknown field":       `{"Tunnels":[],"Secrets":{},"More":1}`,
		"secret of nobody":    `{"Tunnels":[],"Secrets":{"hq":"` + NewPrivateKey().Reveal() + `"}}`,
		"secret in the spec":  `{"Tunnels":[{"Name":"hq","PrivateKey":"` + NewPrivateKey().Reveal() + `"}]}`,
		"secret of two":       `{"Tunnels":[{"Name":"a"},{"Name":"a"}],"Secrets":{"a":"` + NewPrivateKey().Reveal() + `"}}`,
		"secret of 31 bytes":  `{"Tunnels":[{"Name":"a"}],"Secrets":{"a":"` + NewPrivateKey().Reveal()[:40] + `"}}`,
		"something behind it": `{"Tunnels":[],"Secrets":{}} {}`,
		"half":                `{"Tunnels":[`,
	} {
		if _, err := Decode([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// However a Spec is printed, its secrets do not show.
func TestSecretsStayHidden(t *testing.T) {
	s := good()
	var out bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("x", "spec", s, "secret", s.Tunnels[0].PrivateKey, "pointer", &s.Tunnels[0].PrivateKey)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb, s)
		fmt.Fprintf(&out, verb, s.Tunnels[0].PrivateKey)
		fmt.Fprintf(&out, verb, &s)
	}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(b)
	for _, secret := range []Secret{s.Tunnels[0].PrivateKey, s.Tunnels[0].Peers[0].PresharedKey, s.Tunnels[1].PrivateKey} {
		raw := fmt.Sprint(secret.key[:])
		for _, form := range []string{secret.Reveal(), secret.hex(), strings.Trim(raw, "[]"), fmt.Sprintf("%#v", secret.key)} {
			if strings.Contains(out.String(), form) {
				t.Errorf("a secret shows as %.10s...", form)
			}
		}
	}
	if !strings.Contains(out.String(), hidden) {
		t.Error("nothing was printed")
	}
}

func TestKeys(t *testing.T) {
	// The pair of wg(8)'s own documentation does not exist; this one is of
	// RFC 7748, 6.1.
	private, err := ParseSecret("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := private.Public().String(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="; got != want {
		t.Errorf("public key is %s, want %s", got, want)
	}
	for _, text := range []string{"", "x", strings.Repeat("A", 44), "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LC==", NewPrivateKey().Reveal() + "A"} {
		if _, err := ParseKey(text); err == nil {
			t.Errorf("%q is taken for a key", text)
		} else if text != "" && strings.Contains(err.Error(), text) && len(text) > 1 {
			t.Errorf("the error repeats %q", text)
		}
	}
}
