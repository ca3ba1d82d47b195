package durabletest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A workflow that sleeps for days is tested in no time.
func TestModesHaveVirtualTime(t *testing.T) {
	t.Parallel()
	wf := durable.NewWorkflow("wf", func(ctx context.Context, _ struct{}) (string, error) {
		err := durable.Sleep(ctx, 54*24*time.Hour)
		return durable.Now(ctx).Format(time.DateOnly), err
	}, nil)
	var names []string
	durabletest.Modes(t, func(t *testing.T, open durabletest.Open) {
		names = append(names, t.Name())
		e := open(wf)
		r, err := wf.Start(t.Context(), e, struct{}{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := wf.Result(t.Context(), r); got != "2000-02-24" || err != nil {
			t.Errorf("result = %q, %v", got, err)
		}
	})
	if len(names) != 2 {
		t.Errorf("ran as %q, want two modes", names)
	}
}

// Code that is not deterministic is found by the paranoid mode.
func TestParanoidModeFindsWhatIsNotDeterministic(t *testing.T) {
	t.Parallel()
	step := durable.NewStep("step", func(_ context.Context, i int) (int, error) { return i, nil }, nil)
	n := rand.Intn(100)
	wf := durable.NewWorkflow("wf", func(ctx context.Context, _ struct{}) (string, error) {
		n++ // a variable outside of the run
		if n%2 == 0 {
			if err := durable.Sleep(ctx, time.Second); err != nil {
				return "", err
			}
		}
		_, err := step.Do(ctx, 1)
		return "", err
	}, nil)
	found := map[bool]bool{}
	durabletest.Modes(t, func(t *testing.T, open durabletest.Open) {
		e := open(wf, step)
		r, err := wf.Start(t.Context(), e, struct{}{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = wf.Result(t.Context(), r)
		var b *durable.BlockedError
		found[errors.As(err, &b) && b.Problem.Kind == "mismatch"] = true
	})
	if !found[true] {
		t.Error("no mode found the mismatch")
	}
}

// An idempotent payment is made once, whenever the process dies.
func TestSweep(t *testing.T) {
	t.Parallel()
	rep := durabletest.Sweep(t, func() *durabletest.World {
		w := &durabletest.World{}
		var mu sync.Mutex
		paid := map[string]int{}
		pay := durable.NewStep("pay", func(ctx context.Context, amount int) (string, error) {
			call, _ := durable.StepInfoOf(ctx)
			w.Point("asked to pay")
			mu.Lock()
			paid[call.Key] = amount
			mu.Unlock()
			w.Point("paid")
			return "paid", nil
		}, nil)
		buy := durable.NewWorkflow("buy", func(ctx context.Context, amount int) (string, error) {
			if err := durable.Sleep(ctx, time.Hour); err != nil {
				return "", err
			}
			return pay.Do(ctx, amount)
		}, nil)
		w.Defs = durable.Set{buy, pay}
		w.Drive = func(ctx context.Context, e *durable.Engine) (string, error) {
			r, err := buy.Start(ctx, e, 7, &durable.StartOptions{ID: "order-1"})
			if err != nil {
				return "", err
			}
			return buy.Result(ctx, r)
		}
		w.Check = func(t *testing.T, result string, died bool) {
			if got := fmt.Sprint(result, len(paid)); got != "paid1" {
				t.Errorf("result and payments: %s", got)
			}
		}
		return w
	})
	// Each commit lost and kept, awake and paranoid, and what the step names.
	if rep.Commits < 4 || rep.Points < 4*rep.Commits+4 || rep.Deaths < 4*rep.Points {
		t.Errorf("report %+v: too few deaths", rep)
	}
}

// A payment whose key changes from attempt to attempt is found by the sweep,
// at the point that its step names.
func TestSweepFindsWhatHappensTwice(t *testing.T) {
	t.Parallel()
	worst := 0
	durabletest.Sweep(t, func() *durabletest.World {
		w := &durabletest.World{}
		var mu sync.Mutex
		paid := 0
		pay := durable.NewStep("pay", func(context.Context, int) (string, error) {
			mu.Lock()
			paid++ // and nobody asks whether it was paid before
			mu.Unlock()
			w.Point("paid")
			return "paid", nil
		}, nil)
		buy := durable.NewWorkflow("buy", func(ctx context.Context, amount int) (string, error) { return pay.Do(ctx, amount) }, nil)
		w.Defs = durable.Set{buy, pay}
		w.Drive = func(ctx context.Context, e *durable.Engine) (string, error) {
			r, err := buy.Start(ctx, e, 7, &durable.StartOptions{ID: "order-1"})
			if err != nil {
				return "", err
			}
			return buy.Result(ctx, r)
		}
		w.Check = func(*testing.T, string, bool) { worst = max(worst, paid) }
		return w
	})
	if worst < 2 {
		t.Errorf("no death doubled the payment")
	}
}
