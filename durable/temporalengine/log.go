package temporalengine

import (
	"context"
	"log/slog"

	"go.temporal.io/sdk/log"
)

// quiet is the program's log for the SDK, which tells of each worker that
// starts and of each attempt that fails as if somebody had to do something.
// Those are for debugging; what a step came to is in its run, and the Observer
// sees it.
type quiet struct{ slog.Handler }

// sdkLogger is a logger as the SDK wants it.
func sdkLogger(l *slog.Logger) log.Logger {
	return log.NewStructuredLogger(slog.New(quiet{l.Handler()}))
}

// Enabled is asked before the message is known.
func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	if l == slog.LevelInfo {
		l = slog.LevelDebug
	}
	return q.Handler.Enabled(ctx, l)
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	if r.Level == slog.LevelInfo || r.Message == "Activity error." {
		r.Level = slog.LevelDebug
	}
	if !q.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }
func (q quiet) WithGroup(name string) slog.Handler   { return quiet{q.Handler.WithGroup(name)} }
