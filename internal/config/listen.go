package config

import (
	"net/netip"
	"path/filepath"
)

// Listen says where the API listens for other machines, and whom it believes.
type Listen struct {
	// Address is ADDR:PORT of this machine.
	Address string `yaml:"address"`
	// Certificate and Key are of this end, ClientCA of who signs the clients'
	// certificates: PEM files.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	ClientCA    string `yaml:"clientCA"`
	// Allow names the clients that may do everything (empty: all that the CA
	// signed), Peers those that may read and report what they learned, ReadOnly
	// those that may read.
	Allow    []string `yaml:"allow"`
	Peers    []string `yaml:"peers"`
	ReadOnly []string `yaml:"readOnly"`
}

// complain takes what is wrong, in the manner of fmt.Sprintf.
type complain func(format string, args ...any)

func (l *Listen) check(bad complain) {
	if l == nil {
		return
	}
	a, err := netip.ParseAddrPort(l.Address)
	switch {
	case err != nil || a.Port() == 0:
		bad("listen.address: %q is not ADDR:PORT, with an address of this machine", l.Address)
	case a.Addr().IsMulticast():
		bad("listen.address: %s is a multicast address", a.Addr())
	}
	checkFile(bad, "listen.certificate", l.Certificate)
	checkFile(bad, "listen.key", l.Key)
	checkFile(bad, "listen.clientCA", l.ClientCA)
	seen := map[string]string{}
	for _, list := range []struct {
		field string
		names []string
	}{{"listen.allow", l.Allow}, {"listen.peers", l.Peers}, {"listen.readOnly", l.ReadOnly}} {
		for i, n := range list.names {
			switch {
			case n == "":
				bad("%s[%d]: a name is empty", list.field, i)
			case seen[n] != "":
				bad("%s[%d]: %q is in %s already", list.field, i, n, seen[n])
			default:
				seen[n] = list.field
			}
		}
	}
}

func checkFile(bad complain, field, path string) {
	switch {
	case path == "":
		bad("%s: name the PEM file", field)
	case !filepath.IsAbs(path):
		bad("%s: %q must be an absolute path", field, path)
	}
}
