package packet_test

import (
	"bytes"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

func TestFrameGrowsAndShrinks(t *testing.T) {
	f := packet.NewFrame(100)
	if f.Len() != 0 || f.Off != packet.Headroom {
		t.Fatalf("a fresh frame has Off %d, length %d", f.Off, f.Len())
	}
	if !f.Set([]byte("payload")) || string(f.Bytes()) != "payload" {
		t.Fatalf("Set gave %q", f.Bytes())
	}
	copy(f.Prepend(5), "head-")
	copy(f.Append(5), "-tail")
	if string(f.Bytes()) != "head-payload-tail" {
		t.Fatalf("grown to %q", f.Bytes())
	}
	if !f.TrimFront(5) || !f.TrimBack(7) || string(f.Bytes()) != "payload" {
		t.Fatalf("trimmed to %q", f.Bytes())
	}
	if f.Prepend(0) == nil || f.Append(0) == nil || !f.TrimFront(0) || !f.TrimBack(7) || string(f.Bytes()) != "payload" {
		t.Errorf("nothing added and nothing cut makes %q", f.Bytes())
	}
	if !f.TrimFront(7) || f.Len() != 0 || !f.TrimBack(0) {
		t.Error("the whole packet cannot be cut off")
	}
	if f.Set(make([]byte, 101)) || f.Len() != 0 {
		t.Error("Set took more than the capacity")
	}
	f.Reset()
	if f.Off != packet.Headroom || f.Len() != 0 {
		t.Errorf("after Reset Off is %d, length %d", f.Off, f.Len())
	}
}

func TestFrameRefusesWithoutChange(t *testing.T) {
	f := newFrame(t, []byte("payload"))
	f.Offload = packet.Offload{NeedsCsum: true, CsumStart: 2, CsumOffset: 2, HdrLen: 6}
	before := *f
	for name, refused := range map[string]bool{
		"Prepend beyond":   f.Prepend(packet.Headroom+1) == nil,
		"Prepend negative": f.Prepend(-1) == nil,
		"Append beyond":    f.Append(len(f.Buf)) == nil,
		"Append negative":  f.Append(-1) == nil,
		"TrimFront beyond": !f.TrimFront(8),
		"TrimFront neg":    !f.TrimFront(-1),
		"TrimBack longer":  !f.TrimBack(8),
		"TrimBack neg":     !f.TrimBack(-1),
		"TrimBack csum":    !f.TrimBack(5),
	} {
		if !refused {
			t.Errorf("%s: not refused", name)
		}
	}
	if f.Off != before.Off || f.End != before.End || f.Offload != before.Offload {
		t.Errorf("changed from %+v to %+v", before.Offload, f.Offload)
	}
}

// The bytes handed out must not reach over into what is not theirs.
func TestFrameSlicesAreCapped(t *testing.T) {
	f := newFrame(t, []byte("payload"))
	_ = append(f.Prepend(2), "XXXX"...)
	front := f.Append(2)
	_ = append(front, 'Y')
	if !bytes.Equal(f.Bytes()[2:9], []byte("payload")) {
		t.Errorf("append to the slice of Prepend wrote %q", f.Bytes())
	}
}

func TestOffloadFollowsTheBytes(t *testing.T) {
	f := newFrame(t, frameTCP4(t, 100))
	o := packet.Offload{NeedsCsum: true, CsumStart: 34, CsumOffset: 16, GSO: packet.GSOTCPv4, GSOSize: 50, HdrLen: 54}
	f.Offload = o
	f.Prepend(42)
	if f.Offload.CsumStart != 76 || f.Offload.HdrLen != 96 {
		t.Errorf("after Prepend: %+v", f.Offload)
	}
	f.TrimFront(42)
	if f.Offload != o {
		t.Errorf("after Prepend and TrimFront: %+v, want %+v", f.Offload, o)
	}
	f.TrimFront(34) // to the very start of what is summed
	if !f.Offload.NeedsCsum || f.Offload.CsumStart != 0 || f.Offload.HdrLen != 20 {
		t.Errorf("trimmed to the checksum start: %+v", f.Offload)
	}
	// A partial checksum in headers that are cut off goes with them; what is to
	// be segmented stays so.
	f.TrimFront(1)
	want := packet.Offload{GSO: packet.GSOTCPv4, GSOSize: 50, HdrLen: 19}
	if f.Offload != want {
		t.Errorf("trimmed past the checksum start: %+v, want %+v", f.Offload, want)
	}
	f.TrimBack(10)
	if f.Offload.HdrLen != 10 {
		t.Errorf("HdrLen %d reaches beyond the frame", f.Offload.HdrLen)
	}
}

func TestOffloadDoesNotOverflow(t *testing.T) {
	f := packet.NewFrame(70000)
	f.Append(70000)
	f.Offload = packet.Offload{NeedsCsum: true, CsumStart: 65530, HdrLen: 65530}
	if f.Prepend(6) != nil {
		t.Error("Prepend let CsumStart wrap")
	}
	if f.Prepend(5) == nil || f.Offload.CsumStart != 65535 {
		t.Errorf("CsumStart is %d", f.Offload.CsumStart)
	}
	f.Offload.NeedsCsum = false
	if f.Prepend(10) == nil || f.Offload.HdrLen != 65535 {
		t.Errorf("HdrLen is %d", f.Offload.HdrLen)
	}
}

func TestFrameWithoutHeadroom(t *testing.T) {
	f := &packet.Frame{Buf: make([]byte, 10)}
	f.Reset()
	if f.Len() != 0 || f.Off != 10 || f.Append(1) != nil {
		t.Errorf("Off %d End %d", f.Off, f.End)
	}
}

// A copy says the same and has nothing in common with the original.
func TestFrameClone(t *testing.T) {
	f := super(t, frameTCP4(t, 300), packet.GSOTCPv4, 100)
	f.Prepend(10)
	want, offload := bytes.Clone(f.Bytes()), f.Offload
	dst := packet.NewFrame(len(want))
	dst.Append(3)
	dst.Offload.HdrLen = 7
	if !f.Clone(dst) || !bytes.Equal(dst.Bytes(), want) || dst.Offload != offload || dst.Off != packet.Headroom {
		t.Fatalf("%x at %d, %+v", dst.Bytes(), dst.Off, dst.Offload)
	}
	clear(f.Bytes())
	f.Reset()
	if !bytes.Equal(dst.Bytes(), want) || dst.Offload != offload {
		t.Error("the copy changes with the original")
	}
	if dst.Clone(packet.NewFrame(len(want) - 1)) {
		t.Error("copied into too small a frame")
	}
}
