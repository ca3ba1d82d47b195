package durable_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// flaky is a store that some reads fail of, as often as it is told.
type flaky struct {
	journal.Store
	rows, ends, runs atomic.Int32
}

var errFlaky = errors.New("the disk hiccups")

func (s *flaky) Rows(last, from int64) ([]*journal.Row, error) {
	if from == 0 && s.rows.Add(-1) >= 0 { // of a replay
		return nil, errFlaky
	}
	return s.Store.Rows(last, from)
}

func (s *flaky) Run(rid int64) (*journal.Run, error) {
	if rid == 1 && s.runs.Add(-1) >= 0 { // the first
		return nil, errFlaky
	}
	return s.Store.Run(rid)
}

func (s *flaky) StreamEnds(rid int64) (map[string]int64, error) {
	if s.ends.Add(-1) >= 0 {
		return nil, errFlaky
	}
	return s.Store.StreamEnds(rid)
}

// A history that could not be read once was a problem of the run until the
// engine was opened anew, and said that the codec was wrong.
func TestAHistoryThatCannotBeReadIsReadAgain(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		sig := durable.NewSignal[int]("s")
		upd := durable.NewUpdate[int, int]("u")
		q := durable.NewQuery[none, int]("q")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			if err := upd.Handle(ctx, func(_ context.Context, n int) (int, error) { return n, nil }, nil); err != nil {
				return 0, err
			}
			if err := q.Handle(ctx, func(none) (int, error) { return 3, nil }); err != nil {
				return 0, err
			}
			n, err := sig.Receive(ctx)
			if err != nil {
				return 0, err
			}
			return n, durable.Sleep(ctx, time.Hour)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig, upd, q}})
		e := op.open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		op.close(e)

		st := &flaky{Store: op.st}
		e = op.openOn(st, wf)
		r = e.Run(r.WorkflowID, "")
		var blocked *durable.BlockedError
		st.rows.Store(1)
		if _, err := q.Ask(t.Context(), r, none{}); err == nil || errors.As(err, &blocked) || !strings.Contains(err.Error(), errFlaky.Error()) {
			t.Errorf("a query of a run that cannot be read: %v", err)
		}
		st.rows.Store(1)
		if _, err := upd.Send(t.Context(), r, 5, nil); err == nil || errors.As(err, &blocked) || !strings.Contains(err.Error(), errFlaky.Error()) {
			t.Errorf("an update of a run that cannot be read: %v", err)
		}
		st.rows.Store(3)
		if err := sig.Send(t.Context(), r, 7, nil); err != nil {
			t.Errorf("a signal to a run that cannot be read: %v", err)
		}
		synctest.Wait()
		if d := must[*durable.Description](t)(r.Describe(t.Context())); d.Problem != nil {
			t.Errorf("the run has the problem %+v", d.Problem)
		}
		time.Sleep(5 * time.Second)
		if n := st.rows.Load(); n >= 0 {
			t.Errorf("nobody has tried again: %d more times the read would fail", n)
		}
		if n, err := upd.Send(t.Context(), r, 5, nil); n != 5 || err != nil {
			t.Errorf("the update again: %d, %v", n, err)
		}
		if n := must[int](t)(wf.Result(t.Context(), r)); n != 7 {
			t.Errorf("result %d", n)
		}
	})
}

// Where the ends of the streams could not be read, a stream began again at its
// first offset.
func TestStreamsGoOnWhereTheirEndsCouldNotBeRead(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		stream := durable.NewStream[int]("out")
		upd := durable.NewUpdate[int, int]("u")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (none, error) {
			i := 0
			if err := upd.Handle(ctx, func(ctx context.Context, n int) (int, error) {
				err := stream.Append(ctx, i)
				i++
				return n, err
			}, nil); err != nil {
				return none{}, err
			}
			for range 3 {
				if err := stream.Append(ctx, i); err != nil {
					return none{}, err
				}
				i++
				if err := durable.Sleep(ctx, time.Hour); err != nil {
					return none{}, err
				}
			}
			return none{}, nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{upd}})
		e := op.open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		op.close(e)
		st := &flaky{Store: op.st}
		e = op.openOn(st, wf)
		r = e.Run(r.WorkflowID, "")
		st.ends.Store(1)
		if _, err := upd.Send(t.Context(), r, 5, &durable.SendOptions{ID: "a"}); err == nil || !strings.Contains(err.Error(), errFlaky.Error()) {
			t.Errorf("an update that appends, of a run whose streams cannot be read: %v", err)
		}
		if n, err := upd.Send(t.Context(), r, 5, &durable.SendOptions{ID: "a"}); n != 5 || err != nil {
			t.Errorf("the update again: %d, %v", n, err)
		}
		op.close(e)
		e = op.openOn(st, wf)
		r = e.Run(r.WorkflowID, "")
		st.ends.Store(2)
		if _, err := wf.Result(t.Context(), r); err != nil {
			t.Error(err)
		}
		if n := st.ends.Load(); n >= 0 {
			t.Errorf("the ends would fail to be read %d more times", n)
		}
		var got []int
		for en, err := range stream.Read(t.Context(), r, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if en.Offset != int64(len(got)) || en.Value != len(got) {
				t.Errorf("entry %d: %d at offset %d", len(got), en.Value, en.Offset)
			}
			got = append(got, en.Value)
		}
		if len(got) != 4 {
			t.Errorf("%d entries", len(got))
		}
	})
}

// A run that has left memory and can't be read when its child ends is read
// again.
func TestWhatComesForARunThatCannotBeReadComesAgain(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		op.o.MaxAwake = -1
		sig := durable.NewSignal[int]("s")
		kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (int, error) { return sig.Receive(ctx) },
			&durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			c, err := kid.Child(ctx, none{}, &durable.ChildOptions{ID: "kid"})
			if err != nil {
				return 0, err
			}
			return c.Get(ctx)
		}, nil)
		e := op.open(wf, kid)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		op.close(e)
		st := &flaky{Store: op.st}
		e = op.openOn(st, wf, kid)
		time.Sleep(time.Minute) // the runs leave memory
		r = e.Run(r.WorkflowID, "")
		st.runs.Store(2)
		if err := sig.Send(t.Context(), e.Run("kid", ""), 7, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		time.Sleep(time.Minute)
		if n := st.runs.Load(); n >= 0 {
			t.Errorf("the run would fail to be read %d more times", n)
		}
		if d := must[*durable.Description](t)(r.Describe(t.Context())); d.State != durable.Completed {
			t.Errorf("the run is %s, waiting for %+v", d.State, d.Waiting)
		}
	})
}
