//go:build linux

package guest

import (
	"fmt"
	"io"
)

// archive writes an initial RAM file system: cpio's "newc" format, as the kernel
// takes it (its document driver-api/early-userspace/buffer-format).
type archive struct {
	w     io.Writer
	n     int // bytes written
	inode int
	err   error
}

// File types of the mode field.
const (
	modeDir  = 0o040000
	modeFile = 0o100000
	modeLink = 0o120000
)

func (a *archive) add(name string, mode uint32, data []byte) {
	a.inode++
	links := 1
	if mode&modeDir != 0 {
		links = 2
	}
	a.write(fmt.Appendf(nil, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name)+1, 0))
	a.write(append([]byte(name), 0))
	a.pad()
	a.write(data)
	a.pad()
}

// end writes the trailer; err is the first error of all.
func (a *archive) end() error {
	a.add("TRAILER!!!", 0, nil)
	return a.err
}

func (a *archive) write(b []byte) {
	if a.err == nil {
		_, a.err = a.w.Write(b)
		a.n += len(b)
	}
}

func (a *archive) pad() { a.write(make([]byte, -a.n&3)) }
