//go:build privileged && linux

package uplink

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/internal/netns"
)

// serve listens in a namespace; handle has each connection.
func serve(t *testing.T, ns, addr string, handle func(net.Conn)) {
	t.Helper()
	var l net.Listener
	must(t, netns.Do(netns.Path(ns), func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	}))
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c)
			}()
		}
	}()
}

// dial connects from a namespace.
func dial(t *testing.T, ns, addr string) *net.TCPConn {
	t.Helper()
	var c net.Conn
	must(t, netns.Do(netns.Path(ns), func() (err error) {
		c, err = net.DialTimeout("tcp", addr, time.Minute)
		return err
	}))
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(time.Minute)))
	return c.(*net.TCPConn)
}

// echo sends back what comes.
func echo(c net.Conn) { _, _ = io.Copy(c, c) }

// exchange has n bytes go to an echo server and come back, and checks them.
func exchange(t *testing.T, c net.Conn, n int) {
	t.Helper()
	b := make([]byte, 1<<15)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	sent, got := sha256.New(), sha256.New()
	errs := make(chan error, 1)
	go func() {
		for left := n; left > 0; left -= len(b) {
			piece := b[:min(left, len(b))]
			_, _ = sent.Write(piece)
			if _, err := c.Write(piece); err != nil {
				errs <- err
				return
			}
		}
		errs <- nil
	}()
	if m, err := io.CopyN(got, c, int64(n)); err != nil {
		t.Fatalf("%d of %d bytes came back: %v", m, n, err)
	}
	must(t, <-errs)
	if string(sent.Sum(nil)) != string(got.Sum(nil)) {
		t.Error("other bytes came back than were sent")
	}
}

// capture records what passes a link, until it is asked for.
func capture(t *testing.T, ns, link, filter string) (stop func() string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "wire.pcap")
	cmd := exec.Command("nsenter", "--net="+netns.Path(ns), "--", "tcpdump", "-n", "-U", "--immediate-mode", "-B", "32768", "-i", link, "-w", file, filter)
	err, werr := cmd.StderrPipe()
	must(t, werr)
	must(t, cmd.Start())
	b := make([]byte, 512)
	n, _ := err.Read(b) // it listens
	if !strings.Contains(string(b[:n]), "listening") {
		n, _ = err.Read(b)
	}
	if !strings.Contains(string(b[:n]), "listening") {
		t.Fatalf("tcpdump: %s", b[:n])
	}
	go func() { _, _ = io.Copy(io.Discard, err) }()
	stopped := false
	stop = func() string {
		if !stopped {
			stopped = true
			for size := int64(-1); ; { // until it has written what it was given
				time.Sleep(300 * time.Millisecond)
				fi, err := os.Stat(file)
				must(t, err)
				if fi.Size() == size {
					break
				}
				size = fi.Size()
			}
			_ = cmd.Process.Signal(syscall.SIGINT)
			_ = cmd.Wait()
		}
		return file
	}
	t.Cleanup(func() { stop() })
	return stop
}

// fields gives what tshark finds in a capture.
func fields(t *testing.T, file, filter string, names ...string) [][]string {
	t.Helper()
	// The data is nothing that tshark could know.
	argv := []string{"-n", "-d", "tcp.port==7000,data", "-d", "udp.port==7001,data", "-r", file, "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a", "-Y", filter}
	for _, o := range []string{"ip.check_checksum", "tcp.check_checksum", "udp.check_checksum"} {
		argv = append(argv, "-o", o+":TRUE")
	}
	for _, f := range names {
		argv = append(argv, "-e", f)
	}
	cmd := exec.Command("tshark", argv...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	out, err := cmd.Output()
	must(t, err)
	var rows [][]string
	for line := range strings.Lines(string(out)) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return rows
}

// sound has tshark look at a capture: every checksum is right, and no packet is
// greater than 1500 bytes.
func sound(t *testing.T, file string) (packets int) {
	t.Helper()
	sums := []string{"ip.checksum.status", "tcp.checksum.status", "udp.checksum.status", "icmp.checksum.status", "icmpv6.checksum.status"}
	rows := fields(t, file, "", append(sums, "frame.number", "frame.len", "tcp.checksum", "tcp.checksum_calculated")...)
	bad := 0
	for _, r := range rows {
		for i := range sums {
			for s := range strings.SplitSeq(r[i], ",") {
				if s == "0" && !(sums[i] == "tcp.checksum.status" && r[7] == "0xffff" && r[8] == "0x0000") {
					if bad++; bad < 5 {
						t.Errorf("%s: frame %s: %s is %s", file, r[5], sums[i], r[i])
					}
				}
			}
		}
		var n int
		if _, err := fmt.Sscan(r[6], &n); err != nil || n > 1514 {
			t.Errorf("%s: frame %s has %s bytes", file, r[5], r[6])
		}
	}
	if rows := fields(t, file, "_ws.malformed", "frame.number"); len(rows) > 0 {
		t.Errorf("%s: %d frames are malformed", file, len(rows))
	}
	return len(rows)
}

// udpPeer is a UDP socket in a namespace.
func udpPeer(t *testing.T, ns, addr string) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	must(t, netns.Do(netns.Path(ns), func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
		return err
	}))
	t.Cleanup(func() { c.Close() })
	return c
}

// connections are those that the tenant's compartment tracks, as conntrack(8) has
// them.
func (r *rig) connections(n *tenant, filter string) []string {
	r.t.Helper()
	var out []string
	for _, family := range []string{"ipv4", "ipv6"} {
		for line := range strings.Lines(run(r.t, n.comp, "conntrack -L -f %s %s", family, filter)) {
			if strings.Contains(line, "src=") {
				out = append(out, strings.TrimSpace(line))
			}
		}
	}
	return out
}
