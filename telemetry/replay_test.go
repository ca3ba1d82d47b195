package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/telemetry"
)

type none struct{}

const (
	callerTrace = "0af7651916cd43dd8448eb211c80319c"
	caller      = "00-" + callerTrace + "-b7ad6b7169203331-01"
	sender      = "00-11111111111111111111111111111111-2222222222222222-01"
)

// tour is a workflow that does a bit of everything, and stops before each
// signal until somebody sends it.
type tour struct {
	id    string // of its run
	defs  durable.Set
	wf    *durable.Workflow[int, string]
	next  *durable.Signal[int]
	ask   *durable.Question[bool]
	ready *durable.Stream[string]
}

func newTour() *tour {
	t := &tour{
		id:    "tour",
		next:  durable.NewSignal[int]("next"),
		ask:   durable.NewQuestion[bool]("approve"),
		ready: durable.NewStream[string]("ready"),
	}
	flaky := durable.NewStep("flaky", func(ctx context.Context, _ none) (int, error) {
		durable.Logger(ctx).Info("in a step")
		if i, _ := durable.StepInfoOf(ctx); i.Attempt == 1 {
			return 0, errors.New("not yet")
		}
		return 1, nil
	}, &durable.StepOptions{Retry: &durable.Retry{Initial: time.Millisecond}})
	broken := durable.NewStep("broken", func(context.Context, none) (int, error) {
		return 0, durable.Permanent(errors.New("no such account"))
	}, nil)
	kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (int, error) { return flaky.Do(ctx, none{}) }, nil)
	t.wf = durable.NewWorkflow("tour", func(ctx context.Context, more int) (string, error) {
		if _, err := flaky.Do(ctx, none{}); err != nil {
			return "", err
		}
		durable.Logger(ctx).Info("in the workflow")
		if _, err := broken.Do(ctx, none{}); err == nil {
			return "", errors.New("broken worked")
		}
		if err := durable.Sleep(ctx, 2*time.Millisecond); err != nil {
			return "", err
		}
		if _, err := kid.Run(ctx, none{}); err != nil {
			return "", err
		}
		for i := range 3 {
			t.ready.Append(ctx, fmt.Sprint(more, " ", i))
			if _, err := t.next.ReceiveTimeout(ctx, time.Hour); err != nil { // a timer that loses
				return "", err
			}
		}
		if _, err := t.ask.Ask(ctx, "Go on?", nil); err != nil {
			return "", err
		}
		if more > 0 {
			return "", durable.ContinueAsNew(more - 1)
		}
		return "seen", nil
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{t.next, t.ask, t.ready}})
	t.defs = durable.Set{t.wf, kid, flaky, broken}
	return t
}

// engine is an engine with telemetry, that can be closed and opened again as
// by another process.
type engine struct {
	t    *testing.T
	r    *receiver
	open func(durable.Options) (*durable.Engine, error)
	opts durable.Options
	cfg  telemetry.Config

	tel *telemetry.Telemetry
	*durable.Engine
}

func (e *engine) start() {
	e.t.Helper()
	e.cfg.Enabled, e.cfg.ServiceName, e.cfg.ServiceVersion = true, "tours", "1.2"
	e.cfg.Exporters = []telemetry.Exporter{{OTLP: &telemetry.OTLP{Endpoint: e.r.URL, Headers: map[string]string{"x-key": "k"}}}}
	e.cfg.Logger = slog.New(slog.DiscardHandler)
	var err error
	if e.tel, err = telemetry.Open(e.t.Context(), &e.cfg); err != nil {
		e.t.Fatal(err)
	}
	e.opts.Observer = e.tel.Observer()
	e.opts.Logger = slog.New(e.tel.Handler(slog.NewTextHandler(io.Discard, nil)))
	if e.Engine, err = e.open(e.opts); err != nil {
		e.t.Fatal(err)
	}
	e.tel.Watch(e.Engine)
}

func (e *engine) stop() {
	e.t.Helper()
	if err := errors.Join(e.Engine.Close(context.Background()), e.tel.Close(context.Background())); err != nil {
		e.t.Error(err)
	}
}

// walk takes a run through the tour. Where the run stands before a signal,
// again is called. It gives the id of the first run.
func (to *tour) walk(t *testing.T, e *engine, more int, again func()) string {
	t.Helper()
	r, err := to.wf.Start(durable.WithTrace(t.Context(), caller), e.Engine, more, &durable.StartOptions{ID: to.id})
	if err != nil {
		t.Fatal(err)
	}
	at := int64(0)
	for range more + 1 {
		for i := range 3 {
			for was := at; at == was; { // the run that continues it may have to come first
				for it, err := range to.ready.Read(t.Context(), e.Run(to.id, ""), at) {
					if err != nil {
						t.Fatal(err)
					}
					at = it.Offset + 1
					break
				}
			}
			again()
			if err := to.next.Send(durable.WithTrace(t.Context(), sender), e.Run(to.id, ""), i, nil); err != nil {
				t.Fatal(err)
			}
		}
		for {
			asks, err := e.Questions(t.Context(), &durable.QuestionFilter{WorkflowID: to.id})
			if err != nil {
				t.Fatal(err)
			}
			if len(asks) == 0 {
				continue
			}
			if err := to.ask.Answer(durable.WithTrace(t.Context(), sender), e.Engine, asks[0].ID, true, nil); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if got, err := to.wf.Result(t.Context(), e.Run(to.id, r.RunID)); err != nil || got != "seen" {
		t.Fatal(got, err)
	}
	return r.RunID
}

// turns are those of a run and of the runs that continued it. Two events that
// come at once may be taken in one turn, so their number is not always the same.
func (to *tour) turns(t *testing.T, e *engine, first string) (n float64) {
	t.Helper()
	for run := first; run != ""; {
		d, err := e.Run(to.id, run).Describe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n += float64(d.Turns)
		run = d.Next
	}
	return n
}

// notOfRuns are metrics of an engine, and of how it came to what it did.
var notOfRuns = []string{"mcpagent.replay", "mcpagent.flush", "mcpagent.runs ", "mcpagent.runs.awake", "mcpagent.steps", "mcpagent.engine", "mcpagent.turns"}

// wantTour is the trace of the tour: two runs of a chain below their caller.
const wantTour = `(b7ad6b7169203331)
  run tour run.state=completed
    child kid
      run kid run.state=completed
        started kid
        step flaky attempts=2
          attempt flaky attempt=1 error.type=error ERROR
          attempt flaky attempt=2
    question approve ~ 2222222222222222
    received signal next ~ 2222222222222222
    received signal next ~ 2222222222222222
    received signal next ~ 2222222222222222
    signal next
    signal next
    signal next
    started tour
    step broken attempts=1 error.type=error ERROR
      attempt broken attempt=1 error.type=error ERROR
    step flaky attempts=2
      attempt flaky attempt=1 error.type=error ERROR
      attempt flaky attempt=2
    timer
    timer dropped=true
    timer dropped=true
    timer dropped=true
  run tour run.state=continued
    child kid
      run kid run.state=completed
        started kid
        step flaky attempts=2
          attempt flaky attempt=1 error.type=error ERROR
          attempt flaky attempt=2
    question approve ~ 2222222222222222
    received signal next ~ 2222222222222222
    received signal next ~ 2222222222222222
    received signal next ~ 2222222222222222
    signal next
    signal next
    signal next
    started tour
    step broken attempts=1 error.type=error ERROR
      attempt broken attempt=1 error.type=error ERROR
    step flaky attempts=2
      attempt flaky attempt=1 error.type=error ERROR
      attempt flaky attempt=2
    timer
    timer dropped=true
    timer dropped=true
    timer dropped=true
`

// wantLines are the log lines of the tour with the spans that they are in.
const wantLines = `in a step < attempt flaky
in a step < attempt flaky
in a step < attempt flaky
in a step < attempt flaky
in a step < attempt flaky
in a step < attempt flaky
in a step < attempt flaky
in a step < attempt flaky
in the workflow < run tour
in the workflow < run tour
`

func TestReplaysAreNotSeen(t *testing.T) {
	t.Parallel()
	memory := func(to *tour) func(durable.Options) (*durable.Engine, error) {
		return func(o durable.Options) (*durable.Engine, error) { return durable.NewMemory(t.Context(), &o, to.defs) }
	}
	local := func(to *tour) func(durable.Options) (*durable.Engine, error) {
		file := filepath.Join(t.TempDir(), "tour.db")
		return func(o durable.Options) (*durable.Engine, error) {
			return localengine.Open(t.Context(), file, &localengine.Options{Engine: o}, to.defs)
		}
	}
	var trees []string
	var lines []string
	var sums []map[string]float64
	names := []string{"memory", "memory, paranoid", "local", "local, paranoid", "local, reopened"}
	for _, name := range names {
		r, to := newReceiver(t), newTour()
		e := &engine{t: t, r: r, open: memory(to)}
		if strings.HasPrefix(name, "local") {
			e.open = local(to)
		}
		again := func() {}
		if strings.HasSuffix(name, "paranoid") {
			e.opts.MaxAwake = -1
		}
		if strings.HasSuffix(name, "reopened") {
			again = func() { e.stop(); e.start() }
		}
		e.start()
		turns := to.turns(t, e, to.walk(t, e, 1, again))
		e.stop()
		trees = append(trees, r.tree(t, callerTrace))
		lines = append(lines, r.lines(t))
		sums = append(sums, r.totals(notOfRuns...))
		if others := len(r.spans) - strings.Count(trees[0], "\n") + 1; others != 0 {
			t.Errorf("%s: %d spans in other traces", name, others)
		}
		all := r.totals()
		if n := all["mcpagent.turns workflow=tour"]; n != turns {
			t.Errorf("%s: %v turns counted, the runs have %v", name, n, turns)
		}
		if slices.Contains([]string{"memory, paranoid", "local, paranoid", "local, reopened"}, name) {
			if n := all["mcpagent.replay.turns workflow=tour"]; n < 6 {
				t.Errorf("%s: %v replays, want 6 at least: nothing was forced", name, n)
			}
		}
		if flushed := all["mcpagent.flush.duration "] > 0; flushed != strings.HasPrefix(name, "local") {
			t.Errorf("%s: flushes seen: %v", name, flushed)
		}
	}
	if d := cmp.Diff(wantTour, trees[0]); d != "" {
		t.Errorf("spans (-want +got):\n%s", d)
	}
	for i := range names {
		if d := cmp.Diff(trees[0], trees[i]); d != "" {
			t.Errorf("%s: spans (-memory +got):\n%s", names[i], d)
		}
		if d := cmp.Diff(wantLines, lines[i]); d != "" {
			t.Errorf("%s: log lines (-want +got):\n%s", names[i], d)
		}
		if d := cmp.Diff(sums[0], sums[i]); d != "" {
			t.Errorf("%s: metrics (-memory +got):\n%s", names[i], d)
		}
	}
}
