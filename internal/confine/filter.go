//go:build linux

package confine

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// check is a condition on one argument of a system call; the upper half of the
// argument is left alone, as the kernel takes these as 32 bits.
type check struct {
	arg  int
	mask uint32
	in   []uint32
}

// Filter allows, on all threads and for good, the system calls listed for this
// processor, and refuses others with EPERM.
func Filter() error {
	prog := program(uint32(os.Getpid()))
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	r, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	if r != 0 { // a thread that has filters of its own
		return os.NewSyscallError("seccomp", unix.ESRCH)
	}
	return nil
}

// Offsets in struct seccomp_data: number, architecture, address, arguments.
const (
	dataNumber = 0
	dataArch   = 4
	dataArgs   = 16
)

// program writes the filter, for the process with the ID.
func program(pid uint32) []unix.SockFilter {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
		and   = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K

		permit = 0x7fff0000 // SECCOMP_RET_ALLOW
		refuse = 0x00050000 // SECCOMP_RET_ERRNO
		eperm  = refuse | uint32(unix.EPERM)
		enosys = refuse | uint32(unix.ENOSYS)
	)
	one := func(code uint16, k uint32, jt, jf uint8) unix.SockFilter {
		return unix.SockFilter{Code: code, Jt: jt, Jf: jf, K: k}
	}
	out := []unix.SockFilter{
		one(load, dataArch, 0, 0),
		one(equal, auditArch, 1, 0), one(ret, eperm, 0, 0),
		one(load, dataNumber, 0, 0),
		// Where clone3 is not there, clone is used, whose flags can be seen.
		one(equal, unix.SYS_CLONE3, 0, 1), one(ret, enosys, 0, 0),
	}
	for _, n := range allowed {
		out = append(out, one(equal, uint32(n), 0, 1), one(ret, permit, 0, 0))
	}
	checked := map[int]check{
		// Threads, not processes.
		unix.SYS_CLONE: {0, unix.CLONE_THREAD | unix.CLONE_VM, []uint32{unix.CLONE_THREAD | unix.CLONE_VM}},
		// No packet sockets, nor anything exotic.
		unix.SYS_SOCKET: {0, ^uint32(0), []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK}},
		// Signals to itself alone.
		unix.SYS_TGKILL: {0, ^uint32(0), []uint32{pid}},
		unix.SYS_KILL:   {0, ^uint32(0), []uint32{pid}},
	}
	for _, n := range []int{unix.SYS_CLONE, unix.SYS_SOCKET, unix.SYS_TGKILL, unix.SYS_KILL} {
		c := checked[n]
		body := []unix.SockFilter{one(load, uint32(dataArgs+8*c.arg), 0, 0), one(and, c.mask, 0, 0)}
		for _, v := range c.in {
			body = append(body, one(equal, v, 0, 1), one(ret, permit, 0, 0))
		}
		body = append(body, one(ret, eperm, 0, 0))
		out = append(out, one(equal, uint32(n), 0, uint8(len(body))))
		out = append(out, body...)
	}
	return append(out, one(ret, eperm, 0, 0))
}

// common are the calls that a Go program with sockets, files, timers and threads
// makes, and that this process needs; all processors have them.
var common = []int{
	// memory and threads
	unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MPROTECT, unix.SYS_MADVISE, unix.SYS_MREMAP, unix.SYS_BRK, unix.SYS_MINCORE,
	unix.SYS_FUTEX, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY,
	unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_GETPPID, unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_RESTART_SYSCALL,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK,
	unix.SYS_PRLIMIT64, unix.SYS_GETRUSAGE, unix.SYS_UNAME, unix.SYS_GETRANDOM, unix.SYS_MEMBARRIER,
	unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID, unix.SYS_SYSINFO,
	// time
	unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_GETRES, unix.SYS_GETTIMEOFDAY,
	unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_DELETE, unix.SYS_SETITIMER,
	// files; which ones is for Landlock to say
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_PWRITE64, unix.SYS_CLOSE, unix.SYS_LSEEK,
	unix.SYS_OPENAT, unix.SYS_FSTAT, unix.SYS_STATX, unix.SYS_STATFS, unix.SYS_FSTATFS, unix.SYS_FTRUNCATE, unix.SYS_FSYNC, unix.SYS_FDATASYNC,
	unix.SYS_READLINKAT, unix.SYS_UNLINKAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_MKDIRAT, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2,
	unix.SYS_GETDENTS64, unix.SYS_FCNTL, unix.SYS_FLOCK, unix.SYS_DUP, unix.SYS_DUP3, unix.SYS_UMASK, unix.SYS_GETCWD, unix.SYS_FCHMODAT, unix.SYS_FCHMOD,
	unix.SYS_IOCTL, unix.SYS_PIPE2, unix.SYS_EVENTFD2, unix.SYS_SPLICE, unix.SYS_SENDFILE, unix.SYS_COPY_FILE_RANGE,
	// waiting
	unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_PPOLL, unix.SYS_PSELECT6,
	// sockets
	unix.SYS_SOCKETPAIR, unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_CONNECT, unix.SYS_SHUTDOWN,
	unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME, unix.SYS_GETSOCKOPT, unix.SYS_SETSOCKOPT,
	unix.SYS_SENDTO, unix.SYS_RECVFROM, unix.SYS_SENDMSG, unix.SYS_RECVMSG, unix.SYS_SENDMMSG, unix.SYS_RECVMMSG,
}
