//go:build linux

// Package guest boots Debian's kernel in a virtual machine (QEMU's emulation, no
// KVM) and runs privileged tests of this project inside: what this machine's kernel
// may lack, as 802.1Q and WireGuard, and the engines on an older kernel than the one
// they are developed on.
//
// The guest is the kernel that ./fetch gets and an initial RAM file system: Debian's
// modules for networks, the programs that tests call, from this machine with their
// libraries, the tests as static binaries, and cmd/guestinit as its first process,
// which runs the tests and writes to the console what they say. It has no disk and
// no network card, and needs no privileges.
package guest
