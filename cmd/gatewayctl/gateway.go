package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hnvgate/hnvgate/api/client"
	"github.com/hnvgate/hnvgate/api/credentials"
)

// The environment names the gateway where flags do not. The CA of certificates
// is spelt cacert, since a CA is a customer address everywhere else.
const (
	socketEnv = "GATEWAYCTL_SOCKET"
	serverEnv = "GATEWAYCTL_SERVER"
	certEnv   = "GATEWAYCTL_CERT"
	keyEnv    = "GATEWAYCTL_KEY"
	cacertEnv = "GATEWAYCTL_CACERT"
)

// target is the gateway that is meant: behind a socket of this machine, or on
// another machine.
type target struct {
	socket string
	server string // URL; empty: the socket
	files  credentials.Files
	flags  *pflag.FlagSet
	env    func(string) string
}

func (t *target) register(root *cobra.Command, env func(string) string) {
	t.flags, t.env = root.PersistentFlags(), env
	socket := env(socketEnv)
	if socket == "" {
		socket = client.DefaultSocket
	}
	t.flags.StringVar(&t.socket, "socket", socket, "unix socket of gatewayd (environment: "+socketEnv+")")
	t.flags.StringVar(&t.server, "server", "", "gatewayd on another machine, https://HOST:PORT (environment: "+serverEnv+")")
	t.flags.StringVar(&t.files.Certificate, "cert", "", "with --server: file of the client's certificate (environment: "+certEnv+")")
	t.flags.StringVar(&t.files.Key, "key", "", "with --server: file of its private key (environment: "+keyEnv+")")
	t.flags.StringVar(&t.files.CA, "cacert", "", "with --server: file of who signed the gateway's certificate; left out: whom the system trusts (environment: "+cacertEnv+")")
	for _, f := range []string{"cert", "key", "cacert"} {
		_ = root.MarkPersistentFlagFilename(f)
	}
}

// connect gives a client of the gateway; a flag counts for more than the
// environment. Nothing is opened yet.
func (t *target) connect() (*client.Client, error) {
	onSocket, onServer := t.flags.Changed("socket"), t.flags.Changed("server")
	switch {
	case onSocket && onServer:
		return nil, usagef("give only one of --socket, --server")
	case onSocket || onServer:
	case t.env(serverEnv) != "" && t.env(socketEnv) != "":
		return nil, usagef("the environment has both %s and %s: unset one of them, or give --socket or --server", socketEnv, serverEnv)
	default:
		t.server = t.env(serverEnv)
	}
	if onServer && t.server == "" {
		return nil, usagef("--server is empty: give https://HOST:PORT")
	}
	if onSocket || t.server == "" {
		for _, f := range []string{"cert", "key", "cacert"} {
			if t.flags.Changed(f) {
				return nil, usagef("--%s is for a gateway on another machine: give --server with it", f)
			}
		}
		return client.New(t.socket), nil
	}
	var missing []string
	for _, f := range []struct {
		flag, env string
		value     *string
	}{{"cert", certEnv, &t.files.Certificate}, {"key", keyEnv, &t.files.Key}, {"cacert", cacertEnv, &t.files.CA}} {
		if !t.flags.Changed(f.flag) {
			*f.value = t.env(f.env)
		}
		if *f.value == "" && f.flag != "cacert" {
			missing = append(missing, "--"+f.flag+" or "+f.env)
		}
	}
	if len(missing) > 0 {
		return nil, usagef("server %s asks for a client certificate, missing: %s", t.server, strings.Join(missing, ", "))
	}
	c, err := client.NewTLS(t.server, t.files)
	if err != nil {
		return nil, usagef("%v", err)
	}
	return c, nil
}

// hint says what to do about a gateway that cannot be reached.
func (t *target) hint(e *client.Unreachable) string {
	text := strings.ToLower(e.Err.Error())
	remote := strings.HasPrefix(e.Target, "https://")
	switch {
	case strings.Contains(text, "deadline") || strings.Contains(text, "canceled"):
		return "It did not answer in time."
	case client.Distrust(e.Err) && strings.Contains(text, "remote error"):
		return "It refused this client's certificate: one is wanted that the CA in its listen.clientCA signed, for client authentication, and whose time has not ended."
	case client.Distrust(e.Err):
		return "This client refused the gateway's certificate: --cacert must name who signed it, and the host of --server must be one of its names."
	case remote:
		return "Is it the address in listen.address of that gateway's gatewayd.yaml, and may you reach it through what lies between?"
	case strings.Contains(text, "permission denied"):
		return "You may not use this socket: be root, or join the group that gatewayd.yaml gives it to."
	}
	return "Start it with 'gatewayd --config /etc/hnvgate/gatewayd.yaml', or name its socket with --socket or " + socketEnv + "."
}
