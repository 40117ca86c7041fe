// Command gatewayctl drives a hnvgate gateway by its REST interface.
//
// It exits with 0 when done, 1 when the gateway refused (nothing was changed),
// 2 when it was called wrongly and 3 when no gateway could be reached.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
