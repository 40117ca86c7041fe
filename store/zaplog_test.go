package store

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
)

// What stands in the log at a start, a write, a stop and the next start is for
// an operator to act on: nothing.
func TestAStartIsSilent(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))
	dir := t.TempDir()
	for range 2 {
		s, err := Open(context.Background(), Options{Dir: dir, Site: site, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Update(context.Background(), put(twoTenants()...)); err != nil {
			t.Error(err)
		}
		s.Close()
	}
	for line := range strings.Lines(out.String()) {
		// A busy machine is worth saying.
		if !strings.Contains(line, "took too long") && !strings.Contains(line, "slow fdatasync") {
			t.Error(line)
		}
	}
}

func TestLevels(t *testing.T) {
	var out bytes.Buffer
	quiet := new(atomic.Bool)
	z := newZap(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), quiet)
	z.With(zap.Int("a", 1)).Info("elected")
	for m := range harmless {
		z.Warn(m)
		z.Error(m)
	}
	z.Warn("8e9e05c52164694d cannot campaign at term 1 " + tooEarly)
	z.Warn("slow fdatasync", zap.String("took", "2s"))
	z.Error("no space left")
	quiet.Store(true)
	z.Error("closing")
	for text, want := range map[string]int{
		"level=DEBUG": 2 + 2*len(harmless), "level=DEBUG msg=elected a=1": 1, "level=WARN": 1, `level=WARN msg="slow fdatasync" took=2s`: 1,
		`level=ERROR msg="no space left"`: 1, "level=ERROR": 1, "closing": 0,
	} {
		if n := strings.Count(out.String(), text); n != want {
			t.Errorf("%d of %q, want %d in\n%s", n, text, want, out.String())
		}
	}
}

// A directory that a member of another name wrote is taken as it is.
func TestMemberOfAnotherName(t *testing.T) {
	dir := t.TempDir()
	discard := slog.New(slog.DiscardHandler)
	cfg := memberConfig(filepath.Join(dir, "store"), newZap(discard, new(atomic.Bool)))
	cfg.Name = embed.DefaultName
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	member, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	<-member.Server.ReadyNotify()
	client := v3client.New(member.Server)
	old, err := New(context.Background(), client, Options{Site: site, Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.Update(context.Background(), put(twoTenants()...)); err != nil {
		t.Error(err)
	}
	want := contents(old)
	old.Close()
	_ = client.Close()
	member.Close()

	for range 2 {
		s := open(t, dir)
		if got := contents(s); !reflect.DeepEqual(got, want) {
			t.Errorf("%d objects, want %d", len(got), len(want))
		}
		s.Close()
	}
}
