//go:build linux

package agent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/agentapi"
)

// news hears of agents whose state has changed: each writes a file in its run
// folder then. So nobody has to ask a thousand agents again and again, nor to keep a
// connection to each.
type news struct {
	f *os.File // inotify(7)

	mu  sync.Mutex
	who map[int32]hnv.Name // by watch
}

func openNews() (*news, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	return &news{f: os.NewFile(uintptr(fd), "inotify"), who: map[int32]hnv.Name{}}, nil
}

// watch has the tenant's run folder watched; again is fine.
func (n *news) watch(t hnv.Name, dir string) error {
	raw, err := n.f.SyscallConn()
	if err != nil {
		return err
	}
	var wd int
	var errAdd error
	// With the lock: what comes next may be of the new watch.
	n.mu.Lock()
	defer n.mu.Unlock()
	err = raw.Control(func(fd uintptr) { wd, errAdd = unix.InotifyAddWatch(int(fd), dir, unix.IN_CLOSE_WRITE|unix.IN_ONLYDIR) })
	if err = errors.Join(err, errAdd); err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	n.who[int32(wd)] = t
	return nil
}

// listen calls heard for each tenant whose agent has news, until the end.
func (n *news) listen(heard func(hnv.Name)) error {
	b := make([]byte, 64<<10)
	for {
		k, err := n.f.Read(b)
		if errors.Is(err, fs.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		n.each(b[:k], heard)
	}
}

// each takes events apart: struct inotify_event of 16 bytes, then the file's name,
// filled up with zeros.
func (n *news) each(b []byte, heard func(hnv.Name)) {
	for len(b) >= unix.SizeofInotifyEvent {
		wd, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
		if end > len(b) {
			return
		}
		name := bytes.TrimRight(b[unix.SizeofInotifyEvent:end], "\x00")
		b = b[end:]
		n.mu.Lock()
		t, known := n.who[wd]
		all := make([]hnv.Name, 0)
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0: // whose it was is lost
			for _, t := range n.who {
				all = append(all, t)
			}
		case mask&unix.IN_IGNORED != 0: // the folder is gone
			delete(n.who, wd)
		case known && string(name) == agentapi.NewsName:
			all = append(all, t)
		}
		n.mu.Unlock()
		for _, t := range all {
			heard(t)
		}
	}
}

func (n *news) close() { _ = n.f.Close() }
