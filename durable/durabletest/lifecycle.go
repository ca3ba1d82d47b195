package durabletest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mcpagent/mcpagent/durable"
)

// ends makes a scenario of how a run ends by what its code returns.
func ends(name, rule string, cancel bool, want durable.State, ret func(ctx context.Context) error) Scenario {
	return Scenario{Name: "end/" + name, Row: "Cancel", Rule: rule, New: func(env *Env) *Play {
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			err := durable.Sleep(ctx, env.Hours(4))
			if cancel != errors.Is(err, context.Canceled) {
				return "", fmt.Errorf("sleep: %w", err)
			}
			return "", ret(ctx)
		}, nil)
		return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
			r := start(t, wf, none{}, "r")
			if cancel {
				t.Waits(r, "timer")
				t.OK("cancel", r.Cancel(t.Context(), "why"))
			}
			_, err := r.Result(t.Context())
			var re *durable.RunError
			if want == durable.Completed {
				t.OK("result", err)
			} else if !errors.As(err, &re) || re.State != want {
				t.Errorf("result: %v, want a run that is %s", err, want)
			}
			t.Equal("state", t.Describe(r).State, want)
		}}
	}}
}

var lifecycle = []Scenario{
	ends("nil-is-completed", "A nil error ends a run as completed.", false, durable.Completed, func(context.Context) error { return nil }),
	ends("nil-after-cancel-is-completed", "So it does after a cancel.", true, durable.Completed, func(context.Context) error { return nil }),
	ends("canceled-after-cancel-is-cancelled", "context.Canceled after a cancel was asked ends it as cancelled.", true, durable.Cancelled,
		func(ctx context.Context) error { return ctx.Err() }),
	ends("wrapped-canceled-is-cancelled", "Wrapped too.", true, durable.Cancelled,
		func(ctx context.Context) error { return fmt.Errorf("a: %w", ctx.Err()) }),
	ends("another-error-after-cancel-is-failed", "Another error after a cancel ends it as failed.", true, durable.Failed,
		func(context.Context) error { return errors.New("x") }),
	ends("canceled-without-cancel-is-failed", "context.Canceled where no cancel was asked is a failure.", false, durable.Failed,
		func(context.Context) error { return context.Canceled }),
	ends("deadline-is-failed", "So are context.DeadlineExceeded and any other error.", false, durable.Failed,
		func(context.Context) error { return context.DeadlineExceeded }),
	{
		Name: "end/run-timeout",
		Row:  "States",
		Rule: "The timeout of a run is hard: no code runs at it; it counts over the chain and while the run is paused.",
		New: func(env *Env) *Play {
			wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (string, error) {
				if err := durable.Sleep(ctx, env.Hours(2)); err != nil {
					env.Note("code ran")
					return "", err
				}
				return "", durable.ContinueAsNew(n + 1)
			}, &durable.WorkflowOptions{Timeout: env.Hours(9)})
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, 0, "r")
				t.Pass(3)
				t.Restart()
				t.Pass(2)
				t.OK("pause", t.Engine.Run("r", "").Pause(t.Context(), nil))
				_, err := t.Of(r).Result(t.Context())
				var re *durable.RunError
				if !errors.As(err, &re) || re.State != durable.TimedOut || !errors.Is(err, durable.ErrTimeout) {
					t.Errorf("result: %v, want a timed out run", err)
				}
				t.Pass(3)
				t.Equal("how often code ran at the end", t.Count("code ran"), 0)
				t.Equal("state of the newest run", t.Describe(t.Engine.Run("r", "")).State, durable.TimedOut)
				t.Equal("state of the first run", t.Describe(r).State, durable.Continued)
			}}
		},
	},
	{
		Name: "end/terminate-runs-no-code",
		Row:  "Cleanup",
		Rule: "Terminate runs no code; steps are stopped, questions withdrawn, and what comes after is refused.",
		New: func(env *Env) *Play {
			ask := durable.NewQuestion[int]("q")
			step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
				env.Note("began")
				err := ended(ctx)
				env.Note("stopped")
				return "", err
			}, &durable.StepOptions{Timeout: env.Hours(100)})
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				step.Start(ctx, none{})
				_, err := ask.Ask(ctx, "?", nil)
				env.Note("code ran")
				return "", err
			}, takes(ask))
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Waits(r, "question")
				t.OK("wait for the step", t.Wait(t.Context(), "began", 1))
				t.OK("terminate", r.Terminate(durable.WithActor(t.Context(), durable.Actor{Name: "ann"}), "enough"))
				_, err := r.Result(t.Context())
				var re *durable.RunError
				if !errors.As(err, &re) || re.State != durable.Terminated || !strings.Contains(err.Error(), "enough") {
					t.Errorf("result: %v", err)
				}
				t.OK("wait for the step", t.Wait(t.Context(), "stopped", 1))
				t.Equal("how often code ran", t.Count("code ran"), 0)
				t.Equal("open questions", len(try(t.Engine.Questions(t.Context(), nil)).or(t, "questions")), 0)
				for what, err := range map[string]error{
					"terminate": r.Terminate(t.Context(), ""), "cancel": r.Cancel(t.Context(), ""), "pause": r.Pause(t.Context(), nil), "resume": r.Resume(t.Context(), nil),
				} {
					t.Is(what+" of a terminated run", err, durable.ErrFinished)
				}
			}}
		},
	},
	{
		Name: "end/steps-of-unfinished-futures",
		Row:  "End of a run",
		Rule: "Steps of unfinished futures are cancelled at the end of a run, and listed as given up.",
		New: func(env *Env) *Play {
			step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
				env.Note("began")
				err := ended(ctx)
				env.Note("stopped")
				return "", err
			}, &durable.StepOptions{Timeout: env.Hours(100)})
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				step.Start(ctx, none{})
				return "left", durable.Sleep(ctx, env.Hours(1))
			}, nil)
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				result(t, wf, r, "left")
				t.OK("wait for the step", t.Wait(t.Context(), "stopped", 1))
			}}
		},
	},
	endWithHandler("return-waits-for-handlers", "Return waits for accepted update handlers.", nil, false, "42 ok after 3"),
	endWithHandler("failure-waits-for-handlers", "So does failure.", errors.New("x"), false, "42 ok after 3"),
	endWithHandler("cancel-does-not-wait-for-handlers", "Cancel does not: their senders learn that the run has ended.", nil, true, "0 finished after 1"),
	{
		Name: "end/fail-on-problem",
		Row:  "Panic, mismatch",
		Rule: "Where the workflow says so, a panic of its code fails the run.",
		New: func(env *Env) *Play {
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				if err := durable.Sleep(ctx, env.Hours(1)); err != nil {
					return "", err
				}
				panic("bad day")
			}, &durable.WorkflowOptions{FailOnProblem: true})
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				_, err := start(t, wf, none{}, "r").Result(t.Context())
				var re *durable.RunError
				if !errors.As(err, &re) || re.State != durable.Failed || re.Err == nil || re.Err.Type != "panic" || !strings.Contains(err.Error(), "bad day") {
					t.Errorf("result: %v", err)
				}
			}}
		},
	},
}

// endWithHandler is the end of a run while an update handler is at work.
func endWithHandler(name, rule string, ret error, cancel bool, want string) Scenario {
	return Scenario{Name: "end/" + name, Row: "End of a run", Rule: rule, New: func(env *Env) *Play {
		u := durable.NewUpdate[none, int]("u")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			_ = u.Handle(ctx, func(ctx context.Context, _ none) (int, error) {
				env.Note("accepted")
				return 42, durable.Sleep(durable.WithoutCancel(ctx), env.Hours(3))
			}, nil)
			if err := durable.Sleep(ctx, env.Hours(2)); err != nil {
				return "", err
			}
			return "", ret
		}, takes(u))
		return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
			r := start(t, wf, none{}, "r")
			t.Waits(r, "timer")
			t.Go(func() {
				watch := t.Watch()
				n, err := u.Send(t.Context(), r, none{}, &durable.SendOptions{ID: "u"})
				t.Note("answer", n, " ", says(err), " after ", t.Whole(watch()))
			})
			if cancel {
				t.OK("wait for the handler", t.Wait(t.Context(), "accepted", 1))
				t.Pass(1)
				t.OK("cancel", r.Cancel(t.Context(), ""))
			}
			t.OK("wait for the answer", t.Wait(t.Context(), "answer", 1))
			t.Equal("answer", t.Notes("answer")[0], want)
			_, err := r.Result(t.Context())
			t.Equal("the run failed", err != nil, ret != nil || cancel)
		}}
	}}
}

// cancelOf makes a scenario of a step whose caller is cancelled after an hour.
func cancelOf(name, rule, want string, program func(env *Env) (durable.StepOptions, func(ctx context.Context) (string, error))) Scenario {
	return Scenario{Name: "cancel/" + name, Row: "Cancel", Rule: rule, New: func(env *Env) *Play {
		o, fn := program(env)
		if o.Timeout == 0 {
			o.Timeout = env.Hours(100)
		}
		step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
			env.Note("ran")
			return fn(ctx)
		}, &o)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			s, err := step.Do(ctx, none{})
			if ctx.Err() == nil || !errors.Is(context.Cause(ctx), context.Canceled) {
				return "", fmt.Errorf("the context is not cancelled when the outcome is seen: %v", err)
			}
			if err != nil {
				s = kindOf(err)
			}
			return s, nil
		}, nil)
		return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
			r := start(t, wf, none{}, "r")
			t.OK("wait for the step", t.Wait(t.Context(), "ran", 1))
			t.Pass(1)
			t.OK("cancel", r.Cancel(t.Context(), "enough"))
			t.OK("cancel again", orFinished(r.Cancel(t.Context(), "enough")))
			result(t, wf, r, want)
			t.Pass(4)
			t.Equal("how often the step ran", t.Count("ran"), 1)
		}}
	}}
}

func orFinished(err error) error {
	if errors.Is(err, durable.ErrFinished) {
		return nil
	}
	return err
}

var cancels = []Scenario{
	cancelOf("step-succeeds-all-the-same", "Do waits for the real outcome, even success.", "done",
		func(env *Env) (durable.StepOptions, func(context.Context) (string, error)) {
			return durable.StepOptions{}, func(ctx context.Context) (string, error) {
				_ = ended(ctx)
				return "done", durable.Sleep(context.WithoutCancel(ctx), env.Hours(1))
			}
		}),
	cancelOf("step-fails-by-itself", "It returns the step's own failure.", "BUSY",
		func(env *Env) (durable.StepOptions, func(context.Context) (string, error)) {
			return durable.StepOptions{}, func(ctx context.Context) (string, error) { _ = ended(ctx); return fails(ctx, 0) }
		}),
	cancelOf("step-stops", "A step that stops with the error of its context is cancelled.", "canceled",
		func(env *Env) (durable.StepOptions, func(context.Context) (string, error)) {
			return durable.StepOptions{}, func(ctx context.Context) (string, error) { return "", ended(ctx) }
		}),
	cancelOf("step-does-not-listen", "A step that takes no notice is waited for.", "done",
		func(env *Env) (durable.StepOptions, func(context.Context) (string, error)) {
			return durable.StepOptions{}, func(ctx context.Context) (string, error) {
				return "done", durable.Sleep(context.WithoutCancel(ctx), env.Hours(3))
			}
		}),
	cancelOf("bounded-by-the-timeout", "The wait is bounded by the step's timeout.", "timeout",
		func(env *Env) (durable.StepOptions, func(context.Context) (string, error)) {
			return durable.StepOptions{Timeout: env.Hours(2)}, func(ctx context.Context) (string, error) {
				return "done", durable.Sleep(context.WithoutCancel(ctx), env.Hours(4))
			}
		}),
	cancelOf("abandon", "Abandon opts out: the caller goes on at once.", "canceled",
		func(env *Env) (durable.StepOptions, func(context.Context) (string, error)) {
			return durable.StepOptions{Abandon: true}, func(ctx context.Context) (string, error) {
				return "done", durable.Sleep(context.WithoutCancel(ctx), env.Hours(2))
			}
		}),
	{
		Name: "cancel/waits-end-and-cleanup-works",
		Row:  "Cancel",
		Rule: "Waits return context.Canceled; under WithoutCancel the code cleans up.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("s")
			ask := durable.NewQuestion[int]("q")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				var out [5]string
				g, _ := durable.NewGroup(ctx, nil)
				wait := func(i int, fn func(ctx context.Context) error) {
					g.Go(func(ctx context.Context) error { out[i] = says(fn(ctx)); return nil })
				}
				wait(0, func(ctx context.Context) error { return durable.Sleep(ctx, env.Hours(100)) })
				wait(1, func(ctx context.Context) error { _, err := sig.Receive(ctx); return err })
				wait(2, func(ctx context.Context) error { _, err := ask.Ask(ctx, "?", nil); return err })
				wait(3, func(ctx context.Context) error { return durable.Await(ctx, func() bool { return false }) })
				wait(4, func(ctx context.Context) error {
					_, err := durable.Select(ctx, durable.Elapsed(env.Hours(100)))
					return err
				})
				if err := g.Wait(); err != nil {
					return "", err
				}
				s, err := echo.Do(durable.WithoutCancel(ctx), "tidied")
				if err != nil {
					return "", err
				}
				if err := durable.Sleep(durable.WithoutCancel(ctx), env.Hours(1)); err != nil {
					return "", err
				}
				return strings.Join(out[:], " ") + " " + s, nil
			}, takes(sig, ask))
			return &Play{Defs: durable.Set{wf, echo}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Waits(r, "question")
				t.OK("cancel", r.Cancel(t.Context(), ""))
				result(t, wf, r, "canceled canceled canceled canceled canceled tidied")
				t.Equal("open questions", len(try(t.Engine.Questions(t.Context(), nil)).or(t, "questions")), 0)
			}}
		},
	},
	{
		Name: "cancel/calls-are-not-sent",
		Row:  "Cancel",
		Rule: "Calls under a context that is cancelled are not sent, and leave nothing in the history.",
		New: func(env *Env) *Play {
			step := durable.NewStep("step", func(context.Context, none) (string, error) { env.Note("ran"); return "", nil }, nil)
			kid := durable.NewWorkflow("kid", func(context.Context, none) (string, error) { env.Note("ran"); return "", nil }, nil)
			ask := durable.NewQuestion[int]("q")
			sig := durable.NewSignal[int]("s")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				in, cancel := durable.WithCancel(ctx)
				cancel()
				var bad []string
				check := func(what string, err error) {
					if !errors.Is(err, context.Canceled) {
						bad = append(bad, what)
					}
				}
				check("Do", do(in, step))
				_, err := step.Start(in, none{}).Get(ctx)
				check("Start", err)
				_, err = kid.Run(in, none{})
				check("Run", err)
				_, err = kid.Child(in, none{}, nil)
				check("Child", err)
				_, err = ask.Ask(in, "?", nil)
				check("Ask", err)
				_, err = sig.Receive(in)
				check("Receive", err)
				_, err = sig.ReceiveTimeout(in, env.Hours(1))
				check("ReceiveTimeout", err)
				check("Sleep", durable.Sleep(in, env.Hours(1)))
				check("Await", durable.Await(in, func() bool { return false }))
				_, err = durable.Select(in, durable.Elapsed(env.Hours(1)))
				check("Select", err)
				_, err = durable.NewCallback[int](in)
				check("NewCallback", err)
				check("Signal", durable.Address("x", "").Signal(in, "s", nil, nil))
				check("Cancel", durable.Address("x", "").Cancel(in, ""))
				return strings.Join(bad, " "), nil
			}, takes(ask, sig))
			return &Play{Defs: durable.Set{wf, kid, step}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				result(t, wf, r, "")
				t.Equal("effects", t.Count("ran"), 0)
				for _, rec := range t.History(r) {
					if len(rec.Calls) > 0 {
						t.Errorf("the history has the call %+v", rec.Calls[0])
					}
				}
			}}
		},
	},
	{
		Name: "cancel/before-the-first-turn",
		Row:  "Cancel",
		Rule: "A cancel before the first turn: the code still runs, and sees it.",
		New: func(env *Env) *Play {
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				s, err := echo.Do(durable.WithoutCancel(ctx), "ran")
				if err != nil {
					return "", err
				}
				return s + " " + says(durable.Sleep(ctx, env.Hours(10))), nil
			}, nil)
			return &Play{Defs: durable.Set{wf, echo}, Drive: func(t *T) {
				r := try(wf.Start(t.Context(), t.Engine, none{}, &durable.StartOptions{ID: "r", Delay: env.Hours(2)})).or(t, "start")
				t.OK("cancel", r.Cancel(t.Context(), ""))
				result(t, wf, r, "ran canceled")
			}}
		},
	},
	{
		Name: "cancel/lifts-a-pause",
		Row:  "Cancel",
		Rule: "A cancel lifts a pause.",
		New: func(env *Env) *Play {
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				return "", durable.Sleep(ctx, env.Hours(100))
			}, nil)
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Waits(r, "timer")
				t.OK("pause", r.Pause(t.Context(), nil))
				t.Pass(1)
				t.OK("cancel", r.Cancel(t.Context(), ""))
				_, err := r.Result(t.Context())
				t.Is("result", err, context.Canceled)
				t.Equal("state", t.Describe(r).State, durable.Cancelled)
			}}
		},
	},
	{
		Name:  "cancel/survives-a-death",
		Row:   "Cancel",
		Rule:  "A cancel that was acknowledged is there after a death: the lost attempt is not made again.",
		Needs: []Ability{Killing},
		New: func(env *Env) *Play {
			step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
				env.Note("ran")
				_ = ended(ctx)
				return "", durable.Sleep(context.WithoutCancel(ctx), env.Hours(3)) // the process dies meanwhile
			}, &durable.StepOptions{Timeout: env.Hours(100)})
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				_, err := step.Do(ctx, none{})
				return fmt.Sprint(err != nil, " ", says(ctx.Err())), nil
			}, nil)
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.OK("wait for the step", t.Wait(t.Context(), "ran", 1))
				t.OK("cancel", r.Cancel(t.Context(), ""))
				t.Kill()
				result(t, wf, r, "true canceled")
				t.Pass(4)
				t.Equal("how often the step ran", t.Count("ran"), 1)
				lost := false
				for _, rec := range t.History(r) {
					for _, ev := range rec.Events {
						lost = lost || ev.Failure != nil && ev.Failure.Type == "lost"
					}
				}
				t.Equal("the history says that the attempt was lost", lost, t.Can(LastError))
			}}
		},
	},
	{
		Name: "cancel/refused-while-panicking",
		Row:  "Cleanup",
		Rule: "While a panic unwinds, durable calls are refused; after it was recovered they work.",
		New: func(env *Env) *Play {
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				var during string
				bad := func() (p any) {
					defer func() { p = recover() }()
					defer func() {
						_, err := echo.Do(ctx, "too early") //durablevet:ignore a deferred call is what the scenario is for
						during = says(err)
					}()
					panic("bad day")
				}()
				s, err := echo.Do(ctx, "tidied after "+fmt.Sprint(bad))
				return during + ", " + s, err
			}, nil)
			return &Play{Defs: durable.Set{wf, echo}, Drive: func(t *T) {
				result(t, wf, start(t, wf, none{}, "r"), "unwinding, tidied after bad day")
			}}
		},
	},
	{
		Name: "cancel/another-run-from-a-workflow",
		Row:  "Cancel",
		Rule: "A workflow cancels another run durably, with the errors that a client has.",
		New: func(env *Env) *Play {
			other := durable.NewWorkflow("other", func(ctx context.Context, _ none) (string, error) {
				return says(durable.Sleep(ctx, env.Hours(100))), nil
			}, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				e1 := durable.Address("other", "").Cancel(ctx, "enough")
				e2 := durable.Address("nobody", "").Cancel(ctx, "enough")
				if err := durable.Sleep(ctx, env.Hours(1)); err != nil {
					return "", err
				}
				e3 := durable.Address("other", "").Cancel(ctx, "enough")
				return says(e1) + ", " + says(e2) + ", " + says(e3), nil
			}, nil)
			return &Play{Defs: durable.Set{wf, other}, Drive: func(t *T) {
				o := start(t, other, none{}, "other")
				t.Waits(o, "timer")
				result(t, wf, start(t, wf, none{}, "r"), "ok, not found, finished")
				result(t, other, o, "canceled")
			}}
		},
	},
}
