package document

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func ptr[T any](v T) *T { return &v }

func TestParsePolicy(t *testing.T) {
	want := v1.BGPPolicy{Default: "reject", Rules: []v1.BGPRule{
		{Name: "theirs", Match: &v1.BGPMatch{Prefixes: []string{"172.16.0.0/12 le 24"}, ASPath: []string{"^65001_"}}, Set: &v1.BGPSet{LocalPref: ptr(uint32(200)), MED: ptr(uint32(0))}},
		{Match: &v1.BGPMatch{Communities: []string{"65001:100"}}, Set: &v1.BGPSet{Communities: &v1.BGPCommunityEdit{Mode: "add", List: []string{"no-export"}}}, Action: "next"},
	}}
	const yaml = `# what edge may tell us
default: reject
rules:
- name: theirs
  match: {prefixes: [172.16.0.0/12 le 24], asPath: [^65001_]}
  set: {localPref: 200, med: 0}
- match:
    communities: ["65001:100"]
  set:
    communities: {mode: add, list: [no-export]}
  action: next
`
	js, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{"yaml": yaml, "json": string(js)} {
		p, err := ParsePolicy(Source{"p", []byte(data)})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, p.BGPPolicy); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	p, err := ParsePolicy(Source{"p", []byte(yaml)})
	if err != nil {
		t.Fatal(err)
	}
	if at, ok := p.Place("body.import.rules[0].match.prefixes[0]", "body.import."); !ok || at.String() != "p:5:22" {
		t.Errorf("at %v", at)
	}
	if _, ok := p.Place("body.address", "body.import."); ok {
		t.Error("a place for what is not in the file")
	}
	list, err := ParsePolicy(Source{"p", []byte("- action: reject\n")})
	if err != nil || len(list.Rules) != 1 || list.Rules[0].Action != "reject" {
		t.Errorf("%+v: %v", list, err)
	}
}

func TestParsePolicyRefuses(t *testing.T) {
	for data, want := range map[string]string{
		"rules:\n- matc: {}\n":                "p:2:3: unknown field \"matc\": a rule has name, match, set, action",
		"rules: 5\n":                          "p:1:8: rules must be a list, not 5",
		"rules:\n- set: {med: -1}\n":          "p:2:14: med must be a whole",
		"rules:\n- set: {prepend: x}\n":       `prepend must be a whole number, not the text "x"`,
		"rules:\n- match:\n":                  "match is empty",
		"default: reject\n---\nrules: []\n":   "holds one YAML document",
		"":                                    "holds one YAML document",
		"text":                                "here must be a policy, with rules, default",
		"rules: [\n":                          "malformed YAML",
		strings.Repeat("[", 200):              "nested 200 deep",
		"rules: &a []\n":                      "anchors and aliases are not taken",
		"default: accept\ndefault: reject\n":  "given twice",
		"rules:\n- set: {nextHopSelf: yes}\n": "nextHopSelf must be true or false",
	} {
		if p, err := ParsePolicy(Source{"p", []byte(data)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v, want %q", data, p, err, want)
		}
	}
}

// Whatever is in a file, it is read or refused, and what is read has a form that is
// read again.
func FuzzParsePolicy(f *testing.F) {
	for _, s := range []string{"", "rules: []", "- action: reject", "default: reject\nrules:\n- match: {prefixes: [10.0.0.0/8 le 24]}\n  set: {med: 5, communities: {mode: add, list: ['1:2']}}\n", `{"rules":[{"set":{"prepend":3}}]}`, "a: &x [*x]", "rules:\n- ? [a]\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePolicy(Source{"p", b})
		if err != nil {
			return
		}
		text, err := Marshal(p.BGPPolicy)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParsePolicy(Source{"again", text})
		if err != nil {
			t.Fatalf("%q became %q: %v", b, text, err)
		}
		one, _ := json.Marshal(p.BGPPolicy)
		two, _ := json.Marshal(again.BGPPolicy)
		if string(one) != string(two) {
			t.Errorf("%s became %s", one, two)
		}
	})
}
