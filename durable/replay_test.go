package durable_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

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
