//go:build privileged && linux

package s2s

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nft"
)

// The packets of a tunnel, and no others, have its DSCP.
func TestDSCP(t *testing.T) {
	t.Parallel()
	b := newBranches(t)
	e := b.comp.engine()
	spec := b.with(func(t *Tunnel) { t.DSCP = 46 })
	apply(t, e, spec)
	if r := apply(t, e, spec); len(r.Changed) > 0 {
		t.Errorf("the same again changed %v", r.Changed)
	}
	// A socket at the site sees IP packets as they come.
	var fd int
	must(t, netns.Do(b.sites[0].path(), func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
		return os.NewSyscallError("socket", err)
	}))
	defer unix.Close(fd)
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 15}))
	must(t, say(b.comp.dial("10.1.1.1", "192.168.1.1:7"), "with a mark"))
	packet := make([]byte, 2048)
	n, _, err := unix.Recvfrom(fd, packet, 0)
	must(t, err)
	if n < 28 || packet[1]>>2 != 46 || sum(packet[:20]) != 0xffff {
		t.Errorf("the packet begins with %x", packet[:20])
	}
	if there, err := e.nft.Exists(nft.Inet, tableName); err != nil || !there {
		t.Errorf("the table is there: %v, %v", there, err)
	}
	apply(t, e, b.spec)
	if there, err := e.nft.Exists(nft.Inet, tableName); err != nil || there {
		t.Errorf("without a DSCP the table is there: %v, %v", there, err)
	}
	must(t, say(b.comp.dial("10.1.1.1", "192.168.1.1:7"), "without"))
}
