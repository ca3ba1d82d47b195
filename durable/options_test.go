package durable_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
)

// eyes collects what an observer sees.
type eyes struct {
	mu  sync.Mutex
	all []durable.Observation
}

func (o *eyes) Observe(x durable.Observation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, x)
}

func (o *eyes) counts(but ...string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := map[string]int{}
	for _, x := range o.all {
		n[x.Kind]++
	}
	for _, k := range but {
		delete(n, k)
	}
	var out []string
	for k, c := range n {
		out = append(out, fmt.Sprint(k, "=", c))
	}
	sort.Strings(out)
	return strings.Join(out, " ")
}

func TestObserverSeesTheSameAwakeAndParanoid(t *testing.T) {
	var counts []string
	for _, m := range durabletest.All() {
		synctest.Test(t, func(t *testing.T) {
			o := m.Options
			seen := &eyes{}
			o.Observer, o.Logger = seen, slog.New(slog.DiscardHandler)
			flaky := durable.NewStep("flaky", func(ctx context.Context, _ none) (int, error) {
				if i, _ := durable.StepInfoOf(ctx); i.Attempt == 1 {
					return 0, errors.New("x")
				}
				return 1, nil
			}, nil)
			kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (int, error) { return flaky.Do(ctx, none{}) }, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (int, error) {
				if err := durable.Sleep(ctx, time.Minute); err != nil {
					return 0, err
				}
				if _, err := kid.Run(ctx, none{}); err != nil {
					return 0, err
				}
				in, cancel := durable.WithTimeout(ctx, time.Hour) // a timer that loses
				defer cancel()
				if _, err := flaky.Do(in, none{}); err != nil {
					return 0, err
				}
				if n > 0 {
					return 0, durable.ContinueAsNew(n - 1)
				}
				return 7, nil
			}, nil)
			e := must[*durable.Engine](t)(durable.NewMemory(t.Context(), &o, wf, kid, flaky))
			ctx := durable.WithTrace(durable.WithActor(t.Context(), durable.Actor{Owner: "o"}), "00-trace")
			r := must[*durable.Run](t)(wf.Start(ctx, e, 1, nil))
			must[int](t)(wf.Result(t.Context(), r))
			synctest.Wait()
			if err := e.Close(context.Background()); err != nil {
				t.Error(err)
			}
			starts, ends, waits := map[string]int{}, map[string]int{}, map[string]int{}
			for _, x := range seen.all {
				switch x.Kind {
				case "run.started":
					starts[x.RunID]++
				case "run.ended":
					ends[x.RunID]++
				case "wait.started":
					waits[x.RunID+x.Call]++
				case "wait.ended":
					waits[x.RunID+x.Call]--
				case "step.ended":
					if x.Took < 0 || (x.Attempt == 1) != (x.Err != nil) {
						t.Errorf("%+v", x)
					}
				}
				if x.Owner != "o" || x.Trace != "00-trace" || x.WorkflowID == "" || x.At.IsZero() || x.Replaying {
					t.Errorf("%+v", x)
				}
			}
			if len(starts) != 4 || len(ends) != 4 {
				t.Errorf("%d runs started, %d ended; want 4", len(starts), len(ends))
			}
			for id, n := range starts {
				if n != 1 || ends[id] != 1 {
					t.Errorf("run %s was started %d times and ended %d times", id, n, ends[id])
				}
			}
			for call, n := range waits {
				if n != 0 {
					t.Errorf("wait %s: %+d ends missing", call, n)
				}
			}
			counts = append(counts, seen.counts("woken", "turn"))
		})
	}
	if counts[0] != counts[1] {
		t.Errorf("awake:    %s\nparanoid: %s", counts[0], counts[1])
	}
}

func TestLogLinesAreNeitherDoubledNorEarly(t *testing.T) {
	var buf bytes.Buffer
	var mu sync.Mutex
	lines := func() []string {
		mu.Lock()
		defer mu.Unlock()
		var out []string
		for l := range strings.SplitSeq(strings.TrimSpace(buf.String()), "\n") {
			if strings.Contains(l, "mark=") {
				_, l, _ = strings.Cut(l, "msg=")
				l, _, _ = strings.Cut(l, " ")
				out = append(out, l)
			}
		}
		return out
	}
	with := func(o *durable.Options) {
		mu.Lock()
		defer mu.Unlock()
		buf.Reset()
		o.Logger = slog.New(slog.NewTextHandler(lockedWriter{&mu, &buf}, nil))
	}
	scenarioWith(t, with, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[string]("s")
		q := durable.NewQuery[none, int]("q")
		step := durable.NewStep("step", func(ctx context.Context, _ none) (int, error) {
			durable.Logger(ctx).Info("step", "mark", 1)
			return 1, nil
		}, nil)
		var early []string
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			log := durable.Logger(ctx).With("mark", 1).WithGroup("g")
			defer log.Info("end")
			_ = q.Handle(ctx, func(none) (int, error) { log.Info("query"); return 1, nil })
			log.Info("first")
			early = lines()
			if _, err := step.Do(ctx, none{}); err != nil {
				return 0, err
			}
			log.Info("second")
			if s, err := sig.Receive(ctx); s == "panic" || err != nil {
				log.Info("lost")
				panic("bad day")
			}
			log.Info("third")
			return 1, nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig, q}})
		e := open(wf, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		must[int](t)(q.Ask(t.Context(), r, none{}))
		if err := sig.Send(t.Context(), r, "go", nil); err != nil {
			t.Fatal(err)
		}
		must[int](t)(wf.Result(t.Context(), r))
		must[int](t)(q.Ask(t.Context(), r, none{})) // replays all of it
		synctest.Wait()
		if got, want := fmt.Sprint(lines()), "[first step second third end]"; got != want {
			t.Errorf("lines %s, want %s", got, want)
		}
		if len(early) != 0 && early[0] == "first" && len(early) == 1 && !strings.Contains(t.Name(), "paranoid") {
			t.Errorf("a line was written before its turn was committed: %v", early)
		}
		r2 := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		if err := sig.Send(t.Context(), r2, "panic", nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got := strings.Join(lines(), " "); strings.Contains(got, "lost") {
			t.Errorf("lines of a turn that was never committed: %s", got)
		}
	})
}

type lockedWriter struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

type tenantKey struct{}

type tenantPropagator struct{}

func (tenantPropagator) Key() string { return "tenant" }
func (tenantPropagator) Extract(ctx context.Context) string {
	s, _ := ctx.Value(tenantKey{}).(string)
	return s
}
func (tenantPropagator) Inject(ctx context.Context, v string) context.Context {
	return context.WithValue(ctx, tenantKey{}, v)
}

func TestOptionsThatContradictThemselvesAreRefused(t *testing.T) {
	t.Parallel()
	step := func(o durable.StepOptions) durable.Definer {
		return durable.NewStep("s", func(context.Context, int) (int, error) { return 0, nil }, &o)
	}
	for name, c := range map[string]struct {
		o    *durable.Options
		defs []durable.Definer
		want string
	}{
		"policy backoff":       {&durable.Options{Policies: durable.Policies{"x": {Backoff: 0.1}}}, nil, `retry policy "x"`},
		"policy attempts":      {&durable.Options{Policies: durable.Policies{"x": {MaxAttempts: -1}}}, nil, "negative"},
		"negative timeout":     {nil, []durable.Definer{step(durable.StepOptions{Timeout: -1})}, "negative"},
		"queue":                {nil, []durable.Definer{step(durable.StepOptions{Queue: "gpu"})}, "Queue"},
		"queue of a workflow":  {nil, []durable.Definer{durable.NewWorkflow[int, int]("w", nil, &durable.WorkflowOptions{Queue: "gpu"})}, `workflow "w": option Queue`},
		"once, many times":     {nil, []durable.Definer{step(durable.StepOptions{AtMostOnce: true, Retry: &durable.Retry{MaxAttempts: 2}})}, "contradict"},
		"initial above max":    {nil, []durable.Definer{step(durable.StepOptions{Retry: &durable.Retry{Initial: 2, Max: 1}})}, "above"},
		"workflow without fn":  {nil, []durable.Definer{durable.NewWorkflow[int, int]("w", nil, nil)}, "no function"},
		"two signals, a name":  {nil, []durable.Definer{durable.NewSignal[int]("a"), durable.NewSignal[string]("a")}, "defined twice"},
		"a message's bad name": {nil, []durable.Definer{durable.NewSignal[int]("a b")}, "consists of"},
	} {
		e, err := durable.NewMemory(t.Context(), c.o, c.defs...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
		if e != nil {
			_ = e.Close(context.Background())
		}
	}
}

func TestHealthAndClose(t *testing.T) {
	scenarioWith(t, func(o *durable.Options) { o.MaxSteps = 2 }, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		step := durable.NewStep("step", func(ctx context.Context, _ none) (int, error) { return 0, ended(ctx) }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) { return step.Do(ctx, none{}) }, nil)
		bad := durable.NewWorkflow("bad", func(ctx context.Context, _ none) (int, error) { panic("x") }, nil)
		e := open(wf, bad, step)
		var r *durable.Run
		for range 5 {
			r = must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		}
		must[*durable.Run](t)(bad.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		h := must[*durable.Health](t)(e.Health(t.Context()))
		if !h.OK || h.Role != "executor" || h.Running != 6 || h.Blocked != 1 || h.Steps != 2 || h.Queued != 3 {
			t.Errorf("health: %+v", h)
		}
		errs := make(chan error, 1)
		go func() { _, err := r.Result(t.Context()); errs <- err }()
		synctest.Wait()
		if err := e.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := <-errs; !errors.Is(err, durable.ErrClosed) {
			t.Errorf("who waits for a result when the engine is closed gets %v, want ErrClosed", err)
		}
		if _, err := wf.Start(t.Context(), e, none{}, nil); !errors.Is(err, durable.ErrClosed) {
			t.Errorf("start on a closed engine: %v", err)
		}
		if _, err := r.Describe(t.Context()); err != nil {
			t.Errorf("what was recorded stays readable: %v", err)
		}
		if err := e.Close(context.Background()); err != nil {
			t.Errorf("close again: %v", err)
		}
	})
}
