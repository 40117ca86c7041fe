package store

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// slogCore hands what etcd logs to slog. etcd is talkative: its information is
// debugging for us.
type slogCore struct {
	log   *slog.Logger
	quiet *atomic.Bool // set while closing, when etcd complains about what we do
}

func newZap(log *slog.Logger, quiet *atomic.Bool) *zap.Logger {
	return zap.New(&slogCore{log, quiet})
}

// harmless are warnings for those who run a cluster on sockets. A member of our
// own has none, and the limits are ours.
var harmless = map[string]bool{
	"Running http and grpc server on single port. This is not recommended for production.": true,
	"exceeded recommended request limit":                                                   true,
	"simple token is not cryptographically signed":                                         true,
}

func level(l zapcore.Level) slog.Level {
	switch {
	case l <= zapcore.InfoLevel:
		return slog.LevelDebug
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelError
}

// tooEarly ends what a member alone says that would be elected, on a busy machine, before
// it has read that it is one: it tries again.
const tooEarly = "since there are still pending configuration changes to apply"

func levelOf(e zapcore.Entry) slog.Level {
	if harmless[e.Message] || strings.HasSuffix(e.Message, tooEarly) {
		return slog.LevelDebug
	}
	return level(e.Level)
}

func (c *slogCore) Enabled(l zapcore.Level) bool {
	return !c.quiet.Load() && c.log.Enabled(context.Background(), level(l))
}

func (c *slogCore) With(f []zapcore.Field) zapcore.Core {
	return &slogCore{c.log.With(attrs(f)...), c.quiet}
}

func (c *slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.quiet.Load() && c.log.Enabled(context.Background(), levelOf(e)) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *slogCore) Write(e zapcore.Entry, f []zapcore.Field) error {
	c.log.Log(context.Background(), levelOf(e), e.Message, attrs(f)...)
	return nil
}

func (c *slogCore) Sync() error { return nil }

func attrs(fields []zapcore.Field) []any {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	out := make([]any, 0, len(fields))
	for _, f := range fields {
		if v, ok := enc.Fields[f.Key]; ok {
			out = append(out, slog.Any(f.Key, v))
		}
	}
	return out
}
