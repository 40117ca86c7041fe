//go:build linux

package main

import (
	"strings"
	"testing"
	"time"
)

func TestKnobs(t *testing.T) {
	full, err := parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	o, err := full.options()
	if err != nil || o.Rounds != 3 || o.Cuts != 20 || o.Tenants != 200 || len(o.Tunnels) != 3 || len(o.Routes) != 2 || o.Time != 3*time.Second {
		t.Errorf("without flags: %+v, %v", o, err)
	}
	quick, err := parse(strings.Fields("-quick -cuts 5 -routes 7,9"))
	if err != nil {
		t.Fatal(err)
	}
	o, err = quick.options()
	if err != nil || o.Rounds != 1 || o.Cuts != 5 || o.Tenants != 10 || len(o.Routes) != 2 || o.Routes[1] != 9 {
		t.Errorf("quick: %+v, %v", o, err)
	}
}

func TestKnobsThatAreWrong(t *testing.T) {
	for want, args := range map[string]string{
		"no flag":       "bogus",
		"is no size":    "-routes 0",
		"is no size:":   "-tunnels x",
		"has no number": "-tunnels ,",
		"positive":      "-rounds -1",
	} {
		k, err := parse(strings.Fields(args))
		if err == nil {
			_, err = k.options()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", args, err, want)
		}
	}
}
