package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/hnvgate/hnvgate/api/server"
	"github.com/hnvgate/hnvgate/api/server/servertest"
	"github.com/hnvgate/hnvgate/hnv"
)

var update = flag.Bool("update", false, "write the transcripts anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gateway serves a state of its own on a socket until the test ends. The checks stand
// for those of the engines.
func gateway(t *testing.T, checks ...func(*hnv.Fabric, hnv.Name) error) (socket string, store *servertest.Store) {
	t.Helper()
	dir, err := os.MkdirTemp("", "hnv") // short enough for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	l, err := server.Listen(server.SocketOptions{Path: socket})
	if err != nil {
		t.Fatal(err)
	}
	store = servertest.NewStore(hnv.Site{
		Uplinks: []string{"internet", "physical", "tagged"}, PAInterfaces: []string{"eth1"},
		UplinkKinds: map[string]string{"internet": hnv.UplinkRouted, "physical": hnv.UplinkMACVLAN, "tagged": hnv.UplinkVLAN},
		Checks:      checks,
	})
	s := server.New(store, &servertest.Backend{Store: store, Sick: "litware"}, new(servertest.Secrets), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return socket, store
}

var (
	drawn     = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)
	hash      = regexp.MustCompile(`(?m)^#`) // begins a comment of a transcript
	goRelease = regexp.MustCompile(`0\.1\.0-dev[^,]*, go1[.0-9a-z]+`)
)

// call runs one command line and gives what a terminal would show, with the
// lines of standard error marked and the exit code where it is not 0.
func call(t *testing.T, socket, line string) string {
	t.Helper()
	args := words(line)
	var in io.Reader = strings.NewReader("")
	if n := len(args); n > 1 && args[n-2] == "<" {
		b, err := os.ReadFile(args[n-1])
		if err != nil {
			t.Fatal(err)
		}
		in, args = bytes.NewReader(b), args[:n-2]
	}
	if args[0] != "gatewayctl" {
		t.Fatalf("%q is no call of gatewayctl", line)
	}
	env := func(name string) string {
		if name == socketEnv {
			return socket
		}
		return ""
	}
	var out, errOut bytes.Buffer
	code := run(t.Context(), args[1:], env, in, &out, &errOut)
	text := out.String()
	if errOut.Len() > 0 {
		text += "! " + strings.ReplaceAll(strings.TrimSuffix(errOut.String(), "\n"), "\n", "\n! ") + "\n"
	}
	if code != 0 {
		text += fmt.Sprintf("[exit %d]\n", code)
	}
	text = hash.ReplaceAllString(text, `\#`)
	text = drawn.ReplaceAllString(text, "<GUID>")
	text = goRelease.ReplaceAllString(text, "<this release>")
	return strings.ReplaceAll(text, socket, "<socket>")
}

// words splits a line at spaces outside of single quotes.
func words(line string) []string {
	var out []string
	var b strings.Builder
	quoted, any := false, false
	for _, r := range line {
		switch {
		case r == '\'':
			quoted, any = !quoted, true
		case r == ' ' && !quoted:
			if any {
				out = append(out, b.String())
			}
			b.Reset()
			any = false
		default:
			b.WriteRune(r)
			any = true
		}
	}
	if any {
		out = append(out, b.String())
	}
	return out
}

// TestTranscripts plays each file of testdata against a gateway of its own. A
// line that begins with a dollar sign is a call; what follows is what it says.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			abs, err := filepath.Abs(file)
			if err != nil {
				t.Fatal(err)
			}
			socket, store := gateway(t)
			t.Chdir("testdata")
			var got strings.Builder
			for line := range strings.Lines(string(b)) {
				switch {
				case strings.HasPrefix(line, "#"):
					got.WriteString(line)
				case strings.HasPrefix(line, "$ "):
					before := store.Objects()
					answer := call(t, socket, strings.TrimSpace(line[2:]))
					got.WriteString(line)
					got.WriteString(answer)
					if strings.Contains(answer, "[exit ") && !store.Same(before) {
						t.Errorf("%sit failed and changed the state", line)
					}
				}
			}
			if *update {
				if err := os.WriteFile(abs, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(strings.Split(string(b), "\n"), strings.Split(got.String(), "\n")); diff != "" {
				t.Errorf("-%s +now:\n%s", file, diff)
			}
		})
	}
}

// TestDocumentedExample applies the example of the guide.
func TestDocumentedExample(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guide/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(guide), "```yaml\n# site.yaml")
	example, _, ok2 := strings.Cut(rest, "```\n")
	if !ok || !ok2 {
		t.Fatal("the guide has no example that begins with # site.yaml")
	}
	path := filepath.Join(t.TempDir(), "site.yaml")
	if err := os.WriteFile(path, []byte("# site.yaml"+example), 0o600); err != nil {
		t.Fatal(err)
	}
	socket, store := gateway(t)
	if out := call(t, socket, "gatewayctl apply --dry-run -f "+path); strings.Contains(out, "[exit") {
		t.Fatal(out)
	}
	if out := call(t, socket, "gatewayctl apply -f "+path); !strings.Contains(out, "22 created, 0 updated, 0 unchanged: applied") {
		t.Fatal(out)
	}
	// All kinds of objects are in it.
	have := map[hnv.Kind]bool{}
	for _, o := range store.Objects() {
		have[o.Kind()] = true
	}
	for _, k := range hnv.Kinds() {
		if !have[k] {
			t.Errorf("the example has no %s", k)
		}
	}
	if out := call(t, socket, "gatewayctl apply -f "+path); !strings.Contains(out, "0 created, 0 updated, 22 unchanged") {
		t.Error(out)
	}
}

// What the guides show is taken, one call after the other.
func TestGuidesRun(t *testing.T) {
	for _, guide := range []string{"forwarding", "site-to-site", "bgp"} {
		t.Run(guide, func(t *testing.T) {
			b, err := os.ReadFile("../../docs/guide/" + guide + ".md")
			if err != nil {
				t.Fatal(err)
			}
			socket, _ := gateway(t)
			dir := t.TempDir()
			for _, f := range []string{"own.key", "edge.md5"} {
				data, err := os.ReadFile(filepath.Join("testdata", f))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, f), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			t.Chdir(dir)
			for _, m := range shownFile.FindAllStringSubmatch(string(b), -1) {
				if err := os.WriteFile(m[2], []byte(m[1]), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			calls := 0
			for line := range strings.Lines(string(b)) {
				if shown, ok := strings.CutPrefix(strings.TrimSpace(line), "$ "); ok {
					calls++
					if out := call(t, socket, shown); strings.Contains(out, "[exit ") {
						t.Errorf("%s\n%s", shown, out)
					}
				}
			}
			if calls < 10 {
				t.Errorf("only %d calls are shown", calls)
			}
		})
	}
}

// shownFile is a file that a guide shows, with its name in the first line.
var shownFile = regexp.MustCompile("(?s)```yaml\n(# ([a-z-]+\\.yaml):.*?)```")
