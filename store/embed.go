package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
)

// Bounds of one transaction. An entry of etcd's log is held in memory until the
// next snapshot of it, so they are wide enough for a large site in one apply
// and no wider.
const (
	maxTxnOps   = 100_000
	maxTxnBytes = 24 << 20
)

// member is an etcd of our own: one member, in this process, without sockets.
type member struct {
	etcd   *embed.Etcd
	client *clientv3.Client
	lock   *os.File
	quiet  *atomic.Bool
}

// startMember starts etcd with its data in dir, which is made if need be. Unsynced, a
// machine that loses its power loses what was written last.
func startMember(ctx context.Context, dir string, log *slog.Logger, unsynced bool) (_ *member, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create store directory: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("restrict store directory: %w", err)
	}
	m := &member{quiet: new(atomic.Bool)}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	if m.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	cfg := memberConfig(dir, newZap(log, m.quiet))
	cfg.UnsafeNoFsync = unsynced
	if m.etcd, err = embed.StartEtcd(cfg); err != nil {
		return nil, fmt.Errorf("start store in %s: %w", dir, err)
	}
	select {
	case <-m.etcd.Server.ReadyNotify():
	case <-m.etcd.Server.StopNotify():
		return nil, fmt.Errorf("start store in %s: etcd stopped", dir)
	case <-ctx.Done():
		return nil, fmt.Errorf("start store in %s: %w", dir, ctx.Err())
	}
	m.client = v3client.New(m.etcd.Server)
	return m, nil
}

func memberConfig(dir string, log *zap.Logger) *embed.Config {
	cfg := embed.NewConfig()
	// The data keeps its member by identity: a directory made under another name
	// is taken as it is.
	cfg.Name = "gatewayd"
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.Dir = filepath.Join(dir, "etcd")
	cfg.ListenPeerUrls, cfg.ListenClientUrls, cfg.ListenMetricsUrls = nil, nil, nil
	cfg.TickMs, cfg.ElectionMs = 100, 500
	// Entries can be large here, and nobody has to catch up: few of them stay in
	// memory, and few are read again at the next start.
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 500, 20
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModeRevision, "1000"
	cfg.CompactionBatchLimit, cfg.CompactionSleepInterval = 5000, time.Millisecond
	cfg.QuotaBackendBytes = quotaBytes
	cfg.BootstrapDefragThresholdMegabytes = 64
	cfg.MaxTxnOps, cfg.MaxRequestBytes = maxTxnOps+1, maxTxnBytes+1<<20
	cfg.WarningApplyDuration = time.Second
	cfg.WarningUnaryRequestDuration = 2 * time.Second
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	return cfg
}

// quotaBytes bounds the file. 310000 records, all replaced again and again, were
// measured to take 114 MB of it.
const quotaBytes = 1 << 30

// lockDir makes sure that one process at a time has the directory: etcd itself
// would wait in silence for the other to end.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock store: %w", err)
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("store directory %s is in use by another gatewayd: stop it, or give this one a state directory of its own", dir)
		}
		return nil, fmt.Errorf("lock store %s: %w", path, err)
	}
	return f, nil
}

// close stops etcd; what was committed is on disk already.
func (m *member) close() {
	m.quiet.Store(true)
	if m.client != nil {
		_ = m.client.Close()
	}
	if m.etcd != nil {
		m.etcd.Close()
	}
	if m.lock != nil {
		_ = m.lock.Close() // and with it the lock
	}
}
