package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// Whatever goes and comes, the one side is made of what goes and stays, the
// other of what comes and stays.
func TestLineDiff(t *testing.T) {
	for range 2000 {
		var old, now []string
		for range rand.IntN(12) {
			old = append(old, fmt.Sprint(rand.IntN(4)))
		}
		for range rand.IntN(12) {
			now = append(now, fmt.Sprint(rand.IntN(4)))
		}
		var left, right []string
		moved := 0
		for _, l := range lineDiff(old, now) {
			if l.sign != '+' {
				left = append(left, l.text)
			}
			if l.sign != '-' {
				right = append(right, l.text)
			}
			if l.sign != ' ' {
				moved++
			}
		}
		if fmt.Sprint(left, right) != fmt.Sprint(old, now) {
			t.Fatalf("of %v and %v it makes %v and %v", old, now, left, right)
		}
		if strings.Join(old, "") == strings.Join(now, "") && moved > 0 {
			t.Fatalf("%d lines of the same move", moved)
		}
	}
	long := make([]string, 5000)
	for i := range long {
		long[i] = fmt.Sprint(i)
	}
	other := append([]string{"x"}, long[:4999]...)
	other[4000] = "y"
	if got := lineDiff(long, other); len(got) < 5000 {
		t.Errorf("%d lines", len(got))
	}
}

// A document that an export for a host gives is taken by that host, and says
// what the host needs and nothing else.
func TestExportForAHostIsAppliedThere(t *testing.T) {
	gw, _ := gateway(t)
	populate(t, gw, people...)
	populate(t, gw,
		"gatewayctl tenant set contoso --gateway-subnet 5000=10.254.254.0/29 --uplink internet --nat 203.0.113.10 --dscp copy",
		"gatewayctl acl add contoso web",
		"gatewayctl acl rule add contoso web --priority 1 --in --allow",
		"gatewayctl subnet set contoso 5001 --acl web --learning",
		"gatewayctl record add --vsid 5001 --ca 10.1.1.11 --mac 00:15:5d:00:00:01 --pa 192.168.1.20 --team-pa 192.168.1.10",
		"gatewayctl record add --vsid 5001 --ca 10.1.1.12 --mac 00:15:5d:00:00:02 --pa 192.168.1.30",
		"gatewayctl record add --vsid 6001 --ca 10.1.1.11 --mac 00:15:5d:00:00:01 --pa 192.168.1.30",
		"gatewayctl customer-route add --vsid 5001 --prefix 10.77.0.0/16 --next-hop 10.1.1.12",
		"gatewayctl port add --interface vm1 --vsid 5001 --mac 00:15:5d:00:00:09",
		"gatewayctl nat mapping add contoso --proto tcp --external 203.0.113.10:443 --internal 10.1.1.11:443")
	doc := call(t, gw, "gatewayctl export --host 192.168.1.10,192.168.1.11")
	for _, want := range []string{"name: contoso", "name: web", "10.1.1.11", "10.1.1.12", "10.254.254.2", "10.77.0.0/16", "dscp: copy", "learning: {}"} {
		if !strings.Contains(doc, want) {
			t.Errorf("the host is not told %q", want)
		}
	}
	for _, no := range []string{"fabrikam", "uplink", "nat", "ports:", "providerAddresses", "origin"} {
		if strings.Contains(doc, no) {
			t.Errorf("the host is told %q", no)
		}
	}
	host, _ := gateway(t)
	populate(t, host, "gatewayctl apply -f testdata/host.yaml")
	file := writeTemp(t, strings.ReplaceAll(doc, "<GUID>", "5b1c6a3e-0d0c-1f55-9a5e-1f3c2f0a7b11"))
	if out := call(t, host, "gatewayctl apply -f "+file); !strings.Contains(out, "6 created, 0 updated, 0 unchanged: applied") {
		t.Fatal(out)
	}
	if out := call(t, host, "gatewayctl diff -f "+file); out != "No differences.\n" {
		t.Error(out)
	}
	if out := call(t, gw, "gatewayctl export --host 192.168.1.99"); out != "apiVersion: v1\n! note: no lookup record is at 192.168.1.99: this host needs nothing\n" {
		t.Error(out)
	}
}
