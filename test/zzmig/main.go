package main

import (
	"context"
	"fmt"
	"os"

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
}
