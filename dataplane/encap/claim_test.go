package encap_test

import (
	"bytes"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
)

func TestClaimed(t *testing.T) {
	frame := inner(t, 10)
	gre, vx := pushed(t, headers()["nvgre4"], frame), pushed(t, headers()["vxlan4"], frame)
	gre6, vx6 := pushed(t, headers()["nvgre6"], frame), pushed(t, headers()["vxlan6"], frame)
	known := func(v uint32) bool { return v == 5001 || v == 0x1000 || v == 0xfffffe }
	raw := func(b []byte, off int, with ...byte) []byte {
		c := bytes.Clone(b)
		copy(c[off:], with)
		return c
	}
	behind := func(b []byte, next byte, ext ...byte) []byte {
		c := append(append(bytes.Clone(b[:40]), ext...), b[40:]...)
		n := len(c) - 40
		c[4], c[5], c[6] = byte(n>>8), byte(n), next
		return c
	}
	for name, c := range map[string]struct {
		b    []byte
		want bool
	}{
		"nvgre4": {gre, true}, "vxlan4": {vx, true}, "nvgre6": {gre6, true}, "vxlan6": {vx6, true},
		"padded":                   {append(bytes.Clone(gre), 0, 0, 0), true},
		"another VSID":             {raw(gre, 24, 0, 0x13, 0x8a), false},
		"another VNI":              {raw(vx, 32, 0, 0x13, 0x8a), false},
		"plain GRE":                {raw(gre, 20, 0), false},
		"GRE with a checksum":      {raw(gre, 20, 0xa0), false},
		"GRE with a sequence":      {raw(gre, 20, 0x30), true},
		"GRE with reserved bits":   {raw(gre, 20, 0x2c, 0xf8), true},
		"GRE version 1":            {raw(gre, 21, 1), false},
		"GRE carries IP":           {raw(gre, 22, 8, 0), false},
		"VXLAN without VNI":        {raw(vx, 28, 0xf7), false},
		"VXLAN with other flags":   {raw(vx, 28, 0xff), true},
		"another port":             {raw(vx, 22, 0x12, 0xb6), false},
		"UDP length":               {raw(vx, 24, 0, 0), true}, // for Parse to refuse
		"TCP":                      {raw(gre, 9, 6), false},
		"first fragment":           {raw(gre, 6, 0x20), true},
		"later fragment, GRE":      {raw(raw(gre, 6, 0, 9), 24, 0, 0x13, 0x8a), true},
		"later fragment, UDP":      {raw(raw(vx, 6, 0, 9), 22, 0, 53), true},
		"later fragment, TCP":      {raw(raw(gre, 6, 0, 9), 9, 6), false},
		"IHL 4":                    {raw(gre, 0, 0x44), false},
		"length beyond":            {raw(gre, 2, 0xff), false},
		"length below the header":  {raw(gre, 2, 0, 19), false},
		"neither IP":               {raw(gre, 0, 0x55), false},
		"nothing":                  {nil, false},
		"v6, length beyond":        {raw(gre6, 4, 0xff), false},
		"v6, options":              {behind(gre6, 60, 47, 0, 4, 1, 4, 1, 0, 0), true},
		"v6, routing":              {behind(vx6, 43, 17, 0, 0, 0, 0, 0, 0, 0), true},
		"v6, authentication":       {behind(gre6, 51, 47, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), true},
		"v6, options beyond":       {behind(gre6, 60, 47, 200, 0, 0, 0, 0, 0, 0), false},
		"v6, first fragment":       {behind(vx6, 44, 17, 0, 0, 1, 0, 0, 0, 1), true},
		"v6, later fragment":       {behind(vx6, 44, 17, 0, 0, 64, 0, 0, 0, 1), true},
		"v6, later fragment, TCP":  {behind(vx6, 44, 6, 0, 0, 64, 0, 0, 0, 1), false},
		"v6, fragment of TCP":      {behind(vx6, 44, 6, 0, 0, 1, 0, 0, 0, 1), false},
		"v6, another VNI, options": {behind(raw(vx6, 52, 1), 60, 17, 0, 4, 1, 4, 1, 0, 0), false},
	} {
		if got := encap.Claimed(c.b, known); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
		for n := range c.b { // cut off anywhere it may not panic
			encap.Claimed(c.b[:n], known)
		}
	}
	all := func(uint32) bool { return true }
	if n := testing.AllocsPerRun(100, func() { encap.Claimed(gre, all) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What Parse takes is claimed if its virtual subnet is known, and only then.
func FuzzClaimed(f *testing.F) {
	for _, h := range headers() {
		f.Add(pushed(f, h, inner(f, 10)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var h encap.Header
		taken := encap.Parse(b, &h) == drop.None
		if taken && (!encap.Claimed(b, func(v uint32) bool { return v == h.VSID }) || encap.Claimed(b, func(v uint32) bool { return v != h.VSID })) {
			t.Errorf("VSID %d: % x", h.VSID, b)
		}
		if len(b) > 20 && b[0]>>4 == 4 && (b[6]&0x3f|b[7]) == 0 && encap.Claimed(b, func(uint32) bool { return false }) {
			t.Errorf("without any virtual subnet: % x", b)
		}
	})
}
