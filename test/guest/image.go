//go:build linux

package guest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Run is one program that the guest runs.
type Run struct {
	Name string            `json:"name"`
	Args []string          `json:"args"` // the program first
	Env  map[string]string `json:"env,omitempty"`
}

// Image is what the initial RAM file system holds.
type Image struct {
	Init     string            // the first process, a static program
	Binaries map[string]string // static programs, by their path inside
	Programs []string          // of this machine, looked up in PATH; their libraries come along
	Modules  string            // folder of kernel versions, as fetch makes it
	// ModuleDirs of the kernel's tree come along; the kernel loads what it needs.
	ModuleDirs []string
	Runs       []Run
}

// tree collects the files by their path inside.
type tree struct {
	files map[string]file
}

type file struct {
	mode uint32
	from string // path on this machine, unless
	data []byte
}

// Write writes the initial RAM file system.
func (im Image) Write(w io.Writer) error {
	t := tree{map[string]file{}}
	for _, d := range []string{"dev", "proc", "sys", "run", "tmp", "root", "etc", "var"} {
		t.dir(d)
	}
	t.files["var/run"] = file{mode: modeLink | 0o777, data: []byte("/run")}
	t.files["init"] = file{mode: modeFile | 0o755, from: im.Init}
	for path, from := range im.Binaries {
		t.put(path, file{mode: modeFile | 0o755, from: from})
	}
	for _, p := range im.Programs {
		if err := t.program(p); err != nil {
			return err
		}
	}
	if err := t.modules(im.Modules, im.ModuleDirs); err != nil {
		return err
	}
	runs, err := json.Marshal(im.Runs)
	if err != nil {
		return err
	}
	t.put("etc/runs.json", file{mode: modeFile | 0o644, data: runs})
	return t.write(w)
}

func (t *tree) dir(path string) {
	for ; path != "." && path != "/"; path = filepath.Dir(path) {
		if _, there := t.files[path]; !there {
			t.files[path] = file{mode: modeDir | 0o755}
		}
	}
}

func (t *tree) put(path string, f file) {
	path = strings.TrimPrefix(path, "/")
	t.dir(filepath.Dir(path))
	t.files[path] = f
}

// program takes a program of this machine along, at /bin, with its libraries where
// they are here.
func (t *tree) program(name string) error {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err == nil {
			break
		}
		path, err = exec.LookPath(filepath.Join(dir, name))
	}
	if err != nil {
		return fmt.Errorf("the guest needs %s: %w", name, err)
	}
	t.put("bin/"+name, file{mode: modeFile | 0o755, from: path})
	out, err := exec.Command("ldd", path).CombinedOutput()
	if err != nil {
		if bytes.Contains(out, []byte("not a dynamic")) {
			return nil
		}
		return fmt.Errorf("libraries of %s: %w: %s", path, err, out)
	}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		for _, word := range strings.Fields(lines.Text()) {
			if strings.HasPrefix(word, "/") {
				t.put(word, file{mode: modeFile | 0o755, from: word})
			}
		}
	}
	return nil
}

// modules takes folders of the kernel's modules along, and an index of them.
func (t *tree) modules(root string, dirs []string) error {
	versions, err := os.ReadDir(root)
	if err != nil {
		return fmt.Errorf("the guest's kernel is missing: run test/guest/fetch: %w", err)
	}
	if len(versions) != 1 {
		return fmt.Errorf("%s holds %d kernel versions, not one", root, len(versions))
	}
	version := versions[0].Name()
	work, err := os.MkdirTemp("", "hnv-guest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	base := filepath.Join(work, "lib", "modules", version)
	add := func(rel string) error {
		b, err := os.ReadFile(filepath.Join(root, version, rel))
		if err != nil {
			return err
		}
		to := filepath.Join(base, rel)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		t.put(filepath.Join("lib/modules", version, rel), file{mode: modeFile | 0o644, data: b})
		return os.WriteFile(to, b, 0o644)
	}
	for _, d := range dirs {
		err := filepath.WalkDir(filepath.Join(root, version, d), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			rel, err := filepath.Rel(filepath.Join(root, version), path)
			return errors.Join(err, add(rel))
		})
		if err != nil {
			return err
		}
	}
	for _, list := range []string{"modules.order", "modules.builtin", "modules.builtin.modinfo"} {
		if err := add(list); err != nil {
			return err
		}
	}
	depmod, err := exec.LookPath("depmod")
	if err != nil {
		depmod = "/usr/sbin/depmod"
	}
	if out, err := exec.Command(depmod, "-b", work, version).CombinedOutput(); err != nil {
		return fmt.Errorf("depmod: %w: %s", err, out)
	}
	for _, index := range []string{"modules.dep", "modules.dep.bin", "modules.alias", "modules.alias.bin", "modules.softdep", "modules.builtin.bin"} {
		b, err := os.ReadFile(filepath.Join(base, index))
		if err != nil {
			return err
		}
		t.put(filepath.Join("lib/modules", version, index), file{mode: modeFile | 0o644, data: b})
	}
	return nil
}

func (t *tree) write(w io.Writer) error {
	a := archive{w: w}
	for _, path := range slices.Sorted(maps.Keys(t.files)) { // folders before what is in them
		f := t.files[path]
		data := f.data
		if f.from != "" {
			b, err := os.ReadFile(f.from)
			if err != nil {
				return err
			}
			data = b
		}
		a.add(path, f.mode, data)
	}
	return a.end()
}
