package telemetry_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/telemetry"
)

// What a step costs more with telemetry: a step is a call, an attempt, and
// two spans with five measurements.
func BenchmarkStep(b *testing.B) {
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer sink.Close()
	none := 0.0
	otlp := []telemetry.Exporter{{OTLP: &telemetry.OTLP{Endpoint: sink.URL}}}
	for _, c := range []struct {
		name string
		cfg  *telemetry.Config
	}{
		{"off", nil},
		{"metrics", &telemetry.Config{Enabled: true, SampleRate: &none, Exporters: otlp}},
		{"all", &telemetry.Config{Enabled: true, Exporters: otlp, QueueSize: 1 << 20}},
	} {
		b.Run(c.name, func(b *testing.B) {
			tel, err := telemetry.Open(b.Context(), c.cfg)
			if err != nil {
				b.Fatal(err)
			}
			step := durable.NewStep("step", func(_ context.Context, i int) (int, error) { return i, nil }, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (int, error) {
				for range n {
					if _, err := step.Do(ctx, 1); err != nil {
						return 0, err
					}
				}
				return n, nil
			}, nil)
			e, err := durable.NewMemory(b.Context(), &durable.Options{Observer: tel.Observer(), Logger: slog.New(slog.DiscardHandler)}, wf, step)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for left := b.N; left > 0; left -= 1000 {
				r, err := wf.Start(b.Context(), e, min(left, 1000), nil)
				if err == nil {
					_, err = wf.Result(b.Context(), r)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			if err := e.Close(context.Background()); err != nil {
				b.Error(err)
			}
			if err := tel.Close(context.Background()); err != nil {
				b.Error(err)
			}
		})
	}
}

// The observer by itself.
func BenchmarkObserve(b *testing.B) {
	tel, err := telemetry.Open(b.Context(), &telemetry.Config{Enabled: true})
	if err != nil {
		b.Fatal(err)
	}
	defer tel.Close(context.Background())
	obs := tel.Observer()
	for _, kind := range []string{"turn", "wait.ended", "step.ended", "wait.started"} {
		b.Run(kind, func(b *testing.B) {
			o := durable.Observation{Kind: kind, WorkflowID: "id", RunID: "run", Chain: "run", Workflow: "wf", Name: "step", Wait: "step", Call: "0/1", Attempt: 1}
			o.Since = time.Unix(1, 0)
			o.At = o.Since.Add(time.Second)
			b.ReportAllocs()
			for b.Loop() {
				obs.Observe(o)
			}
		})
	}
}
