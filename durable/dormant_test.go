package durable_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// Of two steps that an engine cut off, the one was sent again and the other's
// unknown outcome ended the run in the same breath: Close waited for the first
// for ever.
func TestAStepWhoseRunEndsWhileItIsSentIsNotWaitedFor(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		wait := func(ctx context.Context, _ none) (none, error) { return none{}, ended(ctx) }
		a := durable.NewStep("a", wait, nil)
		b := durable.NewStep("b", wait, &durable.StepOptions{AtMostOnce: true})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (none, error) {
			a.Start(ctx, none{})
			return b.Do(ctx, none{})
		}, nil)
		e := op.open(wf, a, b)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		time.Sleep(time.Minute)
		op.close(e)
		e = op.open(wf, a, b)
		if _, err := wf.Result(t.Context(), e.Run(r.WorkflowID, "")); !errors.Is(err, durable.ErrOutcomeUnknown) {
			t.Errorf("result: %v", err)
		}
		time.Sleep(time.Minute)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}

// laggard is a store that holds back the commit that ends a run.
type laggard struct {
	journal.Store
	state string
	hold  chan struct{}
}

func (s *laggard) Commit(ctx context.Context, tx *journal.Tx) error {
	err := s.Store.Commit(ctx, tx)
	if len(tx.Writes) == 1 && tx.Writes[0].Run.State == s.state {
		<-s.hold
	}
	return err
}

// A query that came while its run ended was answered from a replay whose
// coroutines nobody ended.
func TestAQueryThatMeetsTheEndLeavesNothing(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		sig := durable.NewSignal[int]("s")
		q := durable.NewQuery[none, int]("q")
		var begun, ended atomic.Int32
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			if err := q.Handle(ctx, func(none) (int, error) { return 5, nil }); err != nil {
				return 0, err
			}
			g, _ := durable.NewGroup(ctx, nil)
			g.Go(func(ctx context.Context) error {
				begun.Add(1)
				defer ended.Add(1)
				return durable.Sleep(durable.WithoutCancel(ctx), time.Hour)
			})
			return sig.Receive(ctx)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig, q}})
		st := &laggard{op.st, string(durable.Completed), make(chan struct{})}
		e := op.openOn(st, wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		go func() { _ = sig.Send(t.Context(), r, 1, nil) }()
		synctest.Wait()
		go func() {
			if n, err := q.Ask(t.Context(), r, none{}); n != 5 || err != nil {
				t.Errorf("query: %d, %v", n, err)
			}
		}()
		synctest.Wait()
		close(st.hold)
		synctest.Wait()
		op.close(e)
		if b, n := begun.Load(), ended.Load(); b != n {
			t.Errorf("%d coroutines were begun, %d ended", b, n)
		}
	})
}

// illegible is a store that can't be read now and then.
type illegible struct {
	journal.Store
	broken atomic.Bool
}

func (s *illegible) Rows(last, from int64) ([]*journal.Row, error) {
	if s.broken.Load() {
		return nil, errors.New("cannot be read")
	}
	return s.Store.Rows(last, from)
}

// A run that only waited lost its timer when a message came at a moment at
// which the run could not be read.
func TestARunThatCannotBeReadForAMomentKeepsItsTimer(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		op.o.MaxAwake = -1
		sig := durable.NewSignal[int]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (none, error) { return none{}, durable.Sleep(ctx, time.Hour) },
			&durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		st := &illegible{Store: op.st}
		e := op.openOn(st, wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		time.Sleep(time.Minute)
		st.broken.Store(true)
		if err := r.Cancel(t.Context(), ""); err == nil {
			t.Error("a run that can't be read was cancelled")
		}
		st.broken.Store(false)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if d := must[*durable.Description](t)(r.Describe(t.Context())); d.State != durable.Completed {
			t.Errorf("after its timer's time the run is %s", d.State)
		}
	})
}

// A new run that could not be read right after a reset never began.
func TestAResetThatCannotBeReadForAMomentBegins(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (none, error) { return none{}, durable.Sleep(ctx, time.Hour) }, nil)
		st := &unreadableAfter{Store: op.st}
		e := op.openOn(st, wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		time.Sleep(time.Minute)
		st.armed.Store(true)
		n := must[*durable.Run](t)(r.Reset(t.Context(), nil))
		time.Sleep(2 * time.Hour)
		if d := must[*durable.Description](t)(n.Describe(t.Context())); d.State != durable.Completed {
			t.Errorf("two hours later the new run is %s", d.State)
		}
		if h := must[*durable.Health](t)(e.Health(t.Context())); h.Running != 0 {
			t.Errorf("%d runs are unfinished, of none", h.Running)
		}
	})
}

// unreadableAfter is a store that can't be read once, after a new run.
type unreadableAfter struct {
	journal.Store
	armed, broken atomic.Bool
}

func (s *unreadableAfter) Commit(ctx context.Context, tx *journal.Tx) error {
	err := s.Store.Commit(ctx, tx)
	if s.armed.CompareAndSwap(true, false) {
		s.broken.Store(true)
	}
	return err
}

func (s *unreadableAfter) Rows(last, from int64) ([]*journal.Row, error) {
	if s.broken.CompareAndSwap(true, false) {
		return nil, errors.New("cannot be read")
	}
	return s.Store.Rows(last, from)
}

// The outcome of a child that ended while its parent was being reset went to
// the run that had just ended.
func TestAChildThatEndsDuringAResetIsHeard(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		sig := durable.NewSignal[int]("s")
		kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (int, error) { return sig.Receive(ctx) },
			&durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			a, err := kid.Child(ctx, none{}, &durable.ChildOptions{ID: "a"})
			if err != nil {
				return 0, err
			}
			if _, err := kid.Child(ctx, none{}, &durable.ChildOptions{ID: "b"}); err != nil {
				return 0, err
			}
			return a.Get(ctx)
		}, nil)
		st := &slowChild{Store: op.st, call: "0/2", hold: make(chan struct{})}
		e := op.openOn(st, wf, kid)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		time.Sleep(time.Minute)
		st.n.Store(1) // the first look of a reset, with its loop at work, is before the commit
		got := make(chan *durable.Run, 1)
		go func() { got <- must[*durable.Run](t)(r.Reset(t.Context(), &durable.ResetOptions{Before: "0/2"})) }()
		synctest.Wait()
		if err := sig.Send(t.Context(), e.Run("a", ""), 7, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		close(st.hold)
		n := <-got
		time.Sleep(time.Minute)
		if d := must[*durable.Description](t)(n.Describe(t.Context())); d.State != durable.Completed {
			t.Errorf("the new run is %s, waiting for %+v", d.State, d.Waiting)
		}
	})
}

// slowChild is a store that holds back a look for a child.
type slowChild struct {
	journal.Store
	call string
	n    atomic.Int32 // looks until then; 0: never
	rid  atomic.Int64
	hold chan struct{}
}

func (s *slowChild) ChildOf(rid int64, call string) (*journal.Run, error) {
	if n := s.n.Load(); call == s.call && n > 0 {
		s.rid.CompareAndSwap(0, rid)
		if s.rid.Load() == rid && s.n.Add(1) == 3 {
			<-s.hold
		}
	}
	return s.Store.ChildOf(rid, call)
}

// A problem that only the watchdog has written stayed with the run in the
// store; the run was stopped by it when it was read again.
func TestCodeThatCameBackLateIsNotBlockedLater(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		op.o.MaxAwake = -1
		op.o.Watchdog = time.Second
		sig := durable.NewSignal[int]("s")
		upd := durable.NewUpdate[int, int]("u")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			if err := upd.Handle(ctx, func(_ context.Context, n int) (int, error) { return n, nil }, func(int) error {
				time.Sleep(time.Minute)
				return errors.New("no")
			}); err != nil {
				return 0, err
			}
			return sig.Receive(ctx)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig, upd}})
		e := op.open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		time.Sleep(time.Minute)
		if _, err := upd.Send(t.Context(), r, 1, nil); !errors.Is(err, durable.ErrRejected) {
			t.Errorf("update: %v", err)
		}
		synctest.Wait()
		if d := must[*durable.Description](t)(r.Describe(t.Context())); d.Problem != nil {
			t.Errorf("its code has come back, and the run still has the problem %s", d.Problem.Kind)
		}
		time.Sleep(time.Minute)
		if err := sig.Send(t.Context(), r, 7, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if d := must[*durable.Description](t)(r.Describe(t.Context())); d.State != durable.Completed {
			t.Errorf("after its signal the run is %s, problem %+v", d.State, d.Problem)
		}
	})
}

// The code of a run came back while it was being terminated for not coming
// back: its turn was committed over the end.
func TestCodeThatComesBackWhileItIsTerminatedStaysEnded(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		op.o.Watchdog = time.Second
		back := make(chan struct{})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (none, error) {
			<-back
			return none{}, nil
		}, nil)
		e := op.openOn(&freeing{Store: op.st, back: back}, wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		time.Sleep(time.Minute)
		if err := r.Terminate(t.Context(), ""); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if d := must[*durable.Description](t)(r.Describe(t.Context())); d.State != durable.Terminated {
			t.Errorf("the run is %s", d.State)
		}
		if h := must[*durable.Health](t)(e.Health(t.Context())); h.Running != 0 {
			t.Errorf("%d runs are unfinished, of none", h.Running)
		}
	})
}

// freeing is a store that lets the code of a run come back while the run is
// being terminated.
type freeing struct {
	journal.Store
	back chan struct{}
}

func (s *freeing) Commit(ctx context.Context, tx *journal.Tx) error {
	if tx.Writes[0].Run.State == string(durable.Terminated) {
		close(s.back)
		for range 100_000 { // it waits for a mutex, which virtual time does not see
			runtime.Gosched()
		}
	}
	return s.Store.Commit(ctx, tx)
}

// A replay that takes long, for a query, left the finding of the watchdog on
// the run until its next turn.
func TestWhatTheWatchdogFoundIsGoneWhenTheCodeIsBack(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		op.o.Watchdog = time.Second
		slow := false
		q := durable.NewQuery[none, int]("q")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (none, error) {
			if err := q.Handle(ctx, func(none) (int, error) { return 1, nil }); err != nil {
				return none{}, err
			}
			if slow {
				time.Sleep(time.Minute)
			}
			return none{}, durable.Sleep(ctx, 24*time.Hour)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{q}})
		e := op.open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		op.close(e)
		slow = true
		e = op.open(wf)
		r = e.Run(r.WorkflowID, "")
		asked := make(chan error, 1)
		go func() { _, err := q.Ask(t.Context(), r, none{}); asked <- err }()
		time.Sleep(30 * time.Second)
		if d := must[*durable.Description](t)(r.Describe(t.Context())); d.Problem == nil || d.Problem.Kind != "deadlock" {
			t.Errorf("while its code does not come back the run has the problem %+v", d.Problem)
		}
		if err := <-asked; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if d := must[*durable.Description](t)(r.Describe(t.Context())); d.Problem != nil {
			t.Errorf("its code has come back, and the run still has the problem %s", d.Problem.Kind)
		}
	})
}

// What the watchdog found is taken back though the process has ended since.
func TestWhatTheWatchdogFoundIsGoneInTheNextLife(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		op.o.Watchdog = time.Second
		q := durable.NewQuery[none, int]("q")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (none, error) {
			return none{}, durable.Sleep(ctx, 24*time.Hour)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{q}})
		e := op.open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		op.close(e)
		row := must[*journal.Run](t)(op.st.Find(r.WorkflowID, ""))
		row.Problem = []byte(`{"kind":"deadlock"}`)
		if err := op.st.Commit(t.Context(), &journal.Tx{Writes: []journal.Write{{Run: row}}}); err != nil {
			t.Fatal(err)
		}
		e = op.open(wf)
		synctest.Wait()
		if d := must[*durable.Description](t)(e.Run(r.WorkflowID, "").Describe(t.Context())); d.Problem != nil {
			t.Errorf("the run still has the problem %s", d.Problem.Kind)
		}
	})
}
