package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/hnvgate/hnvgate"

// mayImport lists, for each top-level folder, the folders of this module that
// its packages may import besides themselves. A folder that is not listed here
// does not belong to the project.
var mayImport = map[string][]string{
	"hnv":       {},
	"dataplane": {"hnv"},
	// The part of the dataplane that is in the kernel.
	"dataplane/offload": {"hnv", "internal"},
	"compartments":      {"hnv", "internal"},
	"nat":               {"hnv", "internal"},
	"forwarder":         {"hnv", "internal"},
	"s2s":               {"hnv", "internal"},
	"bgp":               {"hnv", "internal"},
	"store":             {"hnv"},
	"api":               {"hnv"},
	"control":           {"hnv", "store", "api", "dataplane", "compartments", "nat", "forwarder", "s2s", "bgp"},
	"cmd":               {"hnv", "store", "api", "control", "dataplane", "compartments", "nat", "forwarder", "s2s", "bgp", "internal"},
	"internal":          {"hnv"},
	"appliance":         {},
	"test":              {"hnv", "store", "api", "control", "dataplane", "compartments", "nat", "forwarder", "s2s", "bgp", "internal"},
}

// onlyIn lists libraries that are kept to the folders named.
var onlyIn = map[string]string{
	"github.com/vishvananda/netlink": "internal",
	"github.com/vishvananda/netns":   "internal",
	"github.com/google/nftables":     "internal",
	"github.com/mdlayher/netlink":    "internal",
	"go.etcd.io/":                    "store",
	"github.com/danielgtaylor/huma":  "api",
	"github.com/spf13/cobra":         "cmd test",
	"github.com/gaissmai/bart":       "dataplane",
	"github.com/cilium/ebpf":         "dataplane/offload test",
	"golang.zx2c4.com/wireguard":     "s2s",
	"github.com/osrg/gobgp":          "bgp/internal/gobgp",
}

func TestImports(t *testing.T) {
	root := filepath.Join("..", "..")
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "testdata" || d.Name() == "bin" || d.Name() == "out") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		files++
		checkFile(t, path, filepath.ToSlash(rel))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 50 {
		t.Errorf("only %d files were looked at", files)
	}
}

func checkFile(t *testing.T, path, rel string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return
	}
	top, _, nested := strings.Cut(rel, "/")
	_, known := mayImport[top]
	if !nested || !known {
		t.Errorf("%s: Go files belong in one of the project's folders", rel)
		return
	}
	isTest := strings.HasSuffix(rel, "_test.go")
	for _, spec := range f.Imports {
		imp, _ := strconv.Unquote(spec.Path.Value)
		dir := filepath.ToSlash(filepath.Dir(rel))
		if msg := forbidden(dir, allowed(dir), imp, isTest); msg != "" {
			t.Errorf("%s imports %s: %s", rel, imp, msg)
		}
	}
}

// allowed gives the rule for the folder, or for what it is in.
func allowed(dir string) []string {
	if own, ok := mayImport[dir]; ok {
		return own
	}
	top, _, _ := strings.Cut(dir, "/")
	return mayImport[top]
}

// forbidden says why a file in the folder may not import imp; "" if it may.
func forbidden(dir string, allowed []string, imp string, isTest bool) string {
	top, _, _ := strings.Cut(dir, "/")
	if rest, ours := strings.CutPrefix(imp, module+"/"); ours {
		if rest == "bgp/speaker" && dir != "cmd/compartmentd" && dir != rest && top != "test" {
			return "a speaker runs inside a compartment: only cmd/compartmentd has one"
		}
		folder, _, _ := strings.Cut(rest, "/")
		if folder == top {
			return ""
		}
		for _, a := range allowed {
			if a == folder {
				return ""
			}
		}
		// A privileged test may prepare its namespaces with the project's tools.
		if isTest && folder == "internal" {
			return ""
		}
		return "the rules in ARCHITECTURE.md do not allow it"
	}
	first, _, _ := strings.Cut(imp, "/")
	if top == "hnv" && strings.Contains(first, ".") {
		return "hnv imports the standard library only"
	}
	if strings.HasPrefix(imp, "github.com/google/gopacket") && !isTest {
		return "gopacket is for tests: the hot path has its own codecs"
	}
	if dir == "bgp" && strings.Contains(first, ".") {
		return "bgp is words: its engine is bgp/speaker"
	}
	for lib, folder := range onlyIn {
		within := func(f string) bool { return dir == f || strings.HasPrefix(dir, f+"/") }
		if strings.HasPrefix(imp, lib) && !slices.ContainsFunc(strings.Fields(folder), within) && !isTest {
			return "only " + folder + " uses that library"
		}
	}
	return ""
}

// The rules themselves must refuse what they exist to refuse.
func TestRulesRefuse(t *testing.T) {
	for _, c := range []struct {
		dir, imp string
		isTest   bool
		refused  bool
	}{
		{"hnv", "github.com/google/go-cmp/cmp", false, true},
		{"hnv", module + "/internal/nl", false, true},
		{"nat", module + "/compartments", false, true},
		{"nat", module + "/internal/nft", false, false},
		{"dataplane", module + "/internal/netns", false, true},
		{"dataplane", module + "/internal/netns", true, false},
		{"dataplane", "github.com/google/gopacket/layers", false, true},
		{"dataplane", "github.com/google/gopacket/layers", true, false},
		{"compartments", "github.com/vishvananda/netlink", false, true},
		{"control", module + "/test/lab", false, true},
		{"api", module + "/store", false, true},
		{"cmd", module + "/control", false, false},
		{"dataplane", "github.com/cilium/ebpf", false, true},
		{"dataplane/offload", "github.com/cilium/ebpf/btf", false, false},
		{"dataplane/offload", module + "/internal/nl", false, false},
		{"dataplane/offload", module + "/control", false, true},
		{"dataplane/port", module + "/internal/nl", false, true},
		{"dataplane/offload", "github.com/vishvananda/netlink", false, true},
		{"s2s", module + "/bgp", false, true},
		{"bgp", "golang.zx2c4.com/wireguard/conn", false, true},
		{"bgp/internal/gobgp", "github.com/osrg/gobgp/v4/api", false, false},
		{"bgp/speaker", "github.com/osrg/gobgp/v4/api", false, true},
		{"bgp", "github.com/osrg/gobgp/v4/api", false, true},
		{"bgp", "golang.org/x/sys/unix", false, true},
		{"bgp", module + "/bgp/speaker", false, true},
		{"control", module + "/bgp", false, false},
		{"control", module + "/bgp/speaker", false, true},
		{"cmd/compartmentd", module + "/bgp/speaker", false, false},
		{"cmd/gatewayd", module + "/bgp/speaker", false, true},
	} {
		if got := forbidden(c.dir, allowed(c.dir), c.imp, c.isTest) != ""; got != c.refused {
			t.Errorf("%s importing %s: refused %v, want %v", c.dir, c.imp, got, c.refused)
		}
	}
}

// There is one compartmentd for each tenant that needs one, and what is linked
// into it can be attacked from outside: it stays small.
func TestCompartmentdStaysSmall(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "./cmd/compartmentd")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{"cmd/compartmentd", "s2s", "bgp", "internal", "hnv"}
	deps := strings.Fields(string(out))
	for _, d := range deps {
		rest, ours := strings.CutPrefix(d, module+"/")
		if ours && !slices.ContainsFunc(allowed, func(a string) bool { return rest == a || strings.HasPrefix(rest, a+"/") }) {
			t.Errorf("compartmentd links %s", rest)
		}
		if strings.HasPrefix(d, "go.etcd.io/") || strings.HasPrefix(d, "github.com/cilium/ebpf") || strings.HasPrefix(d, "github.com/spf13/cobra") {
			t.Errorf("compartmentd links %s", d)
		}
	}
	if !slices.Contains(deps, module+"/s2s") {
		t.Errorf("of %d packages none is s2s", len(deps))
	}
}
