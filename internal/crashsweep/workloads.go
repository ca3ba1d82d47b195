package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// workloads are all of them, in the order of the table.
var workloads = []*workload{invoices, fanout, storm, chain, questions, atMostOnce, children, timers, streams, checkpoints, forks, retention}

// quickRetry repeats soon: a sweep has no patience.
var quickRetry = &durable.Retry{Initial: time.Millisecond, Max: 5 * time.Millisecond}

func (w *world) plain(name string) *durable.Step[string, string] {
	return durable.NewStep(name, func(ctx context.Context, what string) (string, error) {
		return "did " + what, w.effect(ctx, what)
	}, &durable.StepOptions{Retry: quickRetry})
}

func (w *world) once(name string) *durable.Step[string, string] {
	return durable.NewStep(name, func(ctx context.Context, what string) (string, error) {
		return "did " + what, w.effect(ctx, what)
	}, &durable.StepOptions{AtMostOnce: true})
}

// runs makes the same for several runs.
func runs(ids []string, fn func(id string) error) error {
	parts := make([]func() error, len(ids))
	for i, id := range ids {
		parts[i] = func() error { return fn(id) }
	}
	return both(parts...)
}

// The invoice of examples/invoice: a validation that fails at first, a person,
// a payment for each line by a child, at most once.
var (
	invoiceStatus = durable.NewStatus[string]("status")
	invoiceOK     = durable.NewQuestion[bool]("approve")
)

var invoices = &workload{
	name: "invoices",
	defs: func(w *world) durable.Set {
		validate := durable.NewStep("invoice.validate", func(ctx context.Context, id string) (string, error) {
			if i, _ := durable.StepInfoOf(ctx); i.Attempt == 1 {
				return "", errors.New("the ERP does not answer")
			}
			return "valid", w.effect(ctx, "validate "+id)
		}, &durable.StepOptions{Retry: quickRetry})
		record := w.plain("invoice.record")
		pay := w.once("invoice.pay")
		line := define(w, "pay_line_item", func(ctx context.Context, l string) (string, error) {
			if err := durable.Sleep(ctx, 2*time.Millisecond); err != nil {
				return "", err
			}
			return once(ctx, pay, l)
		})
		process := define(w, "process_invoice", func(ctx context.Context, id string) (tally, error) {
			t := tally{Once: map[string]string{}}
			to := func(s string) { invoiceStatus.Set(ctx, s); say(ctx, "%s", s); t.Out = append(t.Out, s) }
			to("PENDING-VALIDATION")
			if _, err := validate.Do(ctx, id); err != nil {
				return t, err
			}
			to("PENDING-APPROVAL")
			a, err := invoiceOK.Ask(ctx, "Pay "+id+"?", &durable.AskOptions{Kind: "approval", Expires: time.Hour})
			if err != nil {
				return t, err
			}
			to(fmt.Sprint("APPROVED ", a.Value, " ", a.By))
			if _, err := record.Do(ctx, "record "+id); err != nil {
				return t, err
			}
			lines := []string{"pay " + id + "/1", "pay " + id + "/2", "pay " + id + "/3"}
			paid, err := durable.Map(ctx, lines, line.Run, nil)
			for i, l := range lines[:len(paid)] {
				t.Once[l] = paid[i]
			}
			to("PAID")
			return t, err
		}, invoiceStatus, invoiceOK)
		return durable.Set{validate, record, pay, line, process}
	},
	drive: func(ctx context.Context, w *world, e *durable.Engine) error {
		process := durable.NewWorkflow[string, tally]("process_invoice", nil, nil)
		return runs([]string{"inv-1", "inv-2", "inv-3"}, func(id string) error {
			r, err := start(ctx, w, e, process, id, id)
			if err != nil {
				return err
			}
			if err := answerAll(ctx, w, e, r, 1, func(q *durable.QuestionInfo) string { return "true" }); err != nil {
				return err
			}
			_, err = ended(ctx, w, r)
			return err
		})
	},
}

// answerAll answers the questions of a run until it has ended, or n are
// answered.
func answerAll(ctx context.Context, w *world, e *durable.Engine, r *durable.Run, n int, value func(*durable.QuestionInfo) string) error {
	for done := 0; done < n; {
		d, err := r.Describe(ctx)
		if err != nil {
			return err
		}
		if d.State.Done() {
			return nil
		}
		qs, err := e.Questions(ctx, &durable.QuestionFilter{WorkflowID: r.WorkflowID})
		if err != nil {
			return err
		}
		for _, q := range qs {
			v := value(q)
			if v == "" {
				continue
			}
			err := e.Answer(durable.WithActor(ctx, durable.Actor{Name: "ann"}), q.ID, []byte(v), &durable.AnswerOptions{ID: "a-" + q.ID})
			if err != nil && !errors.Is(err, durable.ErrAnswered) && !errors.Is(err, durable.ErrFinished) && !errors.Is(err, durable.ErrNotFound) {
				return fmt.Errorf("answer %s: %w", q.ID, err)
			}
			if err == nil {
				if err := w.ack("answer "+r.WorkflowID+" "+q.Name+q.Audience, v); err != nil {
					return err
				}
			}
			done++
		}
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// Fifty steps side by side, every fifth at most once.
var fanout = &workload{
	name: "fan-out",
	defs: func(w *world) durable.Set {
		plain, once1 := w.plain("fan.plain"), w.once("fan.once")
		wf := define(w, "fan", func(ctx context.Context, id string) (tally, error) {
			t := tally{Once: map[string]string{}}
			items := make([]int, 50)
			for i := range items {
				items[i] = i
			}
			out, err := durable.Map(ctx, items, func(ctx context.Context, i int) (string, error) {
				what := fmt.Sprintf("%s/%02d", id, i)
				if i%5 == 0 {
					return once(ctx, once1, what)
				}
				return plain.Do(ctx, what)
			}, nil)
			for i, s := range out {
				if i%5 == 0 {
					t.Once[fmt.Sprintf("%s/%02d", id, i)] = s
				} else {
					t.Out = append(t.Out, s)
				}
			}
			say(ctx, "done")
			return t, err
		})
		return durable.Set{plain, once1, wf}
	},
	drive: oneRun("fan"),
}

// oneRun starts one run and waits for its end.
func oneRun(name string) func(context.Context, *world, *durable.Engine) error {
	return func(ctx context.Context, w *world, e *durable.Engine) error {
		r, err := start(ctx, w, e, durable.NewWorkflow[string, tally](name, nil, nil), name+"-1", name+"-1")
		if err != nil {
			return err
		}
		_, err = ended(ctx, w, r)
		return err
	}
}

// Signals of three senders and updates of two, all at once, to one run.
var (
	stormSignal = durable.NewSignal[string]("event")
	stormUpdate = durable.NewUpdate[string, string]("book")
	stormQuery  = durable.NewQuery[string, int]("count")
)

const stormSenders, stormSignals, stormUpdaters, stormUpdates = 3, 12, 2, 8

var storm = &workload{
	name: "storm",
	defs: func(w *world) durable.Set {
		step := w.plain("storm.step")
		wf := define(w, "storm", func(ctx context.Context, id string) (tally, error) {
			t := tally{Replies: map[string]string{}}
			booked, total := 0, 0
			err := stormUpdate.Handle(ctx, func(ctx context.Context, u string) (string, error) {
				// A step in the handler: it may be under way when the process dies.
				if _, err := step.Do(ctx, "update "+u); err != nil {
					return "", err
				}
				booked++
				t.Replies[u] = fmt.Sprint(u, " as ", booked)
				return t.Replies[u], nil
			}, nil)
			if err != nil {
				return t, err
			}
			if err := stormQuery.Handle(ctx, func(string) (int, error) { return total, nil }); err != nil {
				return t, err
			}
			next := map[byte]int{}
			for total < stormSenders*stormSignals {
				s, err := stormSignal.Receive(ctx)
				if err != nil {
					return t, err
				}
				total++
				say(ctx, "%s", s)
				if want := fmt.Sprintf("%c%02d", s[0], next[s[0]]); s != want {
					t.Out = append(t.Out, fmt.Sprintf("got %s, expected %s", s, want))
				}
				next[s[0]]++
				t.Out = append(t.Out, s)
			}
			if err := durable.Await(ctx, func() bool { return booked == stormUpdaters*stormUpdates }); err != nil {
				return t, err
			}
			slices.Sort(t.Out)
			return t, nil
		}, stormSignal, stormUpdate, stormQuery)
		return durable.Set{step, wf}
	},
	drive: func(ctx context.Context, w *world, e *durable.Engine) error {
		r, err := start(ctx, w, e, durable.NewWorkflow[string, tally]("storm", nil, nil), "storm-1", "storm-1")
		if err != nil {
			return err
		}
		var parts []func() error
		for s := range stormSenders {
			parts = append(parts, func() error {
				for i := range stormSignals {
					id := fmt.Sprintf("%c%02d", 'a'+s, i)
					if err := sent(stormSignal.Send(ctx, r, id, &durable.SendOptions{ID: id})); err != nil {
						return fmt.Errorf("signal %s: %w", id, err)
					}
					if err := w.ack("signal "+r.WorkflowID, id); err != nil {
						return err
					}
				}
				return nil
			})
		}
		for u := range stormUpdaters {
			parts = append(parts, func() error {
				for i := range stormUpdates {
					id := fmt.Sprintf("u%d-%02d", u, i)
					rep, err := stormUpdate.Send(ctx, r, id, &durable.SendOptions{ID: id})
					if errors.Is(err, durable.ErrFinished) {
						return nil
					}
					if err != nil {
						return fmt.Errorf("update %s: %w", id, err)
					}
					if err := w.ack("update "+r.WorkflowID+" "+id, rep); err != nil {
						return err
					}
					n, err := stormQuery.Ask(ctx, r, "")
					if err != nil {
						return fmt.Errorf("query: %w", err)
					}
					if err := w.seen(fmt.Sprint("count by ", u), fmt.Sprintf("%06d", n)); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := both(parts...); err != nil {
			return err
		}
		_, err = ended(ctx, w, r)
		return err
	},
}

// A chain of runs, each of which takes some signals and continues as new,
// while the signals go on arriving.
var chainSignal = durable.NewSignal[int]("next")

const chainSignals, chainEach = 30, 4

type chainState struct {
	ID  string   `json:"id"`
	Gen int      `json:"gen"`
	Out []string `json:"out"`
}

var chain = &workload{
	name: "chain",
	defs: func(w *world) durable.Set {
		step := w.plain("chain.step")
		wf := define(w, "chain", func(ctx context.Context, s chainState) (tally, error) {
			if _, err := step.Do(ctx, fmt.Sprint("generation ", s.Gen)); err != nil {
				return tally{}, err
			}
			for range chainEach {
				n, err := chainSignal.Receive(ctx)
				if err != nil {
					return tally{}, err
				}
				say(ctx, "%d", n)
				if s.Out = append(s.Out, fmt.Sprint(n)); len(s.Out) == chainSignals {
					return tally{Out: s.Out}, nil
				}
			}
			s.Gen++
			return tally{}, durable.ContinueAsNew(s)
		}, chainSignal)
		return durable.Set{step, wf}
	},
	drive: func(ctx context.Context, w *world, e *durable.Engine) error {
		r, err := start(ctx, w, e, durable.NewWorkflow[chainState, tally]("chain", nil, nil), "chain-1", chainState{ID: "chain-1"})
		if err != nil {
			return err
		}
		for i := range chainSignals {
			if err := sent(chainSignal.Send(ctx, r, i, &durable.SendOptions{ID: fmt.Sprint("n", i)})); err != nil {
				return fmt.Errorf("signal %d: %w", i, err)
			}
			if err := w.ack("signal "+r.WorkflowID, fmt.Sprint(i)); err != nil {
				return err
			}
		}
		_, err = ended(ctx, w, r)
		return err
	},
}
