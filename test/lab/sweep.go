package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// Sweep removes what killed runs left: labs named by the prefix and the pid of
// a process that is no more.
func Sweep(prefix string) error {
	entries, err := os.ReadDir(stateRoot)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), prefix)
		pid, err := strconv.Atoi(digits)
		if !ok || err != nil || pid <= 0 {
			continue
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		l, err := New(e.Name(), Options{})
		if err == nil {
			err = l.Down()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
