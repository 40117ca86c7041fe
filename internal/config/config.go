package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Config is the file's content, with defaults filled in and checked.
type Config struct {
	// Instance tells several gateways on one machine apart: namespaces, links
	// and nft tables carry it.
	Instance string `yaml:"instance"`
	// StateDir holds the desired state.
	StateDir string `yaml:"stateDir"`
	// Socket is where the API listens; SocketGroup may use it besides root.
	Socket      string `yaml:"socket"`
	SocketGroup string `yaml:"socketGroup"`
	// Listen is where the API listens for other machines; nil: nowhere.
	Listen *Listen `yaml:"listen"`
	Log    Log     `yaml:"log"`
	// PAInterfaces are the interfaces on the datacenter fabric.
	PAInterfaces []string `yaml:"paInterfaces"`
	// Uplinks are the ways out; a machine that only hosts VMs has none.
	Uplinks []Uplink `yaml:"uplinks"`
	// ACLDefault is what becomes of the packets of a port without any ACL: allow
	// or deny.
	ACLDefault string `yaml:"aclDefault"`
	// Path says who forwards packets: PathAuto, PathEBPF or PathGo.
	Path string `yaml:"path"`
	// NATOffload says whose established connections the programs in the kernel
	// translate, where they forward.
	NATOffload NATOffload `yaml:"natOffload"`
	// SecretsKeyFile holds the key under which keys and passwords are stored; it is
	// made where it is not there.
	SecretsKeyFile string `yaml:"secretsKeyFile"`
	Agents         Agents `yaml:"agents"`
	// Peers are the machines that get what this one learns.
	Peers []Peer `yaml:"peers"`
}

// Log says what is logged and how.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn, error
	Format string `yaml:"format"` // text, json
}

// Uplink is one way out of the compartments.
type Uplink struct {
	Name string `yaml:"name"`
	Kind string `yaml:"kind"`
	// Interface is the machine's external interface, or of kind bridge the Linux
	// bridge that it is a port of.
	Interface string `yaml:"interface"`
}

// The kinds of uplinks.
const (
	// KindRouted: the compartments' addresses are routed through the interface.
	KindRouted = "routed"
	// Of the others, attachments have a link of their own: an 802.1Q VLAN of the
	// interface, a MAC address on it, or a port of the bridge.
	KindVLAN    = "vlan"
	KindMACVLAN = "macvlan"
	KindBridge  = "bridge"
)

var kinds = []string{KindRouted, KindVLAN, KindMACVLAN, KindBridge}

// The paths of packets.
const (
	PathAuto = "auto" // whichever is best on this machine
	PathEBPF = "ebpf" // programs in the kernel, and user space for the rest
	PathGo   = "go"   // gatewayd itself
)

// NATOffload says whose established connections are translated past the compartments.
type NATOffload string

// The choices. The first two read as what YAML has for yes and no.
const (
	OffloadAll   NATOffload = "true"    // all tenants' but of those that say «off»; the default
	OffloadNone  NATOffload = "false"   // nobody's
	OffloadAsked NATOffload = "tenants" // those of tenants that say «on»
)

// UnmarshalYAML takes the value as it is written.
func (o *NATOffload) UnmarshalYAML(b []byte) error {
	*o = NATOffload(strings.Trim(strings.TrimSpace(string(b)), `"'`))
	return nil
}

// Possible tells whether anybody's are.
func (o NATOffload) Possible() bool { return o == OffloadAll || o == OffloadAsked }

// Load reads the file.
func Load(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	c, err := Parse(b)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s:\n%w", path, err)
	}
	return c, nil
}

// Parse reads YAML. A field that is not known is an error with its line; all
// values that are wrong are reported at once.
func Parse(b []byte) (Config, error) {
	c := Config{
		Instance: "hnv", StateDir: "/var/lib/hnvgate", Socket: "/run/hnvgate/gatewayd.sock",
		Log: Log{Level: "info", Format: "text"}, ACLDefault: "allow", Path: PathAuto, NATOffload: OffloadAll,
	}
	if err := decode(b, &c); err != nil {
		return Config{}, err
	}
	for i := range c.Uplinks {
		if c.Uplinks[i].Kind == "" {
			c.Uplinks[i].Kind = KindRouted
		}
	}
	if err := c.defaultAgents(); err != nil {
		return Config{}, err
	}
	return c, c.check()
}

// decode reads strictly. The library panics at some malformed input; that too
// is only an error in the file.
func decode(b []byte, c *Config) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("this is not YAML of the expected form (%v)", r)
		}
	}()
	err = yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(c)
	if err != nil && !errors.Is(err, io.EOF) {
		return errors.New(strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	return nil
}

var instanceName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$`)

func (c *Config) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !instanceName.MatchString(c.Instance) {
		bad("instance: %q must be 1 to 20 lower-case letters, digits and inner hyphens", c.Instance)
	}
	for field, p := range map[string]string{"stateDir": c.StateDir, "socket": c.Socket} {
		if !filepath.IsAbs(p) {
			bad("%s: %q must be an absolute path", field, p)
		}
	}
	if len(c.Socket) > 107 {
		bad("socket: %q has %d bytes; unix(7) allows 107", c.Socket, len(c.Socket))
	}
	c.Listen.check(bad)
	c.checkAgents(bad)
	checkPeers(bad, c.Peers)
	if c.ACLDefault != "allow" && c.ACLDefault != "deny" {
		bad("aclDefault: %q is unknown: use allow or deny", c.ACLDefault)
	}
	if c.Path != PathAuto && c.Path != PathEBPF && c.Path != PathGo {
		bad("path: %q is unknown: use auto, ebpf or go", c.Path)
	}
	if o := c.NATOffload; !o.Possible() && o != OffloadNone {
		bad("natOffload: %q is unknown: use true, false or tenants", o)
	}
	if _, err := c.Log.level(); err != nil {
		bad("log.level: %q is unknown: use debug, info, warn or error", c.Log.Level)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		bad("log.format: %q is unknown: use text or json", c.Log.Format)
	}
	if len(c.PAInterfaces) == 0 {
		bad("paInterfaces: name at least one interface on the datacenter fabric")
	}
	used := map[string]string{}
	claim := func(field, ifname string) {
		switch {
		case ifname == "" || len(ifname) > 15 || strings.ContainsAny(ifname, "/ \t\n:"):
			bad("%s: %q is not an interface name", field, ifname)
		case used[ifname] != "":
			bad("%s: interface %s is taken by %s", field, ifname, used[ifname])
		default:
			used[ifname] = field
		}
	}
	for i, n := range c.PAInterfaces {
		claim(fmt.Sprintf("paInterfaces[%d]", i), n)
	}
	names := map[string]bool{}
	for i, u := range c.Uplinks {
		field := fmt.Sprintf("uplinks[%d]", i)
		if u.Name == "" || names[u.Name] {
			bad("%s.name: %q is empty or given twice", field, u.Name)
		}
		names[u.Name] = true
		if !slices.Contains(kinds, u.Kind) {
			bad("%s.kind: %q is unknown: use %s", field, u.Kind, strings.Join(kinds, ", "))
		}
		if u.Kind != KindVLAN {
			claim(field+".interface", u.Interface)
		}
	}
	for i, u := range c.Uplinks {
		field := fmt.Sprintf("uplinks[%d].interface", i)
		switch {
		case u.Kind != KindVLAN:
		case carriesUntagged(c.Uplinks, u.Interface):
			// Tagged frames are none of the other uplink's.
		default:
			claim(field, u.Interface)
		}
	}
	return errors.Join(errs...)
}

// carriesUntagged tells whether the interface is that of an uplink for untagged
// frames, which one uplink for tagged frames may share with it.
func carriesUntagged(us []Uplink, ifname string) bool {
	tagged := 0
	untagged := false
	for _, u := range us {
		if u.Interface != ifname {
			continue
		}
		if u.Kind == KindVLAN {
			tagged++
		}
		untagged = untagged || u.Kind == KindRouted || u.Kind == KindMACVLAN
	}
	return untagged && tagged == 1
}

func (l Log) level() (slog.Level, error) {
	var lv slog.Level
	switch l.Level {
	case "debug", "info", "warn", "error":
		return lv, lv.UnmarshalText([]byte(l.Level))
	}
	return lv, errors.New("unknown level")
}

// Logger writes to w as configured.
func (l Log) Logger(w io.Writer) *slog.Logger {
	lv, err := l.level()
	if err != nil {
		lv = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: lv}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
