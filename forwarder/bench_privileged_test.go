//go:build privileged && linux

package forwarder

import "testing"

// A look at a compartment whose attachment is right, as every ten seconds.
func BenchmarkApplyRight(b *testing.B) {
	l := newLab(b)
	l.station("dc0", "10.50.0.1/24")
	comp, _ := l.compartment()
	foot := l.foot(KindMACVLAN, "dc0", "10.50.0.2/24", "fd50::2/64").via("10.60.0.0/16", "10.50.0.1", 0)
	l.apply("contoso", comp, foot)
	for b.Loop() {
		if said := l.apply("contoso", comp, foot); len(said) > 0 {
			b.Fatal(said)
		}
	}
}
