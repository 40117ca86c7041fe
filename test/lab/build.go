package lab

import (
	"context"
	"os"
	"path/filepath"
	"strings"
)

// The lab's own program, and the product's.
var (
	OwnPrograms = []string{"./test/lab/cmd/hnvlab"}
	AllPrograms = []string{"./test/lab/cmd/hnvlab", "./cmd/gatewayd", "./cmd/gatewayctl", "./cmd/compartmentd"}
)

// Programs gives the folder of the programs for Options.Bin: the one that
// HNVGATE_BIN names, else the folder given, into which they are built.
func Programs(ctx context.Context, into string, packages []string) (string, error) {
	if bin := os.Getenv("HNVGATE_BIN"); bin != "" {
		return filepath.Abs(bin)
	}
	mod, err := run(ctx, "", "go", "env", "GOMOD")
	if err != nil {
		return "", err
	}
	argv := append([]string{"go", "build", "-C", filepath.Dir(strings.TrimSpace(mod)), "-o", into + "/"}, packages...)
	_, err = run(ctx, "", argv...)
	return into, err
}
