//go:build privileged && linux

package confine

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/netns"
)

// The test binary is its own confined program: executed as a child it enters,
// filters, and tells how its attempts went.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 3 && os.Args[1] == "enter":
		dir := os.Args[2]
		err := Enter([]Path{{dir, All}, {"/dev/net/tun", ReadWrite}, {"/proc", ReadExec}, {"/proc/sys/net", ReadWrite}, {"/nowhere", All},
			{"/lib", ReadExec}, {"/lib64", ReadExec}, {"/usr/lib", ReadExec}, {"/etc/ld.so.cache", ReadExec}},
			[]uintptr{unix.CAP_NET_ADMIN}, func(done []string) []string {
				return []string{os.Args[0], "confined", dir, strings.Join(done, ",")}
			}, os.Environ())
		_, _ = os.Stderr.WriteString(err.Error())
		os.Exit(1)
	case len(os.Args) == 4 && os.Args[1] == "confined":
		if err := Filter(); err != nil {
			_, _ = os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		b, _ := json.Marshal(attempts(os.Args[2]))
		_, _ = os.Stdout.Write(b)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// attempts does what the agent must be able to do, and what it must not; by name,
// how each went.
func attempts(dir string) map[string]string {
	out := map[string]string{}
	try := func(name string, f func() error) { out[name] = text(f()) }
	socket := func(family, typ int) func() error {
		return func() error {
			fd, err := unix.Socket(family, typ, 0)
			if err == nil {
				_ = unix.Close(fd)
			}
			return err
		}
	}
	try("+ write, rename and remove a file in its folder", func() error {
		f := filepath.Join(dir, "file")
		return errors.Join(os.WriteFile(f, []byte("x"), 0o600), os.Rename(f, f+"2"), os.Remove(f+"2"))
	})
	try("+ serve a unix socket", func() error {
		l, err := net.Listen("unix", filepath.Join(dir, "socket"))
		if err != nil {
			return err
		}
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				_, _ = c.Write([]byte("x"))
			}
		}()
		c, err := net.Dial("unix", filepath.Join(dir, "socket"))
		if err != nil {
			return err
		}
		_, err = c.Read(make([]byte, 1))
		return err
	})
	try("+ TCP and UDP", func() error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		u, err2 := net.ListenPacket("udp", "127.0.0.1:0")
		if err = errors.Join(err, err2); err == nil {
			err = errors.Join(l.Close(), u.Close())
		}
		return err
	})
	try("+ netlink", socket(unix.AF_NETLINK, unix.SOCK_RAW))
	try("+ open the TUN device", func() error {
		f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
		if err == nil {
			err = f.Close()
		}
		return err
	})
	try("+ set its namespace's settings", func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	try("+ threads, collections, timers", func() error {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				runtime.LockOSThread()
				_ = make([]byte, 1<<20)
				time.Sleep(5 * time.Millisecond)
			})
		}
		runtime.GC()
		wg.Wait()
		return nil
	})
	try("- read a file of the machine", func() error { _, err := os.ReadFile("/etc/passwd"); return err })
	try("- write a file of the machine", func() error { return os.WriteFile("/tmp/confined", nil, 0o600) })
	try("- set the machine's settings", func() error { return os.WriteFile("/proc/sys/kernel/core_pattern", []byte("x"), 0) })
	try("- execute a program", func() error { return exec.Command(os.Args[0]).Run() })
	try("- packet sockets", socket(unix.AF_PACKET, unix.SOCK_RAW))
	try("- enter another namespace", func() error {
		ns, err := netns.Open("/proc/1/ns/net")
		if err != nil {
			return err
		}
		defer ns.Close()
		return unix.Setns(mustFD(ns.Path()), unix.CLONE_NEWNET)
	})
	try("- make a namespace", func() error { return unix.Unshare(unix.CLONE_NEWNET) })
	try("- mount", func() error { return unix.Mount("none", dir, "tmpfs", 0, "") })
	try("- signal its parent", func() error { return unix.Kill(os.Getppid(), 0) })
	try("- trace its parent", func() error { return unix.PtraceAttach(os.Getppid()) })
	try("- load eBPF", func() error {
		if _, _, errno := unix.Syscall(unix.SYS_BPF, 0, 0, 0); errno != unix.EINVAL && errno != unix.EFAULT {
			return errno
		}
		return nil
	})
	return out
}

func mustFD(path string) int {
	fd, _ := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	return fd
}

func TestConfined(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "enter", dir)
	var out strings.Builder
	var complaints strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := netns.Scratch(func() error {
		if err := exec.Command("ip", "link", "set", "lo", "up").Run(); err != nil {
			return err
		}
		return cmd.Run()
	}); err != nil {
		t.Fatalf("%v: %s", err, complaints.String())
	}
	var got map[string]string
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if len(got) < 15 {
		t.Fatalf("only %d attempts", len(got))
	}
	var names []string
	for n := range got {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		refused := got[n] != ""
		if refused != strings.HasPrefix(n, "-") {
			t.Errorf("%s: %q", n, got[n])
		}
	}
}
