package durable_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

func TestOwnersAreKeptApart(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[int]("s")
		q := durable.NewQuery[none, int]("q")
		u := durable.NewUpdate[int, int]("u")
		ask := durable.NewQuestion[int]("ask")
		str := durable.NewStream[int]("str")
		kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (int, error) { return 0, durable.Sleep(ctx, time.Hour) }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			_ = q.Handle(ctx, func(none) (int, error) { return 1, nil })
			_ = u.Handle(ctx, func(_ context.Context, n int) (int, error) { return n, nil }, nil)
			_ = str.Append(ctx, 1)
			if _, err := kid.Child(ctx, none{}, &durable.ChildOptions{ID: "kid"}); err != nil {
				return 0, err
			}
			a, err := ask.Ask(ctx, "?", nil)
			if err != nil {
				return 0, err
			}
			return a.Value, nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig, q, u, ask, str}})
		e := open(wf, kid)
		ann := durable.WithActor(t.Context(), durable.Actor{Name: "ann", Owner: "a"})
		bob := durable.WithActor(t.Context(), durable.Actor{Name: "bob", Owner: "b"})
		r := must[*durable.Run](t)(wf.Start(ann, e, none{}, &durable.StartOptions{ID: "w"}))
		synctest.Wait()
		qs := must[[]*durable.QuestionInfo](t)(e.Questions(ann, nil))
		if len(qs) != 1 || qs[0].Owner != "a" {
			t.Fatalf("questions of the owner: %+v", qs)
		}
		stream := func(ctx context.Context, r *durable.Run) error {
			for _, err := range str.Read(ctx, r, 0) {
				return err
			}
			return nil
		}
		result := func(ctx context.Context, r *durable.Run) error { _, err := r.Result(ctx); return err }
		ops := map[string]func(ctx context.Context, r *durable.Run) error{
			"describe":  func(ctx context.Context, r *durable.Run) error { _, err := r.Describe(ctx); return err },
			"history":   func(ctx context.Context, r *durable.Run) error { _, err := r.History(ctx); return err },
			"stream":    stream,
			"result":    result,
			"signal":    func(ctx context.Context, r *durable.Run) error { return sig.Send(ctx, r, 1, nil) },
			"query":     func(ctx context.Context, r *durable.Run) error { _, err := q.Ask(ctx, r, none{}); return err },
			"update":    func(ctx context.Context, r *durable.Run) error { _, err := u.Send(ctx, r, 1, nil); return err },
			"pause":     func(ctx context.Context, r *durable.Run) error { return r.Pause(ctx, nil) },
			"resume":    func(ctx context.Context, r *durable.Run) error { return r.Resume(ctx, nil) },
			"cancel":    func(ctx context.Context, r *durable.Run) error { return r.Cancel(ctx, "") },
			"terminate": func(ctx context.Context, r *durable.Run) error { return r.Terminate(ctx, "") },
			"put blob":  func(ctx context.Context, r *durable.Run) error { _, err := e.PutBlob(ctx, r, []byte("x")); return err },
			"answer":    func(ctx context.Context, _ *durable.Run) error { return ask.Answer(ctx, e, qs[0].ID, 1, nil) },
			"questions of the run": func(ctx context.Context, r *durable.Run) error {
				_, err := e.Questions(ctx, &durable.QuestionFilter{WorkflowID: r.WorkflowID, All: true})
				return err
			},
		}
		for name, op := range ops {
			for _, to := range []*durable.Run{r, e.Run("w", "")} {
				if err := op(bob, to); !errors.Is(err, durable.ErrNotFound) {
					t.Errorf("%s of another owner's run: %v, want ErrNotFound", name, err)
				}
			}
		}
		if err := e.Run("kid", "").Terminate(bob, ""); !errors.Is(err, durable.ErrNotFound) {
			t.Errorf("terminate another owner's child: %v", err)
		}
		if p := must[*durable.Page](t)(e.List(bob, nil)); len(p.Runs) != 0 {
			t.Errorf("list shows another owner's runs: %+v", p.Runs)
		}
		if p := must[*durable.Page](t)(e.List(ann, nil)); len(p.Runs) != 2 || p.Runs[0].Owner != "a" || p.Runs[1].Owner != "a" {
			t.Errorf("list of the owner: %+v", p.Runs)
		}
		if p := must[*durable.Page](t)(e.List(t.Context(), nil)); len(p.Runs) != 2 {
			t.Errorf("list of everybody: %+v", p.Runs)
		}
		if x := must[[]*durable.QuestionInfo](t)(e.Questions(bob, nil)); len(x) != 0 {
			t.Errorf("inbox shows another owner's questions: %+v", x)
		}
		_, err := wf.Start(bob, e, none{}, &durable.StartOptions{ID: "w"})
		if !errors.Is(err, durable.ErrIDTaken) || strings.Contains(err.Error(), r.RunID) {
			t.Errorf("start with another owner's id: %v, want ErrIDTaken without the run id", err)
		}
		if err := ask.Answer(ann, e, qs[0].ID, 7, nil); err != nil {
			t.Fatal(err)
		}
		if got := must[int](t)(wf.Result(ann, r)); got != 7 {
			t.Errorf("result = %d", got)
		}
		for name, op := range ops {
			if err := op(bob, r); !errors.Is(err, durable.ErrNotFound) {
				t.Errorf("%s of another owner's finished run: %v, want ErrNotFound", name, err)
			}
		}
	})
}
