package durable_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// What mutation showed that no test looked at; docs/mutation.md.

// The outcome of a step that came while the run was paused is stored: the next
// process does not send the step again.
func TestAStoredOutcomeIsNotSentAgain(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		var ran atomic.Int32
		step := durable.NewStep("step", func(context.Context, none) (int, error) {
			time.Sleep(time.Second)
			return int(ran.Add(1)), nil
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) { return step.Do(ctx, none{}) }, nil)
		e := op.open(wf, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		if err := r.Pause(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		for range 2 {
			op.close(e)
			e = op.open(wf, step)
			time.Sleep(time.Minute)
		}
		r = e.Run(r.WorkflowID, "")
		if err := r.Resume(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got := must[int](t)(wf.Result(t.Context(), r)); got != 1 || ran.Load() != 1 {
			t.Errorf("result %d, the step ran %d times", got, ran.Load())
		}
	})
}

// What a definition says of its types is what serving is made from.
func TestInfoSaysTheTypes(t *testing.T) {
	t.Parallel()
	number, text := reflect.TypeFor[int](), reflect.TypeFor[string]()
	signal := durable.NewSignal[int]("signal").Describe("A", "b")
	for _, c := range []struct {
		def durable.Definition
		in  reflect.Type
		out reflect.Type
	}{
		{signal, number, nil},
		{durable.NewQuery[int, string]("query").Describe("A", "b"), number, text},
		{durable.NewUpdate[int, string]("update").Describe("A", "b"), number, text},
		{durable.NewQuestion[int]("question").Describe("A", "b"), number, nil},
		{durable.NewStatus[string]("status").Describe("A", "b"), nil, text},
		{durable.NewStream[string]("stream").Describe("A", "b"), nil, text},
		{durable.NewStep("step", func(context.Context, int) (string, error) { return "", nil }, &durable.StepOptions{Title: "A", Description: "b"}), number, text},
		{durable.NewWorkflow("workflow", func(context.Context, int) (string, error) { return "", nil },
			&durable.WorkflowOptions{Title: "A", Description: "b", Accepts: []durable.Accepted{signal}}), number, text},
	} {
		i := c.def.Info()
		if i.In != c.in || i.Out != c.out || i.Title != "A" || i.Description != "b" || string(i.Kind) != i.Name {
			t.Errorf("%s: %+v", i.Name, i)
		}
		if i.Kind == durable.KindWorkflow && (len(i.Accepts) != 1 || i.Accepts[0].Name != "signal") {
			t.Errorf("%s accepts %+v", i.Name, i.Accepts)
		}
	}
}

// noIntent is a store that dies when the intent to send a step is written.
type noIntent struct{ *wire }

func (s noIntent) Commit(ctx context.Context, tx *journal.Tx) error {
	for _, w := range tx.Writes {
		if w.Row != nil && w.Row.Kind == journal.KindNote {
			s.cut.Store(true)
		}
	}
	return s.wire.Commit(ctx, tx)
}

// A step that was called and never sent can be cancelled while the program
// does not define it.
func TestAStepThatWasNeverSentCanBeCancelled(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		step := durable.NewStep("step", func(context.Context, none) (none, error) {
			t.Error("the step was sent")
			return none{}, nil
		}, &durable.StepOptions{AtMostOnce: true})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			_, err := step.Do(ctx, none{})
			return fmt.Sprint(err), nil
		}, nil)
		e := op.openOn(noIntent{op.wire()}, wf, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		op.close(e)
		e = op.open(wf)
		synctest.Wait()
		r = e.Run(r.WorkflowID, "")
		if err := r.Cancel(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if got := must[string](t)(wf.Result(t.Context(), r)); !strings.Contains(got, "cancelled before it started") {
			t.Errorf("the step ended with %q", got)
		}
	})
}

// FailOnProblem is about panics. Code that does not fit the history can be
// mended, so the run waits.
func TestFailOnProblemDoesNotFailAMismatch(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		o := &durable.WorkflowOptions{FailOnProblem: true}
		old := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (none, error) { return none{}, durable.Sleep(ctx, time.Hour) }, o)
		changed := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			return durable.SideEffect(ctx, func() int { return 1 })
		}, o)
		e := op.open(old)
		r := must[*durable.Run](t)(old.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		op.close(e)
		e = op.open(changed)
		time.Sleep(2 * time.Hour)
		d := must[*durable.Description](t)(e.Run(r.WorkflowID, "").Describe(t.Context()))
		if d.State != durable.Running || d.Problem == nil || d.Problem.Kind != "mismatch" {
			t.Errorf("state %s, problem %+v", d.State, d.Problem)
		}
	})
}

// A question that was asked before the point of a reset expires in the new run.
func TestAQuestionOfAnEarlierLifeExpires(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		ask := durable.NewQuestion[int]("ask")
		sig := durable.NewSignal[int]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			var err error
			g, _ := durable.NewGroup(ctx, nil)
			g.Go(func(ctx context.Context) error {
				_, err = ask.Ask(ctx, "?", &durable.AskOptions{Expires: 100 * time.Hour})
				return nil
			})
			if _, err := sig.Receive(ctx); err != nil {
				return "", err
			}
			if err := durable.Sleep(ctx, time.Minute); err != nil { // 0/2
				return "", err
			}
			_ = g.Wait()
			return fmt.Sprint(errors.Is(err, durable.ErrExpired)), nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{ask, sig}})
		e := op.open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, &durable.StartOptions{ID: "wf"}))
		synctest.Wait()
		id := must[[]*durable.QuestionInfo](t)(e.Questions(t.Context(), nil))[0].ID
		if err := sig.Send(t.Context(), r, 1, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		n := must[*durable.Run](t)(r.Reset(t.Context(), &durable.ResetOptions{Before: "0/2"}))
		if got := must[string](t)(wf.Result(t.Context(), n)); got != "true" {
			t.Errorf("the question expired: %s", got)
		}
		if qs := must[[]*durable.QuestionInfo](t)(e.Questions(t.Context(), nil)); len(qs) != 0 {
			t.Errorf("open questions: %+v", qs[0])
		}
		if err := ask.Answer(t.Context(), e, id, 7, nil); !errors.Is(err, durable.ErrExpired) {
			t.Errorf("an answer to it: %v", err)
		}
	})
}

// A reset ends the children that were started after its point, but for those
// that outlive their parents anyway.
func TestAResetLeavesAbandonedChildrenAlone(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (none, error) { return none{}, durable.Sleep(ctx, 24*time.Hour) }, nil)
		var again atomic.Bool
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (none, error) {
			if err := durable.Sleep(ctx, time.Minute); err != nil || again.Load() {
				return none{}, err
			}
			if _, err := kid.Child(ctx, none{}, &durable.ChildOptions{ID: "left", ParentClose: durable.ParentCloseAbandon}); err != nil {
				return none{}, err
			}
			if _, err := kid.Child(ctx, none{}, &durable.ChildOptions{ID: "ended", ParentClose: durable.ParentCloseCancel}); err != nil {
				return none{}, err
			}
			return none{}, durable.Sleep(ctx, time.Hour)
		}, nil)
		e := op.open(wf, kid)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		time.Sleep(2 * time.Minute)
		again.Store(true)
		if _, err := wf.Result(t.Context(), must[*durable.Run](t)(r.Reset(t.Context(), &durable.ResetOptions{Before: "0/2"}))); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		for id, want := range map[string]durable.State{"left": durable.Running, "ended": durable.Terminated} {
			if d := must[*durable.Description](t)(e.Run(id, "").Describe(t.Context())); d.State != want {
				t.Errorf("the child %s is %s, want %s", id, d.State, want)
			}
		}
	})
}
