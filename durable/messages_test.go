package durable_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

func TestAnUpdateWhoseHandlerPanicsIsAProblemAndDoesNotStickToItsSender(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		u := durable.NewUpdate[int, int]("u")
		sig := durable.NewSignal[int]("s")
		var broken atomic.Bool
		broken.Store(true)
		var leave context.CancelFunc
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			_ = u.Handle(ctx, func(_ context.Context, n int) (int, error) {
				if broken.Load() {
					leave()
					panic("bad day")
				}
				return n, nil
			}, nil)
			return sig.Receive(ctx)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{u, sig}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		for range 3 { // impatient senders
			ctx, cancel := context.WithCancel(t.Context())
			leave = cancel
			_, err := u.Send(ctx, r, 1, &durable.SendOptions{ID: "u1"})
			var b *durable.BlockedError
			if !errors.Is(err, context.Canceled) && !errors.As(err, &b) {
				t.Errorf("update: %v", err)
			}
			cancel()
			synctest.Wait()
			if err := r.Resume(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		broken.Store(false)
		if err := r.Resume(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got := must[int](t)(u.Send(t.Context(), r, 1, &durable.SendOptions{ID: "u1"})); got != 1 {
			t.Errorf("update after the repair = %d", got)
		}
		if err := sig.Send(t.Context(), r, 5, nil); err != nil {
			t.Fatal(err)
		}
		if got := must[int](t)(wf.Result(t.Context(), r)); got != 5 {
			t.Errorf("result = %d", got)
		}
	})
}

func TestTwoThousandSignals(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		const n = 2000
		sig := durable.NewSignal[int]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			if err := durable.Sleep(ctx, time.Hour); err != nil {
				return 0, err
			}
			for i := range n {
				k, err := sig.Receive(ctx)
				if err != nil || k != i {
					return i, fmt.Errorf("signal %d is %d: %v", i, k, err)
				}
			}
			return n, nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		if err := r.Pause(t.Context(), nil); err != nil { // no turn for each
			t.Fatal(err)
		}
		for i := range n {
			if err := sig.Send(t.Context(), r, i, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Resume(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got := must[int](t)(wf.Result(t.Context(), r)); got != n {
			t.Errorf("got %d", got)
		}
	})
}

func TestReceiveTimeoutPrefersTheMessageAndTakesEachOnce(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[int]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			_, e0 := sig.ReceiveTimeout(ctx, 0)
			_, ok0, _ := sig.TryReceive(ctx)
			f, _ := durable.NewGroup(ctx, nil)
			var got int
			var e1 error
			f.Go(func(ctx context.Context) error { got, e1 = sig.ReceiveTimeout(ctx, time.Hour); return nil })
			if err := f.Wait(); err != nil {
				return "", err
			}
			n, ok, err := sig.TryReceive(ctx)
			return fmt.Sprint(errors.Is(e0, durable.ErrTimeout), ok0, got, e1, n, ok, err), nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		if err := r.Pause(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		for i := range 2 { // one before the time is up, one after
			if err := sig.Send(t.Context(), r, i+1, nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Hour)
		}
		if err := r.Resume(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got, want := must[string](t)(wf.Result(t.Context(), r)), "true false 1 <nil> 0 false <nil>"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

func TestStreamsAreReadWhileTheyGrow(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		str := durable.NewStream[int]("n")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			for i := range 5 {
				if err := durable.Sleep(ctx, time.Minute); err != nil {
					return 0, err
				}
				for k := range 2 {
					if err := str.Append(ctx, 2*i+k); err != nil {
						return 0, err
					}
				}
			}
			return 0, nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{str}})
		e := open(wf)
		began := time.Now()
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		var got []string
		for it, err := range str.Read(t.Context(), r, 3) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(it.Offset, "=", it.Value, "@", it.At.Sub(began)))
		}
		want := "[3=3@2m0s 4=4@3m0s 5=5@3m0s 6=6@4m0s 7=7@4m0s 8=8@5m0s 9=9@5m0s]"
		if fmt.Sprint(got) != want {
			t.Errorf("got  %v\nwant %s", got, want)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		n := 0
		for _, err := range str.Read(ctx, r, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == 4 {
				break
			}
		}
		if n != 4 {
			t.Errorf("read %d entries before the break", n)
		}
	})
}

// A caller that lost the reply asks again with the same id. That its run has
// ended meanwhile must not turn its success into an error.
func TestAMessageSentAgainAfterTheEndHasTheAnswerItHad(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[int]("s")
		u := durable.NewUpdate[int, int]("u")
		kind := durable.NewErrorType("ODD")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			_ = u.Handle(ctx, func(_ context.Context, n int) (int, error) {
				if n == 1 {
					return 0, kind.New("1")
				}
				return 10 * n, nil
			}, nil)
			return sig.Receive(ctx)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig, u}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		for range 2 { // before and after the end
			if got := must[int](t)(u.Send(t.Context(), r, 2, &durable.SendOptions{ID: "u2"})); got != 20 {
				t.Errorf("update = %d", got)
			}
			if _, err := u.Send(t.Context(), r, 1, &durable.SendOptions{ID: "u1"}); !errors.Is(err, kind) {
				t.Errorf("update that fails: %v", err)
			}
			if err := sig.Send(t.Context(), r, 1, &durable.SendOptions{ID: "s1"}); err != nil {
				t.Errorf("signal: %v", err)
			}
			must[int](t)(wf.Result(t.Context(), r))
		}
		if err := sig.Send(t.Context(), r, 1, &durable.SendOptions{ID: "s2"}); !errors.Is(err, durable.ErrFinished) {
			t.Errorf("a new signal: %v", err)
		}
		if _, err := u.Send(t.Context(), r, 2, nil); !errors.Is(err, durable.ErrFinished) {
			t.Errorf("a new update: %v", err)
		}
	})
}
