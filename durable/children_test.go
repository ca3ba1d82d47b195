package durable_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

func TestParentClosePolicies(t *testing.T) {
	ways := []struct {
		name string
		end  func(t *testing.T, r *durable.Run) error
		wf   func(ctx context.Context) error
	}{
		{"completed", nil, func(ctx context.Context) error { return durable.Sleep(ctx, time.Minute) }},
		{"failed", nil, func(ctx context.Context) error { _ = durable.Sleep(ctx, time.Minute); return errors.New("no") }},
		{"panicked", nil, func(ctx context.Context) error { _ = durable.Sleep(ctx, time.Minute); panic("no") }},
		{"cancelled", func(t *testing.T, r *durable.Run) error { return r.Cancel(t.Context(), "") },
			func(ctx context.Context) error { return durable.Sleep(ctx, time.Hour) }},
		{"terminated", func(t *testing.T, r *durable.Run) error { return r.Terminate(t.Context(), "") },
			func(ctx context.Context) error { return durable.Sleep(ctx, time.Hour) }},
		{"timed out", nil, func(ctx context.Context) error { return durable.Sleep(ctx, 100*time.Hour) }},
	}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
				kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (string, error) {
					if err := durable.Sleep(ctx, 5*time.Hour); err != nil {
						// It has time to clean up.
						_ = durable.Sleep(durable.WithoutCancel(ctx), time.Minute)
						return "", err
					}
					return "slept", nil
				}, nil)
				wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
					for i, p := range []durable.ParentClose{durable.ParentCloseCancel, durable.ParentCloseTerminate, durable.ParentCloseAbandon} {
						if _, err := kid.Child(durable.WithoutCancel(ctx), none{}, &durable.ChildOptions{ID: fmt.Sprint("kid", i), ParentClose: p}); err != nil {
							return 0, err
						}
					}
					return 0, way.wf(ctx)
				}, &durable.WorkflowOptions{FailOnProblem: true})
				e := open(wf, kid)
				r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, &durable.StartOptions{Timeout: 2 * time.Hour}))
				time.Sleep(time.Minute / 2)
				if way.end != nil {
					if err := way.end(t, r); err != nil {
						t.Fatal(err)
					}
				}
				_, _ = wf.Result(t.Context(), r)
				time.Sleep(time.Hour)
				want := []durable.State{durable.Cancelled, durable.Terminated, durable.Running}
				for i, w := range want {
					d := must[*durable.Description](t)(e.Run(fmt.Sprint("kid", i), "").Describe(t.Context()))
					if d.State != w {
						t.Errorf("child %d is %s, want %s", i, d.State, w)
					}
				}
				if got, err := kid.Result(t.Context(), e.Run("kid2", "")); err != nil || got != "slept" {
					t.Errorf("the abandoned child: %q, %v", got, err)
				}
			})
		})
	}
}

func TestChildReturnsWhenStarted(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[string]("s")
		slow := durable.NewWorkflow("slow", func(ctx context.Context, _ none) (string, error) { return sig.Receive(ctx) },
			&durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		quick := durable.NewWorkflow("quick", func(ctx context.Context, fail bool) (string, error) {
			if fail {
				return "", errors.New("at once")
			}
			return "quick", nil
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			c, err := slow.Child(ctx, none{}, nil)
			if err != nil {
				return "", err
			}
			if c.Ready() || c.WorkflowID == "" || c.RunID == "" {
				return "", fmt.Errorf("slow child: %+v", c)
			}
			if err := sig.Send(ctx, durable.Address(c.WorkflowID, c.RunID), "hi", nil); err != nil {
				return "", err
			}
			out, err := c.Get(ctx)
			if err != nil {
				return "", err
			}
			for range 20 {
				for _, fail := range []bool{false, true} {
					q, err := quick.Child(ctx, fail, nil)
					if err != nil || q.WorkflowID == "" || q.RunID == "" {
						return "", fmt.Errorf("quick child (fails: %v): %+v, %v", fail, q, err)
					}
					if _, err := q.Get(ctx); (err != nil) != fail {
						return "", fmt.Errorf("quick child (fails: %v): %v", fail, err)
					}
				}
			}
			return out, nil
		}, nil)
		if got, err := runOf(t, open(wf, slow, quick), wf, none{}); err != nil || got != "hi" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestChildWhoseIDIsTaken(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		kid := durable.NewWorkflow("kid", func(ctx context.Context, d time.Duration) (string, error) { return "kid", durable.Sleep(ctx, d) }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			_, err := kid.Child(ctx, time.Second, &durable.ChildOptions{ID: "taken"})
			if !errors.Is(err, durable.ErrIDTaken) {
				return "", fmt.Errorf("want ErrIDTaken, got %v", err)
			}
			if err := durable.Sleep(ctx, 2*time.Hour); err != nil {
				return "", err
			}
			c, err := kid.Child(ctx, time.Second, &durable.ChildOptions{ID: "taken"}) // free again
			if err != nil {
				return "", err
			}
			return c.Get(ctx)
		}, nil)
		e := open(wf, kid)
		must[*durable.Run](t)(kid.Start(t.Context(), e, time.Hour, &durable.StartOptions{ID: "taken"}))
		if got, err := runOf(t, e, wf, none{}); err != nil || got != "kid" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestCancelWaitsForTheRealOutcomeOfAChild(t *testing.T) {
	cases := []struct {
		name string
		kid  func(ctx context.Context) (string, error)
		want string
	}{
		{"it cleans up and succeeds", func(ctx context.Context) (string, error) {
			_ = durable.Sleep(ctx, time.Hour)
			return "tidied", durable.Sleep(durable.WithoutCancel(ctx), time.Minute)
		}, "tidied <nil> false 1m0s"},
		{"it is cancelled", func(ctx context.Context) (string, error) { return "", durable.Sleep(ctx, time.Hour) }, " err true 0s"},
		{"it fails", func(ctx context.Context) (string, error) {
			_ = durable.Sleep(ctx, time.Hour)
			return "", errors.New("no")
		}, " err false 0s"},
		{"it takes no notice", func(ctx context.Context) (string, error) {
			return "slept", durable.Sleep(durable.WithoutCancel(ctx), time.Hour)
		}, "slept <nil> false 59m0s"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
				kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (string, error) { return c.kid(ctx) }, nil)
				wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
					in, cancel := durable.WithCancel(ctx)
					var asked time.Time
					g, _ := durable.NewGroup(ctx, nil)
					g.Go(func(ctx context.Context) error {
						err := durable.Sleep(ctx, time.Minute)
						asked = durable.Now(ctx)
						cancel()
						return err
					})
					out, err := kid.Run(in, none{})
					took := durable.Now(ctx).Sub(asked)
					if werr := g.Wait(); werr != nil {
						return "", werr
					}
					text := "<nil>"
					if err != nil {
						text = "err"
					}
					return fmt.Sprint(out, " ", text, " ", errors.Is(err, context.Canceled), " ", took), nil
				}, nil)
				if got, err := runOf(t, open(wf, kid), wf, none{}); err != nil || got != c.want {
					t.Errorf("got %q, %v; want %q", got, err, c.want)
				}
			})
		})
	}
}

func TestAChildMayContinueAsNew(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		kid := durable.NewWorkflow("kid", func(ctx context.Context, n int) (string, error) {
			if err := durable.Sleep(ctx, time.Minute); err != nil {
				return "", err
			}
			if n > 0 {
				return "", durable.ContinueAsNew(n - 1)
			}
			return "last", nil
		}, nil)
		forever := durable.NewWorkflow("forever", func(ctx context.Context, n int) (string, error) {
			if err := durable.Sleep(ctx, time.Minute); err != nil {
				return "", fmt.Errorf("round %d: %w", n, err)
			}
			return "", durable.ContinueAsNew(n + 1)
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			out, err := kid.Run(ctx, 5)
			if err != nil {
				return "", err
			}
			in, cancel := durable.WithTimeout(ctx, 10*time.Minute+time.Second)
			defer cancel()
			_, err = forever.Run(in, 0)
			return fmt.Sprint(out, " ", errors.Is(err, context.Canceled), " ", strings.Contains(fmt.Sprint(err), "round 10")), nil
		}, nil)
		if got, err := runOf(t, open(wf, kid, forever), wf, none{}); err != nil || got != "last true true" {
			t.Errorf("got %q, %v; want %q", got, err, "last true true")
		}
	})
}

func TestChildTimesOutAndIsTerminated(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (string, error) { return "", durable.Sleep(ctx, time.Hour) },
			&durable.WorkflowOptions{Timeout: time.Minute})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			_, e1 := kid.Run(ctx, none{})
			c, err := kid.Child(ctx, none{}, &durable.ChildOptions{ID: "k2", Timeout: time.Hour, Tags: map[string]string{"a": "b"}})
			if err != nil {
				return "", err
			}
			_, e2 := c.Get(ctx)
			var r1, r2 *durable.RunError
			if !errors.As(e1, &r1) || !errors.As(e2, &r2) {
				return "", fmt.Errorf("%v; %v", e1, e2)
			}
			return fmt.Sprint(r1.State, " ", errors.Is(e1, durable.ErrTimeout), " ", r2.State), nil
		}, nil)
		e := open(wf, kid)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		time.Sleep(30 * time.Minute)
		p := must[*durable.Page](t)(e.List(t.Context(), &durable.Filter{Tags: map[string]string{"a": "b"}}))
		if len(p.Runs) != 1 || p.Runs[0].WorkflowID != "k2" || p.Runs[0].Parent == nil || p.Runs[0].Parent.RunID != r.RunID {
			t.Fatalf("list by tag: %+v", p.Runs)
		}
		if err := e.Run("k2", "").Terminate(t.Context(), "enough"); err != nil {
			t.Fatal(err)
		}
		if got, err := wf.Result(t.Context(), r); err != nil || got != "timed_out true terminated" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestSignalAndCancelAnotherRunFromAWorkflow(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[int]("s")
		other := durable.NewWorkflow("other", func(ctx context.Context, _ none) ([]int, error) {
			var got []int
			for {
				n, err := sig.Receive(ctx)
				if err != nil {
					return got, nil // cancelled
				}
				got = append(got, n)
			}
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			to := durable.Address("other", "")
			for i := range 3 {
				if err := sig.Send(ctx, to, i, nil); err != nil {
					return "", err
				}
				if err := sig.Send(ctx, to, 100+i, &durable.SendOptions{ID: "same"}); err != nil {
					return "", err
				}
			}
			e1 := sig.Send(ctx, durable.Address("nobody", ""), 1, nil)
			e2 := to.Signal(ctx, "unknown", nil, nil)
			e3 := durable.Address("nobody", "").Cancel(ctx, "")
			if err := to.Cancel(ctx, "enough"); err != nil {
				return "", err
			}
			if err := durable.Sleep(ctx, time.Minute); err != nil {
				return "", err
			}
			e4 := sig.Send(ctx, to, 9, nil)
			return fmt.Sprint(errors.Is(e1, durable.ErrNotFound), errors.Is(e2, durable.ErrNotAccepted), errors.Is(e3, durable.ErrNotFound), errors.Is(e4, durable.ErrFinished)), nil
		}, nil)
		e := open(wf, other)
		o := must[*durable.Run](t)(other.Start(t.Context(), e, none{}, &durable.StartOptions{ID: "other"}))
		if got, err := runOf(t, e, wf, none{}); err != nil || got != "true true true true" {
			t.Errorf("got %q, %v", got, err)
		}
		if got, err := other.Result(t.Context(), o); err != nil || fmt.Sprint(got) != "[0 100 1 2]" {
			t.Errorf("the other run got %v, %v; want [0 100 1 2]", got, err)
		}
	})
}

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

func TestStepsOfUnfinishedFuturesAreCancelledAtTheEnd(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		var stopped atomic.Bool
		step := durable.NewStep("step", func(ctx context.Context, _ none) (int, error) {
			err := ended(ctx)
			stopped.Store(true)
			return 0, err
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			step.Start(ctx, none{})
			return "left", durable.Sleep(ctx, time.Second)
		}, nil)
		e := open(wf, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		if got := must[string](t)(wf.Result(t.Context(), r)); got != "left" {
			t.Errorf("got %q", got)
		}
		synctest.Wait()
		if !stopped.Load() {
			t.Error("the step was not asked to stop")
		}
		h := must[[]*durable.Record](t)(r.History(t.Context()))
		if got := fmt.Sprint(h[len(h)-1].Closed); got != "[0/1]" {
			t.Errorf("abandoned calls = %s, want [0/1]", got)
		}
	})
}
