package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagError says in our words what pflag found wrong with a flag's value.
func flagError(err error) string {
	var value *pflag.InvalidValueError
	var number *strconv.NumError
	if errors.As(err, &value) && value.GetFlag().Value.Type() == "duration" {
		return fmt.Sprintf("--%s %q is not a length of time: write it as 90s or 20m", value.GetFlag().Name, value.GetValue())
	}
	if !errors.As(err, &value) || !errors.As(err, &number) {
		return err.Error()
	}
	kind := "a whole number from 0 on"
	if strings.HasPrefix(value.GetFlag().Value.Type(), "bool") {
		kind = "true or false"
	}
	if errors.Is(number.Err, strconv.ErrRange) {
		return fmt.Sprintf("--%s %s is out of range", value.GetFlag().Name, value.GetValue())
	}
	return fmt.Sprintf("--%s %q is not %s", value.GetFlag().Name, value.GetValue(), kind)
}

// usageWords says in our words what cobra says of missing flags.
func usageWords(text string) string {
	if rest, ok := strings.CutPrefix(text, "required flag(s) "); ok {
		names := strings.ReplaceAll(strings.TrimSuffix(rest, " not set"), `"`, "")
		return "missing: --" + strings.ReplaceAll(names, ", ", ", --")
	}
	if rest, ok := strings.CutPrefix(text, "at least one of the flags in the group ["); ok {
		names, _, _ := strings.Cut(rest, "]")
		return "give one of --" + strings.ReplaceAll(names, " ", ", --")
	}
	if _, rest, ok := strings.Cut(text, "they must all be set; missing ["); ok {
		names, _, _ := strings.Cut(rest, "]")
		return "missing: --" + strings.ReplaceAll(names, " ", ", --")
	}
	if rest, ok := strings.CutPrefix(text, "if any flags in the group ["); ok {
		names, _, _ := strings.Cut(rest, "]")
		return "give only one of --" + strings.ReplaceAll(names, " ", ", --")
	}
	return text
}

// takes checks the number of arguments; names are what they mean.
func takes(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usagef("%s is missing", names[len(args)])
		}
		return tooMany(args, len(names))
	}
}

// takesAtMost is takes for arguments that may be left out.
func takesAtMost(n int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error { return tooMany(args, n) }
}

func tooMany(args []string, n int) error {
	if len(args) > n {
		return usagef("%q is one argument too many", args[n])
	}
	return nil
}
