package telemetry_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/telemetry"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory opens an engine in memory with telemetry to a receiver.
func memory(t *testing.T, r *receiver, cfg telemetry.Config, defs ...durable.Definer) *engine {
	t.Helper()
	e := &engine{t: t, r: r, cfg: cfg}
	e.open = func(o durable.Options) (*durable.Engine, error) { return durable.NewMemory(t.Context(), &o, defs...) }
	e.start()
	return e
}

func finish[In, Out any](t *testing.T, ctx context.Context, e *engine, wf *durable.Workflow[In, Out], in In) Out {
	t.Helper()
	r, err := wf.Start(ctx, e.Engine, in, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := wf.Result(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// traces gives the ids of all traces.
func (r *receiver) traces() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []string
	for _, s := range r.spans {
		ids = append(ids, hex.EncodeToString(s.TraceId))
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func TestARunIsInTheTraceOfItsCaller(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	var tel *telemetry.Telemetry
	step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
		ctx, span := tel.TracerProvider().Tracer("mine").Start(ctx, "my own")
		defer span.End()
		return durable.TraceOf(ctx), nil
	}, nil)
	wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) { return step.Do(ctx, none{}) }, nil)
	e := memory(t, r, telemetry.Config{}, wf, step)
	tel = e.tel
	ctx, span := tel.TracerProvider().Tracer("mine").Start(t.Context(), "the caller")
	of := finish(t, durable.WithTrace(ctx, caller), e, wf, none{}) // the span goes first
	span.End()
	e.stop()
	id := span.SpanContext().TraceID().String()
	want := `(no parent)
  the caller
    run wf run.state=completed
      started wf
      step step attempts=1
        attempt step attempt=1
          my own
`
	if d := cmp.Diff(want, r.tree(t, id)); d != "" {
		t.Errorf("spans (-want +got):\n%s", d)
	}
	if !strings.HasPrefix(of, "00-"+id+"-") || !strings.HasSuffix(of, "-01") {
		t.Errorf("the trace in the step is %s, not that of its attempt", of)
	}
	if !r.services["tours 1.2"] || r.headers.Get("x-key") != "k" {
		t.Errorf("services %v, headers %v", r.services, r.headers)
	}
}

func TestARunWithoutCallerHasATraceOfItsOwn(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (int, error) { return 0, nil }, nil)
	wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (int, error) {
		if _, err := kid.Run(ctx, none{}); err != nil {
			return 0, err
		}
		if n > 0 {
			return 0, durable.ContinueAsNew(n - 1)
		}
		return 0, nil
	}, nil)
	e := memory(t, r, telemetry.Config{}, wf, kid)
	finish(t, t.Context(), e, wf, 1)
	e.stop()
	ids := r.traces()
	if len(ids) != 1 {
		t.Fatalf("%d traces, want one for the chain and its children: %v", len(ids), ids)
	}
	want := `(no parent)
  run wf run.state=completed
    child kid
      run kid run.state=completed
        started kid
    started wf
  run wf run.state=continued
    child kid
      run kid run.state=completed
        started kid
    started wf
`
	if d := cmp.Diff(want, r.tree(t, ids[0])); d != "" {
		t.Errorf("spans (-want +got):\n%s", d)
	}
}

func TestSamplingFollowsTheCallerElseTheRate(t *testing.T) {
	t.Parallel()
	rate := func(f float64) *float64 { return &f }
	for _, c := range []struct {
		name, trace string
		rate        *float64
		spans       bool
	}{
		{"no caller, no rate", "", nil, true},
		{"no caller, none", "", rate(0), false},
		{"caller keeps, none", caller, rate(0), true},
		{"caller does not, all", strings.TrimSuffix(caller, "1") + "0", rate(1), false},
		{"caller makes no sense, all", "00-nonsense", rate(1), true},
	} {
		r := newReceiver(t)
		kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (int, error) { return 0, nil }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) { return kid.Run(ctx, none{}) }, nil)
		e := memory(t, r, telemetry.Config{SampleRate: c.rate}, wf, kid)
		finish(t, durable.WithTrace(t.Context(), c.trace), e, wf, none{})
		e.stop()
		if want := map[bool]int{true: 5}[c.spans]; len(r.spans) != want {
			t.Errorf("%s: %d spans, want %d", c.name, len(r.spans), want)
		}
		if n := r.totals()["mcpagent.runs.started workflow=kid"]; n != 1 {
			t.Errorf("%s: %v runs counted: metrics are not sampled", c.name, n)
		}
	}
}

func TestSamplingKeepsTreesWhole(t *testing.T) {
	t.Parallel()
	r, half := newReceiver(t), .5
	kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (int, error) { return 0, nil }, nil)
	wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) { return kid.Run(ctx, none{}) }, nil)
	e := memory(t, r, telemetry.Config{SampleRate: &half}, wf, kid)
	const runs = 64
	for range runs {
		finish(t, t.Context(), e, wf, none{})
	}
	e.stop()
	kept := r.traces()
	if len(kept) == 0 || len(kept) == runs {
		t.Errorf("%d of %d traces kept, with a rate of a half", len(kept), runs)
	}
	if len(r.spans) != 5*len(kept) {
		t.Errorf("%d spans in %d traces, want 5 in each", len(r.spans), len(kept))
	}
}

func TestContentIsExportedOnlyWhenAskedFor(t *testing.T) {
	t.Parallel()
	for _, capture := range []bool{false, true} {
		r := newReceiver(t)
		step := durable.NewStep("step", func(ctx context.Context, in string) (string, error) { return in + "!", nil }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, in string) (string, error) { return step.Do(ctx, in) }, nil)
		e := memory(t, r, telemetry.Config{CaptureContent: capture}, wf, step)
		finish(t, durable.WithTrace(t.Context(), caller), e, wf, strings.Repeat("ä", 4000))
		e.stop()
		tree := r.tree(t, callerTrace)
		if strings.Contains(tree, "ä") != capture {
			t.Errorf("capture %v:\n%.300s", capture, tree)
		}
		for l := range strings.Lines(tree) {
			if len(l) > 5<<10 {
				t.Errorf("a value was not cut: %d bytes", len(l))
			}
		}
	}
}

func TestGaugesTellHowTheEngineIs(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	started := make(chan struct{}, 2)
	step := durable.NewStep("step", func(ctx context.Context, _ none) (int, error) {
		started <- struct{}{}
		<-ctx.Done()
		return 0, ctx.Err()
	}, nil)
	wait := durable.NewWorkflow("wait", func(ctx context.Context, _ none) (int, error) { return 0, durable.Sleep(ctx, time.Hour) }, nil)
	work := durable.NewWorkflow("work", func(ctx context.Context, _ none) (int, error) { return step.Do(ctx, none{}) }, nil)
	bad := durable.NewWorkflow("bad", func(ctx context.Context, _ none) (int, error) { panic("a bug") }, nil)
	e := memory(t, r, telemetry.Config{}, wait, work, bad, step)
	start := func(wf durable.Definer, name string) *durable.Run {
		run, err := e.Start(t.Context(), name, json.RawMessage(`{}`), nil)
		if err != nil {
			t.Fatal(err)
		}
		return run
	}
	start(wait, "wait")
	if err := start(wait, "wait").Pause(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	start(work, "work")
	<-started
	if _, err := start(bad, "bad").Result(t.Context()); err == nil {
		t.Error("the bad run has a result")
	}
	if err := e.tel.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := r.totals()
	for name, want := range map[string]float64{
		"mcpagent.runs run.state=running":              2,
		"mcpagent.runs run.state=paused":               1,
		"mcpagent.runs run.state=blocked":              1,
		"mcpagent.steps.atwork ":                       1,
		"mcpagent.steps.queued ":                       0,
		"mcpagent.engine.healthy ":                     1,
		"mcpagent.problems problem=panic workflow=bad": 1,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	e.stop()
}

// lostLog counts warnings.
func lostLog() (*slog.Logger, func() int) {
	var buf bytes.Buffer
	l := slog.New(slog.NewTextHandler(&lockedBuffer{b: &buf}, nil))
	return l, func() int { return strings.Count(buf.String(), "level=WARN") }
}

func TestACollectorThatIsNotThereStopsNothing(t *testing.T) {
	t.Parallel()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	hold := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}))
	defer slow.Close()
	defer close(hold)
	for name, url := range map[string]string{"gone": "http://" + gone.Addr().String(), "slow": slow.URL} {
		log, warnings := lostLog()
		tel, err := telemetry.Open(t.Context(), &telemetry.Config{
			Enabled: true, QueueSize: 10, Logger: log,
			Exporters: []telemetry.Exporter{{OTLP: &telemetry.OTLP{Endpoint: url}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		step := durable.NewStep("step", func(ctx context.Context, _ none) (int, error) { return 0, nil }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			for range 50 {
				if _, err := step.Do(ctx, none{}); err != nil {
					return 0, err
				}
			}
			return 0, nil
		}, nil)
		eng, err := durable.NewMemory(t.Context(), &durable.Options{Observer: tel.Observer(), Logger: slog.New(slog.DiscardHandler)}, wf, step)
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			finish(t, t.Context(), &engine{Engine: eng}, wf, none{})
		}
		if err := eng.Close(context.Background()); err != nil {
			t.Error(err)
		}
		// A context that has ended: whatever is left is lost, at once.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err = tel.Close(ctx)
		if err == nil || !strings.Contains(err.Error(), "spans to "+url+"/v1/traces were lost, 0 delivered") {
			t.Errorf("%s: close: %v", name, err)
		}
		// 4 runs of 50 steps: 408 spans, of which none arrived.
		if !strings.Contains(err.Error(), "408 spans") {
			t.Errorf("%s: close counts other than 408: %v", name, err)
		}
		if n := warnings(); n == 0 || n > 2 { // spans, metrics
			t.Errorf("%s: %d warnings, want one for each kind", name, n)
		}
	}
}

func TestWhatACollectorRefusesIsCounted(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	r.refuse = http.StatusForbidden
	wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) { return 0, nil }, nil)
	e := memory(t, r, telemetry.Config{}, wf)
	finish(t, t.Context(), e, wf, none{})
	if err := e.tel.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	r.mu.Lock()
	r.refuse = 0
	r.mu.Unlock()
	finish(t, t.Context(), e, wf, none{})
	if err := e.Engine.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if err := e.tel.Close(context.Background()); err == nil || !strings.Contains(err.Error(), "2 spans to "+r.URL+"/v1/traces were lost, 2 delivered") {
		t.Errorf("close: %v", err)
	}
	sums := r.totals()
	if len(r.spans) != 2 || sums["mcpagent.telemetry.dropped signal=spans"] != 2 || sums["mcpagent.runs.ended run.state=completed workflow=wf"] != 2 {
		t.Errorf("%d spans, metrics %v", len(r.spans), sums)
	}
}

func TestOffIsOff(t *testing.T) {
	t.Parallel()
	for _, c := range []*telemetry.Config{nil, {}, {Exporters: []telemetry.Exporter{{File: &telemetry.File{Path: filepath.Join(t.TempDir(), "x")}}}}} {
		tel, err := telemetry.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		h := slog.DiscardHandler
		if tel.Observer() != nil || tel.Handler(h) != h {
			t.Error("it observes")
		}
		_, span := tel.TracerProvider().Tracer("x").Start(t.Context(), "x")
		if span.IsRecording() {
			t.Error("it records")
		}
		tel.Watch(nil)()
		if err := errors.Join(tel.Flush(t.Context()), tel.Close(t.Context())); err != nil {
			t.Error(err)
		}
		if c != nil && c.Exporters != nil {
			if _, err := os.Stat(c.Exporters[0].File.Path); err == nil {
				t.Error("it made the file")
			}
		}
	}
}

func TestSpansInAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tel, err := telemetry.Open(t.Context(), &telemetry.Config{
		Enabled: true, ServiceName: "files", ServiceInstanceID: "one",
		Exporters: []telemetry.Exporter{{File: &telemetry.File{PathSettings: &telemetry.PathSettings{PathPattern: dir + "/deep/er/t-{unique_id}.jsonl", UniqueID: "session_id"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) { return 0, durable.Permanent(errors.New("it broke")) }, nil)
	eng, err := durable.NewMemory(t.Context(), &durable.Options{Observer: tel.Observer(), Logger: slog.New(slog.DiscardHandler)}, wf)
	if err != nil {
		t.Fatal(err)
	}
	r, err := wf.Start(durable.WithTrace(t.Context(), caller), eng, none{}, &durable.StartOptions{ID: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wf.Result(t.Context(), r); err == nil {
		t.Error("no error")
	}
	if err := errors.Join(eng.Close(context.Background()), tel.Close(context.Background())); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "deep", "er", "t-one.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(all) != 2 {
		t.Fatalf("%d lines, want 2:\n%s", len(all), b)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(all[1]), &got); err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse(time.RFC3339Nano, got["start_time"].(string)); err != nil {
		t.Error(err)
	}
	id := got["context"].(map[string]any)["span_id"].(string)
	for _, k := range []string{"start_time", "end_time", "resource"} {
		delete(got, k)
	}
	want := map[string]any{
		"name": "run wf", "kind": "SpanKind.INTERNAL", "parent_id": "0xb7ad6b7169203331",
		"context":    map[string]any{"trace_id": "0x" + callerTrace, "span_id": id, "trace_state": "[]"},
		"status":     map[string]any{"status_code": "ERROR", "description": "it broke"},
		"attributes": map[string]any{"mcpagent.workflow": "wf", "mcpagent.workflow.id": "x", "mcpagent.run.id": r.RunID, "mcpagent.run.state": "failed", "error.type": "error"},
		"events":     []any{}, "links": []any{},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("line (-want +got):\n%s", d)
	}
}

func TestLogLinesHaveTheirSpan(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	tel, err := telemetry.Open(t.Context(), &telemetry.Config{Enabled: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Close(context.Background())
	log := slog.New(tel.Handler(slog.NewTextHandler(&buf, nil)))
	log.Info("none")
	ctx, span := tel.TracerProvider().Tracer("x").Start(t.Context(), "x")
	log.With("k", 1).InfoContext(ctx, "with")
	log.WithGroup("g").InfoContext(ctx, "grouped", "a", 1)
	log.DebugContext(ctx, "not enabled")
	span.End()
	sc := trace.SpanContextFromContext(ctx)
	ids := "trace_id=" + sc.TraceID().String() + " span_id=" + sc.SpanID().String()
	for i, want := range []string{"msg=none", "msg=with k=1 " + ids, "msg=grouped g.a=1"} {
		if got := strings.Split(buf.String(), "\n")[i]; !strings.HasSuffix(strings.Split(got, " g.trace_id")[0], want) {
			t.Errorf("line %q, want it to end in %q", got, want)
		}
	}
	if strings.Contains(buf.String(), "not enabled") {
		t.Error("a line below the level was written")
	}
}
