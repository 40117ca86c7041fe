//go:build privileged && linux

package nfnl

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nstest"
)

const (
	nftables    = 10
	msgNewTable = nftables<<8 | 0
	msgGetTable = nftables<<8 | 1
	msgDelTable = nftables<<8 | 2
)

func dial(t *testing.T) *Conn {
	t.Helper()
	c, err := Dial(netns.Path(nstest.New(t, "nfnl")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func table(typ uint16, name string) Message {
	return Message{Type: typ, Flags: unix.NLM_F_CREATE, Family: unix.NFPROTO_INET, What: "table " + name, Data: AppendString(nil, 1, name)}
}

func tables(t *testing.T, c *Conn) (names []string) {
	t.Helper()
	err := c.Dump(Message{Type: msgGetTable, What: "list"}, func(r Reply) error {
		for a, err := range Attrs(r.Data) {
			if err != nil {
				return err
			}
			if a.Type == 1 {
				names = append(names, a.Text())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestBatchIsAllOrNothing(t *testing.T) {
	c := dial(t)
	absent := table(msgDelTable, "absent")
	err := c.Batch(nftables, 0, []Message{table(msgNewTable, "one"), absent, table(msgNewTable, "two")})
	if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "table absent") {
		t.Errorf("the refusal is %v", err)
	}
	if got := tables(t, c); len(got) != 0 {
		t.Errorf("a refused batch made %q", got)
	}
	// The error of the last message comes in place of its acknowledgement.
	if err := c.Batch(nftables, 0, []Message{table(msgNewTable, "one"), absent}); !errors.Is(err, unix.ENOENT) {
		t.Errorf("the refusal is %v", err)
	}
	var many []Message
	for i := range 3000 {
		many = append(many, table(msgNewTable, fmt.Sprintf("a-table-with-quite-a-long-name-%d", i)))
	}
	if err := c.Batch(nftables, 0, many); err != nil {
		t.Fatal(err)
	}
	if got := tables(t, c); len(got) != len(many) {
		t.Errorf("%d tables of %d", len(got), len(many))
	}
	// As many errors as fit, and still an answer.
	if err := c.Batch(nftables, 0, append(many[:1000:1000], absent, absent, absent)); !errors.Is(err, unix.ENOENT) {
		t.Errorf("the refusal is %v", err)
	}
	if got := tables(t, c); len(got) != len(many) {
		t.Errorf("%d tables of %d", len(got), len(many))
	}
}

func TestBatchForAFormerGeneration(t *testing.T) {
	c := dial(t)
	if err := c.Batch(nftables, 0, []Message{table(msgNewTable, "one")}); err != nil {
		t.Fatal(err)
	}
	if err := c.Batch(nftables, 77, []Message{table(msgNewTable, "two")}); !errors.Is(err, ErrChanged) {
		t.Errorf("a batch for another generation: %v", err)
	}
	if got := tables(t, c); len(got) != 1 {
		t.Errorf("tables are %q", got)
	}
}

func TestCallbackErrorsAndClose(t *testing.T) {
	c := dial(t)
	if err := c.Batch(nftables, 0, []Message{table(msgNewTable, "one"), table(msgNewTable, "two")}); err != nil {
		t.Fatal(err)
	}
	stop := errors.New("enough")
	if err := c.Dump(Message{Type: msgGetTable, What: "list"}, func(Reply) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the callback's error became %v", err)
	}
	if got := tables(t, c); len(got) != 2 { // the rest of the former answer is not in the way
		t.Errorf("tables are %q", got)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Dump(Message{Type: msgGetTable, What: "list"}, nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("on a closed connection: %v", err)
	}
	if _, err := Dial("/run/netns/hnvtest-absent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a namespace that is not there: %v", err)
	}
}
