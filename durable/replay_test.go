package durable_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

func TestNowStandsStillAndNeverGoesBack(t *testing.T) {
	scenarioWith(t, func(o *durable.Options) { o.Watchdog = time.Hour }, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		step := durable.NewStep("step", func(ctx context.Context, d time.Duration) (time.Time, error) {
			err := durable.Sleep(ctx, d)
			return durable.Now(ctx), err // the wall clock
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) ([]time.Time, error) {
			var all []time.Time
			for i := range 5 {
				a := durable.Now(ctx)
				b := durable.Now(durable.WithoutCancel(ctx))
				if !a.Equal(b) || a.Location() != time.UTC {
					return nil, fmt.Errorf("now moved: %v, %v", a, b)
				}
				end, err := step.Do(ctx, time.Duration(i)*time.Minute)
				if err != nil {
					return nil, err
				}
				c := durable.Now(ctx)
				if c.Before(end.Truncate(time.Microsecond)) {
					return nil, fmt.Errorf("now %v is before the event at %v", c, end)
				}
				all = append(all, a, c)
			}
			return all, nil
		}, nil)
		all, err := runOf(t, open(wf, step), wf, none{})
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(all); i++ {
			if all[i].Before(all[i-1]) {
				t.Errorf("time went back: %v after %v", all[i], all[i-1])
			}
		}
		if d := all[len(all)-1].Sub(all[0]); d != 10*time.Minute {
			t.Errorf("the run lasted %v by its own clock, want 10m", d)
		}
	})
}

func TestRandomStreamsAreNamedStableAndApart(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		var more atomic.Bool // a later version of the code draws from other streams too
		var heard []string
		wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) ([]string, error) {
			var got []string
			for range 3 {
				if more.Load() {
					_ = durable.UUID(ctx, "new")
					_ = durable.Rand(ctx, "new").Uint64()
				}
				got = append(got, durable.UUID(ctx, "a"), fmt.Sprint(durable.Rand(ctx, "a").Uint64()), fmt.Sprint(durable.Rand(ctx, "b").Uint64()))
				s, err := durable.SideEffect(ctx, func() string { heard = append(heard, "x"); return fmt.Sprint(len(heard)) })
				if err != nil {
					return nil, err
				}
				got = append(got, "side "+s)
				if err := durable.Sleep(ctx, time.Minute); err != nil {
					return nil, err
				}
			}
			if n > 0 {
				next := durable.Rand(ctx, "a").Uint64()
				_ = next
				return nil, durable.ContinueAsNew(0)
			}
			return got, nil
		}, nil)
		q := durable.NewQuery[none, []string]("q")
		watch := durable.NewWorkflow("watch", func(ctx context.Context, _ none) ([]string, error) {
			var got []string
			_ = q.Handle(ctx, func(none) ([]string, error) { return got, nil })
			for range 4 {
				if more.Load() {
					_ = durable.UUID(ctx, "new")
				}
				got = append(got, durable.UUID(ctx, "a"), fmt.Sprint(durable.Rand(ctx, "b").IntN(1000)))
				if err := durable.Sleep(ctx, time.Minute); err != nil {
					return nil, err
				}
			}
			return got, nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{q}})
		e := open(wf, watch)
		r := must[*durable.Run](t)(watch.Start(t.Context(), e, none{}, nil))
		time.Sleep(90 * time.Second)
		before := must[[]string](t)(q.Ask(t.Context(), r, none{}))
		more.Store(true)
		all := must[[]string](t)(watch.Result(t.Context(), r))
		if len(before) != 4 || fmt.Sprint(all[:4]) != fmt.Sprint(before) {
			t.Errorf("streams shifted: %v, before %v", all, before)
		}
		again := must[[]string](t)(q.Ask(t.Context(), r, none{})) // a full replay with the newer code
		if fmt.Sprint(again) != fmt.Sprint(all) {
			t.Errorf("replay gives %v, the run had %v", again, all)
		}
		more.Store(false)
		seen := map[string]bool{}
		for range 2 {
			got, err := runOf(t, e, wf, 1)
			if err != nil || len(got) != 12 {
				t.Fatalf("%v, %v", got, err)
			}
			for _, s := range got {
				if seen[s] {
					t.Errorf("%q came twice", s)
				}
				seen[s] = true
			}
		}
		if len(heard) != 12 {
			t.Errorf("side effects ran %d times, want 12", len(heard))
		}
	})
}

func TestSideEffectThatPanicsAndIsCaught(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (out string, err error) {
			func() {
				defer func() { out = fmt.Sprint(recover()) }()
				_, _ = durable.SideEffect(ctx, func() int { panic("bad effect") })
			}()
			if err := durable.Sleep(ctx, time.Minute); err != nil {
				return "", err
			}
			_, err = durable.SideEffect(ctx, func() any { return func() {} }) // can't be recorded
			if !errors.Is(err, durable.ErrBadInput) {
				return "", fmt.Errorf("side effect: %v", err)
			}
			return out, durable.Sleep(ctx, time.Minute)
		}, nil)
		got, err := runOf(t, open(wf), wf, none{})
		if err != nil || got != "bad effect" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// nothing is a map that nobody made: a write to it panics.
var nothing map[string]int

func TestPanicsThatTheCodeRecovers(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		step := durable.NewStep("step", func(context.Context, none) (string, error) { return "x", nil }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			var out []any
			try := func(fn func()) {
				defer func() { out = append(out, recover()) }()
				fn()
			}
			try(func() { panic(1) })
			try(func() {
				defer func() {
					// While the panic unwinds, durable calls are refused.
					_, err := step.Do(ctx, none{})
					out = append(out, errors.Is(err, durable.ErrUnwinding))
				}()
				if _, err := step.Do(ctx, none{}); err == nil {
					panic(2)
				}
			})
			try(func() { nothing["x"] = 1 })
			s, err := step.Do(ctx, none{})
			return fmt.Sprint(len(out), out[0], out[1], out[2], " ", strings.Contains(fmt.Sprint(out[3]), "nil map"), s), err
		}, nil)
		got, err := runOf(t, open(wf, step), wf, none{})
		if err != nil || strings.ReplaceAll(got, " ", "") != "41true2truex" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestDefersRunWhenARunIsPutAwayAndDoNothing(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		var defers, after atomic.Int32
		step := durable.NewStep("tidy", func(context.Context, none) (int, error) { return 1, nil }, nil)
		status := durable.NewStatus[int]("st")
		str := durable.NewStream[int]("str")
		sig := durable.NewSignal[int]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (n int, err error) {
			defer func() {
				defers.Add(1)
				durable.Logger(ctx).Info("mute")
				_, terr := step.Do(ctx, none{}) // ends the goroutine again while it is put away
				after.Add(1)
				err = errors.Join(err, terr)
			}()
			defer func() { _ = durable.Sleep(ctx, time.Hour) }()
			defer func() { _ = str.Append(ctx, 1); status.Set(ctx, 1) }()
			defer func() { _ = durable.Now(ctx); _ = durable.UUID(ctx, "x") }()
			defer func() { _ = recover() }()
			in, cancel := durable.WithTimeout(ctx, 100*time.Hour)
			defer cancel()
			g, gctx := durable.NewGroup(in, nil)
			for range 3 {
				g.Go(func(ctx context.Context) error {
					defer func() { _ = durable.Sleep(ctx, time.Minute) }()
					_, err := sig.Receive(gctx)
					return err
				})
			}
			return 5, g.Wait()
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{status, str, sig}})
		e := open(wf, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		for range 3 {
			time.Sleep(time.Hour)
			if err := sig.Send(t.Context(), r, 1, nil); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := wf.Result(t.Context(), r); err != nil || got != 5 {
			t.Errorf("got %d, %v", got, err)
		}
		synctest.Wait()
		n := 0
		for range str.Read(t.Context(), r, 0) {
			n++
		}
		if n != 1 {
			t.Errorf("the stream has %d entries, want 1", n)
		}
		paranoid := strings.Contains(t.Name(), "paranoid")
		if defers.Load() < 1 || paranoid && defers.Load() < 3 {
			t.Errorf("defers ran %d times", defers.Load())
		}
		calls := 0
		for _, rec := range must[[]*durable.Record](t)(r.History(t.Context())) {
			for _, c := range rec.Calls {
				if c.Name == "tidy" {
					calls++
				}
			}
		}
		if calls != 1 || after.Load() < 1 {
			t.Errorf("%d calls of the step in the history, want 1; %d defers came to their end", calls, after.Load())
		}
	})
}

func TestGoexitInAWorkflowIsAProblem(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		var bad atomic.Bool
		bad.Store(true)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, member bool) (int, error) {
			exit := func() {
				if bad.Load() {
					runtime.Goexit() // as t.FailNow does
				}
			}
			if !member {
				exit()
				return 1, nil
			}
			g, _ := durable.NewGroup(ctx, nil)
			g.Go(func(ctx context.Context) error {
				err := durable.Sleep(ctx, time.Minute)
				exit()
				return err
			})
			return 2, g.Wait()
		}, nil)
		e := open(wf)
		for i, member := range []bool{false, true} {
			bad.Store(true)
			r := must[*durable.Run](t)(wf.Start(t.Context(), e, member, nil))
			time.Sleep(time.Hour)
			_, err := wf.Result(t.Context(), r)
			var b *durable.BlockedError
			if !errors.As(err, &b) || !strings.Contains(b.Problem.Text, "Goexit") {
				t.Errorf("result: %v", err)
			}
			bad.Store(false)
			if err := r.Resume(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if got, err := wf.Result(t.Context(), r); err != nil || got != i+1 {
				t.Errorf("got %d, %v", got, err)
			}
		}
	})
}

// canonical is what engines are compared on: per coroutine its calls in
// order, the outcome of each call, signals in order, and the end.
func canonical(t *testing.T, recs []*durable.Record) string {
	t.Helper()
	byCo := map[string][]string{}
	outcomes := map[string]string{}
	var signals []string
	end := ""
	for _, rec := range recs {
		if rec.Kind == "turn" {
			for _, ev := range rec.Events {
				switch ev.Kind {
				case "signaled":
					signals = append(signals, ev.Name+string(ev.Payload))
				case "done", "fired":
					f := ""
					if ev.Failure != nil {
						f = ev.Failure.Type
					}
					outcomes[ev.Call] = string(ev.Payload) + f
				}
			}
		}
		for _, c := range rec.Calls {
			co := c.ID[:strings.LastIndexByte(c.ID, '/')]
			byCo[co] = append(byCo[co], fmt.Sprintf("%s %s %s %s", c.ID, c.Kind, c.Name, c.Digest))
		}
		if rec.End != nil {
			end = string(rec.End.State) + string(rec.End.Payload)
		}
	}
	var out []string
	for co, calls := range byCo {
		out = append(out, co+": "+strings.Join(calls, ", "))
	}
	for c, o := range outcomes {
		out = append(out, c+" = "+o)
	}
	sort.Strings(out)
	b, _ := json.Marshal(map[string]any{"calls": out, "signals": signals, "end": end})
	return string(b)
}

func TestCanonicalHistoryIsTheSameInEveryMode(t *testing.T) {
	flaky := durable.NewStep("flaky", func(ctx context.Context, n int) (int, error) {
		if i, _ := durable.StepInfoOf(ctx); i.Attempt == 1 {
			return 0, errors.New("x")
		}
		if n == 3 {
			return 0, durable.Permanent(errors.New("three"))
		}
		return n * n, nil
	}, nil)
	kid := durable.NewWorkflow("kid", func(ctx context.Context, n int) (int, error) {
		return n, durable.Sleep(ctx, time.Duration(n)*time.Second)
	}, nil)
	sig := durable.NewSignal[int]("s")
	wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
		out, err := durable.Map(ctx, []int{1, 2, 3, 4}, flaky.Do, &durable.GroupOptions{Limit: 2})
		g, _ := durable.NewGroup(ctx, nil)
		sum := 0
		for i := range 3 {
			g.Go(func(ctx context.Context) error {
				n, err := kid.Run(ctx, i)
				sum += n
				if i == 1 {
					k, serr := sig.Receive(ctx)
					sum += 10 * k
					return serr
				}
				return err
			})
		}
		if werr := g.Wait(); werr != nil {
			return "", werr
		}
		side, serr := durable.SideEffect(ctx, func() int { return 4 })
		return fmt.Sprint(out, err != nil, sum, side), serr
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
	var logs []string
	finish := func(t *testing.T, e *durable.Engine, r *durable.Run) {
		got, err := wf.Result(t.Context(), r)
		if want := "[1 4 0 16] true 73 4"; err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
		logs = append(logs, canonical(t, must[[]*durable.Record](t)(r.History(t.Context()))))
	}
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		e := open(wf, kid, flaky)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		time.Sleep(time.Minute)
		if err := sig.Send(t.Context(), r, 7, nil); err != nil {
			t.Fatal(err)
		}
		finish(t, e, r)
	})
	lives(t, func(t *testing.T, op *opener) { // closed and opened all the time
		e := op.open(wf, kid, flaky)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		for i := range 40 {
			time.Sleep(300 * time.Millisecond)
			op.close(e)
			e = op.open(wf, kid, flaky)
			if i == 30 {
				if err := sig.Send(t.Context(), e.Run(r.WorkflowID, ""), 7, nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		finish(t, e, e.Run(r.WorkflowID, ""))
	})
	for i, l := range logs {
		if l != logs[0] {
			t.Errorf("canonical history %d differs:\n%s\nwant\n%s", i, l, logs[0])
		}
	}
	if len(logs) != 4 || !strings.Contains(logs[0], "0/1.3/1 = error") {
		t.Errorf("%d histories, %s", len(logs), logs[0])
	}
}

func TestAChangedInputIsOnlyDrift(t *testing.T) {
	seen := &eyes{}
	scenarioWith(t, func(o *durable.Options) { seen = &eyes{}; o.Observer = seen }, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		var version atomic.Int32
		step := durable.NewStep("step", func(_ context.Context, n int) (int, error) { return n, nil }, nil)
		sig := durable.NewSignal[int]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			a, err := step.Do(ctx, 1+int(version.Load()))
			if err != nil {
				return 0, err
			}
			b, err := sig.Receive(ctx)
			return a + b, err
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := open(wf, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		version.Store(5)
		if err := sig.Send(t.Context(), r, 10, nil); err != nil {
			t.Fatal(err)
		}
		if got, err := wf.Result(t.Context(), r); err != nil || got != 11 {
			t.Errorf("got %d, %v; want 11: the recorded outcome holds", got, err)
		}
		if paranoid := strings.Contains(t.Name(), "paranoid"); paranoid != strings.Contains(seen.counts(), "drift") {
			t.Errorf("observed: %s", seen.counts())
		}
	})
}

func TestLimitsThatChangeDoNotBreakOldHistories(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		step := durable.NewStep("step", func(_ context.Context, s string) (string, error) { return s, nil }, nil)
		sig := durable.NewSignal[string]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, s string) (string, error) {
			a, err := step.Do(ctx, s)
			if err != nil {
				return "", err
			}
			b, err := sig.Receive(ctx)
			return a[:3] + b, err
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := op.open(wf, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, strings.Repeat("x", 5000), nil))
		time.Sleep(time.Minute)
		op.close(e)
		op.o.MaxPayload = 1000
		e = op.open(wf, step)
		if err := sig.Send(t.Context(), e.Run(r.WorkflowID, ""), "!", nil); err != nil {
			t.Fatal(err)
		}
		if got, err := wf.Result(t.Context(), e.Run(r.WorkflowID, "")); err != nil || got != "xxx!" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// TestCallsThatWereRefusedAtOnceReplay: what was refused when it was made left
// nothing in the history, so the next call has its id.
func TestCallsThatWereRefusedAtOnceReplay(t *testing.T) {
	scenarioWith(t, func(o *durable.Options) { o.MaxPayload = 100 }, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		step := durable.NewStep("step", func(_ context.Context, s string) (string, error) { return "got " + s, nil }, nil)
		nowhere := durable.NewStep("nowhere", func(_ context.Context, s string) (string, error) { return s, nil }, nil)
		kid := durable.NewWorkflow("kid", func(_ context.Context, s string) (string, error) { return "kid " + s, nil }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			big := strings.Repeat("x", 200)
			var out []string
			for range 2 {
				if _, err := nowhere.Do(ctx, "a"); !errors.Is(err, durable.ErrNotDefined) {
					return "", fmt.Errorf("undefined step: %v", err)
				}
				if _, err := step.Do(ctx, big); !errors.Is(err, durable.ErrTooLarge) {
					return "", fmt.Errorf("large input: %v", err)
				}
				if _, err := kid.Run(ctx, big); !errors.Is(err, durable.ErrTooLarge) {
					return "", fmt.Errorf("large input of a child: %v", err)
				}
				if _, err := step.With(&durable.StepOptions{Queue: "gpu"}).Do(ctx, "b"); !errors.Is(err, durable.ErrUnsupported) {
					return "", fmt.Errorf("queue: %v", err)
				}
				s, err := step.Do(ctx, "small")
				if err != nil {
					return "", err
				}
				k, err := kid.Run(ctx, "small")
				if err != nil {
					return "", err
				}
				out = append(out, s, k)
				if err := durable.Sleep(ctx, time.Minute); err != nil {
					return "", err
				}
			}
			return strings.Join(out, ", "), nil
		}, nil)
		got, err := runOf(t, open(wf, kid, step), wf, none{})
		if want := "got small, kid small, got small, kid small"; err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	})
}
