package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// Questions: several open at once, one that nobody answers, one that is
// withdrawn.
var (
	askAmount = durable.NewQuestion[int]("amount")
	askLate   = durable.NewQuestion[int]("late")
	askGone   = durable.NewQuestion[int]("gone")
)

var questions = &workload{
	name: "questions",
	defs: func(w *world) durable.Set {
		step := w.plain("ask.step")
		wf := define(w, "ask", func(ctx context.Context, id string) (tally, error) {
			var t tally
			inner, cancel := durable.WithCancel(ctx)
			g, gctx := durable.NewGroup(inner, nil)
			out := make([]string, 6)
			for i := range 4 {
				g.Go(func(ctx context.Context) error {
					a, err := askAmount.Ask(ctx, fmt.Sprint("How much for ", i, "?"), &durable.AskOptions{Audience: fmt.Sprint(i)})
					if err != nil {
						return err
					}
					if _, err := step.Do(ctx, fmt.Sprintf("%s answer %d", id, i)); err != nil {
						return err
					}
					out[i] = fmt.Sprintf("%s answered %d to %d", a.By, a.Value, i)
					return nil
				})
			}
			g.Go(func(ctx context.Context) error {
				_, err := askLate.Ask(ctx, "Anybody?", &durable.AskOptions{Expires: 5 * time.Millisecond})
				if errors.Is(err, durable.ErrExpired) {
					out[4], err = "expired", nil
				}
				return err
			})
			g.Go(func(ctx context.Context) error {
				_, err := askGone.Ask(ctx, "Still there?", nil)
				if errors.Is(err, context.Canceled) {
					out[5], err = "withdrawn", nil
				}
				return err
			})
			err := durable.Await(gctx, func() bool { return out[0] != "" && out[1] != "" && out[2] != "" && out[3] != "" && out[4] != "" })
			cancel()
			if werr := g.Wait(); err == nil && werr != nil && !errors.Is(werr, context.Canceled) {
				err = werr
			}
			t.Out = out
			return t, err
		}, askAmount, askLate, askGone)
		return durable.Set{step, wf}
	},
	drive: func(ctx context.Context, w *world, e *durable.Engine) error {
		wf := durable.NewWorkflow[string, tally]("ask", nil, nil)
		return runs([]string{"ask-1", "ask-2"}, func(id string) error {
			r, err := start(ctx, w, e, wf, id, id)
			if err != nil {
				return err
			}
			err = answerAll(ctx, w, e, r, 1<<30, func(q *durable.QuestionInfo) string {
				if q.Name != "amount" {
					return ""
				}
				return "70" + q.Audience
			})
			if err != nil {
				return err
			}
			_, err = ended(ctx, w, r)
			return err
		})
	},
}

// Steps at most once: one after the other, then more at once than there are
// places to run, so that some wait for one; and one that does not know itself
// what it has done.
var atMostOnce = &workload{
	name:    "at most once",
	options: func(o *durable.Options) { o.MaxSteps = 3 },
	defs: func(w *world) durable.Set {
		step := w.once("once.step")
		unsure := durable.NewStep("once.unsure", func(ctx context.Context, what string) (string, error) {
			if err := w.effect(ctx, what); err != nil {
				return "", err
			}
			return "", durable.OutcomeUnknown(errors.New("the line went dead"))
		}, &durable.StepOptions{AtMostOnce: true})
		wf := define(w, "once", func(ctx context.Context, id string) (tally, error) {
			t := tally{Once: map[string]string{}}
			for i := range 5 {
				what := fmt.Sprintf("%s/first %d", id, i)
				s, err := once(ctx, step, what)
				if err != nil {
					return t, err
				}
				t.Once[what] = s
			}
			items := make([]string, 12)
			for i := range items {
				items[i] = fmt.Sprintf("%s/then %d", id, i)
			}
			out, err := durable.Map(ctx, items, func(ctx context.Context, what string) (string, error) { return once(ctx, step, what) }, nil)
			for i, s := range out {
				t.Once[items[i]] = s
			}
			if err != nil {
				return t, err
			}
			t.Once[id+"/unsure"], err = once(ctx, unsure, id+"/unsure")
			return t, err
		})
		return durable.Set{step, unsure, wf}
	},
	drive: oneRun("once"),
}

// Children, one for each of what may become of them when their parent ends.
// Each tells its parent when it has begun.
var childBegun = durable.NewSignal[string]("begun")

var children = &workload{
	name: "children",
	defs: func(w *world) durable.Set {
		step := w.plain("child.step")
		child := define(w, "child", func(ctx context.Context, id string) (tally, error) {
			if _, err := step.Do(ctx, id+" begins"); err != nil {
				return tally{}, err
			}
			parent, _, _ := strings.Cut(id, "/")
			if err := childBegun.Send(ctx, durable.Address(parent, ""), id, nil); err != nil {
				return tally{}, err
			}
			if strings.HasSuffix(id, "abandoned") {
				return tally{Out: []string{id}}, durable.Sleep(ctx, 5*time.Millisecond)
			}
			err := durable.Await(ctx, func() bool { return false })
			if ctx.Err() != nil {
				if _, err := step.Do(durable.WithoutCancel(ctx), id+" tidies up"); err != nil {
					return tally{}, err
				}
			}
			return tally{}, err
		})
		quick := define(w, "quick", func(ctx context.Context, id string) (string, error) {
			return step.Do(ctx, id)
		})
		wf := define(w, "parent", func(ctx context.Context, id string) (tally, error) {
			var t tally
			for name, policy := range map3(durable.ParentCloseCancel, durable.ParentCloseTerminate, durable.ParentCloseAbandon) {
				cid := id + "/" + name
				if _, err := child.Child(ctx, cid, &durable.ChildOptions{ID: cid, ParentClose: policy}); err != nil {
					return t, err
				}
				t.Out = append(t.Out, cid)
			}
			for range len(t.Out) {
				if _, err := childBegun.Receive(ctx); err != nil {
					return t, err
				}
			}
			got, err := durable.Map(ctx, []string{id + "/q1", id + "/q2", id + "/q3"}, quick.Run, nil)
			t.Out = append(t.Out, got...)
			return t, err
		}, childBegun)
		return durable.Set{step, child, quick, wf}
	},
	drive: func(ctx context.Context, w *world, e *durable.Engine) error {
		if err := oneRun("parent")(ctx, w, e); err != nil {
			return err
		}
		return allEnded(ctx, e, "child")
	},
}

// allEnded waits for the end of all runs of a workflow, which come to it by
// themselves.
func allEnded(ctx context.Context, e *durable.Engine, workflow string) error {
	for {
		page, err := e.List(ctx, &durable.Filter{Workflow: workflow, States: []durable.State{durable.Running}})
		if err != nil || len(page.Runs) == 0 {
			return err
		}
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
}

// map3 names the policies, in an order that stays.
func map3(cancel, terminate, abandon durable.ParentClose) func(func(string, durable.ParentClose) bool) {
	return func(yield func(string, durable.ParentClose) bool) {
		_ = yield("cancelled", cancel) && yield("terminated", terminate) && yield("abandoned", abandon)
	}
}

// Timers: many at once, in no order, each of which says when it fired.
var timers = &workload{
	name: "timers",
	defs: func(w *world) durable.Set {
		step := w.plain("timer.step")
		wf := define(w, "timer", func(ctx context.Context, id string) (tally, error) {
			var t tally
			const n = 40
			g, _ := durable.NewGroup(ctx, nil)
			for i := range n {
				d := time.Duration(1+i*17%n) * time.Millisecond
				g.Go(func(ctx context.Context) error {
					began := durable.Now(ctx)
					if err := durable.Sleep(ctx, d); err != nil {
						return err
					}
					if slept := durable.Now(ctx).Sub(began); slept < d {
						t.Out = append(t.Out, fmt.Sprintf("woken %v early", d-slept))
					}
					t.Out = append(t.Out, fmt.Sprint(d))
					if d%(10*time.Millisecond) == 0 {
						_, err := step.Do(ctx, fmt.Sprint(id, " ", d))
						return err
					}
					return nil
				})
			}
			return t, g.Wait()
		})
		return durable.Set{step, wf}
	},
	drive: oneRun("timer"),
}

// Streams and a status, read while they are written.
var (
	streamItems = durable.NewStream[string]("items")
	streamAt    = durable.NewStatus[int]("at")
)

const streamLength, fatLength = 15, 10

var streams = &workload{
	name: "streams",
	defs: func(w *world) durable.Set { return streamDefs(w, "stream", streamLength, 200) },
	drive: func(ctx context.Context, w *world, e *durable.Engine) error {
		return driveStream(ctx, w, e, "stream", streamLength)
	},
}

// The same with payloads that make the log full, so that it is folded into
// the file while the run works.
var checkpoints = &workload{
	name: "checkpoints",
	defs: func(w *world) durable.Set { return streamDefs(w, "fat", fatLength, 300_000) },
	drive: func(ctx context.Context, w *world, e *durable.Engine) error {
		return driveStream(ctx, w, e, "fat", fatLength)
	},
}

func streamDefs(w *world, name string, n, size int) durable.Set {
	step := durable.NewStep(name+".step", func(ctx context.Context, what string) (string, error) {
		if err := w.effect(ctx, what); err != nil {
			return "", err
		}
		return strings.Repeat(what+" ", size/len(what)), nil
	}, &durable.StepOptions{Retry: quickRetry})
	wf := define(w, name, func(ctx context.Context, id string) (tally, error) {
		var t tally
		for i := range n {
			s, err := step.Do(ctx, fmt.Sprintf("%s/%d", id, i))
			if err != nil {
				return t, err
			}
			digest, err := durable.PutBlob(ctx, []byte(s[:len(s)/2]))
			if err != nil {
				return t, err
			}
			if err := streamItems.Append(ctx, fmt.Sprint(i, " ", digest)); err != nil {
				return t, err
			}
			streamAt.Set(ctx, i)
			t.Out = append(t.Out, digest)
		}
		return t, nil
	}, streamItems, streamAt)
	return durable.Set{step, wf}
}

func driveStream(ctx context.Context, w *world, e *durable.Engine, name string, n int) error {
	r, err := start(ctx, w, e, durable.NewWorkflow[string, tally](name, nil, nil), name+"-1", name+"-1")
	if err != nil {
		return err
	}
	i := int64(0)
	for item, err := range streamItems.Read(ctx, r, 0) {
		if err != nil {
			return fmt.Errorf("read the stream: %w", err)
		}
		if item.Offset != i {
			return fmt.Errorf("the stream has offset %d where %d was expected", item.Offset, i)
		}
		i++
		// What was read once is there, and stays what it is.
		if err := w.ack(fmt.Sprintf("item %s %d", r.WorkflowID, item.Offset), item.Value); err != nil {
			return err
		}
		at, ok, err := streamAt.Of(ctx, r)
		if err != nil || !ok {
			return fmt.Errorf("status: %v, %w", ok, err)
		}
		if err := w.seen("status of "+r.WorkflowID, fmt.Sprintf("%06d", at)); err != nil {
			return err
		}
		_, digest, _ := strings.Cut(item.Value, " ")
		if _, err := e.GetBlob(ctx, digest); err != nil {
			return fmt.Errorf("a blob that the stream names: %w", err)
		}
	}
	if i != int64(n) {
		return fmt.Errorf("the stream ended after %d items, not %d", i, n)
	}
	_, err = ended(ctx, w, r)
	return err
}

// A run that is reset after its end, and forked after that. The steps after the
// point are made again, under their keys; the fork makes none.
var forks = &workload{
	name: "reset and fork",
	defs: func(w *world) durable.Set {
		step := w.plain("doc.step")
		wf := define(w, "doc", func(ctx context.Context, id string) (tally, error) {
			var t tally
			for i := range 6 {
				what := fmt.Sprintf("%s/%d", id, i)
				if i >= 3 {
					what = "again " + what
				}
				out, err := step.Do(ctx, what)
				if err != nil {
					return t, err
				}
				t.Out = append(t.Out, out)
			}
			n, err := chainSignal.Receive(ctx)
			t.Out = append(t.Out, fmt.Sprint(n))
			return t, err
		}, chainSignal)
		return durable.Set{step, wf}
	},
	drive: func(ctx context.Context, w *world, e *durable.Engine) error {
		r, err := start(ctx, w, e, durable.NewWorkflow[string, tally]("doc", nil, nil), "doc-1", "doc-1")
		if err != nil {
			return err
		}
		if err := sent(chainSignal.Send(ctx, r, 7, &durable.SendOptions{ID: "n7"})); err != nil {
			return err
		}
		if err := w.ack("signal "+r.WorkflowID, 7); err != nil {
			return err
		}
		if _, err := ended(ctx, w, r); err != nil {
			return err
		}
		again, err := r.Reset(ctx, &durable.ResetOptions{Before: "0/4", ID: "reset-1"})
		if err != nil {
			return fmt.Errorf("reset: %w", err)
		}
		if err := w.ack("reset doc-1", again.RunID); err != nil {
			return err
		}
		if _, err := ended(ctx, w, r); err != nil {
			return err
		}
		fork, err := r.Fork(ctx, &durable.ForkOptions{WorkflowID: "doc-fork", ID: "fork-1"})
		if err != nil {
			return fmt.Errorf("fork: %w", err)
		}
		if err := w.ack("fork doc-fork", fork.RunID); err != nil {
			return err
		}
		_, err = ended(ctx, w, fork)
		return err
	},
}

// Runs that are deleted soon after their end, with a parent among them that
// still waits for its child's outcome.
var retention = &workload{
	name:    "retention",
	forgets: true,
	options: func(o *durable.Options) { o.MaxEnded = 3; o.Retention = 200 * time.Millisecond },
	defs: func(w *world) durable.Set {
		step := w.plain("short.step")
		short := define(w, "short", func(ctx context.Context, id string) (tally, error) {
			if _, err := durable.PutBlob(ctx, []byte("shared")); err != nil {
				return tally{}, err
			}
			if _, err := durable.PutBlob(ctx, []byte("of "+id)); err != nil {
				return tally{}, err
			}
			_, err := step.Do(ctx, id)
			return tally{Out: []string{id}}, err
		})
		wf := define(w, "long", func(ctx context.Context, id string) (tally, error) {
			var t tally
			for i := range 8 {
				out, err := short.Run(ctx, fmt.Sprintf("%s/%d", id, i))
				if err != nil {
					return t, err
				}
				t.Out = append(t.Out, out.Out...)
			}
			err := durable.Sleep(ctx, 1300*time.Millisecond) // once around, for those who delete
			return t, err
		})
		return durable.Set{step, short, wf}
	},
	drive: func(ctx context.Context, w *world, e *durable.Engine) error {
		wf := durable.NewWorkflow[string, tally]("long", nil, nil)
		short := durable.NewWorkflow[string, tally]("short", nil, nil)
		r, err := start(ctx, w, e, wf, "long-1", "long-1")
		if err != nil {
			return err
		}
		for i := range 10 {
			id := fmt.Sprint("lone-", i)
			if _, err := start(ctx, w, e, short, id, id); err != nil {
				return err
			}
		}
		if _, err := ended(ctx, w, r); err != nil {
			return err
		}
		return allEnded(ctx, e, "short")
	},
}
