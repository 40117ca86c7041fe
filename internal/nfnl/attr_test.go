package nfnl

import (
	"bytes"
	"errors"
	"testing"
)

func collect(b []byte) (list []Attr, err error) {
	for a, err := range Attrs(b) {
		if err != nil {
			return list, err
		}
		list = append(list, a)
	}
	return list, nil
}

func TestAttrsReadWhatAppendWrites(t *testing.T) {
	inner := AppendString(AppendUint16(nil, 2, 0x1234), 3, "ext")
	b := AppendUint32(AppendNested(nil, 1, inner), 4, 0xdeadbeef)
	b = Append(AppendUint64(b, 5, 1<<40), 6, []byte{7})
	list, err := collect(b)
	if err != nil || len(list) != 4 {
		t.Fatalf("%d attributes, %v", len(list), err)
	}
	if !list[0].Nested || list[0].Type != 1 || !bytes.Equal(list[0].Data, inner) {
		t.Errorf("nested attribute is %+v", list[0])
	}
	if n, err := list[1].Uint32(); n != 0xdeadbeef || err != nil {
		t.Errorf("32 bits are %x, %v", n, err)
	}
	if n, err := list[2].Uint64(); n != 1<<40 || err != nil {
		t.Errorf("64 bits are %x, %v", n, err)
	}
	if n, err := list[3].Uint8(); n != 7 || err != nil {
		t.Errorf("8 bits are %x, %v", n, err)
	}
	list, err = collect(inner)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d inner attributes, %v", len(list), err)
	}
	if n, err := list[0].Uint16(); n != 0x1234 || err != nil {
		t.Errorf("16 bits are %x, %v", n, err)
	}
	if s := list[1].Text(); s != "ext" {
		t.Errorf("text is %q", s)
	}
	for _, read := range []func(Attr) error{
		func(a Attr) error { _, err := a.Uint8(); return err },
		func(a Attr) error { _, err := a.Uint16(); return err },
		func(a Attr) error { _, err := a.Uint32(); return err },
		func(a Attr) error { _, err := a.Uint64(); return err },
	} {
		if err := read(Attr{Data: []byte{1, 2, 3}}); !errors.Is(err, ErrMalformed) {
			t.Errorf("three bytes as a number: %v", err)
		}
	}
}

func TestAttrsRefuseEveryTruncation(t *testing.T) {
	b := AppendUint32(AppendString(nil, 3, "wnv5000"), 4, 7)
	whole, err := collect(b)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(b) {
		list, err := collect(b[:n])
		if err == nil && len(list) == len(whole) {
			t.Errorf("%d of %d bytes read as all", n, len(b))
		}
	}
	for _, bad := range [][]byte{{1}, {3, 0, 1, 0}, {0, 0, 0, 0}, {255, 255, 1, 0, 9}} {
		if _, err := collect(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("% x: %v", bad, err)
		}
	}
}

func FuzzAttrs(f *testing.F) {
	f.Add(AppendNested(nil, 1, AppendString(nil, 3, "ext")))
	f.Add([]byte{5, 0, 1, 0, 9})
	f.Add([]byte{255, 255, 1, 128})
	f.Fuzz(func(t *testing.T, b []byte) {
		var again []byte
		total := 0
		list, err := collect(b)
		for _, a := range list {
			total += len(a.Data)
			_ = a.Text()
			typ := a.Type
			if a.Nested {
				typ |= Nested
			}
			again = Append(again, typ, a.Data)
		}
		if total > len(b) {
			t.Fatalf("%d bytes of %d", total, len(b))
		}
		second, err2 := collect(again)
		if err2 != nil || len(second) != len(list) {
			t.Fatalf("written again: %d of %d, %v (first %v)", len(second), len(list), err2, err)
		}
	})
}
