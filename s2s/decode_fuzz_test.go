package s2s

import "testing"

// Whatever is decoded can be judged and encoded, without a panic.
func FuzzDecode(f *testing.F) {
	b, err := Encode(good())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Decode(b)
		if err != nil {
			return
		}
		_ = s.Check()
		_ = s.ways()
		again, err := Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(again); err != nil && s.Check() == nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	})
}
