package telemetry

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// handler adds the ids of the span that a line belongs to, and sends the line
// to both.
type handler struct {
	next slog.Handler
	otlp slog.Handler // nil: none
}

func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

func (h *handler) Handle(ctx context.Context, rec slog.Record) error {
	if h.otlp != nil {
		// It reads the span from the context, and only puts the line into a
		// queue: there is no error.
		_ = h.otlp.Handle(ctx, rec.Clone())
	}
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		rec = rec.Clone()
		rec.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	return h.next.Handle(ctx, rec)
}

func (h *handler) WithAttrs(a []slog.Attr) slog.Handler {
	out := &handler{next: h.next.WithAttrs(a)}
	if h.otlp != nil {
		out.otlp = h.otlp.WithAttrs(a)
	}
	return out
}

func (h *handler) WithGroup(n string) slog.Handler {
	out := &handler{next: h.next.WithGroup(n)}
	if h.otlp != nil {
		out.otlp = h.otlp.WithGroup(n)
	}
	return out
}
