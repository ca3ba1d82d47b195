package durable_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// mortal is a store that dies at its n-th commit, before it is kept or just
// after. What was committed survives it.
type mortal struct {
	journal.Store
	mu   sync.Mutex
	left int
	kept bool
	dead bool
}

var errDead = errors.New("power cut")

func (m *mortal) Commit(ctx context.Context, tx *journal.Tx) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errDead
	}
	m.left--
	if m.left == 0 {
		m.dead = true
		if m.kept {
			_ = m.Store.Commit(ctx, tx)
		}
		return errDead
	}
	return m.Store.Commit(ctx, tx)
}

// ledger counts effects by key, as an idempotent gateway does, and raw calls.
type ledger struct {
	mu    sync.Mutex
	keys  map[string]string
	calls map[string]int
}

func (l *ledger) book(key, what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keys == nil {
		l.keys, l.calls = map[string]string{}, map[string]int{}
	}
	l.keys[key] = what
	l.calls[what]++
}

func (l *ledger) effects() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, w := range l.keys {
		out = append(out, w)
	}
	sort.Strings(out)
	return out
}

// TestCrashAtEveryCommit runs a workload once without harm, and then once for
// each of its commits, with the process dying there: the result must be the
// same, each effect must have one key, and at-most-once steps must not run
// twice.
func TestCrashAtEveryCommit(t *testing.T) {
	t.Parallel()
	type world struct {
		book ledger
		once ledger
		defs durable.Set
		wf   *durable.Workflow[int, string]
		ask  *durable.Question[decision]
		sig  *durable.Signal[string]
	}
	build := func() *world {
		w := &world{}
		pay := durable.NewStep("pay", func(ctx context.Context, n int) (int, error) {
			i, _ := durable.StepInfoOf(ctx)
			w.book.book(i.Key, fmt.Sprint("pay ", n))
			return n * 10, nil
		}, nil)
		mail := durable.NewStep("mail", func(ctx context.Context, s string) (string, error) {
			i, _ := durable.StepInfoOf(ctx)
			w.once.book(i.Key, s)
			return "sent", nil
		}, &durable.StepOptions{AtMostOnce: true})
		status := durable.NewStatus[string]("status")
		stream := durable.NewStream[string]("log")
		w.ask = durable.NewQuestion[decision]("ok")
		w.sig = durable.NewSignal[string]("go")
		line := durable.NewWorkflow("line", func(ctx context.Context, n int) (int, error) {
			if err := durable.Sleep(ctx, time.Duration(n)*time.Minute); err != nil {
				return 0, err
			}
			return pay.Do(ctx, n)
		}, nil)
		w.wf = durable.NewWorkflow("wf", func(ctx context.Context, round int) (string, error) {
			status.Set(ctx, fmt.Sprint("round ", round))
			if round == 0 {
				s, err := w.sig.Receive(ctx)
				if err != nil {
					return "", err
				}
				if err := stream.Append(ctx, s); err != nil {
					return "", err
				}
				a, err := w.ask.Ask(ctx, "OK?", &durable.AskOptions{Expires: 1000 * time.Hour})
				if err != nil {
					return "", err
				}
				if !a.Value.Approved {
					return "no", nil
				}
				return "", durable.ContinueAsNew(1)
			}
			out, err := durable.Map(ctx, []int{1, 2, 3}, line.Run, nil)
			if err != nil {
				return "", err
			}
			m, err := mail.Do(ctx, "done")
			if errors.Is(err, durable.ErrOutcomeUnknown) {
				m, err = "unknown", nil
			}
			if err := stream.Append(ctx, "end"); err != nil {
				return "", err
			}
			return fmt.Sprintf("%v %s", out, m), err
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{status, stream, w.ask, w.sig}})
		w.defs = durable.Set{w.wf, line, pay, mail}
		return w
	}
	// drive plays a client that does not give up.
	drive := func(t *testing.T, w *world, e *durable.Engine) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Hour)
		defer cancel()
		r, err := w.wf.Start(ctx, e, 0, &durable.StartOptions{ID: "w"})
		if err != nil {
			return "", err
		}
		if err := w.sig.Send(ctx, r, "hi", &durable.SendOptions{ID: "s1"}); err != nil && !errors.Is(err, durable.ErrFinished) {
			return "", err
		}
		for {
			qs, err := e.Questions(ctx, nil)
			if err != nil {
				return "", err
			}
			if len(qs) > 0 {
				err := w.ask.Answer(ctx, e, qs[0].ID, decision{true}, &durable.AnswerOptions{ID: "a1"})
				if err != nil && !errors.Is(err, durable.ErrFinished) && !errors.Is(err, durable.ErrAnswered) {
					return "", err
				}
				break
			}
			d, err := r.Describe(ctx)
			if err != nil {
				return "", err
			}
			if d.State.Done() {
				break
			}
			if h, err := e.Health(ctx); err != nil || !h.OK {
				return "", errDead
			}
			time.Sleep(time.Second)
		}
		ch := make(chan string, 1)
		errs := make(chan error, 1)
		go func() {
			s, err := w.wf.Result(ctx, r)
			if err != nil {
				errs <- err
				return
			}
			ch <- s
		}()
		for {
			select {
			case s := <-ch:
				return s, nil
			case err := <-errs:
				return "", err
			case <-time.After(time.Hour):
				// A dead store can't tell: look whether it is.
				if h, err := e.Health(ctx); err != nil || !h.OK {
					cancel()
					<-errs
					return "", errDead
				}
			}
		}
	}
	life := func(t *testing.T, w *world, st journal.Store, paranoid bool) (string, error) {
		o := &durable.Options{MaxDeaths: -1, Logger: slog.New(slog.DiscardHandler)}
		if paranoid {
			o.MaxAwake = -1
		}
		defs, err := durable.NewDefinitions(w.defs)
		if err != nil {
			t.Fatal(err)
		}
		b, err := durable.NewExecutor(t.Context(), st, defs, o)
		if err != nil {
			return "", err
		}
		e := durable.NewEngine(b, defs, o)
		out, err := drive(t, w, e)
		if cerr := e.Close(context.Background()); cerr != nil {
			t.Errorf("Close: %v", cerr)
		}
		return out, err
	}
	const want = "[10 20 30] sent"
	total := 0
	synctest.Test(t, func(t *testing.T) {
		counted := &mortal{Store: journal.NewMemory(), left: 1 << 30}
		w := build()
		out, err := life(t, w, counted, false)
		if err != nil || out != want {
			t.Fatalf("undisturbed: %q, %v", out, err)
		}
		total = 1<<30 - counted.left
	})
	t.Logf("%d commits", total)
	for n := 1; n <= total+2; n++ {
		for mode := range 16 {
			kept, paranoid, again := mode&1 != 0, mode&2 != 0, mode/4 // again: a second death, early in the next life
			synctest.Test(t, func(t *testing.T) {
				st := journal.NewMemory()
				w := build()
				out, err := life(t, w, &deadHealth{&mortal{Store: st, left: n, kept: kept}}, paranoid)
				if err != nil && again > 0 {
					out, err = life(t, w, &deadHealth{&mortal{Store: st, left: again, kept: !kept}}, paranoid)
				}
				tries := 0
				for ; err != nil && tries < 5; tries++ {
					out, err = life(t, w, st, paranoid)
				}
				if err != nil {
					t.Fatalf("death at commit %d (kept %v): %v", n, kept, err)
				}
				if out != want && out != "[10 20 30] unknown" {
					t.Errorf("death at commit %d (kept %v): result %q", n, kept, out)
				}
				if got := fmt.Sprint(w.book.effects()); got != "[pay 1 pay 2 pay 3]" {
					t.Errorf("death at commit %d (kept %v): effects %s", n, kept, got)
				}
				if c := w.once.calls["done"]; c > 1 || c == 0 && out == want {
					t.Errorf("death at commit %d (kept %v): at-most-once step ran %d times, result %q", n, kept, c, out)
				}
			})
		}
	}
}

// deadHealth tells clients of a mortal store when it is dead.
type deadHealth struct{ *mortal }

func (d *deadHealth) Health() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errDead
	}
	return nil
}
