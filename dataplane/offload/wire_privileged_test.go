//go:build privileged && linux

package offload

import (
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/netns"
)

// ear records all that passes an interface, either way.
type ear struct {
	file string
	fd   int
	wg   sync.WaitGroup
	t    *testing.T
	over atomic.Bool // what is still to come has been sent
}

func listen(t *testing.T, ns, link string) *ear {
	t.Helper()
	e := &ear{file: filepath.Join(t.TempDir(), "wire.pcap"), t: t}
	must(t, netns.Do(netns.Path(ns), func() (err error) {
		i, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		if e.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(
			unix.SetsockoptInt(e.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
			unix.SetsockoptTimeval(e.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200000}),
			unix.Bind(e.fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: i.Index}))
	}))
	out, err := os.Create(e.file)
	must(t, err)
	e.wg.Go(func() {
		defer out.Close()
		w := pcapgo.NewWriter(out)
		if err := w.WriteFileHeader(1<<17, layers.LinkTypeEthernet); err != nil {
			t.Error(err)
		}
		b := make([]byte, 1<<17)
		for {
			n, _, err := unix.Recvfrom(e.fd, b, 0)
			switch {
			case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN) && !e.over.Load():
				continue
			case errors.Is(err, unix.EAGAIN): // nothing for a while
				return
			case err != nil:
				t.Error(err)
				return
			}
			if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Now(), CaptureLength: n, Length: n}, b[:n]); err != nil {
				t.Error(err)
			}
		}
	})
	t.Cleanup(func() { e.over.Store(true); e.wg.Wait() })
	return e
}

// stop gives the capture's file, once nothing has come for a moment.
func (e *ear) stop() string {
	e.over.Store(true)
	e.wg.Wait()
	_ = unix.Close(e.fd)
	return e.file
}

// dissect gives the fields of the packets that the filter lets through, by tshark.
func dissect(t *testing.T, file, filter string, fields ...string) [][]string {
	t.Helper()
	argv := []string{"-n", "-r", file, "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a", "-Y", filter}
	for _, o := range []string{"ip.check_checksum", "tcp.check_checksum", "udp.check_checksum"} {
		argv = append(argv, "-o", o+":TRUE")
	}
	for _, f := range fields {
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

// judge has tshark look at what was on the wire of the fabric: every checksum and
// length is right and no packet exceeds the MTU. It gives how many packets had TCP
// inside.
func judge(t *testing.T, file string) (tcp int) {
	t.Helper()
	return judgeAll(t, file, "gre || udp.dstport==4789")
}

// judgePlain does the same where there are no tunnels, as far as one end sent it.
func judgePlain(t *testing.T, file string) (tcp int) {
	t.Helper()
	return judgeAll(t, file, "ip.src==10.1.1.11 || ipv6.src==fd00:1::11")
}

func judgeAll(t *testing.T, file, filter string) (tcp int) {
	t.Helper()
	if rows := dissect(t, file, "_ws.malformed", "frame.number", "frame.protocols"); len(rows) > 0 {
		t.Errorf("tshark finds %d packets malformed: %v", len(rows), rows[0])
	}
	sums := []string{"ip.checksum.status", "tcp.checksum.status", "udp.checksum.status", "icmp.checksum.status", "icmpv6.checksum.status"}
	rows := dissect(t, file, filter, append(sums, "frame.number", "frame.len", "ip.len", "ipv6.plen", "tcp.checksum", "tcp.checksum_calculated", "tcp.len", "eth.type")...)
	if len(rows) == 0 {
		t.Fatal("there is nothing on the wire")
	}
	bad := 0
	for _, r := range rows {
		for i := range sums {
			if sums[i] == "tcp.checksum.status" && r[9] == "0xffff" && r[10] == "0x0000" {
				continue // one number, written in two ways
			}
			if slices.Contains(strings.Split(r[i], ","), "0") {
				if bad++; bad < 5 {
					t.Errorf("frame %s: %s is %s", r[5], sums[i], r[i])
				}
			}
		}
		n := number(t, r[6])
		outer := 14
		if length, _, _ := strings.Cut(r[7], ","); strings.HasPrefix(r[12], "0x0800") {
			outer += number(t, length)
		} else {
			length, _, _ = strings.Cut(r[8], ",")
			outer += 40 + number(t, length)
		}
		if n > 14+1500 || n != outer {
			t.Fatalf("frame %s has %d bytes, by its outer header %d", r[5], n, outer)
		}
		if r[11] != "" {
			tcp++
		}
	}
	return tcp
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	must(t, err)
	return n
}

// transfer takes n bytes by TCP from a client to a server, and checks them.
func transfer(t *testing.T, from, to, addr string, n int64) {
	t.Helper()
	transferVia(t, from, to, addr, addr, n)
}

// transferVia is transfer to a server that the client knows by another address.
func transferVia(t *testing.T, from, to, addr, via string, n int64) {
	t.Helper()
	var l net.Listener
	must(t, netns.Do(netns.Path(to), func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr(addr), 5001).String())
		return err
	}))
	defer l.Close()
	got := make(chan [32]byte, 1)
	go func() {
		defer close(got)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		h := sha256.New()
		if m, err := io.Copy(h, c); err != nil || m != n {
			t.Errorf("received %d bytes: %v", m, err)
		}
		got <- [32]byte(h.Sum(nil))
	}()
	want := sha256.New()
	must(t, netns.Do(netns.Path(from), func() error {
		c, err := net.DialTimeout("tcp", netip.AddrPortFrom(netip.MustParseAddr(via), 5001).String(), time.Minute)
		if err != nil {
			return err
		}
		defer c.Close()
		must(t, c.SetDeadline(time.Now().Add(60*time.Second)))
		b := make([]byte, 1<<16)
		for i := range b {
			b[i] = byte(i * 7)
		}
		for left := n; left > 0; left -= int64(len(b)) {
			b = b[:min(int64(len(b)), left)]
			_, _ = want.Write(b)
			if _, err := c.Write(b); err != nil {
				return err
			}
		}
		return nil
	}))
	if h, ok := <-got; !ok || h != [32]byte(want.Sum(nil)) {
		t.Errorf("to %s: other bytes arrived than were sent", addr)
	}
}
