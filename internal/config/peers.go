package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
)

// Peer is a machine that gets what this one learns: at a URL, or behind a socket
// of this machine.
type Peer struct {
	Name string `yaml:"name"`
	// Server is https://HOST:PORT, Socket the path of a unix socket; one of them.
	Server string `yaml:"server"`
	Socket string `yaml:"socket"`
	// Certificate and Key are this machine's, for client authentication, CA is
	// who signed the peer's certificate (empty: the system's CAs): PEM files, with
	// Server only.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	CA          string `yaml:"ca"`
}

// maxPeers bounds the peers of one machine: each has a goroutine and a queue.
const maxPeers = 1000

func checkPeers(bad complain, peers []Peer) {
	if len(peers) > maxPeers {
		bad("peers: there are %d, at most %d are served", len(peers), maxPeers)
	}
	names, places := map[string]bool{}, map[string]string{}
	for i, p := range peers {
		field := fmt.Sprintf("peers[%d]", i)
		if p.Name == "" || len(p.Name) > 64 || strings.ContainsAny(p.Name, " \t\r\n") || names[p.Name] {
			bad("%s.name: %q is empty, longer than 64 bytes, has spaces, or is given twice", field, p.Name)
		}
		names[p.Name] = true
		place := strings.TrimSuffix(p.Server, "/") + p.Socket
		if other := places[place]; other != "" && place != "" {
			bad("%s: it is at %s, as %s is", field, place, other)
		}
		places[place] = field
		switch {
		case (p.Server == "") == (p.Socket == ""):
			bad("%s: give either server (https://HOST:PORT) or socket", field)
		case p.Socket != "":
			if !filepath.IsAbs(p.Socket) {
				bad("%s.socket: %q must be an absolute path", field, p.Socket)
			}
			if p.Certificate+p.Key+p.CA != "" {
				bad("%s: certificate, key and ca are for a server; a socket needs none", field)
			}
		default:
			checkServer(bad, field+".server", p.Server)
			checkFile(bad, field+".certificate", p.Certificate)
			checkFile(bad, field+".key", p.Key)
			if p.CA != "" {
				checkFile(bad, field+".ca", p.CA)
			}
		}
	}
}

func checkServer(bad complain, field, server string) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.Port() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		bad("%s: %q is not https://HOST:PORT", field, server)
	}
}
