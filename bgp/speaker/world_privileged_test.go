//go:build privileged && linux

package speaker

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nstest"
)

// patience is how long anything may take before the test gives up on it.
const patience = time.Minute

// childEnv makes the test binary a speaker, as compartmentd will be one: a process
// in the namespace that it was started in.
const childEnv = "HNVGATE_TEST_SPEAKER"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		if err := child(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// The tests wait for routers most of their time, so more of them run at once than
	// there are processors.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// ask is a request to the child, one line of JSON; answer is what it says.
type ask struct {
	Op      string   `json:"op"`
	Spec    bgp.Spec `json:"spec,omitzero"`
	Peer    string   `json:"peer,omitempty"`
	In, Out bool     `json:",omitempty"`
	Keep    bool     `json:"keep,omitempty"`
	Filter  Filter   `json:"filter,omitzero"`
	Silent  []netip.Prefix
}

type answer struct {
	Err   string
	State bgp.State
	Paths []bgp.Path
	Route bgp.Route
}

func child(in io.Reader, out io.Writer) error {
	level := slog.LevelWarn
	if os.Getenv(childEnv) == "debug" {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	fib, err := NewKernel("")
	if err != nil {
		return err
	}
	ctx := context.Background()
	var told sync.Map // by prefix
	s, err := New(ctx, Options{Log: log, FIB: fib, OnRoutes: func(routes []bgp.Route) {
		for _, r := range routes {
			told.Store(r.Prefix.String(), r)
		}
	}})
	if err != nil {
		return err
	}
	enc := json.NewEncoder(out)
	for dec := json.NewDecoder(in); ; {
		var q ask
		if err := dec.Decode(&q); err != nil {
			return err
		}
		var a answer
		switch q.Op {
		case "apply":
			err = s.Apply(ctx, q.Spec)
		case "state":
			a.State, err = s.Snapshot(ctx)
		case "routes":
			a.Paths, err = s.Routes(q.Filter)
		case "received":
			a.Paths, err = s.Received(q.Peer, q.Filter)
		case "advertised":
			a.Paths, err = s.Advertised(q.Peer, q.Filter)
		case "reset":
			err = s.SoftReset(ctx, q.Peer, q.In, q.Out)
		case "told":
			if r, ok := told.Load(q.Filter.Within.String()); ok {
				a.Route = r.(bgp.Route)
			}
		case "silent":
			err = s.SetSilent(ctx, q.Silent)
		case "idle":
			err = s.Idle()
		case "close":
			err = s.Close(q.Keep)
		}
		if err != nil {
			a.Err = err.Error()
		}
		if err := enc.Encode(a); err != nil {
			return err
		}
		if q.Op == "close" {
			return nil
		}
	}
}

// node is a namespace.
type node struct {
	t    *testing.T
	name string
}

func newNode(t *testing.T, word string) *node {
	t.Helper()
	n := &node{t, nstest.New(t, word)}
	n.ip("link set lo up")
	n.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.accept_dad=0",
		"net.ipv6.conf.all.keep_addr_on_down=1")
	return n
}

func (n *node) command(name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", n.name, name}, args...)...)
}

func (n *node) run(name string, args ...string) string {
	n.t.Helper()
	out, err := n.command(name, args...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%s: %s %s: %v\n%s", n.name, name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (n *node) ip(args string) string {
	n.t.Helper()
	return n.run("ip", strings.Fields(args)...)
}

// wire joins two nodes. Each end is "link address...".
func wire(t *testing.T, a *node, ends string, b *node, other string) {
	t.Helper()
	x, y := strings.Fields(ends), strings.Fields(other)
	a.ip(fmt.Sprintf("link add %s type veth peer name %s netns %s", x[0], y[0], b.name))
	for _, e := range []struct {
		n *node
		f []string
	}{{a, x}, {b, y}} {
		for _, addr := range e.f[1:] {
			e.n.ip("addr add " + addr + " dev " + e.f[0])
		}
		e.n.ip("link set " + e.f[0] + " up")
	}
}

// start runs a process in the node until the test ends.
func (n *node) start(cmd *exec.Cmd) {
	n.t.Helper()
	err := netns.Do(netns.Path(n.name), cmd.Start)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { end(n.t, cmd) })
}

// end stops a process by its id.
func end(t *testing.T, cmd *exec.Cmd) {
	if cmd.ProcessState != nil {
		return
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	timer.Stop()
}

// process is a speaker in a node.
type process struct {
	t   *testing.T
	n   *node
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	log *journal
}

// journal keeps what a process says, for when its test fails.
type journal struct {
	mu sync.Mutex
	b  []byte
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.b = append(j.b, b...)
	return len(b), nil
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return string(j.b)
}

func (n *node) speaker() *process {
	n.t.Helper()
	self, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	p := &process{t: n.t, n: n, cmd: exec.Command(self), log: &journal{}}
	mode := os.Getenv("HNVGATE_TEST_SPEAKER_LOG")
	if mode == "" {
		mode = "quiet"
	}
	p.cmd.Env = append(os.Environ(), childEnv+"="+mode)
	p.cmd.Stderr = p.log
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		n.t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	p.out = bufio.NewReaderSize(out, 1<<20)
	n.start(p.cmd)
	n.t.Cleanup(func() {
		if n.t.Failed() {
			n.t.Logf("%s: speaker said:\n%s", n.name, p.log)
		}
	})
	return p
}

func (p *process) try(q ask) (answer, error) {
	p.t.Helper()
	var a answer
	b, err := json.Marshal(q)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.in.Write(append(b, '\n')); err != nil {
		p.t.Fatalf("speaker: %v\n%s", err, p.log)
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		p.t.Fatalf("speaker: %v\n%s", err, p.log)
	}
	if err := json.Unmarshal(line, &a); err != nil {
		p.t.Fatalf("speaker: %v: %s", err, line)
	}
	if a.Err != "" {
		return a, fmt.Errorf("%s", a.Err)
	}
	return a, nil
}

func (p *process) do(q ask) answer {
	p.t.Helper()
	a, err := p.try(q)
	if err != nil {
		p.t.Fatalf("%s: %v", q.Op, err)
	}
	return a
}

func (p *process) apply(s bgp.Spec) { p.t.Helper(); p.do(ask{Op: "apply", Spec: s}) }

func (p *process) state() bgp.State { p.t.Helper(); return p.do(ask{Op: "state"}).State }

// peer is a peer's state by its name.
func (p *process) peer(name string) bgp.PeerState {
	p.t.Helper()
	for _, s := range p.state().Peers {
		if s.Name == name {
			return s
		}
	}
	return bgp.PeerState{}
}

func (p *process) established(names ...string) {
	p.t.Helper()
	for _, name := range names {
		wait(p.t, "session "+name, func() (bool, string) {
			s := p.peer(name)
			return s.Session == "established", s.Session + " " + s.Reason
		})
	}
}

// stop ends the process by itself.
func (p *process) stop(keep bool) {
	p.t.Helper()
	p.do(ask{Op: "close", Keep: keep})
	if err := p.cmd.Wait(); err != nil {
		p.t.Fatalf("speaker: %v\n%s", err, p.log)
	}
}

// say shows a value in a message.
func say(v any) string {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// wait waits for what must come; the condition says what it saw.
func wait(t *testing.T, what string, ok func() (bool, string)) {
	t.Helper()
	var saw string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(30 * time.Millisecond) {
		var done bool
		if done, saw = ok(); done {
			return
		}
	}
	t.Fatalf("%s: not in %s; last seen: %s", what, patience, saw)
}

// routes waits until the node's table of the family has the line, or has it not.
func (n *node) routes(family, prefix string, want bool, parts ...string) {
	n.t.Helper()
	wait(n.t, fmt.Sprintf("%s: route %s %v, wanted: %v", n.name, prefix, parts, want), func() (bool, string) {
		out := n.ip(family + " route show " + prefix + " proto 203")
		has := strings.TrimSpace(out) != ""
		for _, p := range parts {
			has = has && strings.Contains(out, p)
		}
		return has == want, out
	})
}

// frr is FRR in a node: zebra and bgpd.
type frr struct {
	n   *node
	dir string
}

// frr starts FRR with the configuration, which is bgpd's.
func (n *node) frr(config string) *frr {
	n.t.Helper()
	f := n.frrZebra()
	f.daemon("bgpd", config)
	return f
}

// frrZebra starts FRR without bgpd.
func (n *node) frrZebra() *frr {
	n.t.Helper()
	f := &frr{n, socketDir(n.t)}
	u, err := user.Lookup("frr") // its daemons insist on being this user
	if err != nil {
		n.t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(f.dir, uid, gid); err != nil {
		n.t.Fatal(err)
	}
	f.daemon("zebra", "hostname "+n.name+"\n", "-s", "8000000")
	return f
}

// socketDir is a folder with a short name, for unix sockets.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hnvt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (f *frr) daemon(name, config string, args ...string) *exec.Cmd {
	f.n.t.Helper()
	conf := filepath.Join(f.dir, name+".conf")
	if err := os.WriteFile(conf, []byte(config), 0o644); err != nil {
		f.n.t.Fatal(err)
	}
	cmd := exec.Command("/usr/lib/frr/"+name, append([]string{
		"-f", conf, "-i", filepath.Join(f.dir, name+".pid"), "-z", filepath.Join(f.dir, "zserv.api"),
		"--vty_socket", f.dir, "-P", "0", "--log", "file:" + filepath.Join(f.dir, name+".log"),
	}, args...)...)
	j := &journal{}
	cmd.Stdout, cmd.Stderr = j, j
	f.n.start(cmd)
	wait(f.n.t, name, func() (bool, string) {
		_, err := os.Stat(filepath.Join(f.dir, name+".vty"))
		return err == nil, j.String()
	})
	f.n.t.Cleanup(func() {
		if f.n.t.Failed() {
			log, _ := os.ReadFile(filepath.Join(f.dir, name+".log"))
			f.n.t.Logf("%s of %s said:\n%s%s", name, f.n.name, j, log)
		}
	})
	return cmd
}

// show runs a command of vtysh.
func (f *frr) show(commands ...string) string {
	f.n.t.Helper()
	args := []string{"--vty_socket", f.dir}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	out, err := exec.Command("vtysh", args...).CombinedOutput()
	if err != nil {
		f.n.t.Fatalf("vtysh %q: %v\n%s", commands, err, out)
	}
	return string(out)
}

// sees waits until a command's output has all parts.
func (f *frr) sees(command string, parts ...string) {
	f.n.t.Helper()
	wait(f.n.t, fmt.Sprintf("FRR: %s: %q", command, parts), func() (bool, string) {
		out := f.show(command)
		for _, p := range parts {
			if !strings.Contains(out, p) {
				return false, out
			}
		}
		return true, out
	})
}
