package durable_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// plain runs fn in a bubble without an engine, and looks for goroutines that
// are left.
func plain(t *testing.T, fn func(t *testing.T, ctx context.Context)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { fn(t, t.Context()) })
}

func TestPlainWhatNeedsAnEngineSaysSo(t *testing.T) {
	plain(t, func(t *testing.T, ctx context.Context) {
		sig := durable.NewSignal[int]("s")
		q := durable.NewQuestion[int]("q")
		u := durable.NewUpdate[int, int]("u")
		qu := durable.NewQuery[int, int]("qu")
		unbound := durable.NewStep[int, int]("unbound", nil, nil)
		f := func(err error, _ ...any) error { return err }
		for name, err := range map[string]error{
			"receive":         func() error { _, err := sig.Receive(ctx); return err }(),
			"receive timeout": func() error { _, err := sig.ReceiveTimeout(ctx, time.Hour); return err }(),
			"try receive":     func() error { _, _, err := sig.TryReceive(ctx); return err }(),
			"ask":             func() error { _, err := q.Ask(ctx, "?", nil); return err }(),
			"callback":        func() error { _, err := durable.NewCallback[int](ctx); return err }(),
			"await":           f(durable.Await(ctx, func() bool { return true })),
			"await timeout":   f(durable.AwaitTimeout(ctx, 1, func() bool { return true })),
			"select":          func() error { _, err := durable.Select(ctx, durable.Elapsed(1)); return err }(),
			"update":          f(u.Handle(ctx, nil, nil)),
			"query":           f(qu.Handle(ctx, nil)),
			"put blob":        func() error { _, err := durable.PutBlob(ctx, nil); return err }(),
			"get blob":        func() error { _, err := durable.GetBlob(ctx, "x"); return err }(),
			"signal a run":    f(durable.Address("x", "").Signal(ctx, "s", nil, nil)),
			"cancel a run":    f(durable.Address("x", "").Cancel(ctx, "")),
		} {
			if !errors.Is(err, durable.ErrNoEngine) {
				t.Errorf("%s: %v, want ErrNoEngine", name, err)
			}
		}
		if _, err := unbound.Do(ctx, 1); !errors.Is(err, durable.ErrNotDefined) {
			t.Errorf("a step without a function: %v", err)
		}
	})
}

func TestPlainWhatWorksWithoutAnEngine(t *testing.T) {
	plain(t, func(t *testing.T, ctx context.Context) {
		durable.NewStatus[int]("st").Set(ctx, 1)
		if err := durable.NewStream[int]("str").Append(ctx, 1); err != nil {
			t.Errorf("append: %v", err)
		}
		if v := durable.Version(ctx, "x", 3); v != 3 {
			t.Errorf("version = %d", v)
		}
		if n, err := durable.SideEffect(ctx, func() int { return 4 }); n != 4 || err != nil {
			t.Errorf("side effect = %d, %v", n, err)
		}
		a, b := durable.UUID(ctx, "x"), durable.UUID(ctx, "x")
		if a == b || len(a) != 36 || a[14] != '4' {
			t.Errorf("uuids %q, %q", a, b)
		}
		if durable.Rand(ctx, "x").Uint64() == durable.Rand(ctx, "x").Uint64() {
			t.Error("random numbers are not random")
		}
		if _, ok := durable.InfoOf(ctx); ok {
			t.Error("there is a run")
		}
		if durable.Logger(ctx) == nil {
			t.Error("no logger")
		}
		began := time.Now()
		if err := durable.Sleep(ctx, time.Hour); err != nil || time.Since(began) != time.Hour || !durable.Now(ctx).Equal(time.Now()) {
			t.Errorf("sleep: %v, %v", err, time.Since(began))
		}
		in, cancel := durable.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := durable.Sleep(in, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("sleep under a timeout: %v", err)
		}
	})
}

type private struct {
	Shown  int `json:"shown"`
	hidden int
	List   []int `json:"list"`
}

func TestPlainValuesMakeTheRoundTrip(t *testing.T) {
	step := durable.NewStep("step", func(_ context.Context, p private) (private, error) {
		if p.hidden != 0 {
			return p, errors.New("an unexported field crossed")
		}
		p.List[0] = 100
		p.hidden = 7
		return p, nil
	}, nil)
	kid := durable.NewWorkflow("kid", func(_ context.Context, p private) (*private, error) {
		if p.hidden != 0 {
			return nil, errors.New("an unexported field crossed")
		}
		p.List[0] = 200
		return &p, nil
	}, nil)
	inRunAndPlain(t, func(ctx context.Context) (string, error) {
		mine := private{1, 2, []int{3}}
		a, err := step.Do(ctx, mine)
		if err != nil {
			return "", err
		}
		b, err := kid.Run(ctx, mine)
		if err != nil {
			return "", err
		}
		_, err = durable.NewStep("bad", func(context.Context, any) (int, error) { return 0, nil }, nil).Do(ctx, func() {})
		return fmt.Sprint(mine, a, *b, errors.Is(err, durable.ErrBadInput)), nil
	}, "{1 2 [3]} {1 0 [100]} {1 0 [200]} true", step, kid)
}

func TestPlainErrorsAreTheSameAsInARun(t *testing.T) {
	kind := durable.NewErrorType("NO_FUNDS")
	mk := func(name string, o *durable.StepOptions, fn func(ctx context.Context) error) *durable.Step[none, int] {
		return durable.NewStep(name, func(ctx context.Context, _ none) (int, error) { return 0, fn(ctx) }, o)
	}
	steps := []*durable.Step[none, int]{
		mk("perm", nil, func(context.Context) error { return durable.Permanent(fmt.Errorf("bank: %w", kind.New("3 short"))) }),
		mk("tries", &durable.StepOptions{Retry: &durable.Retry{MaxAttempts: 3, Initial: time.Minute}}, func(context.Context) error { return &typedError{4} }),
		mk("after", &durable.StepOptions{Retry: &durable.Retry{MaxAttempts: 2}}, func(context.Context) error { return durable.RetryAfter(time.Hour, errors.New("busy")) }),
		mk("panics", &durable.StepOptions{Retry: &durable.Retry{MaxAttempts: 1}}, func(context.Context) error { panic("x") }),
		mk("slow", &durable.StepOptions{Timeout: time.Second, Retry: &durable.Retry{MaxAttempts: 2}}, ended),
		mk("total", &durable.StepOptions{TotalTimeout: time.Second}, ended),
		mk("mute", &durable.StepOptions{Heartbeat: time.Second, Retry: &durable.Retry{MaxAttempts: 1}}, ended),
		mk("once", &durable.StepOptions{AtMostOnce: true, Timeout: time.Second}, ended),
		mk("unknown", &durable.StepOptions{AtMostOnce: true}, func(context.Context) error { return durable.OutcomeUnknown(errors.New("x")) }),
		mk("known", &durable.StepOptions{AtMostOnce: true}, func(context.Context) error { return errors.New("x") }),
	}
	kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (int, error) { return steps[0].Do(ctx, none{}) }, nil)
	defs := []durable.Definer{kid}
	for _, s := range steps {
		defs = append(defs, s)
	}
	inRunAndPlain(t, func(ctx context.Context) (string, error) {
		var out []string
		for _, s := range steps {
			began := durable.Now(ctx)
			_, err := s.Do(ctx, none{})
			var se *durable.StepError
			if !errors.As(err, &se) {
				return "", fmt.Errorf("%s: not a step error: %v", s.Name(), err)
			}
			out = append(out, fmt.Sprint(se.Step, se.Attempts, se.Err.Type, errors.Is(err, kind), errors.Is(err, durable.ErrTimeout), errors.Is(err, durable.ErrOutcomeUnknown), durable.Now(ctx).Sub(began).Round(time.Second)))
		}
		_, err := kid.Run(ctx, none{})
		var re *durable.RunError
		if !errors.As(err, &re) || re.State != durable.Failed || !errors.Is(err, kind) {
			return "", fmt.Errorf("child: %v", err)
		}
		return strings.Join(out, "; "), nil
	}, "perm1NO_FUNDStrue false false 0s; tries3durable_test.typedErrorfalse false false 3m0s; after2errorfalse false false 1h0m0s; panics1panicfalse false false 0s; "+
		"slow2timeoutfalse true false 3s; total1timeoutfalse true false 1s; mute1timeoutfalse true false 1s; once1unknownfalse true true 1s; unknown1unknownfalse false true 0s; known1errorfalse false false 0s", defs...)
}

func TestPlainMapOverChildWorkflows(t *testing.T) {
	pay := durable.NewStep("pay", func(ctx context.Context, n int) (int, error) { return n * 10, durable.Sleep(ctx, time.Minute) }, nil)
	line := durable.NewWorkflow("line", func(ctx context.Context, n int) (int, error) {
		if err := durable.Sleep(ctx, time.Hour); err != nil {
			return 0, err
		}
		g, _ := durable.NewGroup(ctx, nil)
		sum := 0
		for range 3 {
			g.Go(func(ctx context.Context) error {
				k, err := pay.Do(ctx, n)
				sum += k
				return err
			})
		}
		return sum, g.Wait()
	}, nil)
	inRunAndPlain(t, func(ctx context.Context) (string, error) {
		began := durable.Now(ctx)
		out, err := durable.Map(ctx, []int{1, 2, 3, 4}, line.Run, nil)
		c, cerr := line.Child(ctx, 5, nil)
		if cerr != nil {
			return "", cerr
		}
		k, cerr := c.Get(ctx)
		return fmt.Sprint(out, err, k, cerr, durable.Now(ctx).Sub(began).Round(time.Minute)), nil
	}, "[30 60 90 120] <nil> 150 <nil> 2h2m0s", pay, line)
}

func TestPlainMembersTakeTurns(t *testing.T) {
	plain(t, func(t *testing.T, ctx context.Context) {
		counter, inside := 0, 0 // unguarded: the race detector watches
		log := map[int]int{}
		step := durable.NewStep("step", func(_ context.Context, n int) (int, error) { return n, nil }, nil)
		g, gctx := durable.NewGroup(ctx, nil)
		for i := range 20 {
			g.Go(func(ctx context.Context) error {
				for range 10 {
					if inside != 0 {
						return errors.New("two members at once")
					}
					inside++
					counter++
					log[i]++
					inside--
					var err error
					switch i % 4 {
					case 0:
						err = durable.Sleep(ctx, time.Millisecond)
					case 1:
						_, err = step.Do(gctx, i)
					case 2:
						_, err = step.Start(ctx, i).Get(ctx)
					case 3:
						h, _ := durable.NewGroup(ctx, nil)
						for range 3 {
							h.Go(func(ctx context.Context) error { counter++; return durable.Sleep(ctx, time.Millisecond) })
						}
						err = h.Wait()
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
		if counter != 200+50*3 || len(log) != 20 {
			t.Errorf("counter %d, %d members", counter, len(log))
		}
	})
}

func TestPlainPanicOfAMemberReachesTheWaiter(t *testing.T) {
	plain(t, func(t *testing.T, ctx context.Context) {
		defer func() {
			if p := recover(); p != "boom" {
				t.Errorf("recovered %v, want boom", p)
			}
		}()
		g, _ := durable.NewGroup(ctx, nil)
		g.Go(func(ctx context.Context) error { return durable.Sleep(ctx, time.Minute) })
		g.Go(func(context.Context) error { panic("boom") })
		_ = g.Wait()
		t.Error("Wait returned")
	})
}

func TestPlainCancelOfAStep(t *testing.T) {
	plain(t, func(t *testing.T, ctx context.Context) {
		kind := durable.NewErrorType("REAL")
		var n atomic.Int32
		stops := durable.NewStep("stops", func(ctx context.Context, _ none) (string, error) { _ = ended(ctx); return "all the same", nil }, nil)
		fails := durable.NewStep("fails", func(ctx context.Context, _ none) (string, error) { n.Add(1); return "", kind.New("x") }, &durable.StepOptions{Retry: &durable.Retry{Initial: time.Hour}})
		cut := func() context.Context {
			ctx, cancel := durable.WithCancel(ctx)
			go func() { time.Sleep(time.Minute); cancel() }()
			return ctx
		}
		if s, err := stops.Do(cut(), none{}); s != "all the same" || err != nil {
			t.Errorf("real outcome: %q, %v", s, err)
		}
		began := time.Now()
		if _, err := fails.Do(cut(), none{}); !errors.Is(err, kind) || n.Load() != 1 || time.Since(began) != time.Minute {
			t.Errorf("between attempts: %v after %v", err, time.Since(began))
		}
		done, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := fails.Do(done, none{}); !errors.Is(err, context.Canceled) || n.Load() != 1 {
			t.Errorf("under a cancelled context: %v, ran %d times", err, n.Load())
		}
	})
}

func TestPlainStepInAStepIsInline(t *testing.T) {
	var n atomic.Int32
	inner := durable.NewStep("inner", func(ctx context.Context, k int) (int, error) {
		if n.Add(1)%2 == 1 {
			return 0, errors.New("x")
		}
		return k + 1, nil
	}, nil)
	outer := durable.NewStep("outer", func(ctx context.Context, k int) (int, error) {
		i, ok := durable.StepInfoOf(ctx)
		if !ok || i.Step != "outer" {
			return 0, durable.Permanent(fmt.Errorf("info %+v", i))
		}
		if _, err := durable.NewCallback[int](ctx); !errors.Is(err, durable.ErrInStep) {
			return 0, durable.Permanent(fmt.Errorf("callback in a step: %v", err))
		}
		if err := durable.Await(ctx, func() bool { return true }); !errors.Is(err, durable.ErrInStep) {
			return 0, durable.Permanent(fmt.Errorf("await in a step: %v", err))
		}
		v, err := inner.Do(ctx, k)
		return v * 10, err
	}, nil)
	inRunAndPlain(t, func(ctx context.Context) (string, error) {
		v, err := outer.Do(ctx, 1)
		return fmt.Sprint(v, err), nil
	}, "20 <nil>", inner, outer)
	if n.Load() != 6 {
		t.Errorf("the inner step ran %d times in three runs, want 6", n.Load())
	}
}

func TestPlainContinueAsNewGoesOn(t *testing.T) {
	kid := durable.NewWorkflow("kid", func(ctx context.Context, n int) (int, error) {
		if n < 5 {
			return 0, durable.ContinueAsNew(n + 1)
		}
		return n, nil
	}, nil)
	inRunAndPlain(t, func(ctx context.Context) (string, error) {
		n, err := kid.Run(ctx, 1)
		return fmt.Sprint(n, err), nil
	}, "5 <nil>", kid)
}

// TestPlainMembersStartInSpawnOrder: as the coroutines of a run do.
func TestPlainMembersStartInSpawnOrder(t *testing.T) {
	inRunAndPlain(t, func(ctx context.Context) (string, error) {
		var order []int
		g, _ := durable.NewGroup(ctx, nil)
		for i := range 200 {
			g.Go(func(context.Context) error { order = append(order, i); return nil })
		}
		early := len(order)
		err := g.Wait()
		return fmt.Sprint(early, slices.IsSorted(order), len(order)), err
	}, "0 true 200")
}

// TestPlainMakerOfAGroupIsAMember: while it waits in a durable call, with
// whatever context, the members go on.
func TestPlainMakerOfAGroupIsAMember(t *testing.T) {
	step := durable.NewStep("step", func(context.Context, int) (int, error) { time.Sleep(time.Hour); return 1, nil }, &durable.StepOptions{Timeout: 2 * time.Hour})
	inRunAndPlain(t, func(ctx context.Context) (string, error) {
		var log []string
		say := func(s string) { log = append(log, s) }
		g, gctx := durable.NewGroup(ctx, nil)
		g.Go(func(ctx context.Context) error {
			say("member")
			err := durable.Sleep(ctx, time.Minute)
			say("member again")
			return err
		})
		say("maker")
		if err := durable.Sleep(ctx, 10*time.Minute); err != nil {
			return "", err
		}
		say("maker again")
		h, _ := durable.NewGroup(ctx, nil) // of the same maker: it takes turns with the first
		h.Go(func(ctx context.Context) error { say("other"); return durable.Sleep(ctx, 3*time.Hour) })
		if err := g.Wait(); err != nil {
			return "", err
		}
		if _, err := step.Do(ctx, 1); err != nil {
			return "", err
		}
		say("maker at last")
		g.Go(func(ctx context.Context) error { say("late"); return durable.Sleep(ctx, time.Minute) })
		if err := durable.Sleep(gctx, 2*time.Minute); err != nil {
			return "", err
		}
		say("end")
		err := errors.Join(h.Wait(), g.Wait())
		return strings.Join(log, ", "), err
	}, "maker, member, member again, maker again, other, maker at last, late, end", step)
}
