//go:build privileged && linux

package netns

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func randomName(t *testing.T) string {
	t.Helper()
	var b [5]byte
	_, _ = rand.Read(b[:])
	name := "hnvt-netns-" + hex.EncodeToString(b[:])
	t.Cleanup(func() { _ = Delete(name) })
	return name
}

func id(t *testing.T, path string) ID {
	t.Helper()
	ns, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	i, err := ns.ID()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestCreateDoDelete(t *testing.T) {
	name := randomName(t)
	home := id(t, "/proc/self/ns/net")
	if Exists(name) {
		t.Fatal("exists before it was made")
	}
	if err := Create(name); err != nil {
		t.Fatal(err)
	}
	if !Exists(name) {
		t.Fatal("does not exist after it was made")
	}
	if err := Create(name); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("made twice: %v", err)
	}
	if names, err := List(); err != nil || !slices.Contains(names, name) {
		t.Fatalf("List: %v, %v", names, err)
	}
	var inside ID
	var ifs []net.Interface
	err := Do(Path(name), func() (err error) {
		inside = id(t, "/proc/thread-self/ns/net")
		ifs, err = net.Interfaces()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if inside == home || inside != id(t, Path(name)) {
		t.Errorf("Do ran in %v; home is %v", inside, home)
	}
	if len(ifs) != 1 || ifs[0].Name != "lo" {
		t.Errorf("a new namespace has %v", ifs)
	}
	for range 50 { // whichever thread serves us, it is at home
		if got := id(t, "/proc/thread-self/ns/net"); got != home {
			t.Fatalf("a thread stayed in %v", got)
		}
	}
	if err := Delete(name); err != nil {
		t.Fatal(err)
	}
	if Exists(name) {
		t.Error("exists after Delete")
	}
	if err := Delete(name); err != nil {
		t.Errorf("second Delete: %v", err)
	}
	if err := Do(Path(name), func() error { return nil }); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Do in a deleted namespace: %v", err)
	}
}

func TestNestedDo(t *testing.T) {
	outer, inner := randomName(t), randomName(t)
	for _, n := range []string{outer, inner} {
		if err := Create(n); err != nil {
			t.Fatal(err)
		}
	}
	err := Do(Path(outer), func() error {
		if err := Do(Path(inner), func() error {
			if id(t, "/proc/thread-self/ns/net") != id(t, Path(inner)) {
				t.Error("not in the inner namespace")
			}
			return nil
		}); err != nil {
			return err
		}
		return Do("", func() error {
			if id(t, "/proc/thread-self/ns/net") != id(t, Path(outer)) {
				t.Error("the empty path is not the caller's namespace")
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCreateWithFailureLeavesNothing(t *testing.T) {
	name := randomName(t)
	want := errors.New("no")
	if err := CreateWith(name, func() error { return want }); !errors.Is(err, want) {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(Path(name)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
}

func TestStub(t *testing.T) {
	name := randomName(t)
	if err := shareDir(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(Path(name), nil, 0); err != nil {
		t.Fatal(err)
	}
	if Exists(name) {
		t.Error("a plain file counts as a namespace")
	}
	if err := Do(Path(name), func() error { return nil }); err == nil {
		t.Error("entered a plain file")
	}
	if s, err := Stubs(); err != nil || slices.Contains(s, name) {
		t.Errorf("a file just made is already a stub: %v, %v", s, err)
	}
	old := time.Now().Add(-2 * stubAge)
	if err := os.Chtimes(Path(name), old, old); err != nil {
		t.Fatal(err)
	}
	if s, err := Stubs(); err != nil || !slices.Contains(s, name) {
		t.Errorf("an old one is not: %v, %v", s, err)
	}
	if err := Create(name); err != nil {
		t.Fatalf("create over a stub: %v", err)
	}
	if !Exists(name) {
		t.Error("not there")
	}
}

func TestHandleOutlivesName(t *testing.T) {
	name := randomName(t)
	if err := Create(name); err != nil {
		t.Fatal(err)
	}
	ns, err := Open(Path(name))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := Delete(name); err != nil {
		t.Fatal(err)
	}
	ran := false
	err = Do(ns.Path(), func() error {
		ran = true
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			_ = unix.Close(fd)
		}
		return err
	})
	if err != nil || !ran {
		t.Errorf("ran %v, %v", ran, err)
	}
}

func TestScratch(t *testing.T) {
	home := id(t, "/proc/self/ns/net")
	var inside ID
	err := Scratch(func() error {
		inside = id(t, "/proc/thread-self/ns/net")
		return fs.ErrInvalid
	})
	if !errors.Is(err, fs.ErrInvalid) || inside == home {
		t.Errorf("%v, in %v; home is %v", err, inside, home)
	}
}

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		println("privileged tests need root")
		os.Exit(1)
	}
	os.Exit(m.Run())
}
