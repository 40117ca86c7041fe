package main

import (
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Every command says what it does and shows how; what it shows is a call that
// it takes.
func TestHelpHoldsExamplesThatWork(t *testing.T) {
	newRoot := func() *cobra.Command {
		c := &cli{in: strings.NewReader(""), out: io.Discard, err: io.Discard}
		return c.root(func(string) string { return "" })
	}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			if sub.Name() != "help" && sub.Name() != "completion" {
				walk(sub)
			}
		}
		if cmd.Short == "" {
			t.Errorf("%s does not say what it does", cmd.CommandPath())
		}
		if cmd.HasSubCommands() && cmd.HasParent() {
			return
		}
		calls := exampleCalls(cmd.Example)
		if len(calls) == 0 {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		own := false
		for _, call := range calls {
			found, rest, err := newRoot().Find(words(call)[1:])
			if err != nil || found.HasSubCommands() {
				t.Errorf("%s: the example %q calls no command: %v", cmd.CommandPath(), call, err)
				continue
			}
			own = own || found.CommandPath() == cmd.CommandPath() || !cmd.HasParent()
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%s: the example %q: %v", cmd.CommandPath(), call, err)
				continue
			}
			if err := found.ValidateRequiredFlags(); err != nil {
				t.Errorf("%s: the example %q: %v", cmd.CommandPath(), call, err)
			}
			if err := found.ValidateFlagGroups(); err != nil {
				t.Errorf("%s: the example %q: %v", cmd.CommandPath(), call, err)
			}
			if err := found.ValidateArgs(found.Flags().Args()); err != nil {
				t.Errorf("%s: the example %q: %v", cmd.CommandPath(), call, err)
			}
		}
		if !own {
			t.Errorf("%s is in none of its examples", cmd.CommandPath())
		}
	}
	walk(newRoot())
}

// exampleCalls finds the calls of gatewayctl in an example, without what a shell
// does with them.
func exampleCalls(example string) []string {
	var out []string
	for line := range strings.SplitSeq(strings.ReplaceAll(example, "\\\n", " "), "\n") {
		for part := range strings.SplitSeq(line, "|") {
			part, _, _ = strings.Cut(part, ">")
			if i := strings.Index(part, "gatewayctl "); i >= 0 && !strings.HasPrefix(strings.TrimSpace(part), "#") {
				out = append(out, strings.TrimSpace(part[i:]))
			}
		}
	}
	return out
}
