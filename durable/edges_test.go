package durable_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

func TestGroupsUsedAgain(t *testing.T) {
	inRunAndPlain(t, func(ctx context.Context) (string, error) {
		g, _ := durable.NewGroup(ctx, &durable.GroupOptions{Limit: 1})
		n := 0
		add := func(ctx context.Context) error {
			n++
			return durable.Sleep(ctx, time.Second)
		}
		if err := g.Wait(); err != nil { // none
			return "", err
		}
		g.Go(add)
		g.Go(add)
		e1 := g.Wait()
		g.Go(add)
		e2, e3 := g.Wait(), g.Wait()
		return fmt.Sprint(n, e1, e2, e3), nil
	}, "3 <nil> <nil> <nil>")
}

func TestOddValues(t *testing.T) {
	raw := durable.NewStep("raw", func(_ context.Context, in json.RawMessage) (json.RawMessage, error) { return in, nil }, nil)
	ptr := durable.NewStep("ptr", func(_ context.Context, in *private) (*private, error) { return in, nil }, nil)
	anys := durable.NewStep("any", func(_ context.Context, in any) (any, error) { return in, nil }, nil)
	times := durable.NewStep("time", func(_ context.Context, in time.Time) (time.Duration, error) { return time.Duration(in.Year()), nil }, nil)
	bytes := durable.NewStep("bytes", func(_ context.Context, in []byte) ([]byte, error) { return append(in, 0, 255), nil }, nil)
	text := durable.NewStep("text", func(_ context.Context, in string) (string, error) { return in + "<&>\u2028\x00é", nil }, nil)
	inRunAndPlain(t, func(ctx context.Context) (string, error) {
		a, e1 := raw.Do(ctx, json.RawMessage(`{"z":1.0e3,"a":[null]}`))
		b, e2 := raw.Do(ctx, nil)
		c, e3 := ptr.Do(ctx, nil)
		d, e4 := anys.Do(ctx, map[string]any{"n": 1 << 60})
		e, e5 := times.Do(ctx, time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC))
		f, e6 := bytes.Do(ctx, nil)
		g, e7 := text.Do(ctx, "<b>")
		_, e8 := raw.Do(ctx, json.RawMessage(`{`))
		return fmt.Sprint(string(a), string(b), c == nil, d, int(e), f, strings.ToValidUTF8(g, "?") == "<b><&>\u2028\x00é", errors.Join(e1, e2, e3, e4, e5, e6, e7), errors.Is(e8, durable.ErrBadInput)), nil
	}, `{"z":1.0e3,"a":[null]}nulltrue map[n:1.152921504606847e+18] 2024 [0 255] true <nil> true`, raw, ptr, anys, times, bytes, text)
}

func TestCancelWhileTheEndWaitsForAHandler(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		u := durable.NewUpdate[none, string]("u")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			_ = u.Handle(ctx, func(ctx context.Context, _ none) (string, error) {
				err := durable.Sleep(ctx, 100*time.Hour)
				return fmt.Sprint(err), nil
			}, nil)
			return "done", durable.Sleep(ctx, time.Minute)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{u}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		ans := make(chan string, 1)
		go func() { s, err := u.Send(t.Context(), r, none{}, nil); ans <- fmt.Sprint(s, err) }()
		time.Sleep(time.Hour)
		if err := r.Cancel(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if got := <-ans; got != "context canceled<nil>" && got != "context canceled <nil>" {
			t.Errorf("update: %s", got)
		}
		if got, err := wf.Result(t.Context(), r); err != nil || got != "done" {
			t.Errorf("result: %q, %v", got, err)
		}
	})
}

func TestQueuedStepOfAPausedAndOfABlockedRunRunsAllTheSame(t *testing.T) {
	scenarioWith(t, func(o *durable.Options) { o.MaxSteps = 1 }, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		var done atomic.Int32
		step := durable.NewStep("step", func(ctx context.Context, _ none) (int, error) {
			defer done.Add(1)
			return 1, durable.Sleep(ctx, time.Minute)
		}, nil)
		sig := durable.NewSignal[int]("s")
		var bad atomic.Bool
		bad.Store(true)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			a, b := step.Start(ctx, none{}), step.Start(ctx, none{})
			if _, err := sig.Receive(ctx); err != nil {
				return 0, err
			}
			if bad.Load() {
				panic("bad day")
			}
			n, e1 := a.Get(ctx)
			k, e2 := b.Get(ctx)
			return n + k, errors.Join(e1, e2)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := open(wf, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		if err := sig.Send(t.Context(), r, 1, nil); err != nil { // blocks it
			t.Fatal(err)
		}
		if err := r.Pause(t.Context(), nil); err != nil { // and pauses it
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if done.Load() != 2 {
			t.Errorf("%d steps ran, want 2", done.Load())
		}
		bad.Store(false)
		if err := r.Resume(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got, err := wf.Result(t.Context(), r); err != nil || got != 2 {
			t.Errorf("got %d, %v", got, err)
		}
	})
}

func TestLockedThreads(t *testing.T) {
	t.Run("a step that locks its goroutine for good costs the others nothing", func(t *testing.T) {
		scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
			lock := durable.NewStep("lock", func(_ context.Context, n int) (int, error) { runtime.LockOSThread(); return n + 1, nil }, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (_ int, err error) {
				for range 5 {
					if n, err = lock.Do(ctx, n); err != nil {
						return 0, err
					}
				}
				return n, nil
			}, nil)
			e := open(wf, lock)
			if got, err := wf.Result(t.Context(), must[*durable.Run](t)(wf.Start(t.Context(), e, 1, nil))); err != nil || got != 6 {
				t.Errorf("got %d, %v", got, err)
			}
		})
	})
	t.Run("workflow code that does is a problem of its run", func(t *testing.T) {
		scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
			for _, wf := range []*durable.Workflow[none, int]{
				durable.NewWorkflow("blocks", func(ctx context.Context, _ none) (int, error) {
					runtime.LockOSThread()
					return 0, durable.Sleep(ctx, time.Hour)
				}, nil),
				durable.NewWorkflow("ends", func(ctx context.Context, _ none) (int, error) {
					runtime.LockOSThread()
					runtime.LockOSThread()
					return 0, nil
				}, nil),
			} {
				e := open(wf)
				_, err := wf.Result(t.Context(), must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil)))
				var b *durable.BlockedError
				if !errors.As(err, &b) || !strings.Contains(b.Problem.Text, "LockOSThread") {
					t.Errorf("%s: %v", wf.Name(), err)
				}
			}
		})
	})
}
