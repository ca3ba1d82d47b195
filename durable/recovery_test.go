package durable_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// opener opens engines over one store, one after the other.
type opener struct {
	t  *testing.T
	st journal.Store
	o  durable.Options
}

// lives runs fn in each mode with a store that outlives engines.
func lives(t *testing.T, fn func(t *testing.T, op *opener)) {
	t.Helper()
	for _, m := range durabletest.All() {
		t.Run(m.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := m.Options
				o.Logger = slog.New(slog.DiscardHandler)
				fn(t, &opener{t, journal.NewMemory(), o})
			})
		})
	}
}

func (op *opener) open(defs ...durable.Definer) *durable.Engine {
	op.t.Helper()
	return op.openOn(op.st, defs...)
}

func (op *opener) openOn(st journal.Store, defs ...durable.Definer) *durable.Engine {
	op.t.Helper()
	d, err := durable.NewDefinitions(defs...)
	if err != nil {
		op.t.Fatal(err)
	}
	o := op.o
	b, err := durable.NewExecutor(op.t.Context(), st, d, &o)
	if err != nil {
		op.t.Fatal(err)
	}
	e := durable.NewEngine(b, d, &o)
	op.t.Cleanup(func() { op.close(e) })
	return e
}

func (op *opener) close(e *durable.Engine) {
	op.t.Helper()
	if err := e.Close(context.Background()); err != nil {
		op.t.Errorf("Close: %v", err)
	}
}

// kill ends an engine as a power cut does: nothing more is written.
func (op *opener) kill(e *durable.Engine, m *wire) {
	op.t.Helper()
	m.cut.Store(true)
	op.close(e)
}

// wire is a way to the store that can be cut.
type wire struct {
	journal.Store
	cut atomic.Bool
}

func (w *wire) Commit(ctx context.Context, tx *journal.Tx) error {
	if w.cut.Load() {
		return errors.New("power cut")
	}
	return w.Store.Commit(ctx, tx)
}

func (op *opener) wire() *wire { return &wire{Store: op.st} }

func TestAGracefulCloseIsNotADeath(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		var n atomic.Int32
		var attempts []int
		step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
			i, _ := durable.StepInfoOf(ctx)
			attempts = append(attempts, i.Attempt)
			if n.Add(1) < 8 {
				return "", ended(ctx)
			}
			return "done", nil
		}, &durable.StepOptions{Retry: &durable.Retry{MaxAttempts: 2}})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) { return step.Do(ctx, none{}) }, nil)
		e := op.open(wf, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		for range 7 {
			time.Sleep(time.Minute)
			op.close(e)
			e = op.open(wf, step)
		}
		if got, err := wf.Result(t.Context(), e.Run(r.WorkflowID, "")); err != nil || got != "done" {
			t.Errorf("got %q, %v after attempts %v", got, err, attempts)
		}
		op.close(e)
	})
}

func TestPoisonAfterThreeDeathsAndItsReset(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		var n atomic.Int32
		var deadly atomic.Bool
		deadly.Store(true)
		step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
			n.Add(1)
			if deadly.Load() {
				return "", ended(ctx)
			}
			return "done", nil
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) { return step.Do(ctx, none{}) }, nil)
		fine := durable.NewWorkflow("fine", func(ctx context.Context, _ none) (string, error) { return "fine", durable.Sleep(ctx, 24*time.Hour) }, nil)
		m := op.wire()
		e := op.openOn(m, wf, fine, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		f := must[*durable.Run](t)(fine.Start(t.Context(), e, none{}, nil))
		for i := range 3 {
			time.Sleep(5 * time.Minute)
			if d := must[*durable.Description](t)(e.Run(r.WorkflowID, "").Describe(t.Context())); d.Problem != nil {
				t.Fatalf("a problem after %d deaths: %+v", i, d.Problem)
			}
			op.kill(e, m)
			m = op.wire()
			e = op.openOn(m, wf, fine, step)
		}
		ran := n.Load()
		time.Sleep(5 * time.Minute)
		d := must[*durable.Description](t)(e.Run(r.WorkflowID, "").Describe(t.Context()))
		if d.Problem == nil || d.Problem.Kind != "poison" || d.Problem.Call != "0/1" || d.State != durable.Running {
			t.Fatalf("after 3 deaths: %+v", d)
		}
		var b *durable.BlockedError
		if _, err := wf.Result(t.Context(), e.Run(r.WorkflowID, "")); !errors.As(err, &b) {
			t.Errorf("result: %v", err)
		}
		if n.Load() != ran {
			t.Errorf("the step was sent again after 3 deaths")
		}
		// It stays so over more restarts, and others go on.
		op.close(e)
		e = op.open(wf, fine, step)
		time.Sleep(5 * time.Minute)
		if d := must[*durable.Description](t)(e.Run(r.WorkflowID, "").Describe(t.Context())); d.Problem == nil || d.Problem.Kind != "poison" {
			t.Errorf("after another restart: %+v", d.Problem)
		}
		if got, err := fine.Result(t.Context(), e.Run(f.WorkflowID, "")); err != nil || got != "fine" {
			t.Errorf("another run: %q, %v", got, err)
		}
		deadly.Store(false)
		if err := e.Run(r.WorkflowID, "").Resume(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got, err := wf.Result(t.Context(), e.Run(r.WorkflowID, "")); err != nil || got != "done" {
			t.Errorf("after resume: %q, %v", got, err)
		}
		op.close(e)
	})
}

func TestProgressResetsTheCountOfDeaths(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		step := durable.NewStep("step", func(ctx context.Context, n int) (int, error) {
			i, _ := durable.StepInfoOf(ctx)
			if i.Attempt < 3 { // dies twice
				return 0, ended(ctx)
			}
			return n, nil
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			for i := range 4 {
				if _, err := step.Do(ctx, i); err != nil {
					return i, err
				}
			}
			return 4, nil
		}, nil)
		m := op.wire()
		e := op.openOn(m, wf, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		for range 8 {
			time.Sleep(5 * time.Minute)
			op.kill(e, m)
			m = op.wire()
			e = op.openOn(m, wf, step)
		}
		if got, err := wf.Result(t.Context(), e.Run(r.WorkflowID, "")); err != nil || got != 4 {
			t.Errorf("got %d, %v", got, err)
		}
		op.close(e)
	})
}

func TestAtMostOnceAfterADeathAndAfterAClose(t *testing.T) {
	for _, graceful := range []bool{false, true} {
		t.Run(fmt.Sprint("graceful ", graceful), func(t *testing.T) {
			lives(t, func(t *testing.T, op *opener) {
				var n atomic.Int32
				step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) { n.Add(1); return "", ended(ctx) },
					&durable.StepOptions{AtMostOnce: true})
				wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
					_, err := step.Do(ctx, none{})
					var se *durable.StepError
					return fmt.Sprint(errors.Is(err, durable.ErrOutcomeUnknown), errors.As(err, &se), errors.Is(err, context.Canceled)), nil
				}, nil)
				m := op.wire()
				e := op.openOn(m, wf, step)
				r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
				time.Sleep(time.Minute)
				if graceful {
					op.close(e)
				} else {
					op.kill(e, m)
				}
				e = op.open(wf, step)
				if got, err := wf.Result(t.Context(), e.Run(r.WorkflowID, "")); err != nil || got != "true true false" {
					t.Errorf("got %q, %v", got, err)
				}
				if n.Load() != 1 {
					t.Errorf("the step ran %d times", n.Load())
				}
				op.close(e)
			})
		})
	}
}

func TestAWorkflowThatIsNotDefinedWaitsAndGoesOn(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		sig := durable.NewSignal[int]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			if err := durable.Sleep(ctx, time.Hour); err != nil {
				return 0, err
			}
			return sig.Receive(ctx)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := op.open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		time.Sleep(time.Minute)
		op.close(e)
		for range 4 {
			e = op.open()
			time.Sleep(2 * time.Hour)
			h := e.Run(r.WorkflowID, "")
			d := must[*durable.Description](t)(h.Describe(t.Context()))
			if d.State != durable.Running || d.Problem == nil || d.Problem.Kind != "not_defined" || !strings.Contains(d.Problem.Text, `"wf"`) {
				t.Errorf("without its workflow: %+v, %+v", d.State, d.Problem)
			}
			if err := h.Signal(t.Context(), "s", []byte("7"), &durable.SendOptions{ID: "once"}); err != nil {
				t.Errorf("a signal to it: %v", err)
			}
			op.close(e)
		}
		e = op.open(wf)
		if got, err := wf.Result(t.Context(), e.Run(r.WorkflowID, "")); err != nil || got != 7 {
			// The result may be asked for before the run was tried again.
			var b *durable.BlockedError
			if !errors.As(err, &b) {
				t.Fatalf("got %d, %v", got, err)
			}
			synctest.Wait()
			if got, err := wf.Result(t.Context(), e.Run(r.WorkflowID, "")); err != nil || got != 7 {
				t.Errorf("got %d, %v", got, err)
			}
		}
		op.close(e)
	})
}

func TestAStepThatIsNotDefinedWaitsVisiblyAndUsesUpNothing(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		sig := durable.NewSignal[int]("s")
		var at atomic.Int32
		first := durable.NewStep("first", func(context.Context, none) (int, error) { return 1, nil }, nil)
		step := durable.NewStep("step", func(ctx context.Context, _ none) (int, error) {
			i, _ := durable.StepInfoOf(ctx)
			at.Store(int32(i.Attempt))
			if i.Attempt == 1 {
				return 0, errors.New("x")
			}
			return i.Attempt, nil
		}, &durable.StepOptions{Retry: &durable.Retry{Initial: time.Hour, MaxAttempts: 2}})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			if _, err := first.Do(ctx, none{}); err != nil {
				return 0, err
			}
			f := step.Start(ctx, none{})
			n, err := sig.Receive(ctx)
			if err != nil {
				return 0, err
			}
			k, err := f.Get(ctx)
			return n + k, err
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := op.open(wf, first, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		time.Sleep(time.Minute)
		op.close(e)
		for i := range 5 {
			e = op.open(wf)
			time.Sleep(2 * time.Hour)
			h := e.Run(r.WorkflowID, "")
			if i == 2 { // the run is replayed without the definitions of its steps
				if err := sig.Send(t.Context(), h, 10, nil); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			d := must[*durable.Description](t)(h.Describe(t.Context()))
			if d.State != durable.Running || d.Problem != nil || len(d.Waiting) == 0 || !strings.Contains(d.Waiting[0].Text, "step") || !strings.Contains(d.Waiting[0].Text, "define") {
				t.Errorf("life %d without the step: %s, problem %+v, waiting %+v", i, d.State, d.Problem, d.Waiting)
			}
			op.close(e)
		}
		e = op.open(wf, first, step)
		if got, err := wf.Result(t.Context(), e.Run(r.WorkflowID, "")); err != nil || got != 12 || at.Load() != 2 {
			t.Errorf("got %d, %v on attempt %d", got, err, at.Load())
		}
		op.close(e)
	})
}

func TestAWaitingStepThatIsNotDefinedCanBeCancelled(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		step := durable.NewStep("step", func(ctx context.Context, _ none) (int, error) { return 0, ended(ctx) }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) { return step.Do(ctx, none{}) }, nil)
		e := op.open(wf, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		time.Sleep(time.Minute)
		op.close(e)
		e = op.open(wf)
		h := e.Run(r.WorkflowID, "")
		time.Sleep(time.Minute)
		if err := h.Cancel(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := wf.Result(ctx, h)
		var re *durable.RunError
		if !errors.As(err, &re) {
			t.Errorf("result: %v, want an ended run", err)
		}
		op.close(e)
	})
}

func TestTimersAndDeadlinesKeepTheirTimeWhileNobodyRuns(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		ask := durable.NewQuestion[int]("q")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, d time.Duration) (string, error) {
			began := durable.Now(ctx)
			in, cancel := durable.WithTimeout(ctx, 3*time.Hour)
			defer cancel()
			g, _ := durable.NewGroup(ctx, nil)
			var out [3]string
			g.Go(func(ctx context.Context) error {
				err := durable.Sleep(ctx, d)
				out[0] = fmt.Sprint(err, durable.Now(ctx).Sub(began))
				return nil
			})
			g.Go(func(ctx context.Context) error {
				_, err := ask.Ask(ctx, "?", &durable.AskOptions{Expires: 2 * time.Hour})
				out[1] = fmt.Sprint(errors.Is(err, durable.ErrExpired), durable.Now(ctx).Sub(began))
				return nil
			})
			g.Go(func(context.Context) error {
				err := durable.Sleep(in, 100*time.Hour)
				out[2] = fmt.Sprint(err, durable.Now(ctx).Sub(began))
				return nil
			})
			err := g.Wait()
			return strings.Join(out[:], "; "), err
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{ask}, Timeout: 20 * time.Hour})
		e := op.open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, 5*time.Hour, nil))
		late := must[*durable.Run](t)(wf.Start(t.Context(), e, 50*time.Hour, nil))
		delayed := must[*durable.Run](t)(wf.Start(t.Context(), e, time.Hour, &durable.StartOptions{Delay: 30 * time.Hour, Timeout: 100 * time.Hour}))
		time.Sleep(time.Hour)
		op.close(e)
		time.Sleep(3*time.Hour + 30*time.Minute) // 2 h and 3 h pass meanwhile
		e = op.open(wf)
		got, err := wf.Result(t.Context(), e.Run(r.WorkflowID, ""))
		if want := "<nil> 5h0m0s; true 4h30m0s; context deadline exceeded 4h30m0s"; err != nil || got != want {
			t.Errorf("got  %q, %v\nwant %q", got, err, want)
		}
		op.close(e)
		time.Sleep(20 * time.Hour)
		e = op.open(wf)
		synctest.Wait()
		if d := must[*durable.Description](t)(e.Run(late.WorkflowID, "").Describe(t.Context())); d.State != durable.TimedOut {
			t.Errorf("a run past its timeout is %s", d.State)
		}
		got, err = wf.Result(t.Context(), e.Run(delayed.WorkflowID, ""))
		if want := "<nil> 1h0m0s; true 2h0m0s; context deadline exceeded 3h0m0s"; err != nil || got != want {
			t.Errorf("delayed: got  %q, %v\nwant %q", got, err, want)
		}
		op.close(e)
	})
}

func TestCancelAndPauseSurviveARestart(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		sig := durable.NewSignal[int]("s")
		step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
			_ = ended(ctx)
			time.Sleep(time.Second) // the engine is closed meanwhile
			return "", durable.NewErrorType("STOPPED").New("after %v", context.Cause(ctx))
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			_, err := step.Do(ctx, none{})
			return fmt.Sprint(err != nil, ctx.Err()), nil
		}, nil)
		held := durable.NewWorkflow("held", func(ctx context.Context, _ none) (int, error) { return sig.Receive(ctx) },
			&durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		m := op.wire()
		e := op.openOn(m, wf, held, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		p := must[*durable.Run](t)(held.Start(t.Context(), e, none{}, nil))
		time.Sleep(time.Minute)
		if err := r.Cancel(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if err := p.Pause(durable.WithActor(t.Context(), durable.Actor{Name: "ann"}), &durable.PauseOptions{Reason: "lunch"}); err != nil {
			t.Fatal(err)
		}
		if err := sig.Send(t.Context(), p, 4, nil); err != nil {
			t.Fatal(err)
		}
		op.kill(e, m)
		e = op.open(wf, held, step)
		time.Sleep(time.Minute)
		d := must[*durable.Description](t)(e.Run(p.WorkflowID, "").Describe(t.Context()))
		if d.State != durable.Paused || d.Paused.By != "ann" || d.Paused.Reason != "lunch" {
			t.Errorf("paused run after a restart: %s %+v", d.State, d.Paused)
		}
		if err := e.Run(p.WorkflowID, "").Resume(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got, err := held.Result(t.Context(), e.Run(p.WorkflowID, "")); err != nil || got != 4 {
			t.Errorf("resumed: %d, %v", got, err)
		}
		// No retry once cancel was asked: the lost attempt is not made again.
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if got, err := wf.Result(ctx, e.Run(r.WorkflowID, "")); err != nil || got != "true context canceled" {
			t.Errorf("cancelled: %q, %v", got, err)
		}
		op.close(e)
	})
}

// xor is a codec that is easy to see through and refuses what is not its own.
type xor byte

func (x xor) Encode(b []byte) ([]byte, error) {
	out := []byte{0xC0, byte(x)}
	for _, c := range b {
		out = append(out, c^byte(x))
	}
	return out, nil
}

func (x xor) Decode(b []byte) ([]byte, error) {
	if len(b) < 2 || b[0] != 0xC0 || b[1] != byte(x) {
		return nil, errors.New("made with another key")
	}
	out := []byte{}
	for _, c := range b[2:] {
		out = append(out, c^byte(x))
	}
	return out, nil
}

// spy keeps all that is committed, as text.
type spy struct {
	journal.Store
	mu   sync.Mutex // guards seen
	seen bytes.Buffer
}

func (s *spy) Commit(ctx context.Context, tx *journal.Tx) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range tx.Writes {
		row := *w.Run
		fmt.Fprintf(&s.seen, "%s %s %s %s %s ", row.Status, row.Memo, row.Config, row.Result, row.Problem)
		if row.Failure != nil {
			b, _ := json.Marshal(row.Failure)
			s.seen.Write(b)
		}
		if w.Row != nil {
			s.seen.Write(w.Row.Head)
			s.seen.Write(w.Row.Data)
		}
	}
	for _, a := range tx.Asks {
		fmt.Fprintf(&s.seen, "%s %s ", a.Answer, a.Context)
	}
	for _, it := range tx.Items {
		s.seen.Write(it.Data)
	}
	for _, b := range tx.Blobs {
		s.seen.Write(b.Data)
	}
	return s.Store.Commit(ctx, tx)
}

func TestCodecEverythingStoredIsEncoded(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		op.o.Codec = xor(0x5A)
		sp := &spy{Store: op.st}
		const secret = "SECRET"
		sig := durable.NewSignal[string]("s")
		u := durable.NewUpdate[string, string]("u")
		q := durable.NewQuery[none, string]("q")
		ask := durable.NewQuestion[string]("ask")
		status := durable.NewStatus[string]("status")
		str := durable.NewStream[string]("str")
		step := durable.NewStep("step", func(ctx context.Context, s string) (string, error) {
			_ = durable.Heartbeat(ctx, s+" beat")
			sum, err := durable.PutBlob(ctx, []byte(s+" blob"))
			if err != nil {
				return "", err
			}
			b, err := durable.GetBlob(ctx, sum)
			if err != nil || string(b) != s+" blob" {
				return "", fmt.Errorf("blob %q: %w", b, err)
			}
			if i, _ := durable.StepInfoOf(ctx); i.Attempt == 1 {
				return "", errors.New("again")
			}
			hb, _ := durable.LastHeartbeat[string](ctx)
			return hb, nil
		}, nil)
		kid := durable.NewWorkflow("kid", func(_ context.Context, s string) (string, error) { return s + " kid", nil }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, in string) (string, error) {
			if strings.HasPrefix(in, "again ") {
				s, err := sig.Receive(ctx) // carried over
				return in + s, err
			}
			status.Set(ctx, in+" status")
			_ = q.Handle(ctx, func(none) (string, error) { return in + " query", nil })
			_ = u.Handle(ctx, func(_ context.Context, s string) (string, error) { return s + " answer", nil }, nil)
			if err := str.Append(ctx, in+" item"); err != nil {
				return "", err
			}
			if _, err := durable.PutBlob(ctx, []byte(in+" blob of the workflow")); err != nil {
				return "", err
			}
			side, err := durable.SideEffect(ctx, func() string { return in + " side" })
			if err != nil {
				return "", err
			}
			a, err := step.Do(ctx, side)
			if err != nil {
				return "", err
			}
			b, err := kid.Run(ctx, a)
			if err != nil {
				return "", err
			}
			c, err := ask.Ask(ctx, "?", &durable.AskOptions{Context: json.RawMessage(`"` + in + ` context"`)})
			if err != nil {
				return "", err
			}
			return "", durable.ContinueAsNew("again " + b + c.Value)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig, u, q, ask, status, str}})
		e := op.openOn(sp, wf, kid, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, secret+" in", &durable.StartOptions{Memo: json.RawMessage(`"` + secret + ` memo"`)}))
		time.Sleep(time.Minute)
		if err := sig.Send(t.Context(), r, secret+" signal", nil); err != nil {
			t.Fatal(err)
		}
		if got := must[string](t)(u.Send(t.Context(), r, secret, nil)); got != secret+" answer" {
			t.Errorf("update = %q", got)
		}
		if got := must[string](t)(q.Ask(t.Context(), r, none{})); got != secret+" in query" {
			t.Errorf("query = %q", got)
		}
		d := must[*durable.Description](t)(r.Describe(t.Context()))
		if string(d.Status["status"]) != `"SECRET in status"` || string(d.Memo) != `"SECRET memo"` || len(d.Questions) != 1 || string(d.Questions[0].Context) != `"SECRET in context"` {
			t.Errorf("description: status %s, memo %s, questions %+v", d.Status, d.Memo, d.Questions)
		}
		if err := ask.Answer(t.Context(), e, d.Questions[0].ID, secret+" answered", nil); err != nil {
			t.Fatal(err)
		}
		want := "again SECRET in side beat kidSECRET answeredSECRET signal"
		if got, err := wf.Result(t.Context(), r); err != nil || got != want {
			t.Errorf("result = %q, %v; want %q", got, err, want)
		}
		for it, err := range str.Read(t.Context(), r, 0) {
			if err != nil || it.Value != secret+" in item" {
				t.Errorf("stream: %q, %v", it.Value, err)
			}
		}
		h, _ := json.Marshal(must[[]*durable.Record](t)(r.History(t.Context())))
		if !strings.Contains(string(h), "SECRET in side") {
			t.Error("the history of an engine with the codec does not show what was recorded")
		}
		op.close(e)
		all := sp.seen.String()
		for i := strings.Index(all, secret); i >= 0; i = strings.Index(all, secret) {
			t.Errorf("stored in the clear: …%s…", all[max(0, i-80):min(len(all), i+60)])
			all = all[i+len(secret):]
		}
	})
}

func TestAWrongCodecLosesNothing(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		sig := durable.NewSignal[string]("s")
		status := durable.NewStatus[string]("st")
		var n atomic.Int32
		step := durable.NewStep("step", func(ctx context.Context, s string) (string, error) {
			if n.Add(1) == 1 {
				return "", ended(ctx)
			}
			return s + "!", nil
		}, &durable.StepOptions{Retry: &durable.Retry{MaxAttempts: 2}})
		kid := durable.NewWorkflow("kid", func(ctx context.Context, s string) (string, error) { return s + "?", durable.Sleep(ctx, 2*time.Hour) }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, in string) (string, error) {
			status.Set(ctx, "at work")
			f := step.Start(ctx, in)
			c, err := kid.Child(ctx, in, nil)
			if err != nil {
				return "", err
			}
			s, err := sig.Receive(ctx)
			if err != nil {
				return "", err
			}
			a, err := f.Get(ctx)
			if err != nil {
				return "", err
			}
			b, err := c.Get(ctx)
			return a + b + s, err
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig, status}})
		op.o.Codec = xor(1)
		e := op.open(wf, kid, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, "in", nil))
		time.Sleep(time.Minute)
		if err := sig.Send(t.Context(), r, "sig", nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		op.close(e)
		for range 3 {
			op.o.Codec = xor(2)
			e = op.open(wf, kid, step)
			time.Sleep(time.Hour)
			h := e.Run(r.WorkflowID, "")
			d := must[*durable.Description](t)(h.Describe(t.Context()))
			if d.State != durable.Running || d.Problem == nil || d.Problem.Kind != "payload" || !strings.Contains(d.Problem.Text, "another key") {
				t.Errorf("with a wrong key: %s, %+v", d.State, d.Problem)
			}
			var b *durable.BlockedError
			if _, err := wf.Result(t.Context(), h); !errors.As(err, &b) {
				t.Errorf("result with a wrong key: %v", err)
			}
			op.close(e)
		}
		op.o.Codec = xor(1)
		e = op.open(wf, kid, step)
		time.Sleep(3 * time.Hour)
		if got, err := wf.Result(t.Context(), e.Run(r.WorkflowID, "")); err != nil || got != "in!in?sig" {
			t.Errorf("with the right key again: %q, %v", got, err)
		}
		op.close(e)
	})
}

func TestBlobsLiveAsLongAsARunThatStoredThem(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (string, error) {
			sum, err := durable.PutBlob(ctx, []byte("the same"))
			if err != nil {
				return "", err
			}
			if b, err := durable.GetBlob(ctx, sum); err != nil || string(b) != "the same" {
				return "", fmt.Errorf("blob in its own turn: %q, %v", b, err)
			}
			if err := durable.Sleep(ctx, time.Duration(n)*time.Hour); err != nil {
				return "", err
			}
			b, err := durable.GetBlob(ctx, sum)
			if err != nil || string(b) != "the same" {
				return "", fmt.Errorf("blob later: %q, %v", b, err)
			}
			return sum, nil
		}, nil)
		e := op.open(wf)
		a := must[*durable.Run](t)(wf.Start(t.Context(), e, 1, nil))
		b := must[*durable.Run](t)(wf.Start(t.Context(), e, 5, nil))
		sum := must[string](t)(wf.Result(t.Context(), a))
		if n, err := op.st.Prune(t.Context(), time.Now().Add(time.Minute).UnixMicro(), 0); n != 1 || err != nil {
			t.Fatalf("pruned %d runs, %v", n, err)
		}
		if got, err := e.GetBlob(t.Context(), sum); err != nil || string(got) != "the same" {
			t.Errorf("after the first run was pruned: %q, %v", got, err)
		}
		if got, err := wf.Result(t.Context(), b); err != nil || got != sum {
			t.Errorf("second run: %q, %v", got, err)
		}
		x := must[string](t)(e.PutBlob(t.Context(), b, nil))
		if got, err := e.GetBlob(t.Context(), x); err != nil || len(got) != 0 {
			t.Errorf("empty blob: %q, %v", got, err)
		}
		if _, err := e.GetBlob(t.Context(), strings.Repeat("0", 64)); !errors.Is(err, durable.ErrNotFound) {
			t.Errorf("unknown blob: %v", err)
		}
		if _, err := op.st.Prune(t.Context(), time.Now().Add(time.Minute).UnixMicro(), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := e.GetBlob(t.Context(), sum); !errors.Is(err, durable.ErrNotFound) {
			t.Errorf("blob after the last run that stored it: %v", err)
		}
		op.close(e)
	})
}
