package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Capture is a packet capture in progress.
type Capture struct {
	File string
	lab  *Lab
	proc *Process
}

// What a capture keeps of a packet, and the ring that packets wait in: 8192
// places of 4 KiB, more packets than a test sends while it captures. A place
// holds a whole packet of the fabric, and all headers of the segments that the
// kernel hands over as one between virtual links; without a limit, a place is
// for 256 KiB, and few are left.
const (
	snapLen = "2048"
	ringKiB = "32768"
)

// Capture records what passes the machine's interface into a pcap file; the
// filter is tcpdump's and may be empty. It returns once packets are recorded.
func (l *Lab) Capture(ctx context.Context, machine, iface, filter string) (*Capture, error) {
	l.mu.Lock()
	l.captures++
	name := fmt.Sprintf("capture%d-%s-%s", l.captures, machine, iface)
	l.mu.Unlock()
	file := filepath.Join(l.dir, "pcap", name+".pcap")
	// In immediate mode, a packet is there for tcpdump when it is in the ring;
	// otherwise the last ones wait for a timer that Stop would have to outwait.
	argv := []string{"tcpdump", "-i", iface, "-n", "--immediate-mode", "-s", snapLen, "-B", ringKiB, "-Z", "root", "-w", file}
	if filter != "" {
		argv = append(argv, filter)
	}
	p, err := l.Start(machine, name, argv...)
	if err != nil {
		return nil, err
	}
	err = p.waitFor(ctx, func() error {
		if !strings.Contains(p.Output(), "listening on") {
			return fmt.Errorf("tcpdump does not listen yet")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &Capture{file, l, p}, nil
}

// Stop ends the capture and gives its file. It waits until tcpdump has taken
// what had arrived, and refuses a capture that missed packets.
func (c *Capture) Stop(ctx context.Context) (string, error) {
	time.Sleep(100 * time.Millisecond) // packets on their way through the lab
	// A signal makes tcpdump leave what is in the ring. It sleeps only when
	// there is nothing.
	if err := c.proc.waitFor(ctx, c.proc.sleeps); err != nil {
		return "", err
	}
	if err := c.proc.Kill(ctx, syscall.SIGINT); err != nil {
		return "", err
	}
	out := c.proc.Output()
	if !strings.Contains(out, "\n0 packets dropped by kernel") {
		return "", fmt.Errorf("capture %s is not complete: %s", filepath.Base(c.File), lastLines(out, 4))
	}
	return c.File, nil
}

// Judgement gives tshark's options for judging what is in a capture: checksums
// are verified, and payload is payload. Tshark guesses at it by port numbers, of
// which a VM's or a tunnel's are any, and what it then calls malformed, or a
// packet in a packet, is none. (Of UDP, ports above VXLAN's own are left to it:
// they are VXLAN's source ports, and an assignment would come before 4789's. The
// lab's own servers are below.)
func Judgement() []string {
	return []string{
		"-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE",
		"-d", "tcp.port==1-65535,data", "-d", "udp.port==1-4788,data",
	}
}

// Dissect lets tshark read a capture: one row per packet that the display
// filter passes, one column per field. A field that occurs several times, as
// the addresses of a tunnelled packet do, gives its values joined by commas,
// outermost first. All checksums are verified.
func (l *Lab) Dissect(ctx context.Context, pcap, filter string, fields ...string) ([][]string, error) {
	argv := append([]string{"tshark", "-n", "-r", pcap, "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a"}, Judgement()...)
	if filter != "" {
		argv = append(argv, "-Y", filter)
	}
	for _, f := range fields {
		argv = append(argv, "-e", f)
	}
	env := append(os.Environ(), "HOME="+l.dir, "XDG_CONFIG_HOME="+l.dir) // nobody's own preferences
	out, err := runEnv(ctx, env, "", argv...)
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for line := range strings.Lines(out) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return rows, nil
}
