package durable_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// inRunAndPlain runs fn as a workflow in each mode, and again with no engine.
func inRunAndPlain(t *testing.T, fn func(ctx context.Context) (string, error), want string, defs ...durable.Definer) {
	t.Helper()
	wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) { return fn(ctx) }, nil)
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		if got, err := runOf(t, open(append(defs, wf)...), wf, none{}); err != nil || got != want {
			t.Errorf("in a run: %q, %v; want %q", got, err, want)
		}
	})
	t.Run("plain", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			if got, err := fn(t.Context()); err != nil || got != want {
				t.Errorf("without an engine: %q, %v; want %q", got, err, want)
			}
		})
	})
}

func TestGroupLimitOrderAndErrors(t *testing.T) {
	inRunAndPlain(t, func(ctx context.Context) (string, error) {
		began := durable.Now(ctx)
		g, _ := durable.NewGroup(ctx, &durable.GroupOptions{Limit: 2})
		now, most := 0, 0
		for i := range 6 {
			g.Go(func(ctx context.Context) error {
				now++
				most = max(most, now)
				defer func() { now-- }()
				if err := durable.Sleep(ctx, time.Duration(6-i)*time.Minute); err != nil {
					return err
				}
				if i%2 == 1 {
					return fmt.Errorf("e%d", i)
				}
				return nil
			})
		}
		err := g.Wait()
		return fmt.Sprint(most, " ", strings.ReplaceAll(fmt.Sprint(err), "\n", ","), " ", durable.Now(ctx).Sub(began).Round(time.Second)), nil
	}, "2 e1,e3,e5 11m0s")
}

func TestGroupDoesNotCancelSiblingsUnlessAsked(t *testing.T) {
	for _, on := range []bool{false, true} {
		t.Run(fmt.Sprint(on), func(t *testing.T) {
			want := "1h0m0s false"
			if on {
				want = "1m0s true"
			}
			inRunAndPlain(t, func(ctx context.Context) (string, error) {
				began := durable.Now(ctx)
				boom := errors.New("boom")
				g, _ := durable.NewGroup(ctx, &durable.GroupOptions{CancelOnError: on})
				g.Go(func(ctx context.Context) error { return durable.Sleep(ctx, time.Hour) })
				g.Go(func(ctx context.Context) error {
					if err := durable.Sleep(ctx, time.Minute); err != nil {
						return err
					}
					return boom
				})
				err := g.Wait()
				if !errors.Is(err, boom) || ctx.Err() != nil {
					return "", fmt.Errorf("error %v, outer context %v", err, ctx.Err())
				}
				return fmt.Sprint(durable.Now(ctx).Sub(began).Round(time.Second), " ", errors.Is(err, context.Canceled)), nil
			}, want)
		})
	}
}

func TestGroupMembersMayUseAnOuterContext(t *testing.T) {
	step := durable.NewStep("step", func(ctx context.Context, n int) (int, error) { return n, durable.Sleep(ctx, time.Hour) }, &durable.StepOptions{Timeout: 2 * time.Hour})
	inRunAndPlain(t, func(ctx context.Context) (string, error) {
		began := durable.Now(ctx)
		var m durable.Mutex
		order := ""
		outer := ctx
		g, _ := durable.NewGroup(ctx, nil)
		for i := range 3 {
			g.Go(func(context.Context) error {
				if _, err := step.Do(outer, i); err != nil {
					return err
				}
				if err := durable.Sleep(outer, time.Duration(i+1)*time.Hour); err != nil {
					return err
				}
				if err := m.Lock(outer); err != nil {
					return err
				}
				defer m.Unlock()
				order += fmt.Sprint(i)
				return durable.Sleep(outer, 90*time.Minute)
			})
		}
		err := g.Wait()
		return fmt.Sprint(order, " ", err, " ", durable.Now(ctx).Sub(began).Round(time.Second)), nil
	}, "012 <nil> 6h30m0s", step)
}

func TestFanOutOfAThousandAndMore(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		var at, most atomic.Int32
		step := durable.NewStep("step", func(ctx context.Context, n int) (int, error) {
			n1 := at.Add(1)
			defer at.Add(-1)
			for m := most.Load(); n1 > m && !most.CompareAndSwap(m, n1); m = most.Load() {
			}
			return n * 2, durable.Sleep(ctx, time.Minute)
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (int, error) {
			in := make([]int, n)
			for i := range in {
				in[i] = i
			}
			out, err := durable.Map(ctx, in, step.Do, nil)
			sum := 0
			for _, v := range out {
				sum += v
			}
			return sum, err
		}, nil)
		e := open(wf, step)
		began := time.Now()
		if got, err := runOf(t, e, wf, 1200); err != nil || got != 1200*1199 {
			t.Errorf("sum = %d, %v", got, err)
		}
		if most.Load() != 1000 || time.Since(began) != 2*time.Minute {
			t.Errorf("%d at once, took %v; want 1000 and 2m", most.Load(), time.Since(began))
		}
	})
}

func TestMapKeepsOrderAndTheGoodResults(t *testing.T) {
	step := durable.NewStep("step", func(ctx context.Context, n int) (int, error) {
		if err := durable.Sleep(ctx, time.Duration(10-n)*time.Second); err != nil {
			return 0, err
		}
		if n%3 == 2 {
			return 0, durable.Permanent(fmt.Errorf("bad %d", n))
		}
		return n * n, nil
	}, nil)
	inRunAndPlain(t, func(ctx context.Context) (string, error) {
		out, err := durable.Map(ctx, []int{1, 2, 3, 4, 5}, step.Do, &durable.GroupOptions{Limit: 3})
		empty, eerr := durable.Map(ctx, nil, step.Do, nil)
		return fmt.Sprint(out, " ", strings.ReplaceAll(err.Error(), "\n", "; "), " ", empty, eerr), nil
	}, "[1 0 9 16 0] item 1: step step failed: bad 2; item 4: step step failed: bad 5 [] <nil>", step)
}

func TestGetUnderAnotherScopeEndsOnlyTheWait(t *testing.T) {
	for _, abandon := range []bool{false, true} {
		t.Run(fmt.Sprint("abandon ", abandon), func(t *testing.T) {
			scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
				step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) { return "done", durable.Sleep(ctx, time.Hour) },
					&durable.StepOptions{Timeout: 24 * time.Hour, Abandon: abandon})
				wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
					began := durable.Now(ctx)
					f := step.Start(ctx, none{})
					in, cancel := durable.WithTimeout(ctx, time.Minute)
					defer cancel()
					_, err := f.Get(in)
					took := durable.Now(ctx).Sub(began)
					ready := f.Ready()
					s, err2 := f.Get(ctx)
					s2, err3 := f.Get(ctx)
					return fmt.Sprint(errors.Is(err, context.DeadlineExceeded), took, ready, " ", s, err2, " ", s2, err3, f.Ready(), durable.Now(ctx).Sub(began)), nil
				}, nil)
				if got, err := runOf(t, open(wf, step), wf, none{}); err != nil || got != "true 1m0s false done<nil> done<nil> true 1h0m0s" {
					t.Errorf("got %q, %v", got, err)
				}
			})
		})
	}
}

func TestAConditionThatPanicsIsAProblemOfItsRun(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		var broken atomic.Bool
		broken.Store(true)
		sig := durable.NewSignal[int]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			n := 0
			g, _ := durable.NewGroup(ctx, nil)
			g.Go(func(ctx context.Context) (err error) { n, err = sig.Receive(ctx); return err })
			err := durable.Await(ctx, func() bool {
				if n > 0 && broken.Load() {
					panic("bad condition")
				}
				return n > 0
			})
			return n, errors.Join(err, g.Wait())
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		if err := sig.Send(t.Context(), r, 3, nil); err != nil {
			t.Fatal(err)
		}
		_, err := wf.Result(t.Context(), r)
		var b *durable.BlockedError
		if !errors.As(err, &b) || b.Problem.Kind != "panic" || !strings.Contains(b.Problem.Text, "bad condition") {
			t.Errorf("result: %v", err)
		}
		broken.Store(false)
		if err := r.Resume(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got := must[int](t)(wf.Result(t.Context(), r)); got != 3 {
			t.Errorf("got %d", got)
		}
	})
}

func TestMutexAndSemaphoreAreFairAndEndWithTheirContext(t *testing.T) {
	inRunAndPlain(t, func(ctx context.Context) (string, error) {
		var m durable.Mutex
		s := durable.NewSemaphore(2)
		order, in, most := "", 0, 0
		g, gctx := durable.NewGroup(ctx, nil)
		for i := range 4 {
			g.Go(func(ctx context.Context) error {
				if err := m.Lock(ctx); err != nil {
					return err
				}
				order += fmt.Sprint(i)
				if err := durable.Sleep(ctx, time.Minute); err != nil {
					return err
				}
				m.Unlock()
				if err := s.Acquire(ctx); err != nil {
					return err
				}
				in++
				most = max(most, in)
				if err := durable.Sleep(ctx, 3*time.Minute); err != nil {
					return err
				}
				in--
				s.Release()
				return nil
			})
		}
		g.Go(func(context.Context) error {
			if err := durable.Sleep(gctx, time.Second); err != nil { // the others come first
				return err
			}
			short, cancel := durable.WithTimeout(gctx, time.Second)
			defer cancel()
			if err := m.Lock(short); !errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("lock under a timeout: %v", err)
			}
			return nil
		})
		err := g.Wait()
		if _, ok := durable.InfoOf(ctx); !ok {
			order = "0123" // plain goroutines begin in any order
		}
		return fmt.Sprint(order, most, err), nil
	}, "01232 <nil>")
}

func TestSleepIsNeverEarlyAndZeroIsFree(t *testing.T) {
	inRunAndPlain(t, func(ctx context.Context) (string, error) {
		began := durable.Now(ctx)
		var early []time.Duration
		for _, d := range []time.Duration{0, -1, -time.Hour} {
			if err := durable.Sleep(ctx, d); err != nil {
				return "", err
			}
		}
		if err := durable.SleepUntil(ctx, began.Add(-time.Hour)); err != nil {
			return "", err
		}
		free := durable.Now(ctx).Sub(began)
		for _, d := range []time.Duration{1, 999, 1001, time.Millisecond + 1, time.Hour} {
			at := durable.Now(ctx)
			if err := durable.Sleep(ctx, d); err != nil {
				return "", err
			}
			if took := durable.Now(ctx).Sub(at); took < d || took > d+time.Millisecond {
				early = append(early, d, took)
			}
		}
		until := durable.Now(ctx).Add(time.Hour + 1)
		if err := durable.SleepUntil(ctx, until); err != nil {
			return "", err
		}
		return fmt.Sprint(free, early, durable.Now(ctx).Before(until)), nil
	}, "0s [] false")
}

func TestSleepForEver(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		wf := durable.NewWorkflow("wf", func(ctx context.Context, how int) (string, error) {
			switch how {
			case 0:
				return "", durable.Sleep(ctx, math.MaxInt64)
			case 1:
				return "", durable.SleepUntil(ctx, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
			case 2:
				in, cancel := durable.WithTimeout(ctx, math.MaxInt64)
				defer cancel()
				return "", durable.Await(in, func() bool { return false })
			case 3:
				_, err := durable.Select(ctx, durable.Elapsed(math.MaxInt64))
				return "", err
			}
			return "", durable.AwaitTimeout(ctx, math.MaxInt64, func() bool { return false })
		}, nil)
		e := open(wf)
		var runs []*durable.Run
		for how := range 5 {
			runs = append(runs, must[*durable.Run](t)(wf.Start(t.Context(), e, how, nil)))
		}
		time.Sleep(365 * 24 * time.Hour)
		for how, r := range runs {
			if d := must[*durable.Description](t)(r.Describe(t.Context())); d.State != durable.Running {
				t.Errorf("way %d to sleep for ever: %s", how, d.State)
			}
			if err := r.Cancel(t.Context(), ""); err != nil {
				t.Fatal(err)
			}
			if _, err := wf.Result(t.Context(), r); !errors.Is(err, context.Canceled) {
				t.Errorf("way %d: %v", how, err)
			}
		}
	})
}
