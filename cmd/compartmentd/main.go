//go:build linux

// Command compartmentd is the agent of one compartment: it runs what has to run
// inside the tenant's network namespace. gatewayd starts it there, confined, and
// tells it by a unix socket what to do (package agentapi); it is not meant to be
// started by hand.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/agentapi"
	"github.com/hnvgate/hnvgate/internal/agentd"
	"github.com/hnvgate/hnvgate/internal/confine"
	"github.com/hnvgate/hnvgate/internal/seal"
)

// Set when the release is built.
var version = "0.1.0-dev"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "compartmentd:", err)
		os.Exit(1)
	}
}

type flags struct {
	dir, tenant, confined string
	keyFD                 int
	version               bool
}

func parse(args []string) (flags, error) {
	var f flags
	set := flag.NewFlagSet("compartmentd", flag.ContinueOnError)
	set.StringVar(&f.dir, "dir", "", "run folder of this agent: socket, lock, sealed state")
	set.StringVar(&f.tenant, "tenant", "", "whose compartment it is")
	set.IntVar(&f.keyFD, "key-fd", 3, "file descriptor that the key of the sealed state is read from")
	set.StringVar(&f.confined, "confined", "", "what confines the process already; set when it executes itself")
	set.BoolVar(&f.version, "version", false, "print the version")
	if err := set.Parse(args); err != nil {
		return f, err
	}
	if !f.version && (f.dir == "" || f.tenant == "" || set.NArg() > 0) {
		return f, fmt.Errorf("--dir and --tenant are needed, and nothing else")
	}
	return f, nil
}

func run() error {
	f, err := parse(os.Args[1:])
	if err != nil {
		return err
	}
	if f.version {
		fmt.Println("compartmentd", version)
		return nil
	}
	if f.confined == "" {
		return confine.Enter(reach(f.dir), capabilities, func(done []string) []string {
			return append(os.Args[:len(os.Args):len(os.Args)], "--confined", strings.Join(done, ","))
		}, os.Environ())
	}
	// The keys are in this process: no core of it may come to a disk.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	key, err := readKey(f.keyFD)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("tenant", f.tenant)
	news := make(chan struct{}, 1)
	turned := func() {
		select {
		case news <- struct{}{}:
		default: // it is to be told already
		}
	}
	moved := make(chan struct{}, 1)
	tunnels, err := newTunnels(log, turned, moved)
	if err != nil {
		return err
	}
	routes, err := newRouting(log, turned)
	if err != nil {
		return err
	}
	go thrift(ctx)
	go avoid(ctx, log, tunnels.engine, routes.speaker, moved)
	log.Info("agent starts", "version", version, "pid", os.Getpid())
	err = agentd.Run(ctx, agentd.Options{
		Dir: f.dir, Tenant: f.tenant, Version: version, Key: key, Log: log,
		Confined: append(strings.Split(f.confined, ","), "seccomp"),
		// Sessions go through tunnels, and next hops are at their other ends.
		Turned: news,
		Parts:  []agentd.Named{{Name: agentapi.S2S, Part: tunnels}, {Name: agentapi.BGP, Part: routes}},
	}, confine.Filter)
	log.Info("agent ends", "error", err)
	return err
}

// capabilities: links, routes and sockets' marks; echo probes; BGP's port 179.
var capabilities = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_NET_BIND_SERVICE}

// reach is what of the file system the agent needs.
func reach(dir string) []confine.Path {
	return []confine.Path{
		{Name: dir, Access: confine.All},
		{Name: "/dev/net/tun", Access: confine.ReadWrite},
		{Name: "/proc", Access: confine.ReadExec},
		{Name: "/proc/sys/net", Access: confine.ReadWrite},
		// A dynamically linked build finds its libraries.
		{Name: "/lib", Access: confine.ReadExec},
		{Name: "/lib64", Access: confine.ReadExec},
		{Name: "/usr/lib", Access: confine.ReadExec},
		{Name: "/etc/ld.so.cache", Access: confine.ReadExec},
	}
}

// readKey takes the key from the file descriptor: so it is on no disk, command
// line or environment of this process.
func readKey(fd int) (seal.Key, error) {
	f := os.NewFile(uintptr(fd), "key")
	if f == nil {
		return seal.Key{}, fmt.Errorf("file descriptor %s for the key is not open", strconv.Itoa(fd))
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil {
		return seal.Key{}, fmt.Errorf("read the key: %w", err)
	}
	return seal.KeyFrom(b)
}
