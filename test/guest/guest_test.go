//go:build linux

package guest

import (
	"bytes"
	"slices"
	"testing"
)

func TestParse(t *testing.T) {
	const console = "booting\r\n" + Begin + "one\r\nfirst\r\n=== RUN x\r\n\r\n" + End + "0\r\nnoise\r\n" + Begin + "two\r\npanic\r\n" + End + "2\r\n"
	want := []Result{{"one", 0, "first\n=== RUN x\n\n"}, {"two", 2, "panic\n"}}
	if got, whole := parse(console); !slices.Equal(got, want) || whole {
		t.Errorf("%+v, %v", got, whole)
	}
	if _, whole := parse(console + Done + "\r\n"); !whole {
		t.Error("the end was not seen")
	}
	// The guest dies in the second.
	cut := console[:len(console)-len(End)-3]
	if got, whole := parse(cut); len(got) != 2 || got[1].Exit != -1 || whole {
		t.Errorf("%+v, %v", got, whole)
	}
}

func TestArchive(t *testing.T) {
	var b bytes.Buffer
	a := archive{w: &b}
	a.add("d", modeDir|0o755, nil)
	a.add("d/f", modeFile|0o644, []byte("hello"))
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	const want = "070701" + "00000001" + "000041ed" + "00000000" + "00000000" + "00000002" + "00000000" + "00000000" +
		"00000000" + "00000000" + "00000000" + "00000000" + "00000002" + "00000000" + "d\x00" +
		"070701" + "00000002" + "000081a4" + "00000000" + "00000000" + "00000001" + "00000000" + "00000005" +
		"00000000" + "00000000" + "00000000" + "00000000" + "00000004" + "00000000" + "d/f\x00\x00\x00" + "hello\x00\x00\x00" +
		"070701" + "00000003" + "00000000" + "00000000" + "00000000" + "00000001" + "00000000" + "00000000" +
		"00000000" + "00000000" + "00000000" + "00000000" + "0000000b" + "00000000" + "TRAILER!!!\x00\x00\x00\x00"
	if got := b.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
