package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/hnvgate/hnvgate/test/lab"
)

func must(err error) {
	if err != nil {
		fmt.Println("ERR", err)
		os.Exit(1)
	}
}

func main() {
	ctx := context.Background()
	w, err := lab.New("mg", lab.Options{Bin: "/tmp/bin"})
	must(err)
	must(w.Up(ctx))
	_, err = w.StartGatewayd(ctx, "gw")
	must(err)
	must(w.ConfigureGateway(ctx))
	must(w.StartHosts(ctx))
	ping := func(a, ip string) {
		out, err := w.Exec(ctx, a, "ping", "-n", "-q", "-c", "2", "-i", "0.2", "-W", "1", ip)
		fmt.Println(a, ip, err == nil)
		_ = out
	}
	for _, h := range []string{"h1", "h2", "h4"} {
		ping("f12", "10.1.1.11")
		must(w.Migrate(ctx, "f12", h))
		fmt.Println("moved to", h)
		time.Sleep(2 * time.Second)
		ping("f12", "10.1.1.11")
		ping("f12", "10.1.2.21")
	}
	fmt.Println(w.Exec(ctx, "f12", "ip", "neigh", "flush", "all"))
	ping("f12", "10.1.1.11")
	ping("f12", "198.51.100.10")
	ping("f11", "10.1.1.12")
}
