//go:build linux

package main

import (
	"strings"
	"testing"
	"time"
)

func TestKnobs(t *testing.T) {
	full, err := parse(nil)
	if err != nil || full.rounds != 5 || full.time != 2*time.Second {
		t.Errorf("without flags: %+v, %v", full, err)
	}
	o, err := full.options()
	if err != nil || len(o.Tenants) != 2 || len(o.Records) != 3 || len(o.Streams) != 3 || len(o.Cases) < 5 || o.SizeRounds < 1 {
		t.Errorf("without flags: %+v, %v", o, err)
	}
	quick, err := parse([]string{"-quick", "-rounds", "3", "-cases", "plain, limit", "-tenants", "none", "-records", "20"})
	if err != nil || quick.rounds != 3 || quick.time != time.Second {
		t.Errorf("quick: %+v, %v", quick, err)
	}
	o, err = quick.options()
	if err != nil || len(o.Cases) != 2 || len(o.Tenants) != 0 || len(o.Records) != 1 || len(o.Streams) >= 3 {
		t.Errorf("quick: %+v, %v", o, err)
	}
}

func TestKnobsThatAreWrong(t *testing.T) {
	for want, args := range map[string]string{
		"no flag":     "bogus",
		"no case":     "-cases nobody",
		"no size":     "-tenants 1",
		"is no size:": "-records x",
		"positive":    "-rounds -1",
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
