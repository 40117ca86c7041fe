package main

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hnvgate/hnvgate/api/credentials"
	"github.com/hnvgate/hnvgate/api/credentials/credentialstest"
	"github.com/hnvgate/hnvgate/api/server"
	"github.com/hnvgate/hnvgate/api/server/servertest"
	"github.com/hnvgate/hnvgate/hnv"
)

// remoteGateway serves on a TLS port until the test ends.
func remoteGateway(t *testing.T, ca *credentialstest.CA) (url string) {
	t.Helper()
	f := ca.Issue(t.TempDir(), credentialstest.Leaf{Name: "gateway", Server: true})
	l, err := server.ListenTLS(t.Context(), server.TLSOptions{
		Address: "127.0.0.1:0", Certificate: f.Certificate, Key: f.Key, ClientCA: f.CA, ReadOnly: []string{"monitor"}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	store := servertest.NewStore(hnv.Site{})
	s := server.New(store, &servertest.Backend{Store: store}, nil, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.ServeTLS(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "https://" + l.Addr().String()
}

func TestWhichGateway(t *testing.T) {
	ca := credentialstest.New(t, "datacenter")
	url := remoteGateway(t, ca)
	socket, _ := gateway(t)
	ops := ca.Issue(t.TempDir(), credentialstest.Leaf{Name: "ops"})
	monitor := ca.Issue(t.TempDir(), credentialstest.Leaf{Name: "monitor"})
	ended := ca.Issue(t.TempDir(), credentialstest.Leaf{Name: "ops", Ended: true})
	stranger := credentialstest.New(t, "else").Issue(t.TempDir(), credentialstest.Leaf{Name: "ops"})
	misled := stranger
	stranger.CA = ops.CA
	files := func(f credentials.Files) []string {
		return []string{"--cert", f.Certificate, "--key", f.Key, "--cacert", f.CA}
	}
	none := map[string]string{}
	for _, c := range []struct {
		name string
		env  map[string]string
		args []string
		code int
		says string
	}{
		{"flags", none, append(files(ops), "--server", url, "version"), 0, "gatewayd:"},
		{"a slash at the end", none, append(files(ops), "--server", url+"/", "version"), 0, "gatewayd:"},
		{"environment", map[string]string{serverEnv: url, certEnv: ops.Certificate, keyEnv: ops.Key, cacertEnv: ops.CA}, []string{"version"}, 0, "gatewayd:"},
		{"flag before environment", map[string]string{serverEnv: "https://127.0.0.1:1", certEnv: "/none", keyEnv: "/none"}, append(files(ops), "--server", url, "version"), 0, "gatewayd:"},
		{"server before the environment's socket", map[string]string{socketEnv: "/none"}, append(files(ops), "--server", url, "version"), 0, "gatewayd:"},
		{"socket before the environment's server", map[string]string{serverEnv: url}, []string{"--socket", socket, "version"}, 0, "gatewayd:"},
		{"both flags", none, []string{"--socket", socket, "--server", url, "version"}, exitUsage, "give only one of --socket, --server"},
		{"both in the environment", map[string]string{socketEnv: socket, serverEnv: url}, []string{"version"}, exitUsage, "unset one of them"},
		{"no certificate", none, []string{"--server", url, "version"}, exitUsage, "missing: --cert or GATEWAYCTL_CERT, --key or GATEWAYCTL_KEY"},
		{"certificate for the socket", none, []string{"--socket", socket, "--cert", ops.Certificate, "version"}, exitUsage, "give --server with it"},
		{"plain HTTP", none, append(files(ops), "--server", "http"+strings.TrimPrefix(url, "https"), "version"), exitUsage, "over TLS only"},
		{"no port", none, append(files(ops), "--server", "https://127.0.0.1", "version"), exitUsage, "not https://HOST:PORT"},
		{"a path", none, append(files(ops), "--server", url+"/v1", "version"), exitUsage, "nothing more"},
		{"empty", none, append(files(ops), "--server", "", "version"), exitUsage, "--server is empty"},
		{"no such file", none, []string{"--server", url, "--cert", "/none", "--key", ops.Key, "version"}, exitUsage, "certificate: stat /none: no such file"},
		{"another's key", none, []string{"--server", url, "--cert", ops.Certificate, "--key", ended.Key, "version"}, exitUsage, "does not match"},
		{"nobody there", none, append(files(ops), "--server", "https://127.0.0.1:1", "version"), exitUnreachable, "listen.address"},
		{"the gateway does not know the CA", none, append(files(stranger), "--server", url, "version"), exitUnreachable, "It refused this client's certificate"},
		{"expired", none, append(files(ended), "--server", url, "version"), exitUnreachable, "It refused this client's certificate"},
		{"the client does not know the CA", none, append(files(misled), "--server", url, "version"), exitUnreachable, "This client refused the gateway's certificate"},
		{"with a customer address", none, append(files(ops), "--server", url, "record", "list", "--ca", "10.1.1.11"), 0, "No lookup records"},
		{"read-only reads", none, append(files(monitor), "--server", url, "tenant", "list"), 0, ""},
		{"read-only writes", none, append(files(monitor), "--server", url, "tenant", "delete", "contoso"), exitRefused, "monitor may only read"},
	} {
		var out bytes.Buffer
		code := run(t.Context(), c.args, func(k string) string { return c.env[k] }, strings.NewReader(""), &out, &out)
		if code != c.code || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: exit %d, want %d with %q:\n%s", c.name, code, c.code, c.says, &out)
		}
	}
}

// A flag that says which gateway is meant must say it to every command.
func TestNoCommandHidesWhichGateway(t *testing.T) {
	c := &cli{}
	root := c.root(func(string) string { return "" })
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		root.PersistentFlags().VisitAll(func(f *pflag.Flag) {
			if own := cmd.Flags().Lookup(f.Name); own != nil && own != f {
				t.Errorf("%s has a flag --%s of its own", cmd.CommandPath(), f.Name)
			}
		})
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	for _, sub := range root.Commands() {
		walk(sub)
	}
}
