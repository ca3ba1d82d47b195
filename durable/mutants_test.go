package durable_test

import (
	"context"
	"encoding/json"
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

// hooked is a store with something about its commits.
type hooked struct {
	journal.Store
	hook func(tx *journal.Tx, commit func() error) error
}

func (s hooked) Commit(ctx context.Context, tx *journal.Tx) error {
	return s.hook(tx, func() error { return s.Store.Commit(ctx, tx) })
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
		st := op.wire()
		e := op.openOn(hooked{st, func(tx *journal.Tx, commit func() error) error {
			for _, w := range tx.Writes {
				if w.Row != nil && w.Row.Kind == journal.KindNote { // the intent to send the step
					st.cut.Store(true)
				}
			}
			return commit()
		}}, wf, step)
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

// A call of a fork whose record cannot be read for a moment waits for its
// answer, and takes no effect.
func TestAForkWhoseRecordCannotBeReadForAMomentWaits(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		var ran atomic.Int32
		step := durable.NewStep("step", func(context.Context, none) (int, error) { return int(ran.Add(1)), nil }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) { return step.Do(ctx, none{}) }, nil)
		st := &flaky{Store: op.st}
		forked := false
		e := op.openOn(hooked{st, func(tx *journal.Tx, commit func() error) error {
			err := commit()
			if w := tx.Writes[0]; forked && w.Row != nil && w.Row.Kind == journal.KindTurn {
				forked = false
				st.rows.Store(1) // the record, to answer the call that this turn made
			}
			return err
		}}, wf, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		if _, err := wf.Result(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		forked = true
		f := must[*durable.Run](t)(r.Fork(t.Context(), nil))
		time.Sleep(time.Minute)
		if n := st.rows.Load(); n >= 0 {
			t.Errorf("the record would fail to be read %d more times", n)
		}
		if d := must[*durable.Description](t)(f.Describe(t.Context())); d.State != durable.Completed || string(d.Result) != "1" || ran.Load() != 1 {
			t.Errorf("the fork is %s with the result %s, the step ran %d times", d.State, d.Result, ran.Load())
		}
	})
}

// A question of a fork that the record answers is answered, or has expired, as
// the one of the run.
func TestAQuestionOfAForkEndsAsOnRecord(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		ask := durable.NewQuestion[int]("ask")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			a, err := ask.Ask(ctx, "?", &durable.AskOptions{Expires: time.Hour})
			if err != nil {
				return err.Error(), nil
			}
			return fmt.Sprint(a.Value), nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{ask}})
		e := op.open(wf)
		for _, want := range []error{durable.ErrAnswered, durable.ErrExpired} {
			r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
			synctest.Wait()
			id := must[[]*durable.QuestionInfo](t)(e.Questions(t.Context(), nil))[0].ID
			if want == durable.ErrAnswered {
				if err := ask.Answer(t.Context(), e, id, 7, nil); err != nil {
					t.Fatal(err)
				}
			}
			got := must[string](t)(wf.Result(t.Context(), r))
			f := must[*durable.Run](t)(r.Fork(t.Context(), nil))
			if fork := must[string](t)(wf.Result(t.Context(), f)); fork != got {
				t.Errorf("the fork has %q, the run %q", fork, got)
			}
			if err := ask.Answer(t.Context(), e, strings.Replace(id, r.RunID, f.RunID, 1), 8, nil); !errors.Is(err, want) {
				t.Errorf("another answer in the fork: %v, want %v", err, want)
			}
		}
	})
}

// A run whose step is at work, for the second time, is not taken out of memory:
// the outcome is that of the call.
func TestASecondAttemptAtWorkIsNotSentAgain(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		var attempts []int
		// It keeps the run in memory until the second attempt is at work, and then wakes it.
		other := durable.NewStep("other", func(context.Context, none) (none, error) {
			time.Sleep(90 * time.Second)
			return none{}, nil
		}, nil)
		step := durable.NewStep("step", func(ctx context.Context, _ none) (none, error) {
			i, _ := durable.StepInfoOf(ctx)
			attempts = append(attempts, i.Attempt)
			if i.Attempt == 1 {
				return none{}, errors.New("not yet")
			}
			time.Sleep(time.Minute)
			return none{}, nil
		}, &durable.StepOptions{Retry: &durable.Retry{Initial: time.Minute}})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (none, error) {
			f := other.Start(ctx, none{})
			if _, err := step.Do(ctx, none{}); err != nil {
				return none{}, err
			}
			return f.Get(ctx)
		}, nil)
		e := op.open(wf, step, other)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		if _, err := wf.Result(t.Context(), r); err != nil {
			t.Error(err)
		}
		if got := fmt.Sprint(attempts); got != "[1 2]" {
			t.Errorf("attempts %s", got)
		}
	})
}

// Of the answers of updates those that continue-as-new carries over may have
// 256 KB in all, not a byte more.
func TestAnswersAreCarriedOverUpToTheirLimit(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		const limit = 256 << 10
		upd := durable.NewUpdate[int, string]("u")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, round int) (none, error) {
			handled := false
			if err := upd.Handle(ctx, func(_ context.Context, n int) (string, error) {
				handled = true
				return strings.Repeat("x", n), nil
			}, nil); err != nil {
				return none{}, err
			}
			if err := durable.Await(ctx, func() bool { return handled }); err != nil {
				return none{}, err
			}
			return none{}, durable.ContinueAsNew(round + 1)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{upd}})
		e := op.open(wf)
		for n, kept := range map[int]bool{limit - len(`"" id`) + 1: true, limit - len(`"" id`) + 2: false} {
			r := must[*durable.Run](t)(wf.Start(t.Context(), e, 0, nil))
			for range 2 {
				if got := must[string](t)(upd.Send(t.Context(), e.Run(r.WorkflowID, ""), n, &durable.SendOptions{ID: "id"})); len(got) != n {
					t.Errorf("%d bytes", len(got))
				}
			}
			synctest.Wait()
			p := must[*durable.Page](t)(e.List(t.Context(), &durable.Filter{WorkflowID: r.WorkflowID}))
			if want := map[bool]int{true: 2, false: 3}[kept]; len(p.Runs) != want {
				t.Errorf("after the same update of %d bytes twice there are %d runs, want %d", n, len(p.Runs), want)
			}
		}
	})
}

// The attempts of a step count on over a reset, and over another one.
func TestAttemptsCountOnOverResets(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		var attempts []int
		step := durable.NewStep("step", func(ctx context.Context, _ none) (none, error) {
			i, _ := durable.StepInfoOf(ctx)
			attempts = append(attempts, i.Attempt)
			time.Sleep(90 * time.Second) // it fails after the point of the resets
			return none{}, errors.New("never")
		}, &durable.StepOptions{Retry: &durable.Retry{Initial: time.Hour, Backoff: 1, MaxAttempts: 3}})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (none, error) {
			f := step.Start(ctx, none{})
			for range 2 {
				if err := durable.Sleep(ctx, time.Minute); err != nil { // 0/2, 0/3
					return none{}, err
				}
			}
			return f.Get(ctx)
		}, nil)
		e := op.open(wf, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		for range 3 {
			time.Sleep(5 * time.Minute)
			r = must[*durable.Run](t)(r.Reset(t.Context(), &durable.ResetOptions{Before: "0/3"}))
		}
		began := time.Now()
		if _, err := wf.Result(t.Context(), r); err == nil || !strings.Contains(err.Error(), "never") {
			t.Errorf("result %v", err)
		}
		if got := fmt.Sprint(attempts); got != "[1 2 3]" || time.Since(began) != 109*time.Minute+30*time.Second {
			t.Errorf("attempts %s, the last %v after the last reset", got, time.Since(began))
		}
	})
}

// A start that waits for the end of a schedule's last run comes when the engine
// is opened, if that end was the last that its process did.
func TestABufferedStartIsTakenUp(t *testing.T) {
	slow := clock("slow", 90*time.Minute)
	lives(t, func(t *testing.T, op *opener) {
		// At 01:00 the first starts, at 02:00 the second has to wait, at 02:30 it may start.
		st := op.wire()
		e := op.openOn(hooked{st, func(tx *journal.Tx, commit func() error) error {
			if len(tx.Writes) > 0 && tx.Writes[0].Run.WorkflowID == "s-2000-01-01T02:00:00Z" {
				st.cut.Store(true)
			}
			return commit()
		}}, slow)
		s := &durable.Schedule{ID: "s", Workflow: "slow", Input: json.RawMessage(`""`), Every: time.Hour, Overlap: durable.OverlapBufferOne}
		if err := e.CreateSchedule(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(150 * time.Minute)
		synctest.Wait()
		op.close(e)
		e = op.open(slow)
		synctest.Wait()
		if got := startsOf(t, e, "s"); got != "01T01:00:00 01T02:00:00>01T02:30:00" {
			t.Errorf("starts: %s", got)
		}
	})
}

// A run of a schedule's time that somebody has started by hand, with the same
// workflow and input, is that of the schedule.
func TestATimeThatWasStartedByHandIsTaken(t *testing.T) {
	quick := clock("quick", time.Second)
	lives(t, func(t *testing.T, op *opener) {
		e := op.open(quick)
		if err := e.CreateSchedule(t.Context(), &durable.Schedule{ID: "s", Workflow: "quick", Input: json.RawMessage(`"a"`), Every: time.Hour}); err != nil {
			t.Fatal(err)
		}
		must[*durable.Run](t)(quick.Start(t.Context(), e, "a", &durable.StartOptions{ID: "s-2000-01-01T01:00:00Z"}))
		time.Sleep(90 * time.Minute)
		i := must[*durable.ScheduleInfo](t)(e.Schedule(t.Context(), "s"))
		if i.Last.Format("15:04") != "01:00" || i.LastRun.WorkflowID != "s-2000-01-01T01:00:00Z" || len(i.Next) == 0 || i.Next[0].Format("15:04") != "02:00" {
			t.Errorf("it is shown as %+v", i)
		}
	})
}

// A note and an event that come together for a run are both taken.
func TestANoteAndAnEventAtOnce(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		op.o.MaxSteps = 1
		sig := durable.NewSignal[int]("s")
		busy := durable.NewStep("busy", func(context.Context, none) (none, error) {
			time.Sleep(time.Minute)
			return none{}, nil
		}, nil)
		once := durable.NewStep("once", func(context.Context, none) (int, error) { return 4, nil }, &durable.StepOptions{AtMostOnce: true})
		other := durable.NewWorkflow("other", func(ctx context.Context, _ none) (none, error) { return busy.Do(ctx, none{}) }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			f := once.Start(ctx, none{})
			sum := 0
			for range 2 {
				n, err := sig.Receive(ctx)
				if err != nil {
					return 0, err
				}
				sum += n
			}
			n, err := f.Get(ctx)
			return sum + n, err
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		hold, held := make(chan struct{}), false
		e := op.openOn(hooked{op.st, func(tx *journal.Tx, commit func() error) error {
			if held && tx.Writes[0].Run.Name == "wf" {
				<-hold
			}
			return commit()
		}}, wf, other, busy, once)
		must[*durable.Run](t)(other.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		held = true
		for n := range 2 {
			go func() {
				if err := sig.Send(t.Context(), r, n+1, nil); err != nil {
					t.Error(err)
				}
			}()
			time.Sleep(time.Hour) // meanwhile the step has its place, and the intent to send it is on its way
		}
		close(hold)
		if n := must[int](t)(wf.Result(t.Context(), r)); n != 7 {
			t.Errorf("result %d", n)
		}
	})
}

// What comes with a problem that could not be recorded is refused, and leaves
// nothing.
func TestWhatIsRefusedWithAProblemIsNotStored(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		sig := durable.NewSignal[int]("s")
		bad := true
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			sum := 0
			for range 2 {
				n, err := sig.Receive(ctx)
				if err != nil {
					return 0, err
				}
				if bad {
					panic("it passes")
				}
				sum = 10*sum + n
			}
			return sum, nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		full := errors.New("no room")
		e := op.openOn(hooked{op.st, func(tx *journal.Tx, commit func() error) error {
			if bad && len(tx.Writes) > 0 && len(tx.Writes[0].Run.Problem) > 0 {
				bad = false
				return full
			}
			return commit()
		}}, wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		if err := sig.Send(t.Context(), r, 1, nil); err == nil || !strings.Contains(err.Error(), full.Error()) {
			t.Errorf("the first signal: %v", err)
		}
		for n := range 2 {
			if err := sig.Send(t.Context(), r, n+2, nil); err != nil {
				t.Error(err)
			}
		}
		if n := must[int](t)(wf.Result(t.Context(), r)); n != 23 {
			t.Errorf("result %d: of a signal that was refused", n)
		}
	})
}

// Two owners may start runs with the same key.
func TestKeysBelongToTheirOwners(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		wf := durable.NewWorkflow("wf", func(context.Context, none) (none, error) { return none{}, nil }, nil)
		e := op.open(wf)
		runs := map[string]bool{}
		for _, owner := range []string{"a", "b", "a"} {
			ctx := durable.WithActor(t.Context(), durable.Actor{Owner: owner})
			r := must[*durable.Run](t)(wf.Start(ctx, e, none{}, &durable.StartOptions{Key: "key"}))
			if r.Existing != runs[owner] {
				t.Errorf("a start of the owner %s: existing %v", owner, r.Existing)
			}
			runs[owner] = true
		}
	})
}
