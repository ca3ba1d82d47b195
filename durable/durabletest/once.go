package durabletest

import (
	"context"
	"errors"
	"fmt"

	"github.com/mcpagent/mcpagent/durable"
)

// once makes a scenario of the one attempt of an at-most-once step: the
// workflow tells whether its outcome is unknown.
func once(name, rule, want string, program func(env *Env) (durable.StepOptions, func(ctx context.Context) (any, error))) Scenario {
	return Scenario{Name: "at-most-once/" + name, Row: "At most once", Rule: rule, New: func(env *Env) *Play {
		o, fn := program(env)
		o.AtMostOnce = true
		step := durable.NewStep("step", func(ctx context.Context, _ none) (any, error) {
			env.Note("sent")
			return fn(ctx)
		}, &o)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			_, err := step.Do(ctx, none{})
			var se *durable.StepError
			switch {
			case err == nil:
				return "known", nil
			case !errors.As(err, &se):
				return "", fmt.Errorf("want a StepError, got %w", err)
			case errors.Is(err, durable.ErrOutcomeUnknown):
				return fmt.Sprint("unknown, cause: ", se.Err.Cause != nil), nil
			}
			return "known: " + kindOf(err), nil
		}, nil)
		return &Play{Defs: durable.Set{wf, step}, Options: func(o *durable.Options) { o.MaxPayload = 1000 }, Drive: func(t *T) {
			result(t, wf, start(t, wf, none{}, "r"), want)
			t.Pass(3)
			t.Equal("how often it was sent", t.Count("sent"), 1)
		}}
	}}
}

// onceGone is an at-most-once step at work when its process goes.
func onceGone(name, rule string, go1 func(t *T), needs ...Ability) Scenario {
	return Scenario{Name: "at-most-once/" + name, Row: "At most once", Rule: rule, Needs: needs, New: func(env *Env) *Play {
		step := durable.NewStep("pay", func(ctx context.Context, _ none) (string, error) {
			env.Note("sent")
			return "paid", ended(ctx)
		}, &durable.StepOptions{AtMostOnce: true, Timeout: env.Hours(100)})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			_, err := step.Do(ctx, none{})
			return says(err), nil
		}, nil)
		return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
			r := start(t, wf, none{}, "r")
			t.OK("wait for the step", t.Wait(t.Context(), "sent", 1))
			go1(t)
			result(t, wf, r, "outcome unknown")
			t.Pass(2)
			t.Equal("how often it was sent", t.Count("sent"), 1)
		}}
	}}
}

var atMostOnce = []Scenario{
	once("success", "A result that was recorded is known.", "known",
		func(env *Env) (durable.StepOptions, func(context.Context) (any, error)) {
			return durable.StepOptions{}, func(context.Context) (any, error) { return "paid", nil }
		}),
	once("known-failure", "An error that the step returns is a known failure; there is no second attempt.", "known: BUSY",
		func(env *Env) (durable.StepOptions, func(context.Context) (any, error)) {
			return durable.StepOptions{}, func(context.Context) (any, error) { return nil, busy.New("declined") }
		}),
	once("retry-after", "RetryAfter does not make a second attempt.", "known: BUSY",
		func(env *Env) (durable.StepOptions, func(context.Context) (any, error)) {
			return durable.StepOptions{}, func(context.Context) (any, error) { return nil, durable.RetryAfter(1, busy.New("declined")) }
		}),
	once("the-step-says-so", "OutcomeUnknown, wrapped too, makes the outcome unknown.", "unknown, cause: true",
		func(env *Env) (durable.StepOptions, func(context.Context) (any, error)) {
			return durable.StepOptions{}, func(context.Context) (any, error) {
				return nil, fmt.Errorf("post: %w", durable.OutcomeUnknown(errors.New("connection reset")))
			}
		}),
	once("attempt-timeout", "An attempt that ran out of time is unknown.", "unknown, cause: true",
		func(env *Env) (durable.StepOptions, func(context.Context) (any, error)) {
			return durable.StepOptions{Timeout: env.Hours(1)}, func(ctx context.Context) (any, error) { return nil, ended(ctx) }
		}),
	once("total-timeout", "So is one that ran into TotalTimeout.", "unknown, cause: true",
		func(env *Env) (durable.StepOptions, func(context.Context) (any, error)) {
			return durable.StepOptions{TotalTimeout: env.Hours(1)}, func(ctx context.Context) (any, error) { return nil, ended(ctx) }
		}),
	once("heartbeat-timeout", "So is one whose heartbeats stopped.", "unknown, cause: true",
		func(env *Env) (durable.StepOptions, func(context.Context) (any, error)) {
			return durable.StepOptions{Heartbeat: env.Hours(1)}, func(ctx context.Context) (any, error) { return nil, ended(ctx) }
		}),
	once("panic", "A panic of the attempt is unknown.", "unknown, cause: true",
		func(env *Env) (durable.StepOptions, func(context.Context) (any, error)) {
			return durable.StepOptions{}, func(context.Context) (any, error) { panic("half way") }
		}),
	once("unencodable", "A result that can't be encoded is unknown: it took effect.", "unknown, cause: true",
		func(env *Env) (durable.StepOptions, func(context.Context) (any, error)) {
			return durable.StepOptions{}, func(context.Context) (any, error) { return func() {}, nil }
		}),
	once("too-large", "So is one over the size limit.", "unknown, cause: true",
		func(env *Env) (durable.StepOptions, func(context.Context) (any, error)) {
			return durable.StepOptions{}, func(context.Context) (any, error) { return string(make([]byte, 2000)), nil }
		}),
	onceGone("process-gone", "Where the process goes while the attempt is at work, the outcome is unknown; it is not sent again.",
		func(t *T) { t.Kill() }, Killing),
	onceGone("shutdown", "So it is where the process ends gracefully.", func(t *T) { t.Restart() }),
	{
		Name: "at-most-once/intent-first",
		Row:  "At most once",
		Rule: "The intent to send is on disk before the effect.",
		New: func(env *Env) *Play {
			step := durable.NewStep("pay", func(ctx context.Context, _ none) (string, error) {
				env.Note("sent")
				return "paid", env.Wait(ctx, "looked", 1)
			}, &durable.StepOptions{AtMostOnce: true, Timeout: env.Hours(100)})
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) { return step.Do(ctx, none{}) }, nil)
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.OK("wait for the step", t.Wait(t.Context(), "sent", 1))
				intent := false
				for _, rec := range t.History(r) {
					for _, n := range rec.Notes {
						intent = intent || n.Kind == "sent" && n.Call == "0/1"
					}
				}
				t.Equal("the history has the intent when the step has begun", intent, t.Can(Notes))
				t.Note("looked")
				result(t, wf, r, "paid")
			}}
		},
	},
	{
		Name:  "at-most-once/not-sent-is-not-unknown",
		Row:   "At most once",
		Rule:  "A call that waited for a place when the process went was not sent: it is sent later, once.",
		Needs: []Ability{Killing},
		New: func(env *Env) *Play {
			hog := durable.NewStep("hog", func(ctx context.Context, _ none) (string, error) {
				if env.Note("hog") == 1 {
					return "", ended(ctx)
				}
				return "", nil
			}, &durable.StepOptions{Timeout: env.Hours(100), Retry: &durable.Retry{Initial: env.Hours(1)}})
			step := durable.NewStep("pay", func(context.Context, none) (string, error) {
				env.Note("sent")
				return "paid", nil
			}, &durable.StepOptions{AtMostOnce: true})
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				a := hog.Start(ctx, none{})
				if err := durable.Sleep(ctx, env.Hours(1)); err != nil {
					return "", err
				}
				b := step.Start(ctx, none{})
				if err := durable.Sleep(ctx, env.Hours(1)); err != nil {
					return "", err
				}
				env.Note("both called")
				_, e1 := a.Get(ctx)
				s, e2 := b.Get(ctx)
				return s, errors.Join(e1, e2)
			}, nil)
			return &Play{Defs: durable.Set{wf, hog, step}, Options: func(o *durable.Options) { o.MaxSteps = 1 }, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.OK("wait for the calls", t.Wait(t.Context(), "both called", 1))
				t.Settle()
				t.Kill()
				result(t, wf, r, "paid")
				t.Equal("how often it was sent", t.Count("sent"), 1)
			}}
		},
	},
}
