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
	"github.com/mcpagent/mcpagent/durable/durabletest"
)

// scenario runs fn in each mode of durabletest, in a bubble where time is
// virtual.
func scenario(t *testing.T, fn func(t *testing.T, open func(defs ...durable.Definer) *durable.Engine)) {
	t.Helper()
	durabletest.Modes(t, func(t *testing.T, open durabletest.Open) { fn(t, open) })
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

type decision struct {
	Approved bool `json:"approved"`
}

func TestStepsAndResult(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		var n atomic.Int32
		double := durable.NewStep("double", func(_ context.Context, i int) (int, error) { n.Add(1); return 2 * i, nil }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, i int) (int, error) {
			for range 3 {
				var err error
				if i, err = double.Do(ctx, i); err != nil {
					return 0, err
				}
			}
			return i, nil
		}, nil)
		e := open(wf, double)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, 5, nil))
		if got := must[int](t)(wf.Result(t.Context(), r)); got != 40 {
			t.Errorf("result = %d, want 40", got)
		}
		if n.Load() != 3 {
			t.Errorf("step ran %d times, want 3", n.Load())
		}
	})
}

func TestRetriesUseTimersAndKeepTheCause(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		poor := durable.NewErrorType("INSUFFICIENT_FUNDS")
		tries := 0
		flaky := durable.NewStep("flaky", func(ctx context.Context, _ struct{}) (string, error) {
			tries++
			if tries < 4 {
				return "", errors.New("not yet")
			}
			i, _ := durable.StepInfoOf(ctx)
			return fmt.Sprint(i.Attempt), nil
		}, nil)
		pay := durable.NewStep("pay", func(context.Context, struct{}) (string, error) {
			return "", durable.Permanent(fmt.Errorf("bank: %w", poor.New("balance %d", 3)))
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ struct{}) (string, error) {
			start := durable.Now(ctx)
			s, err := flaky.Do(ctx, struct{}{})
			if err != nil {
				return "", err
			}
			took := durable.Now(ctx).Sub(start)
			_, err = pay.Do(ctx, struct{}{})
			var se *durable.StepError
			if !errors.Is(err, poor) || !errors.As(err, &se) || se.Attempts != 1 {
				return "", fmt.Errorf("pay: %w (%#v)", err, err)
			}
			return fmt.Sprintf("attempt %s after %v; %v", s, took, err), nil
		}, nil)
		e := open(wf, flaky, pay)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, struct{}{}, nil))
		got := must[string](t)(wf.Result(t.Context(), r))
		want := "attempt 4 after 7s; step pay failed: INSUFFICIENT_FUNDS: bank: INSUFFICIENT_FUNDS: balance 3"
		if got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
}

func TestQuestionAnsweredAfterDaysAndExpired(t *testing.T) {
	ask := durable.NewQuestion[decision]("approve")
	status := durable.NewStatus[string]("status")
	wf := durable.NewWorkflow("wf", func(ctx context.Context, _ string) (string, error) {
		status.Set(ctx, "PENDING")
		a, err := ask.Ask(ctx, "Pay?", &durable.AskOptions{Expires: 5 * 24 * time.Hour})
		if errors.Is(err, durable.ErrExpired) {
			status.Set(ctx, "EXPIRED")
			return "expired", nil
		}
		if err != nil {
			return "", err
		}
		status.Set(ctx, "DONE")
		return fmt.Sprintf("%v %s %s", a.Value.Approved, a.By, a.Note), nil
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{ask, status}})
	t.Run("answered", func(t *testing.T) {
		scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
			e := open(wf)
			r := must[*durable.Run](t)(wf.Start(t.Context(), e, "a", nil))
			time.Sleep(4 * 24 * time.Hour)
			qs := must[[]*durable.QuestionInfo](t)(e.Questions(t.Context(), nil))
			if len(qs) != 1 || qs[0].Text != "Pay?" || qs[0].RunID != r.RunID {
				t.Fatalf("questions = %+v", qs)
			}
			d := must[*durable.Description](t)(r.Describe(t.Context()))
			if string(d.Status["status"]) != `"PENDING"` || len(d.Waiting) != 1 || d.Waiting[0].Kind != "question" {
				t.Errorf("description = %+v", d)
			}
			if err := e.Answer(t.Context(), qs[0].ID, []byte(`{"approved":"yes"}`), nil); !errors.Is(err, durable.ErrBadInput) {
				t.Errorf("an answer that does not fit: %v", err)
			}
			ctx := durable.WithActor(t.Context(), durable.Actor{Name: "alex"})
			if err := ask.Answer(ctx, e, qs[0].ID, decision{true}, &durable.AnswerOptions{ID: "a1", Note: "ok"}); err != nil {
				t.Fatal(err)
			}
			if err := ask.Answer(ctx, e, qs[0].ID, decision{true}, &durable.AnswerOptions{ID: "a1"}); err != nil {
				t.Errorf("the same answer again: %v", err)
			}
			if err := ask.Answer(ctx, e, qs[0].ID, decision{false}, nil); !errors.Is(err, durable.ErrAnswered) || !strings.Contains(err.Error(), "alex") {
				t.Errorf("another answer: %v", err)
			}
			if got := must[string](t)(wf.Result(t.Context(), r)); got != "true alex ok" {
				t.Errorf("got %q", got)
			}
		})
	})
	t.Run("expired", func(t *testing.T) {
		scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
			e := open(wf)
			began := time.Now()
			r := must[*durable.Run](t)(wf.Start(t.Context(), e, "a", nil))
			if got := must[string](t)(wf.Result(t.Context(), r)); got != "expired" {
				t.Errorf("got %q", got)
			}
			if d := time.Since(began); d < 5*24*time.Hour || d > 5*24*time.Hour+time.Second {
				t.Errorf("took %v", d)
			}
			qs := must[[]*durable.QuestionInfo](t)(e.Questions(t.Context(), &durable.QuestionFilter{WorkflowID: r.WorkflowID, All: true}))
			if len(qs) != 1 || qs[0].State != "expired" {
				t.Errorf("questions = %+v", qs)
			}
		})
	})
}

func TestChildrenInParallelSleepAndPay(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		pay := durable.NewStep("pay", func(ctx context.Context, n int) (int, error) { return n * 10, nil }, nil)
		line := durable.NewWorkflow("line", func(ctx context.Context, n int) (int, error) {
			if err := durable.Sleep(ctx, time.Duration(n)*time.Hour); err != nil {
				return 0, err
			}
			if n == 3 {
				return 0, errors.New("no line 3")
			}
			return pay.Do(ctx, n)
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, in []int) (string, error) {
			out, err := durable.Map(ctx, in, line.Run, nil)
			return fmt.Sprint(out, err), nil
		}, nil)
		e := open(wf, line, pay)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, []int{5, 3, 1}, &durable.StartOptions{ID: "p"}))
		got := must[string](t)(wf.Result(t.Context(), r))
		if !strings.HasPrefix(got, "[50 0 10] item 1: run p/") || !strings.HasSuffix(got, "/0/1.2/1 failed: no line 3") {
			t.Errorf("got %q", got)
		}
	})
}

func TestSignalsAreBufferedInOrderOnce(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[int]("n")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ struct{}) ([]int, error) {
			if err := durable.Sleep(ctx, time.Hour); err != nil {
				return nil, err
			}
			var got []int
			for {
				n, err := sig.ReceiveTimeout(ctx, time.Hour)
				var bad *durable.DecodeError
				switch {
				case errors.Is(err, durable.ErrTimeout):
					return got, nil
				case errors.As(err, &bad):
					n = -1
				case err != nil:
					return nil, err
				}
				got = append(got, n)
			}
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, struct{}{}, nil))
		for i := range 5 {
			for range 2 { // each twice, under one id
				if err := sig.Send(t.Context(), r, i, &durable.SendOptions{ID: fmt.Sprint("s", i)}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := r.Signal(t.Context(), "n", []byte(`"x"`), nil); err != nil {
			t.Fatal(err)
		}
		if err := r.Signal(t.Context(), "m", nil, nil); !errors.Is(err, durable.ErrNotAccepted) {
			t.Errorf("unknown signal: %v", err)
		}
		got := must[[]int](t)(wf.Result(t.Context(), r))
		if fmt.Sprint(got) != "[0 1 2 3 4 -1]" {
			t.Errorf("got %v", got)
		}
		if err := sig.Send(t.Context(), r, 1, nil); !errors.Is(err, durable.ErrFinished) {
			t.Errorf("signal to a finished run: %v", err)
		}
		if err := sig.Send(t.Context(), e.Run("nobody", ""), 1, nil); !errors.Is(err, durable.ErrNotFound) {
			t.Errorf("signal to an unknown run: %v", err)
		}
	})
}

func TestUpdatesAndQueries(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		add := durable.NewUpdate[int, int]("add")
		sum := durable.NewQuery[struct{}, int]("sum")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ struct{}) (int, error) {
			total := 0
			_ = sum.Handle(ctx, func(struct{}) (int, error) { return total, nil })
			_ = add.Handle(ctx, func(ctx context.Context, n int) (int, error) {
				if err := durable.Sleep(ctx, time.Minute); err != nil {
					return 0, err
				}
				total += n
				return total, nil
			}, func(n int) error {
				if n < 0 {
					return errors.New("negative")
				}
				return nil
			})
			err := durable.Await(ctx, func() bool { return total >= 6 })
			return total, err
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{add, sum}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, struct{}{}, nil))
		if got := must[int](t)(add.Send(t.Context(), r, 1, &durable.SendOptions{ID: "u1"})); got != 1 {
			t.Errorf("add = %d", got)
		}
		if got := must[int](t)(add.Send(t.Context(), r, 1, &durable.SendOptions{ID: "u1"})); got != 1 {
			t.Errorf("the same add again = %d", got)
		}
		if _, err := add.Send(t.Context(), r, -1, nil); !errors.Is(err, durable.ErrRejected) {
			t.Errorf("negative: %v", err)
		}
		if got := must[int](t)(sum.Ask(t.Context(), r, struct{}{})); got != 1 {
			t.Errorf("sum = %d", got)
		}
		if got := must[int](t)(add.Send(t.Context(), r, 5, nil)); got != 6 {
			t.Errorf("add = %d", got)
		}
		if got := must[int](t)(wf.Result(t.Context(), r)); got != 6 {
			t.Errorf("result = %d", got)
		}
		if got := must[int](t)(sum.Ask(t.Context(), r, struct{}{})); got != 6 {
			t.Errorf("sum of the finished run = %d", got)
		}
	})
}

func TestCancelWaitsForTheRealOutcomeAndLeavesTimeToCleanUp(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		slow := durable.NewStep("slow", func(ctx context.Context, _ struct{}) (string, error) {
			<-ctx.Done()
			return "stopped in time", nil
		}, nil)
		tidy := durable.NewStep("tidy", func(ctx context.Context, s string) (string, error) { return "tidied after " + s, nil }, nil)
		stream := durable.NewStream[string]("log")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ struct{}) (string, error) {
			s, err := slow.Do(ctx, struct{}{})
			if err != nil {
				return "", err
			}
			if err := durable.Sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
				return "", fmt.Errorf("sleep under a cancelled context: %v", err)
			}
			s, err = tidy.Do(durable.WithoutCancel(ctx), s)
			if err != nil {
				return "", err
			}
			if err := stream.Append(ctx, s); err != nil {
				return "", err
			}
			return "", ctx.Err()
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{stream}})
		e := open(wf, slow, tidy)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, struct{}{}, nil))
		synctest.Wait()
		if err := r.Cancel(t.Context(), "enough"); err != nil {
			t.Fatal(err)
		}
		_, err := r.Result(t.Context())
		var re *durable.RunError
		if !errors.Is(err, context.Canceled) || !errors.As(err, &re) || re.State != durable.Cancelled {
			t.Errorf("result: %v", err)
		}
		var log []string
		for it, err := range stream.Read(t.Context(), r, 0) {
			if err != nil {
				t.Fatal(err)
			}
			log = append(log, it.Value)
		}
		if fmt.Sprint(log) != "[tidied after stopped in time]" {
			t.Errorf("log = %q", log)
		}
	})
}

func TestPauseHoldsTheCodeAndKeepsEverything(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[string]("s")
		upd := durable.NewUpdate[string, string]("u")
		var steps atomic.Int32
		step := durable.NewStep("step", func(ctx context.Context, s string) (string, error) {
			steps.Add(1)
			return s, nil
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ struct{}) (string, error) {
			_ = upd.Handle(ctx, func(_ context.Context, s string) (string, error) { return s, nil }, nil)
			if err := durable.Sleep(ctx, time.Hour); err != nil {
				return "", err
			}
			s, err := sig.Receive(ctx)
			if err != nil {
				return "", err
			}
			return step.Do(ctx, s)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig, upd}})
		e := open(wf, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, struct{}{}, nil))
		synctest.Wait()
		for range 2 {
			if err := r.Pause(t.Context(), &durable.PauseOptions{ID: "p", Reason: "lunch"}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Hour)
		if err := sig.Send(t.Context(), r, "hi", nil); err != nil {
			t.Fatal(err)
		}
		if _, err := upd.Send(t.Context(), r, "x", nil); !errors.Is(err, durable.ErrPaused) {
			t.Errorf("update of a paused run: %v", err)
		}
		d := must[*durable.Description](t)(r.Describe(t.Context()))
		if d.State != durable.Paused || d.Paused == nil || d.Paused.Reason != "lunch" {
			t.Errorf("description: %+v", d)
		}
		if p := must[*durable.Page](t)(e.List(t.Context(), &durable.Filter{States: []durable.State{durable.Paused}})); len(p.Runs) != 1 {
			t.Errorf("paused runs: %+v", p)
		}
		if steps.Load() != 0 {
			t.Errorf("the code moved while paused")
		}
		if err := r.Resume(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got := must[string](t)(wf.Result(t.Context(), r)); got != "hi" {
			t.Errorf("got %q", got)
		}
	})
}

func TestContinueAsNewCarriesSignalsAndFollowsTheChain(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[int]("n")
		stream := durable.NewStream[int]("out")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, sum int) (int, error) {
			for range 3 {
				n, err := sig.Receive(ctx)
				if err != nil {
					return 0, err
				}
				if n == 0 {
					return sum, nil
				}
				sum += n
				if err := stream.Append(ctx, n); err != nil {
					return 0, err
				}
			}
			return 0, durable.ContinueAsNew(sum)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig, stream}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, 0, &durable.StartOptions{ID: "chain"}))
		for i := 1; i <= 20; i++ {
			if err := sig.Send(t.Context(), r, i, nil); err != nil {
				t.Fatalf("signal %d: %v", i, err)
			}
		}
		if err := sig.Send(t.Context(), r, 0, nil); err != nil {
			t.Fatal(err)
		}
		if got := must[int](t)(wf.Result(t.Context(), r)); got != 210 {
			t.Errorf("sum = %d", got)
		}
		var offs, vals []int
		for it, err := range stream.Read(t.Context(), r, 0) {
			if err != nil {
				t.Fatal(err)
			}
			offs, vals = append(offs, int(it.Offset)), append(vals, it.Value)
		}
		for i := range vals {
			if offs[i] != i || vals[i] != i+1 {
				t.Fatalf("stream: offsets %v, values %v", offs, vals)
			}
		}
		if len(vals) != 20 {
			t.Errorf("stream has %d elements", len(vals))
		}
		again := must[*durable.Run](t)(wf.Start(t.Context(), e, 0, &durable.StartOptions{ID: "chain"}))
		if !again.Existing {
			t.Errorf("start of a finished chain made a new run")
		}
		if _, err := wf.Start(t.Context(), e, 7, &durable.StartOptions{ID: "chain"}); !errors.Is(err, durable.ErrIDTaken) {
			t.Errorf("start with another input: %v", err)
		}
	})
}

func TestDescribeSaysWhatARunWaitsFor(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[int]("resume")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ struct{}) (int, error) {
			g, _ := durable.NewGroup(ctx, nil)
			g.Go(func(ctx context.Context) error { return durable.Sleep(ctx, time.Hour) })
			g.Go(func(ctx context.Context) error { return durable.Await(ctx, func() bool { return false }) })
			g.Go(func(ctx context.Context) error { _, err := sig.Receive(ctx); return err })
			return 0, g.Wait()
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, struct{}{}, nil))
		synctest.Wait()
		d := must[*durable.Description](t)(r.Describe(t.Context()))
		var got []string
		for _, w := range d.Waiting {
			got = append(got, w.Text)
		}
		want := `for sleep until 2000-01-01T01:00:00Z; for a condition of its own (Await); for the signal "resume"`
		if s := strings.Join(got, "; "); s != want {
			t.Errorf("waiting:\n got %s\nwant %s", s, want)
		}
	})
}
