package temporalserver

import (
	"context"
	"fmt"
	"log/slog"

	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/log/tag"
)

// logger gives the server's words to slog.
type logger struct{ to *slog.Logger }

var (
	_ log.Logger      = logger{}
	_ log.WithLogger  = logger{}
	_ log.SLogWrapper = logger{}
)

// fatal is what the server can't go on from.
type fatal string

func (f fatal) Error() string { return string(f) }

func (l logger) Debug(msg string, tags ...tag.Tag)  { l.log(slog.LevelDebug, msg, tags) }
func (l logger) Info(msg string, tags ...tag.Tag)   { l.log(slog.LevelInfo, msg, tags) }
func (l logger) Warn(msg string, tags ...tag.Tag)   { l.log(slog.LevelWarn, msg, tags) }
func (l logger) Error(msg string, tags ...tag.Tag)  { l.log(slog.LevelError, msg, tags) }
func (l logger) DPanic(msg string, tags ...tag.Tag) { l.log(slog.LevelError, msg, tags) }

func (l logger) Panic(msg string, tags ...tag.Tag) { l.Fatal(msg, tags...) }

// Fatal must not return: the callers rely on it.
func (l logger) Fatal(msg string, tags ...tag.Tag) {
	l.log(slog.LevelError, msg, tags)
	for _, t := range tags {
		msg += fmt.Sprintf(", %s: %v", t.Key(), t.Value())
	}
	panic(fatal(msg))
}

// With is a logger that adds the tags.
func (l logger) With(tags ...tag.Tag) log.Logger {
	return logger{slog.New(l.to.Handler().WithAttrs(attrs(tags)))}
}

// SLog is what the server's own SDK workers log to.
func (l logger) SLog() *slog.Logger { return l.to }

func (l logger) log(level slog.Level, msg string, tags []tag.Tag) {
	ctx := context.Background()
	if l.to.Enabled(ctx, level) {
		l.to.LogAttrs(ctx, level, msg, attrs(tags)...)
	}
}

func attrs(tags []tag.Tag) []slog.Attr {
	all := make([]slog.Attr, len(tags))
	for i, t := range tags {
		all[i] = slog.Any(t.Key(), t.Value())
	}
	return all
}
