//go:build linux

// Command guestinit is the first process of a guest that runs tests: it mounts
// what programs expect, runs the programs of /etc/runs.json one after the other, and
// powers the machine off.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/test/guest"
)

func main() {
	if err := run(); err != nil {
		fmt.Println("guestinit:", err)
	} else {
		fmt.Println(guest.Done)
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) // which ends QEMU
}

func run() error {
	for _, m := range []struct{ what, where string }{
		{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/run"}, {"tmpfs", "/tmp"},
	} {
		if err := unix.Mount(m.what, m.where, m.what, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.where, err)
		}
	}
	for _, l := range [][2]string{{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"}} {
		if err := os.Symlink(l[0], l[1]); err != nil {
			return err
		}
	}
	// The console is not this process's until /dev is there.
	console, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	os.Stdout, os.Stderr = console, console
	if err := os.WriteFile("/proc/sys/kernel/modprobe", []byte("/bin/modprobe"), 0); err != nil {
		return err
	}
	_ = os.WriteFile("/proc/sys/kernel/printk", []byte("1"), 0) // its words would be between those of the tests
	if err := os.Setenv("PATH", "/bin"); err != nil {
		return err
	}
	// The kernel would load them as well, each by a process of its own.
	if out, err := exec.Command("modprobe", append([]string{"-a"}, guest.Preloaded...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("load modules: %w: %s", err, out)
	}
	b, err := os.ReadFile("/etc/runs.json")
	if err != nil {
		return err
	}
	var runs []guest.Run
	if err := json.Unmarshal(b, &runs); err != nil {
		return err
	}
	for _, r := range runs {
		fmt.Println(guest.Begin + r.Name)
		fmt.Printf("\n%s%d\n", guest.End, one(r, console))
	}
	return nil
}

func one(r guest.Run, console *os.File) int {
	cmd := exec.Command(r.Args[0], r.Args[1:]...)
	cmd.Env = append(os.Environ(), "HOME=/root")
	for k, v := range r.Env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.Stdout, cmd.Stderr, cmd.Dir = console, console, "/root"
	err := cmd.Run()
	if cmd.ProcessState == nil {
		fmt.Println(err)
		return -1
	}
	return cmd.ProcessState.ExitCode()
}
