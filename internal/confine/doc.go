// Package confine binds a process to what it needs, so that whoever takes it
// over from within has little: two steps, because capabilities and Landlock are
// of one thread and only what is executed anew has them on all.
//
//  1. Enter drops all capabilities but those named, forbids new privileges,
//     shuts off the file system but for the paths named (Landlock, where the
//     kernel has it), and executes the program again.
//  2. Filter, in the new program, allows the system calls that a Go program with
//     sockets and files makes, and no others (seccomp, on all threads).
//
// A call that is refused fails with EPERM; nothing is killed. cmd/compartmentd
// and tests import it.
package confine
