package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// SocketOptions says where the API's unix socket is and who may use it. Whoever
// may write to it controls the gateway.
type SocketOptions struct {
	Path  string
	Mode  fs.FileMode // 0: 0660
	Owner string      // name or number; empty: the process' own
	Group string      // name or number; empty: the process' own
}

// maxSocketPath is what fits into a sockaddr_un with the suffix used while the
// socket is made (unix(7): 108 bytes, one of them a zero).
const maxSocketPath = 107 - len(newSuffix)

const newSuffix = ".new"

// Listen makes the socket. What a dead process left at the path is replaced; a
// live one's, and whatever is not a socket, is refused. Closing the listener
// removes the socket.
func Listen(o SocketOptions) (net.Listener, error) {
	if !filepath.IsAbs(o.Path) || len(o.Path) > maxSocketPath {
		return nil, fmt.Errorf("API socket %q: give an absolute path of at most %d bytes", o.Path, maxSocketPath)
	}
	if o.Mode == 0 {
		o.Mode = 0o660
	}
	uid, gid, err := o.ids()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o755); err != nil {
		return nil, fmt.Errorf("API socket: %w", err)
	}
	if err := free(o.Path); err != nil {
		return nil, err
	}
	// Made aside and moved into place, so that at no moment somebody else can
	// open it and at no moment there is none.
	made := o.Path + newSuffix
	if err := os.Remove(made); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("API socket: %w", err)
	}
	old := syscall.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("API socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	fail := func(err error) (net.Listener, error) {
		_ = l.Close()
		_ = os.Remove(made)
		return nil, fmt.Errorf("API socket %s: %w", o.Path, err)
	}
	if uid >= 0 || gid >= 0 {
		if err := os.Lchown(made, uid, gid); err != nil {
			return fail(err)
		}
	}
	if err := os.Chmod(made, o.Mode.Perm()); err != nil {
		return fail(err)
	}
	mine, err := os.Lstat(made)
	if err != nil {
		return fail(err)
	}
	if err := os.Rename(made, o.Path); err != nil {
		return fail(err)
	}
	return &socket{l, o.Path, mine}, nil
}

func (o SocketOptions) ids() (uid, gid int, err error) {
	uid, gid = -1, -1
	if o.Owner != "" {
		if uid, err = strconv.Atoi(o.Owner); err != nil {
			u, err := user.Lookup(o.Owner)
			if err != nil {
				return 0, 0, fmt.Errorf("API socket: owner %q is not a user of this machine", o.Owner)
			}
			uid, _ = strconv.Atoi(u.Uid)
		}
	}
	if o.Group != "" {
		if gid, err = strconv.Atoi(o.Group); err != nil {
			g, err := user.LookupGroup(o.Group)
			if err != nil {
				return 0, 0, fmt.Errorf("API socket: group %q is not a group of this machine", o.Group)
			}
			gid, _ = strconv.Atoi(g.Gid)
		}
	}
	return uid, gid, nil
}

// free tells whether the path may be taken.
func free(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("API socket: %w", err)
	}
	if fi.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("API socket %s: there is something else at that path, which is left alone: remove it or choose another path", path)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("API socket %s: another gatewayd serves it: stop that one, or give this one a socket of its own", path)
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil // nobody listens: its maker is dead
	}
	return fmt.Errorf("API socket %s: cannot tell whether another gatewayd serves it: %w", path, err)
}

// socket removes its file when it closes, unless the file is another's by then.
type socket struct {
	*net.UnixListener
	path string
	mine fs.FileInfo
}

// Addr is where it was moved to, not where it was made.
func (s *socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }

func (s *socket) Close() error {
	if fi, err := os.Lstat(s.path); err == nil && os.SameFile(fi, s.mine) {
		_ = os.Remove(s.path)
	}
	return s.UnixListener.Close()
}
