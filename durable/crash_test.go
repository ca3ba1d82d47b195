package durable_test

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
)

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
	const want = "[10 20 30] sent"
	rep := durabletest.Sweep(t, func() *durabletest.World {
		var book, once ledger
		pay := durable.NewStep("pay", func(ctx context.Context, n int) (int, error) {
			i, _ := durable.StepInfoOf(ctx)
			book.book(i.Key, fmt.Sprint("pay ", n))
			return n * 10, nil
		}, nil)
		mail := durable.NewStep("mail", func(ctx context.Context, s string) (string, error) {
			i, _ := durable.StepInfoOf(ctx)
			once.book(i.Key, s)
			return "sent", nil
		}, &durable.StepOptions{AtMostOnce: true})
		status := durable.NewStatus[string]("status")
		stream := durable.NewStream[string]("log")
		ask := durable.NewQuestion[decision]("ok")
		sig := durable.NewSignal[string]("go")
		line := durable.NewWorkflow("line", func(ctx context.Context, n int) (int, error) {
			if err := durable.Sleep(ctx, time.Duration(n)*time.Minute); err != nil {
				return 0, err
			}
			return pay.Do(ctx, n)
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, round int) (string, error) {
			status.Set(ctx, fmt.Sprint("round ", round))
			if round == 0 {
				s, err := sig.Receive(ctx)
				if err != nil {
					return "", err
				}
				if err := stream.Append(ctx, s); err != nil {
					return "", err
				}
				a, err := ask.Ask(ctx, "OK?", &durable.AskOptions{Expires: 1000 * time.Hour})
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
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{status, stream, ask, sig}})
		return &durabletest.World{
			Defs: durable.Set{wf, line, pay, mail},
			Drive: func(ctx context.Context, e *durable.Engine) (string, error) {
				r, err := wf.Start(ctx, e, 0, &durable.StartOptions{ID: "w"})
				if err != nil {
					return "", err
				}
				if err := sig.Send(ctx, r, "hi", &durable.SendOptions{ID: "s1"}); err != nil && !errors.Is(err, durable.ErrFinished) {
					return "", err
				}
				for {
					qs, err := e.Questions(ctx, nil)
					if err != nil {
						return "", err
					}
					if len(qs) > 0 {
						err := ask.Answer(ctx, e, qs[0].ID, decision{true}, &durable.AnswerOptions{ID: "a1"})
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
					select {
					case <-time.After(time.Second):
					case <-ctx.Done():
						return "", ctx.Err()
					}
				}
				return wf.Result(ctx, r)
			},
			Check: func(t *testing.T, out string, died bool) {
				if out != want && !(died && out == "[10 20 30] unknown") {
					t.Errorf("result %q, want %q", out, want)
				}
				if got := fmt.Sprint(book.effects()); got != "[pay 1 pay 2 pay 3]" {
					t.Errorf("effects %s", got)
				}
				if c := once.calls["done"]; c > 1 || c == 0 && out == want {
					t.Errorf("the at-most-once step ran %d times, result %q", c, out)
				}
			},
		}
	})
	t.Logf("%d commits, %d lives, %d deaths", rep.Commits, rep.Lives, rep.Deaths)
}
