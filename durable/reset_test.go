package durable_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
)

// trip is a workflow with all that a reset has to think of.
type trip struct {
	mu     sync.Mutex
	book   map[string]string // effect key → what
	made   map[string]int    // what → how often
	price  int
	fail   bool
	ids    []string
	wf     *durable.Workflow[none, string]
	sig    *durable.Signal[string]
	ok     *durable.Question[bool]
	state  *durable.Status[string]
	log    *durable.Stream[string]
	defs   durable.Set
	tokens []string
}

func (s *trip) effect(ctx context.Context, what string) {
	i, _ := durable.StepInfoOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.book[i.Key] = what + " of " + i.WorkflowID
	s.made[what]++
}

// token is of the callback, as the first life got it.
func (s *trip) token() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens[0]
}

func newTrip() *trip {
	s := &trip{
		book: map[string]string{}, made: map[string]int{}, price: 100,
		sig: durable.NewSignal[string]("s"), ok: durable.NewQuestion[bool]("ok"),
		state: durable.NewStatus[string]("state"), log: durable.NewStream[string]("log"),
	}
	hotel := durable.NewStep("hotel", func(ctx context.Context, _ none) (int, error) { s.effect(ctx, "hotel"); return s.price, nil }, nil)
	flight := durable.NewStep("flight", func(ctx context.Context, n int) (int, error) {
		s.effect(ctx, "flight")
		if s.fail {
			return 0, durable.Permanent(errors.New("no seat"))
		}
		return n + 1, nil
	}, nil)
	kid := durable.NewWorkflow("kid", func(ctx context.Context, n int) (int, error) {
		_, err := hotel.Do(ctx, none{})
		if err != nil {
			return 0, err
		}
		return n, durable.Sleep(ctx, time.Duration(n)*time.Hour)
	}, nil)
	s.wf = durable.NewWorkflow("trip", func(ctx context.Context, _ none) (string, error) {
		s.state.Set(ctx, "begun")
		info, _ := durable.InfoOf(ctx)
		if err := s.log.Append(ctx, "one "+durable.UUID(ctx, "a")); err != nil {
			return "", err
		}
		a, err := hotel.Do(ctx, none{})
		if err != nil {
			return "", err
		}
		long, err := kid.Child(ctx, 10, &durable.ChildOptions{ID: "long"})
		if err != nil {
			return "", err
		}
		cb, err := durable.NewCallback[int](ctx)
		if err != nil {
			return "", err
		}
		s.mu.Lock()
		s.tokens = append(s.tokens, cb.Token())
		s.mu.Unlock()
		s.state.Set(ctx, "asking")
		first, err := s.sig.Receive(ctx)
		if err != nil {
			return "", err
		}
		if err := durable.Sleep(ctx, time.Hour); err != nil { // 0/4: the point of the tests
			return "", err
		}
		id := durable.UUID(ctx, "a")
		s.ids = append(s.ids, id)
		if err := s.log.Append(ctx, "two "+id); err != nil {
			return "", err
		}
		b, err := flight.Do(ctx, a) // 0/5
		if err != nil {
			return "", err
		}
		short, err := kid.Child(ctx, 1, &durable.ChildOptions{ID: "short"}) // 0/6
		if err != nil {
			return "", err
		}
		ans, err := s.ok.Ask(ctx, "OK?", nil) // 0/7
		if err != nil {
			return "", err
		}
		second, err := s.sig.Receive(ctx)
		if err != nil {
			return "", err
		}
		n, err := cb.Wait(ctx)
		if err != nil {
			return "", err
		}
		k1, err := short.Get(ctx)
		if err != nil {
			return "", err
		}
		k2, err := long.Get(ctx)
		same := info.RunID == cb.Token()[:len(info.RunID)]
		return fmt.Sprint(a, b, first, second, ans.Value, n, k1, k2, same), err
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{s.sig, s.ok, s.state, s.log}})
	s.defs = durable.Set{s.wf, kid, hotel, flight}
	return s
}

func logOf(t *testing.T, l *durable.Stream[string], r *durable.Run) (out []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for it, err := range l.Read(ctx, r, 0) {
		if err != nil {
			break
		}
		if int(it.Offset) != len(out) {
			t.Errorf("offset %d of element %d", it.Offset, len(out))
		}
		out = append(out, it.Value)
	}
	return out
}

// TestResetRepairsAFailedRun: the run had failed; what came before the point is
// kept, what came after it is done again with the same keys.
func TestResetRepairsAFailedRun(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		s := newTrip()
		s.fail = true
		e := open(s.defs)
		r := must[*durable.Run](t)(s.wf.Start(t.Context(), e, none{}, &durable.StartOptions{ID: "trip", Key: "k"}))
		for _, v := range []string{"x", "y"} {
			if err := s.sig.Send(t.Context(), r, v, nil); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Result(t.Context()); err == nil || !strings.Contains(err.Error(), "no seat") {
			t.Fatalf("result: %v", err)
		}
		old := logOf(t, s.log, r)
		s.fail, s.price = false, 7 // the hotel's recorded price holds
		if _, err := r.Reset(t.Context(), &durable.ResetOptions{Before: "0/99"}); !errors.Is(err, durable.ErrNotFound) {
			t.Errorf("before a call that is not there: %v", err)
		}
		if _, err := r.Reset(t.Context(), &durable.ResetOptions{Before: "0/5", Turn: 3}); !errors.Is(err, durable.ErrBadInput) {
			t.Errorf("two points: %v", err)
		}
		o := &durable.ResetOptions{Before: "0/5", Reason: "seats again", ID: "reset-1"}
		n := must[*durable.Run](t)(r.Reset(t.Context(), o))
		again := must[*durable.Run](t)(r.Reset(t.Context(), o))
		if again.RunID != n.RunID || n.RunID == r.RunID || n.WorkflowID != "trip" {
			t.Errorf("reset %v, again %v", n, again)
		}
		if k := must[*durable.Run](t)(s.wf.Start(t.Context(), e, none{}, &durable.StartOptions{ID: "trip", Key: "k"})); k.RunID != n.RunID {
			t.Errorf("the key of the start leads to %s, not to the run that was reset", k.RunID)
		}
		synctest.Wait()
		qs := must[[]*durable.QuestionInfo](t)(e.Questions(t.Context(), nil))
		if len(qs) != 1 || qs[0].RunID != n.RunID {
			t.Fatalf("questions %+v", qs)
		}
		d := must[*durable.Description](t)(n.Describe(t.Context()))
		if string(d.Status["state"]) != `"asking"` {
			t.Errorf("status %s", d.Status)
		}
		if err := s.ok.Answer(t.Context(), e, qs[0].ID, true, nil); err != nil {
			t.Fatal(err)
		}
		if err := e.Complete(t.Context(), s.token(), json.RawMessage("5")); err != nil {
			t.Errorf("a token of the time before: %v", err)
		}
		got, err := s.wf.Result(t.Context(), n)
		if want := "100 101xytrue 5 1 10 true"; err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
		// The child "long" was cancelled with the failed run, so it is started
		// anew, and books again, under the same key.
		if fmt.Sprint(s.made) != "map[flight:2 hotel:4]" || len(s.book) != 4 {
			t.Errorf("effects %v, %d keys", s.made, len(s.book))
		}
		now := logOf(t, s.log, n)
		if len(now) != 2 || now[0] != old[0] || now[1] == old[1] || !strings.HasPrefix(now[1], "two ") {
			t.Errorf("streams: old %q, new %q", old, now)
		}
		d = must[*durable.Description](t)(r.Describe(t.Context()))
		if d.State != durable.Failed || d.Next != n.RunID {
			t.Errorf("the old run: %+v", d)
		}
		if _, err := r.Reset(t.Context(), nil); !errors.Is(err, durable.ErrFinished) {
			t.Errorf("reset of a run that was reset: %v", err)
		}
	})
}

// TestResetOfARunningRun: children, questions and callbacks of the time before
// the point go on; what was begun after it is taken back.
func TestResetOfARunningRun(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		s := newTrip()
		e := open(s.defs)
		r := must[*durable.Run](t)(s.wf.Start(t.Context(), e, none{}, &durable.StartOptions{ID: "trip"}))
		for _, v := range []string{"x", "y"} {
			if err := s.sig.Send(t.Context(), r, v, nil); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(90 * time.Minute) // "short" is under way, the question is open
		if err := e.Complete(t.Context(), s.token(), json.RawMessage("5")); err != nil {
			t.Fatal(err)
		}
		if err := r.Pause(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		var turn int64
		for _, rec := range must[[]*durable.Record](t)(r.History(t.Context())) {
			for _, ev := range rec.Events {
				if ev.Kind == "fired" && ev.Call == "0/4" {
					turn = rec.Seq
				}
			}
		}
		n := must[*durable.Run](t)(r.Reset(t.Context(), &durable.ResetOptions{Turn: turn}))
		synctest.Wait()
		// The turn that called the flight was kept, so it is not called again;
		// the child that came after its outcome is.
		if _, err := r.Result(t.Context()); err == nil || !strings.Contains(err.Error(), n.RunID) {
			t.Errorf("the old run's result: %v", err)
		}
		qs := must[[]*durable.QuestionInfo](t)(e.Questions(t.Context(), nil))
		if len(qs) != 1 || qs[0].RunID != n.RunID {
			t.Fatalf("questions %+v", qs)
		}
		if err := s.ok.Answer(t.Context(), e, qs[0].ID, true, nil); err != nil {
			t.Fatal(err)
		}
		if got, err := s.wf.Result(t.Context(), n); err != nil || got != "100 101xytrue 5 1 10 true" {
			t.Errorf("got %q, %v", got, err)
		}
		if fmt.Sprint(s.made) != "map[flight:1 hotel:4]" || len(s.book) != 4 {
			t.Errorf("effects %v, %d keys", s.made, len(s.book))
		}
		page := must[*durable.Page](t)(e.List(t.Context(), &durable.Filter{WorkflowID: "short"}))
		if len(page.Runs) != 2 || page.Runs[1].State != durable.Terminated || page.Runs[0].State != durable.Completed {
			t.Errorf("runs of the child: %+v", page.Runs)
		}
		if page := must[*durable.Page](t)(e.List(t.Context(), &durable.Filter{WorkflowID: "long"})); len(page.Runs) != 1 || page.Runs[0].State != durable.Completed {
			t.Errorf("runs of the other child: %+v", page.Runs)
		}
		for _, id := range []string{r.RunID, n.RunID} {
			h := must[[]byte](t)(e.Run("trip", id).Export(t.Context()))
			if rep, err := durable.Replay(t.Context(), h, newTrip().defs); err != nil || len(rep.Drift) > 0 {
				t.Errorf("replay of %s: %+v, %v", id, rep, err)
			}
		}
	})
}

// TestResetTwiceWithAnOpenQuestion: a question asked before the point keeps its
// id over two resets, the second before the point of the first.
func TestResetTwiceWithAnOpenQuestion(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		ask := durable.NewQuestion[int]("ask")
		sig := durable.NewSignal[int]("s")
		var ids []string
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			var a int
			g, _ := durable.NewGroup(ctx, nil)
			g.Go(func(ctx context.Context) error {
				ans, err := ask.Ask(ctx, "?", &durable.AskOptions{Expires: 100 * time.Hour})
				if err == nil {
					a = ans.Value
				}
				return err
			})
			sum := 0
			for range 3 {
				n, err := sig.Receive(ctx)
				if err != nil {
					return "", err
				}
				sum += n
				ids = append(ids, durable.UUID(ctx, "x"))
				if err := durable.Sleep(ctx, time.Minute); err != nil {
					return "", err
				}
			}
			err := g.Wait()
			return fmt.Sprint(a, sum), err
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{ask, sig}})
		e := op.open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, &durable.StartOptions{ID: "wf"}))
		synctest.Wait()
		id := must[[]*durable.QuestionInfo](t)(e.Questions(t.Context(), nil))[0].ID
		for i := range 3 {
			if err := sig.Send(t.Context(), r, 1<<i, nil); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		op.close(e)
		e = op.open(wf)
		a := must[*durable.Run](t)(e.Run("wf", "").Reset(t.Context(), &durable.ResetOptions{Before: "0/4"}))
		time.Sleep(time.Hour)
		b := must[*durable.Run](t)(a.Reset(t.Context(), &durable.ResetOptions{Before: "0/3"}))
		time.Sleep(time.Hour)
		op.close(e)
		e = op.open(wf)
		if err := ask.Answer(t.Context(), e, id, 7, nil); err != nil {
			t.Errorf("answer by the id of the time before: %v", err)
		}
		if got, err := wf.Result(t.Context(), e.Run("wf", b.RunID)); err != nil || got != "7 7" {
			t.Errorf("got %q, %v", got, err)
		}
		if d := must[*durable.Description](t)(e.Run("wf", a.RunID).Describe(t.Context())); d.State != durable.Terminated || d.Next != b.RunID {
			t.Errorf("the run in between: %+v", d)
		}
		// The first value was made before both points; the others are new.
		first := map[string]bool{}
		for _, x := range ids {
			first[x] = true
		}
		if len(first) != 3+1+2 {
			t.Errorf("%d different values of the stream: %q", len(first), ids)
		}
	})
}

// TestResetNeverRepeatsAtMostOnce: unless it is allowed, of the run and of its
// children; and a child that is reset tells its parent, once.
func TestResetNeverRepeatsAtMostOnce(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		made := map[string]int{}
		once := durable.NewStep("once", func(ctx context.Context, _ none) (int, error) {
			i, _ := durable.StepInfoOf(ctx)
			made[i.Key]++
			return made[i.Key], nil
		}, &durable.StepOptions{AtMostOnce: true})
		kid := durable.NewWorkflow("kid", func(ctx context.Context, n int) (int, error) {
			if n < 2 {
				return 0, durable.ContinueAsNew(n + 1)
			}
			k, err := once.Do(ctx, none{})
			if err != nil {
				return 0, err
			}
			return k, durable.Sleep(ctx, time.Hour)
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			if err := durable.Sleep(ctx, time.Minute); err != nil {
				return "", err
			}
			n, err := kid.Run(ctx, 0) // 0/2
			if err != nil {
				return "", err
			}
			m, err := once.Do(ctx, none{}) // 0/3
			return fmt.Sprint(n, m), err
		}, nil)
		e := open(wf, kid, once)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, &durable.StartOptions{ID: "wf"}))
		time.Sleep(10 * time.Minute)
		kids := must[*durable.Page](t)(e.List(t.Context(), &durable.Filter{Workflow: "kid", States: []durable.State{durable.Running}}))
		if len(kids.Runs) != 1 {
			t.Fatalf("children: %+v", kids.Runs)
		}
		child := e.Run(kids.Runs[0].WorkflowID, "")
		if _, err := child.Reset(t.Context(), nil); !errors.Is(err, durable.ErrRepeat) || !strings.Contains(err.Error(), `"once"`) {
			t.Errorf("reset of the child: %v", err)
		}
		if _, err := child.Reset(t.Context(), &durable.ResetOptions{AllowRepeat: true}); err != nil {
			t.Fatal(err)
		}
		if got, err := wf.Result(t.Context(), r); err != nil || got != "2 1" {
			t.Errorf("got %q, %v", got, err)
		}
		for before, what := range map[string]string{"0/3": `"once"`, "0/2": "of the child", "": `"once"`} {
			if _, err := r.Reset(t.Context(), &durable.ResetOptions{Before: before}); !errors.Is(err, durable.ErrRepeat) || !strings.Contains(err.Error(), what) {
				t.Errorf("reset before %q: %v", before, err)
			}
		}
		n := must[*durable.Run](t)(r.Reset(t.Context(), &durable.ResetOptions{Before: "0/3", AllowRepeat: true}))
		if got, err := wf.Result(t.Context(), n); err != nil || got != "2 2" || len(made) != 2 {
			t.Errorf("got %q, %v, effects %v", got, err, made)
		}
	})
}

// TestForkAnswersFromTheRecord: a fork has keys of its own, and really makes
// only the calls that nobody answers.
func TestForkAnswersFromTheRecord(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		s := newTrip()
		e := op.open(s.defs)
		r := must[*durable.Run](t)(s.wf.Start(t.Context(), e, none{}, &durable.StartOptions{ID: "trip"}))
		for _, v := range []string{"x", "y"} {
			if err := s.sig.Send(t.Context(), r, v, nil); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(90 * time.Minute)
		q := must[[]*durable.QuestionInfo](t)(e.Questions(t.Context(), nil))[0]
		if err := s.ok.Answer(t.Context(), e, q.ID, true, nil); err != nil {
			t.Fatal(err)
		}
		if err := e.Complete(t.Context(), s.token(), json.RawMessage("5")); err != nil {
			t.Fatal(err)
		}
		if got, err := s.wf.Result(t.Context(), r); err != nil || got != "100 101xytrue 5 1 10 true" {
			t.Fatalf("got %q, %v", got, err)
		}
		keys := len(s.book)
		began := time.Now()
		fork := func(o *durable.ForkOptions) (string, error) {
			t.Helper()
			f := must[*durable.Run](t)(r.Fork(t.Context(), o))
			if f.RunID == r.RunID || f.WorkflowID == "trip" {
				t.Errorf("fork %+v", f)
			}
			return s.wf.Result(t.Context(), f)
		}
		if got, err := fork(nil); err != nil || got != "100 101xytrue 5 1 10 true" || len(s.book) != keys || !time.Now().Equal(began) {
			t.Errorf("all from the record: %q, %v, %v", got, err, s.made)
		}
		edited := &durable.ForkOptions{ID: "f1", WorkflowID: "other", Answers: map[string]durable.ForkAnswer{
			"0/1": {Value: json.RawMessage("1")}, "0/7": {Value: json.RawMessage("false")}, "0/5": {Value: json.RawMessage("3")}}}
		if got, err := fork(edited); err != nil || got != "1 3xyfalse 5 1 10 true" || len(s.book) != keys {
			t.Errorf("edited: %q, %v, %v", got, err, s.made)
		}
		if f := must[*durable.Run](t)(r.Fork(t.Context(), edited)); !f.Existing || f.WorkflowID != "other" {
			t.Errorf("the same fork again: %+v", f)
		}
		if got, err := fork(&durable.ForkOptions{Answers: map[string]durable.ForkAnswer{"0/5": {Err: &durable.Error{Type: "FULL", Message: "no seat"}}}}); err == nil || !strings.Contains(err.Error(), "no seat") {
			t.Errorf("an error for an answer: %q, %v", got, err)
		}
		// From the flight on it is real, with keys of its own; it outlives the process.
		f := must[*durable.Run](t)(r.Fork(t.Context(), &durable.ForkOptions{Before: "0/5", WorkflowID: "real"}))
		synctest.Wait()
		op.close(e)
		e = op.open(s.defs)
		synctest.Wait()
		q = must[[]*durable.QuestionInfo](t)(e.Questions(t.Context(), nil))[0]
		if err := s.ok.Answer(t.Context(), e, q.ID, true, nil); err != nil {
			t.Fatal(err)
		}
		if got, err := s.wf.Result(t.Context(), e.Run("real", f.RunID)); err != nil || got != "100 101xytrue 5 1 10 true" || s.made["flight"] != 2 || len(s.book) != keys+2 {
			t.Errorf("real from the flight on: %q, %v, %v", got, err, s.made)
		}
		if d := must[*durable.Description](t)(e.Run("trip", r.RunID).Describe(t.Context())); d.State != durable.Completed || d.Next != "" {
			t.Errorf("the run that was forked: %+v", d)
		}
		for _, bad := range []*durable.ForkOptions{{Before: "0/99"}, {Input: json.RawMessage("7")}, {Answers: map[string]durable.ForkAnswer{"0/1": {}}}} {
			if _, err := e.Run("trip", r.RunID).Fork(t.Context(), bad); err == nil {
				t.Errorf("%+v: no error", bad)
			}
		}
	})
}

// TestResetAndForkSurviveDeath: the process dies at every commit.
func TestResetAndForkSurviveDeath(t *testing.T) {
	t.Parallel()
	rep := durabletest.Sweep(t, func() *durabletest.World {
		s := newTrip()
		return &durabletest.World{
			Defs: s.defs,
			Drive: func(ctx context.Context, e *durable.Engine) (string, error) {
				r, err := s.wf.Start(ctx, e, none{}, &durable.StartOptions{ID: "trip", Key: "k"})
				if err != nil {
					return "", err
				}
				for _, v := range []string{"x", "y"} {
					if err := s.sig.Send(ctx, e.Run("trip", ""), v, &durable.SendOptions{ID: v}); err != nil && !errors.Is(err, durable.ErrFinished) {
						return "", err
					}
				}
				question := func(run *durable.Run) (id string, err error) {
					for past := 0; past < 3; {
						qs, err := e.Questions(ctx, &durable.QuestionFilter{WorkflowID: run.WorkflowID})
						if err != nil || len(qs) > 0 {
							if err == nil {
								id = qs[0].ID
							}
							return id, err
						}
						d, err := run.Describe(ctx)
						if err != nil || d.State.Done() {
							return "", err
						}
						// It was answered in an earlier life, if nothing else is waited for.
						past++
						for _, w := range d.Waiting {
							if w.Kind != "callback" && w.Kind != "child" {
								past = 0
							}
						}
						select {
						case <-time.After(time.Minute):
						case <-ctx.Done():
							return "", ctx.Err()
						}
					}
					return "", nil
				}
				if _, err := question(e.Run("trip", "")); err != nil {
					return "", err
				}
				_, err = r.Reset(ctx, &durable.ResetOptions{Before: "0/5", ID: "reset"})
				if err != nil && !errors.Is(err, durable.ErrFinished) {
					return "", err
				}
				n := e.Run("trip", "")
				id, err := question(n)
				if err != nil {
					return "", err
				}
				if id != "" {
					if err := s.ok.Answer(ctx, e, id, true, &durable.AnswerOptions{ID: "a"}); err != nil {
						return "", err
					}
				}
				if err := e.Complete(ctx, s.token(), json.RawMessage("5")); err != nil && !errors.Is(err, durable.ErrAnswered) && !errors.Is(err, durable.ErrFinished) {
					return "", err
				}
				out, err := s.wf.Result(ctx, n)
				if err != nil {
					return "", err
				}
				f, err := n.Fork(ctx, &durable.ForkOptions{ID: "fork", WorkflowID: "fork", Answers: map[string]durable.ForkAnswer{"0/1": {Value: json.RawMessage("1")}}})
				if err != nil {
					return "", err
				}
				two, err := s.wf.Result(ctx, f)
				return out + "; " + two, err
			},
			Check: func(t *testing.T, out string, died bool) {
				if want := "100 101xytrue 5 1 10 true; 1 101xytrue 5 1 10 true"; out != want {
					t.Errorf("got %q, want %q", out, want)
				}
				if len(s.book) != 4 {
					t.Errorf("effects %v", s.book)
				}
			},
		}
	})
	t.Logf("%d commits, %d lives, %d deaths", rep.Commits, rep.Lives, rep.Deaths)
}
