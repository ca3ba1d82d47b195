package durable_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

func TestEndOfARunByWhatTheCodeReturns(t *testing.T) {
	cases := []struct {
		name   string
		cancel bool
		ret    func(ctx context.Context) error
		want   durable.State
	}{
		{"nil", false, func(context.Context) error { return nil }, durable.Completed},
		{"nil after cancel", true, func(context.Context) error { return nil }, durable.Completed},
		{"canceled after cancel", true, func(ctx context.Context) error { return ctx.Err() }, durable.Cancelled},
		{"wrapped canceled after cancel", true, func(ctx context.Context) error { return fmt.Errorf("a: %w", ctx.Err()) }, durable.Cancelled},
		{"another error after cancel", true, func(context.Context) error { return errors.New("x") }, durable.Failed},
		{"canceled without cancel", false, func(context.Context) error { return context.Canceled }, durable.Failed},
		{"deadline", false, func(context.Context) error { return context.DeadlineExceeded }, durable.Failed},
		{"error", false, func(context.Context) error { return errors.New("x") }, durable.Failed},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
				wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
					err := durable.Sleep(ctx, time.Minute)
					if c.cancel != (errors.Is(err, context.Canceled) && errors.Is(context.Cause(ctx), context.Canceled)) {
						return 0, fmt.Errorf("sleep: %v", err)
					}
					return 0, c.ret(ctx)
				}, nil)
				e := open(wf)
				r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
				time.Sleep(time.Second)
				if c.cancel {
					for range 2 {
						if err := r.Cancel(t.Context(), "why"); err != nil && !errors.Is(err, durable.ErrFinished) {
							t.Fatal(err)
						}
					}
				}
				_, err := wf.Result(t.Context(), r)
				d := must[*durable.Description](t)(r.Describe(t.Context()))
				if d.State != c.want {
					t.Errorf("state = %s, want %s (%v)", d.State, c.want, err)
				}
				var re *durable.RunError
				if c.want == durable.Completed && err != nil || c.want != durable.Completed && (!errors.As(err, &re) || re.State != c.want) {
					t.Errorf("result: %v", err)
				}
			})
		})
	}
}

func TestCancelBeforeTheFirstTurnStillRunsTheCode(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		ran := false
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			ran = true
			return 0, durable.Sleep(ctx, time.Hour)
		}, nil)
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, &durable.StartOptions{Delay: time.Hour}))
		began := time.Now()
		if err := r.Cancel(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		_, err := wf.Result(t.Context(), r)
		if !errors.Is(err, context.Canceled) || !ran {
			t.Errorf("result %v, the code ran: %v", err, ran)
		}
		if d := time.Since(began); d > time.Hour {
			t.Errorf("took %v", d)
		}
	})
}

func TestCancelLiftsAPause(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) { return 0, durable.Sleep(ctx, 24*time.Hour) }, nil)
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		if err := r.Pause(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if err := r.Cancel(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := wf.Result(t.Context(), r); !errors.Is(err, context.Canceled) || time.Since(began) > time.Minute {
			t.Errorf("result after %v: %v", time.Since(began), err)
		}
	})
}

func TestPauseStepsGoOnTimersKeepTheirTimeAndTreeReachesChildren(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		var tries atomic.Int32
		step := durable.NewStep("step", func(context.Context, none) (string, error) {
			if tries.Add(1) < 3 {
				return "", errors.New("x")
			}
			return "done", nil
		}, nil)
		var kidRan atomic.Bool
		kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (int, error) {
			err := durable.Sleep(ctx, time.Minute)
			kidRan.Store(true)
			return 1, err
		}, nil)
		q := durable.NewQuery[none, string]("q")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			_ = q.Handle(ctx, func(none) (string, error) { return "hello", nil })
			began := durable.Now(ctx)
			f := step.Start(ctx, none{})
			c, err := kid.Child(ctx, none{}, nil)
			if err != nil {
				return "", err
			}
			if err := durable.Sleep(ctx, 2*time.Hour); err != nil {
				return "", err
			}
			took := durable.Now(ctx).Sub(began)
			if _, err := c.Get(ctx); err != nil {
				return "", err
			}
			s, err := f.Get(ctx)
			return fmt.Sprint(s, " ", took), err
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{q}})
		e := open(wf, kid, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		if err := r.Pause(t.Context(), &durable.PauseOptions{Tree: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if tries.Load() != 3 {
			t.Errorf("the step of the paused run was tried %d times, want 3", tries.Load())
		}
		if kidRan.Load() {
			t.Error("the child moved though its tree is paused")
		}
		if got := must[string](t)(q.Ask(t.Context(), r, none{})); got != "hello" {
			t.Errorf("query of the paused run = %q", got)
		}
		if err := r.Resume(t.Context(), &durable.PauseOptions{Tree: true}); err != nil {
			t.Fatal(err)
		}
		if got := must[string](t)(wf.Result(t.Context(), r)); got != "done 2h0m0s" {
			t.Errorf("got %q, want %q", got, "done 2h0m0s")
		}
	})
}

func TestTimeoutOfARunIsHardAndOverTheChain(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		defer time.Sleep(time.Hour)
		var after atomic.Int32
		wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (int, error) {
			if err := durable.Sleep(ctx, 10*time.Minute); err != nil {
				after.Add(1)
				return 0, err
			}
			return 0, durable.ContinueAsNew(n + 1)
		}, &durable.WorkflowOptions{Timeout: time.Hour - time.Second})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, 0, nil))
		time.Sleep(55 * time.Minute)
		if err := r.Pause(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err := wf.Result(t.Context(), r)
		var re *durable.RunError
		if !errors.As(err, &re) || re.State != durable.TimedOut || !errors.Is(err, durable.ErrTimeout) {
			t.Errorf("result: %v", err)
		}
		if d := time.Since(began); d != 5*time.Minute-time.Second {
			t.Errorf("timed out %v after the pause, want %v", d, 5*time.Minute-time.Second)
		}
		if after.Load() != 0 {
			t.Error("code ran at the timeout")
		}
		d := must[*durable.Description](t)(e.Run(r.WorkflowID, "").Describe(t.Context()))
		if d.State != durable.TimedOut || d.Chain != r.RunID {
			t.Errorf("newest run of the chain: %+v", d)
		}
		if first := must[*durable.Description](t)(r.Describe(t.Context())); first.State != durable.Continued || first.Next == "" {
			t.Errorf("first run of the chain: %+v", first)
		}
	})
}

func TestTerminateRunsNoCode(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		var after, stopped atomic.Int32
		q := durable.NewQuestion[int]("q")
		step := durable.NewStep("step", func(ctx context.Context, _ none) (int, error) { defer stopped.Add(1); return 0, ended(ctx) }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			step.Start(ctx, none{})
			_, err := q.Ask(ctx, "?", nil)
			after.Add(1)
			return 0, err
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{q}})
		e := open(wf, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		ctx := durable.WithActor(t.Context(), durable.Actor{Name: "ann"})
		if err := r.Terminate(ctx, "enough"); err != nil {
			t.Fatal(err)
		}
		_, err := wf.Result(t.Context(), r)
		var re *durable.RunError
		if !errors.As(err, &re) || re.State != durable.Terminated || !strings.Contains(err.Error(), "enough") {
			t.Errorf("result: %v", err)
		}
		synctest.Wait()
		if after.Load() != 0 || stopped.Load() != 1 {
			t.Errorf("code ran %d times, steps stopped %d", after.Load(), stopped.Load())
		}
		if qs := must[[]*durable.QuestionInfo](t)(e.Questions(t.Context(), nil)); len(qs) != 0 {
			t.Errorf("open questions: %+v", qs)
		}
		for name, err := range map[string]error{
			"terminate": r.Terminate(t.Context(), ""), "cancel": r.Cancel(t.Context(), ""), "pause": r.Pause(t.Context(), nil), "resume": r.Resume(t.Context(), nil),
		} {
			if !errors.Is(err, durable.ErrFinished) {
				t.Errorf("%s of a terminated run: %v, want ErrFinished", name, err)
			}
		}
	})
}

func TestStartTwice(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		var runs atomic.Int32
		wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (int, error) {
			runs.Add(1)
			if n < 0 {
				return 0, errors.New("negative")
			}
			return n, nil
		}, nil)
		other := durable.NewWorkflow("other", func(_ context.Context, n int) (int, error) { return n, nil }, nil)
		e := open(wf, other)
		start := func(n int, o durable.StartOptions) (*durable.Run, error) {
			r, err := wf.Start(t.Context(), e, n, &o)
			synctest.Wait()
			return r, err
		}
		a := must[*durable.Run](t)(start(1, durable.StartOptions{ID: "a"}))
		if a.Existing {
			t.Error("the first start says that the run existed")
		}
		b := must[*durable.Run](t)(start(1, durable.StartOptions{ID: "a"}))
		if !b.Existing || b.RunID != a.RunID {
			t.Errorf("the same start again: %+v", b)
		}
		var te *durable.TakenError
		if _, err := start(2, durable.StartOptions{ID: "a"}); !errors.Is(err, durable.ErrIDTaken) || !errors.As(err, &te) || te.RunID != a.RunID {
			t.Errorf("another input: %v", err)
		}
		if _, err := other.Start(t.Context(), e, 1, &durable.StartOptions{ID: "a"}); !errors.Is(err, durable.ErrIDTaken) {
			t.Errorf("another workflow: %v", err)
		}
		if _, err := start(1, durable.StartOptions{ID: "a", Reuse: "bogus"}); !errors.Is(err, durable.ErrBadInput) {
			t.Errorf("unknown reuse policy: %v", err)
		}
		// A completed run is good enough for ReuseFailed.
		c := must[*durable.Run](t)(start(1, durable.StartOptions{ID: "a", Reuse: durable.ReuseFailed}))
		if c.RunID != a.RunID || !c.Existing {
			t.Errorf("reuse failed of a completed run: %+v", c)
		}
		d := must[*durable.Run](t)(start(3, durable.StartOptions{ID: "a", Reuse: durable.ReuseAllow}))
		if d.RunID == a.RunID || d.Existing {
			t.Errorf("reuse allow: %+v", d)
		}
		f := must[*durable.Run](t)(start(-1, durable.StartOptions{ID: "f"}))
		g := must[*durable.Run](t)(start(-1, durable.StartOptions{ID: "f"}))
		h := must[*durable.Run](t)(start(-1, durable.StartOptions{ID: "f", Reuse: durable.ReuseFailed}))
		if g.RunID != f.RunID || h.RunID == f.RunID || h.Existing {
			t.Errorf("failed run: %v %v %v", f, g, h)
		}
		// A key makes the start itself repeatable, whatever the id.
		k := must[*durable.Run](t)(start(5, durable.StartOptions{Key: "k"}))
		l := must[*durable.Run](t)(start(5, durable.StartOptions{Key: "k"}))
		if k.RunID != l.RunID || !l.Existing {
			t.Errorf("the same key: %v, %v", k, l)
		}
		if _, err := start(6, durable.StartOptions{Key: "k"}); !errors.Is(err, durable.ErrIDTaken) {
			t.Errorf("the same key with another input: %v", err)
		}
		if _, err := e.Start(t.Context(), "nowhere", nil, nil); !errors.Is(err, durable.ErrNotDefined) {
			t.Errorf("unknown workflow: %v", err)
		}
		if _, err := e.Start(t.Context(), "wf", json.RawMessage(`"x"`), nil); !errors.Is(err, durable.ErrBadInput) {
			t.Errorf("input that does not fit: %v", err)
		}
		if _, err := start(1, durable.StartOptions{Timeout: -1}); !errors.Is(err, durable.ErrBadInput) {
			t.Errorf("negative timeout: %v", err)
		}
		if runs.Load() != 5 {
			t.Errorf("%d runs, want 5", runs.Load())
		}
	})
}

func TestManyStartsOfOneIDAtOnceMakeOneRun(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		var runs atomic.Int32
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) { return int(runs.Add(1)), nil }, nil)
		e := open(wf)
		ids := make(chan string, 50)
		for range 50 {
			go func() {
				r, err := wf.Start(t.Context(), e, none{}, &durable.StartOptions{ID: "one", Key: "key"})
				if err != nil {
					t.Error(err)
					ids <- ""
					return
				}
				ids <- r.RunID
			}()
		}
		seen := map[string]bool{}
		for range 50 {
			seen[<-ids] = true
		}
		if len(seen) != 1 {
			t.Errorf("%d runs: %v", len(seen), seen)
		}
		synctest.Wait()
		if runs.Load() != 1 {
			t.Errorf("the code began %d times", runs.Load())
		}
	})
}

func TestDelayAndStartWithSignal(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[string]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (string, error) {
			began := durable.Now(ctx)
			var got []string
			for range n {
				s, err := sig.Receive(ctx)
				if err != nil {
					return "", err
				}
				got = append(got, s)
			}
			i, _ := durable.InfoOf(ctx)
			return fmt.Sprint(got, " ", began.Sub(i.Started)), nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := open(wf)
		with := func(s, id string) *durable.SignalWithStart {
			return &durable.SignalWithStart{Name: "s", ID: id, Payload: json.RawMessage(`"` + s + `"`)}
		}
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, 3, &durable.StartOptions{ID: "w", Delay: time.Hour, Signal: with("one", "1")}))
		if err := sig.Send(t.Context(), r, "two", nil); err != nil {
			t.Fatal(err)
		}
		d := must[*durable.Description](t)(r.Describe(t.Context()))
		if d.State != durable.Running {
			t.Errorf("a delayed run is %s", d.State)
		}
		time.Sleep(2 * time.Hour)
		for range 2 { // the same signal twice
			r2 := must[*durable.Run](t)(wf.Start(t.Context(), e, 3, &durable.StartOptions{ID: "w", Delay: time.Hour, Signal: with("three", "3")}))
			if !r2.Existing || r2.RunID != r.RunID {
				t.Errorf("start with a signal to the run that is there: %+v", r2)
			}
		}
		if got := must[string](t)(wf.Result(t.Context(), r)); got != "[one two three] 1h0m0s" {
			t.Errorf("got %q, want %q", got, "[one two three] 1h0m0s")
		}
		if _, err := wf.Start(t.Context(), e, 3, &durable.StartOptions{Signal: &durable.SignalWithStart{Name: "x"}}); !errors.Is(err, durable.ErrNotAccepted) {
			t.Errorf("start with a signal that is not accepted: %v", err)
		}
	})
}

func TestListFiltersAndPages(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		a := durable.NewWorkflow("a", func(ctx context.Context, d time.Duration) (int, error) { return 0, durable.Sleep(ctx, d) }, nil)
		b := durable.NewWorkflow("b", func(ctx context.Context, d time.Duration) (int, error) { return 0, errors.New("x") }, nil)
		e := open(a, b)
		var mid time.Time
		for i := range 25 {
			tags := map[string]string{"parity": fmt.Sprint(i % 2), "n": fmt.Sprint(i)}
			must[*durable.Run](t)(a.Start(t.Context(), e, 100*time.Hour, &durable.StartOptions{ID: fmt.Sprint("a", i), Tags: tags, Memo: json.RawMessage(fmt.Sprintf(`{"i":%d}`, i))}))
			if i == 9 {
				time.Sleep(time.Minute)
				mid = time.Now()
				time.Sleep(time.Minute)
			}
		}
		must[*durable.Run](t)(b.Start(t.Context(), e, 0, &durable.StartOptions{ID: "b"}))
		synctest.Wait()
		for i := range 3 {
			if err := e.Run(fmt.Sprint("a", 24-i), "").Pause(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		ids := func(f durable.Filter) (out []string, pages int) {
			for {
				p := must[*durable.Page](t)(e.List(t.Context(), &f))
				pages++
				for _, d := range p.Runs {
					out = append(out, d.WorkflowID)
				}
				if len(p.Runs) == 0 && pages > 1 {
					t.Errorf("filter %+v: an empty page was promised", f)
				}
				if p.Next == "" || pages > 50 {
					return out, pages
				}
				f.Cursor = p.Next
			}
		}
		for _, c := range []struct {
			f           durable.Filter
			n, pages    int
			first, last string
		}{
			{durable.Filter{}, 26, 1, "b", "a0"},
			{durable.Filter{Limit: 10}, 26, 3, "b", "a0"},
			{durable.Filter{Limit: 13}, 26, 2, "b", "a0"},
			{durable.Filter{Workflow: "a", Limit: 5}, 25, 5, "a24", "a0"},
			{durable.Filter{WorkflowID: "a7"}, 1, 1, "a7", "a7"},
			{durable.Filter{Tags: map[string]string{"parity": "1"}, Limit: 5}, 12, 3, "a23", "a1"},
			{durable.Filter{Tags: map[string]string{"parity": "1", "n": "3"}}, 1, 1, "a3", "a3"},
			{durable.Filter{States: []durable.State{durable.Paused}, Limit: 3}, 3, 1, "a24", "a22"},
			{durable.Filter{States: []durable.State{durable.Paused}, Limit: 1}, 3, 3, "a24", "a22"},
			{durable.Filter{States: []durable.State{durable.Running}, Limit: 11}, 22, 2, "a21", "a0"},
			{durable.Filter{States: []durable.State{durable.Running, durable.Paused}}, 25, 1, "a24", "a0"},
			{durable.Filter{States: []durable.State{durable.Failed, durable.Paused}}, 4, 1, "b", "a22"},
			{durable.Filter{CreatedAfter: mid}, 16, 1, "b", "a10"},
			{durable.Filter{CreatedBefore: mid}, 10, 1, "a9", "a0"},
		} {
			got, pages := ids(c.f)
			if len(got) != c.n || pages != c.pages || got[0] != c.first || got[len(got)-1] != c.last {
				t.Errorf("filter %+v: %d runs on %d pages %v; want %d on %d, %s to %s", c.f, len(got), pages, got, c.n, c.pages, c.first, c.last)
			}
		}
		d := must[*durable.Description](t)(e.Run("a3", "").Describe(t.Context()))
		if d.Tags["n"] != "3" || string(d.Memo) != `{"i":3}` {
			t.Errorf("tags %v, memo %s", d.Tags, d.Memo)
		}
		if _, err := e.List(t.Context(), &durable.Filter{Cursor: "x"}); !errors.Is(err, durable.ErrBadInput) {
			t.Errorf("bad cursor: %v", err)
		}
	})
}

func TestAChainOfManyRunsIsReachedByItsFirstHandle(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[string]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (string, error) {
			if n > 0 {
				return "", durable.ContinueAsNew(n - 1)
			}
			return sig.Receive(ctx)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, 1200, nil))
		synctest.Wait()
		if err := sig.Send(t.Context(), r, "hi", nil); err != nil {
			t.Fatal(err)
		}
		if got := must[string](t)(wf.Result(t.Context(), r)); got != "hi" {
			t.Errorf("got %q", got)
		}
	})
}

func TestFailOnProblem(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			if err := durable.Sleep(ctx, time.Minute); err != nil {
				return 0, err
			}
			panic("bad day")
		}, &durable.WorkflowOptions{FailOnProblem: true})
		_, err := runOf(t, open(wf), wf, none{})
		var re *durable.RunError
		if !errors.As(err, &re) || re.State != durable.Failed || re.Err == nil || re.Err.Type != "panic" || !strings.Contains(err.Error(), "bad day") {
			t.Errorf("result: %v", err)
		}
	})
}

func TestAPanicIsTriedAgainWithoutAnybody(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[int]("s")
		var broken atomic.Bool
		broken.Store(true)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			sum := 0
			for range 3 {
				n, err := sig.Receive(ctx)
				if err != nil {
					return 0, err
				}
				if broken.Load() {
					panic("bad day")
				}
				sum += n
			}
			return sum, nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		for i := range 3 { // kept while it is blocked
			if err := sig.Send(t.Context(), r, i+1, &durable.SendOptions{ID: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
		}
		d := must[*durable.Description](t)(r.Describe(t.Context()))
		if d.Problem == nil || d.Problem.Kind != "panic" || d.Problem.Tries < 2 {
			t.Errorf("problem: %+v", d.Problem)
		}
		broken.Store(false)
		time.Sleep(time.Hour)
		if got, err := wf.Result(t.Context(), r); err != nil || got != 6 {
			t.Errorf("got %d, %v", got, err)
		}
	})
}

func TestContinueAsNewCarriesUpdatesIDsAndCancel(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[int]("s")
		u := durable.NewUpdate[int, int]("u")
		status := durable.NewStatus[int]("round")
		var sum atomic.Int64
		wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (int, error) {
			status.Set(ctx, n)
			_ = u.Handle(ctx, func(ctx context.Context, k int) (int, error) {
				// The end of the run waits for it.
				return n, durable.Sleep(ctx, time.Minute)
			}, nil)
			k, err := sig.Receive(ctx)
			if err != nil {
				return n, err
			}
			sum.Add(int64(k))
			return 0, durable.ContinueAsNew(n + 1)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig, u, status}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, 0, &durable.StartOptions{ID: "c", Timeout: 1000 * time.Hour, Tags: map[string]string{"x": "y"}}))
		answer := make(chan string, 1)
		go func() {
			n, err := u.Send(t.Context(), r, 1, nil)
			answer <- fmt.Sprint(n, err)
		}()
		synctest.Wait()
		for i := range 5 {
			for range 2 {
				if err := sig.Send(t.Context(), r, 1, &durable.SendOptions{ID: fmt.Sprint("id", i)}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := <-answer; got != "0 <nil>" {
			t.Errorf("the update of the first run: %s", got)
		}
		synctest.Wait()
		if got, ok, err := status.Of(t.Context(), e.Run("c", "")); got != 5 || !ok || err != nil {
			t.Errorf("round %d, %v, %v; want 5", got, ok, err)
		}
		for i := range 5 { // ids of earlier runs of the chain are still known
			if err := sig.Send(t.Context(), r, 1, &durable.SendOptions{ID: fmt.Sprint("id", i)}); err != nil {
				t.Fatal(err)
			}
		}
		if got := must[int](t)(u.Send(t.Context(), r, 1, nil)); got != 5 {
			t.Errorf("update by the handle of the first run was answered by round %d", got)
		}
		d := must[*durable.Description](t)(e.Run("c", "").Describe(t.Context()))
		if d.Tags["x"] != "y" || d.Deadline.IsZero() || d.Chain != r.RunID {
			t.Errorf("newest run: %+v", d)
		}
		if err := r.Cancel(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if _, err := wf.Result(t.Context(), r); !errors.Is(err, context.Canceled) {
			t.Errorf("result: %v", err)
		}
	})
}

func TestContinueAsNewWithABadInput(t *testing.T) {
	scenarioWith(t, func(o *durable.Options) { o.MaxPayload = 1000 }, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		for _, in := range []any{7, func() {}, strings.Repeat("x", 2000)} {
			wf := durable.NewWorkflow("wf", func(ctx context.Context, s string) (string, error) {
				if s != "" {
					return s, nil
				}
				return "", durable.ContinueAsNew(in)
			}, nil)
			e := open(wf)
			_, err := runOf(t, e, wf, "")
			var re *durable.RunError
			if !errors.As(err, &re) || re.State != durable.Failed || !(errors.Is(err, durable.ErrBadInput) || errors.Is(err, durable.ErrTooLarge)) {
				t.Errorf("%T: %v, want a failed run that says why", in, err)
			}
		}
	})
}

func TestAWorkflowIDIsPlainText(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		wf := durable.NewWorkflow("wf", func(context.Context, int) (int, error) { return 1, nil }, nil)
		e := open(wf)
		for _, id := range []string{"a\x00b", "a\nb", "\xff", strings.Repeat("x", 501)} {
			if _, err := wf.Start(t.Context(), e, 1, &durable.StartOptions{ID: id}); !errors.Is(err, durable.ErrBadInput) {
				t.Errorf("start with id %q: %v, want ErrBadInput", id, err)
			}
		}
		if _, err := wf.Start(t.Context(), e, 1, &durable.StartOptions{ID: "é/\"quoted\" 注文"}); err != nil {
			t.Error(err)
		}
	})
}
