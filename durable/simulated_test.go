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
	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// Found by simulation: a run whose time had run out while nobody executed it
// could still send a step before it was timed out.
func TestARunThatIsOutOfTimeDoesNothingMore(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		var attempts atomic.Int32
		step := durable.NewStep("step", func(context.Context, none) (none, error) {
			attempts.Add(1)
			return none{}, errors.New("not yet")
		}, &durable.StepOptions{Retry: &durable.Retry{Initial: time.Minute, Backoff: 1}})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (none, error) { return step.Do(ctx, none{}) }, nil)
		e := op.open(wf, step)
		var runs []*durable.Run
		for range 50 {
			runs = append(runs, must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, &durable.StartOptions{Timeout: time.Hour})))
		}
		time.Sleep(90 * time.Second)
		op.close(e)
		had := attempts.Load()
		time.Sleep(2 * time.Hour)
		e = op.open(wf, step)
		for _, r := range runs {
			if _, err := wf.Result(t.Context(), e.Run(r.WorkflowID, r.RunID)); !errors.Is(err, durable.ErrTimeout) {
				t.Errorf("result: %v", err)
			}
		}
		if n := attempts.Load() - had; n > 0 {
			t.Errorf("%d attempts were sent after the time of their runs", n)
		}
	})
}

// Found by simulation: a child that its caller had cancelled was cancelled
// again at each start of a process: the run that continued it, which nobody
// had asked to stop, and one that somebody had paused while it cleaned up.
func TestACancelOfAChildIsHandedOnOnce(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		sig := durable.NewSignal[int]("s")
		again := durable.NewWorkflow("again", func(ctx context.Context, n int) (int, error) {
			if _, err := sig.Receive(ctx); err != nil {
				return 0, durable.ContinueAsNew(n + 1)
			}
			return n, nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		tidy := durable.NewWorkflow("tidy", func(ctx context.Context, _ none) (none, error) {
			_, err := sig.Receive(ctx)
			ctx = durable.WithoutCancel(ctx)
			_, _ = sig.Receive(ctx)
			_, _ = sig.Receive(ctx)
			return none{}, err
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		for _, ends := range []bool{false, true} {
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
				a, err := again.Child(ctx, 0, &durable.ChildOptions{ID: "again"})
				if err != nil {
					return 0, err
				}
				if _, err := tidy.Child(ctx, none{}, &durable.ChildOptions{ID: "tidy"}); err != nil || ends {
					return 0, errors.Join(err, durable.Sleep(ctx, 2*time.Second))
				}
				return a.Get(ctx)
			}, nil)
			e := op.open(wf, again, tidy)
			r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
			time.Sleep(time.Second)
			if !ends {
				if err := r.Cancel(t.Context(), ""); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(5 * time.Second)
			if err := e.Run("tidy", "").Pause(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				op.close(e)
				e = op.open(wf, again, tidy)
				time.Sleep(time.Second)
			}
			if d := must[*durable.Description](t)(e.Run("tidy", "").Describe(t.Context())); d.State != durable.Paused {
				t.Errorf("parent ends %v: a paused child is %s after a restart", ends, d.State)
			}
			if p := must[*durable.Page](t)(e.List(t.Context(), &durable.Filter{WorkflowID: "again"})); len(p.Runs) != 2 {
				t.Errorf("parent ends %v: %d runs of a chain that was cancelled once", ends, len(p.Runs))
			}
			for _, id := range []string{"tidy", "again", r.WorkflowID} {
				if err := e.Run(id, "").Terminate(t.Context(), ""); err != nil && !errors.Is(err, durable.ErrFinished) {
					t.Fatal(err)
				}
			}
			op.close(e)
			op.st = journal.NewMemory()
		}
	})
}

// Found by simulation: an attempt that was made again because a Close had cut
// it off was not counted when the process died over it.
func TestADeathCountsAlsoAfterAClose(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		var attempts []int
		step := durable.NewStep("step", func(ctx context.Context, _ none) (none, error) {
			i, _ := durable.StepInfoOf(ctx)
			attempts = append(attempts, i.Attempt)
			return none{}, ended(ctx)
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (none, error) { return step.Do(ctx, none{}) }, nil)
		e := op.open(wf, step)
		must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		op.close(e)
		m := op.wire()
		e = op.openOn(m, wf, step)
		time.Sleep(time.Second)
		op.kill(e, m)
		op.open(wf, step)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := fmt.Sprint(attempts); got != "[1 1 2]" {
			t.Errorf("attempts %s, want [1 1 2]: the close does not count, the death does", got)
		}
	})
}

// heldBack is a store that holds back the commit with which a run continues as
// new.
type heldBack struct {
	journal.Store
	hold chan struct{}
}

func (s *heldBack) Commit(ctx context.Context, tx *journal.Tx) error {
	if len(tx.Writes) == 2 {
		<-s.hold
	}
	return s.Store.Commit(ctx, tx)
}

// Found by simulation: a cancel that came while its run continued as new was
// refused as if the chain had ended; that of a parent was lost.
func TestControlsThatComeMeanwhileReachTheNextRun(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		sig := durable.NewSignal[int]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (int, error) {
			if _, err := sig.Receive(ctx); err != nil {
				return n, err
			}
			return 0, durable.ContinueAsNew(n + 1)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		parent := durable.NewWorkflow("parent", func(ctx context.Context, policy durable.ParentClose) (none, error) {
			if _, err := wf.Child(ctx, 0, &durable.ChildOptions{ID: "child", ParentClose: policy}); err != nil {
				return none{}, err
			}
			_, err := sig.Receive(ctx)
			return none{}, err
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		for name, c := range map[string]struct {
			policy durable.ParentClose
			do     func(child, parent *durable.Run) error
			want   durable.State
		}{
			"cancel":           {"", func(r, _ *durable.Run) error { return r.Cancel(t.Context(), "") }, durable.Cancelled},
			"pause":            {"", func(r, _ *durable.Run) error { return r.Pause(t.Context(), nil) }, durable.Paused},
			"cancel by parent": {durable.ParentCloseCancel, func(_, p *durable.Run) error { return sig.Send(t.Context(), p, 1, nil) }, durable.Cancelled},
			"end by parent":    {durable.ParentCloseTerminate, func(_, p *durable.Run) error { return sig.Send(t.Context(), p, 1, nil) }, durable.Terminated},
		} {
			op.st = journal.NewMemory()
			st := &heldBack{op.st, make(chan struct{})}
			e := op.openOn(st, wf, parent)
			p := must[*durable.Run](t)(parent.Start(t.Context(), e, c.policy, nil))
			synctest.Wait()
			r := e.Run("child", "")
			got := make(chan error, 2)
			go func() { got <- sig.Send(t.Context(), r, 1, nil) }()
			synctest.Wait()
			go func() { got <- c.do(r, p) }()
			synctest.Wait()
			close(st.hold)
			synctest.Wait()
			if err := errors.Join(<-got, <-got); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if d := must[*durable.Description](t)(r.Describe(t.Context())); d.State != c.want {
				t.Errorf("%s: the next run is %s, want %s", name, d.State, c.want)
			}
			op.close(e)
		}
	})
}
