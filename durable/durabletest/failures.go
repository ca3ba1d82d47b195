package durabletest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

var poor = durable.NewErrorType("INSUFFICIENT_FUNDS")

type codeError struct{ Code int }

func (e *codeError) Error() string { return fmt.Sprint("code ", e.Code) }

// private loses what is not exported on its way.
type private struct {
	Name   string
	secret string
	Next   *private
}

var failures = []Scenario{
	{
		Name: "errors/step-error",
		Row:  "Errors",
		Rule: "A step that failed arrives as a StepError with its call, attempts, type, message and details.",
		New: func(env *Env) *Play {
			step := durable.NewStep("pay", func(context.Context, none) (string, error) {
				return "", durable.Permanent(&durable.Error{Type: "INSUFFICIENT_FUNDS", Message: "3 short", Details: json.RawMessage(`{"short":3}`)})
			}, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				_, err := step.Do(ctx, none{})
				var se *durable.StepError
				if !errors.As(err, &se) {
					return "", fmt.Errorf("want a StepError, got %v", err)
				}
				return fmt.Sprint(errors.Is(err, poor), " ", se.Step, " ", se.Call, " ", se.Attempts, " ", se.Err.Type, " ", se.Err.Message, " ", se.Err.Permanent, " ", string(se.Err.Details)), nil
			}, nil)
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				result(t, wf, start(t, wf, none{}, "r"), `true pay 0/1 1 INSUFFICIENT_FUNDS 3 short true {"short":3}`)
			}}
		},
	},
	solo("errors/go-types", "Errors",
		"Other errors have the name of their Go type, without pointers and wrappers.",
		"durabletest.codeError error INSUFFICIENT_FUNDS", func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			step := durable.NewStep("step", func(_ context.Context, n int) (string, error) {
				return "", durable.Permanent([]error{
					fmt.Errorf("a: %w", errors.Join(&codeError{3})),
					fmt.Errorf("plain"),
					fmt.Errorf("b: %w", poor.New("x")),
				}[n])
			}, nil)
			return func(ctx context.Context) (string, error) {
				var out []string
				for i := range 3 {
					_, err := step.Do(ctx, i)
					var e *durable.Error
					if !errors.As(err, &e) {
						return "", err
					}
					out = append(out, e.Type)
				}
				return strings.Join(out, " "), nil
			}, durable.Set{step}
		}),
	{
		Name: "errors/cross-every-border",
		Row:  "Errors",
		Rule: "errors.Is and errors.As hold on both sides of a step, of a child, of a run and of an engine.",
		New: func(env *Env) *Play {
			pay := durable.NewStep("pay", func(context.Context, none) (string, error) {
				return "", durable.Permanent(&durable.Error{Type: "INSUFFICIENT_FUNDS", Message: "3 short", Details: json.RawMessage(`{"short":3}`)})
			}, nil)
			kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (string, error) { return pay.Do(ctx, none{}) }, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) { return kid.Run(ctx, none{}) }, nil)
			return &Play{Defs: durable.Set{wf, kid, pay}, Drive: func(t *T) {
				_, err := start(t, wf, none{}, "r").Result(t.Context())
				var re *durable.RunError
				if !errors.Is(err, poor) || !errors.As(err, &re) || re.State != durable.Failed || re.Err == nil {
					t.Fatalf("error of the root run: %#v", err)
				}
				t.Equal("type and details", re.Err.Type+string(re.Err.Details), `INSUFFICIENT_FUNDS{"short":3}`)
			}}
		},
	},
	solo("errors/panic-in-a-step", "Panic, mismatch",
		"A panic in a step is a failure of type panic, with its place, and is tried again.", "panic 2 true true",
		func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			step := durable.NewStep("step", func(context.Context, none) (string, error) { panic("boom") },
				&durable.StepOptions{Retry: &durable.Retry{Initial: env.Hours(0.1), MaxAttempts: 2}})
			return func(ctx context.Context) (string, error) {
				_, err := step.Do(ctx, none{})
				var se *durable.StepError
				if !errors.As(err, &se) {
					return "", err
				}
				return fmt.Sprint(se.Err.Type, " ", se.Attempts, " ", strings.Contains(se.Err.Message, "boom"), " ", strings.Contains(se.Err.Message, "failures.go")), nil
			}, durable.Set{step}
		}),
}

var payloads = []Scenario{
	{
		Name: "payloads/limits",
		Row:  "Payloads",
		Rule: "An input over the limit fails at the call; a result over it fails the step once, and is never tried again.",
		New: func(env *Env) *Play {
			big := durable.NewStep("big", func(_ context.Context, n int) (string, error) { env.Note("ran"); return strings.Repeat("x", n), nil }, nil)
			odd := durable.NewStep("odd", func(context.Context, none) (any, error) { env.Note("ran"); return func() {}, nil }, nil)
			in := durable.NewStep("in", func(_ context.Context, s string) (int, error) { env.Note("ran"); return len(s), nil }, nil)
			kid := durable.NewWorkflow("kid", func(_ context.Context, s string) (int, error) { env.Note("ran"); return len(s), nil }, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				_, e1 := big.Do(ctx, 2000)
				_, e2 := odd.Do(ctx, none{})
				_, e3 := in.Do(ctx, strings.Repeat("x", 2000))
				_, e4 := kid.Run(ctx, strings.Repeat("x", 2000))
				_, e5 := durable.PutBlob(ctx, make([]byte, 2000))
				var s1, s2 *durable.StepError
				if !errors.As(e1, &s1) || !errors.As(e2, &s2) {
					return "", errors.Join(e1, e2)
				}
				return fmt.Sprint(says(e1), " ", s1.Attempts, ", ", says(e2), " ", s2.Attempts, ", ", says(e3), ", ", says(e4), ", ", says(e5)), nil
			}, nil)
			return &Play{Defs: durable.Set{wf, kid, big, odd, in}, Options: func(o *durable.Options) { o.MaxPayload = 1000 }, Drive: func(t *T) {
				result(t, wf, start(t, wf, none{}, "r"), "too large 1, bad input 1, too large, too large, too large")
				t.Equal("functions that ran", t.Count("ran"), 2)
				_, err := kid.Start(t.Context(), t.Engine, strings.Repeat("x", 2000), nil)
				t.Is("a start with an input over the limit", err, durable.ErrTooLarge)
			}}
		},
	},
	{
		Name: "payloads/result-of-a-run",
		Row:  "Payloads",
		Rule: "A result of a workflow over the limit fails the run.",
		New: func(env *Env) *Play {
			wf := durable.NewWorkflow("wf", func(context.Context, none) (string, error) { return strings.Repeat("x", 2000), nil }, nil)
			return &Play{Defs: durable.Set{wf}, Options: func(o *durable.Options) { o.MaxPayload = 1000 }, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				_, err := r.Result(t.Context())
				t.Is("result", err, durable.ErrTooLarge)
				t.Equal("state", t.Describe(r).State, durable.Failed)
			}}
		},
	},
	solo("payloads/refusals-are-recorded", "Payloads",
		"That a call was refused is on record with it: a replay refuses it again.",
		"small small", func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			nowhere := durable.NewStep("nowhere", func(_ context.Context, s string) (string, error) { return s, nil }, nil)
			return func(ctx context.Context) (string, error) {
				var out []string
				for range 2 {
					if _, err := nowhere.Do(ctx, "a"); !errors.Is(err, durable.ErrNotDefined) {
						return "", fmt.Errorf("a step that is not defined: %w", err)
					}
					if _, err := echo.With(&durable.StepOptions{Retry: &durable.Retry{Backoff: 0.1}}).Do(ctx, "b"); err == nil {
						return "", errors.New("a policy that makes no sense was taken")
					}
					s, err := echo.Do(ctx, "small")
					if err != nil {
						return "", err
					}
					out = append(out, s)
					if err := durable.Sleep(ctx, env.Hours(1)); err != nil {
						return "", err
					}
				}
				return strings.Join(out, " "), nil
			}, durable.Set{echo}
		}),
	solo("payloads/values-are-json", "Values",
		"Values are JSON on every engine: nothing is shared, and unexported fields vanish.",
		"step [1 2 3] , mine [1 2 3] s true", func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			change := durable.NewStep("change", func(_ context.Context, in *private) (*private, error) {
				in.Name += "!"
				return in, nil
			}, nil)
			list := durable.NewStep("list", func(_ context.Context, in []int) ([]int, error) {
				in[0] = 99
				return []int{1, 2, 3}, nil
			}, nil)
			return func(ctx context.Context) (string, error) {
				mine := &private{Name: "n", secret: "s"}
				back, err := change.Do(ctx, mine)
				if err != nil {
					return "", err
				}
				in := []int{1, 2, 3}
				out, err := list.Do(ctx, in)
				return fmt.Sprint("step ", out, " ", back.secret, ", mine ", in, " ", mine.secret, " ", mine.Name == "n" && back.Name == "n!"), err
			}, durable.Set{change, list}
		}),
	solo("payloads/odd-values", "Values",
		"Raw JSON, nil, times, bytes and any text make the round trip.",
		`{"z":1.0e3,"a":[null]} null true map[n:1.5] 2024 [0 255] true bad input`, func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			raw := durable.NewStep("raw", func(_ context.Context, in json.RawMessage) (json.RawMessage, error) { return in, nil }, nil)
			ptr := durable.NewStep("ptr", func(_ context.Context, in *private) (*private, error) { return in, nil }, nil)
			anys := durable.NewStep("any", func(_ context.Context, in any) (any, error) { return in, nil }, nil)
			at := durable.NewStep("time", func(_ context.Context, in time.Time) (int, error) { return in.Year(), nil }, nil)
			bytes := durable.NewStep("bytes", func(_ context.Context, in []byte) ([]byte, error) { return append(in, 0, 255), nil }, nil)
			return func(ctx context.Context) (string, error) {
				a, e1 := raw.Do(ctx, json.RawMessage(`{"z":1.0e3,"a":[null]}`))
				b, e2 := raw.Do(ctx, nil)
				c, e3 := ptr.Do(ctx, nil)
				d, e4 := anys.Do(ctx, map[string]any{"n": 1.5})
				e, e5 := at.Do(ctx, time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC))
				f, e6 := bytes.Do(ctx, nil)
				const text = "<b>&\u2028\x00é"
				g, e7 := echo.Do(ctx, text)
				_, e8 := raw.Do(ctx, json.RawMessage(`{`))
				return fmt.Sprint(string(a), " ", string(b), " ", c == nil, " ", d, " ", e, " ", f, " ", g == text, " ", says(e8)),
					errors.Join(e1, e2, e3, e4, e5, e6, e7)
			}, durable.Set{raw, ptr, anys, at, bytes, echo}
		}),
	{
		Name: "payloads/shown-as-meant",
		Row:  "Values",
		Rule: "JSON inside of a value comes back as it was, and records, status and result show what was meant: \"<\" is not escaped.",
		New: func(env *Env) *Play {
			type tagged struct {
				Tag string          `json:"tag"`
				Raw json.RawMessage `json:"raw"`
			}
			sig := durable.NewSignal[tagged]("s")
			st := durable.NewStatus[tagged]("st")
			step := durable.NewStep("step", func(_ context.Context, in tagged) (tagged, error) { return in, nil }, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ tagged) (tagged, error) {
				v, err := sig.Receive(ctx)
				if err != nil {
					return v, err
				}
				st.Set(ctx, v)
				return step.Do(ctx, v)
			}, takes(sig))
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				v := tagged{"<&>", json.RawMessage(`"<a href=\"\\u003c\">&"`)}
				const want = `{"tag":"<&>","raw":"<a href=\"\\u003c\">&"}`
				r := start(t, wf, v, "r")
				t.OK("send", sig.Send(t.Context(), r, v, nil))
				result(t, wf, r, v)
				d := t.Describe(r)
				shown := []string{string(d.Result), string(d.Status["st"])}
				for _, rec := range t.History(r) {
					for _, ev := range rec.Events {
						if ev.Payload != nil {
							shown = append(shown, string(ev.Payload))
						}
					}
					for _, c := range rec.Calls {
						shown = append(shown, string(c.Input))
					}
					if rec.End != nil {
						shown = append(shown, string(rec.End.Payload))
					}
				}
				t.Equal("values", len(shown) >= 7, true)
				for _, s := range shown {
					t.Equal("value", s, want)
				}
			}}
		},
	},
	{
		Name: "payloads/large",
		Row:  "Payloads",
		Rule: "A value of a quarter of a megabyte passes through inputs, steps, signals and results.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[string]("s")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, in string) (string, error) {
				a, err := echo.Do(ctx, in)
				if err != nil {
					return "", err
				}
				b, err := sig.Receive(ctx)
				if a != in || b != in {
					return "", errors.New("a value changed on its way")
				}
				return b, err
			}, takes(sig))
			return &Play{Defs: durable.Set{wf, echo}, Drive: func(t *T) {
				in := strings.Repeat("0123456789abcdef", 1<<14)
				r := start(t, wf, in, "r")
				t.OK("send", sig.Send(t.Context(), r, in, nil))
				result(t, wf, r, in)
			}}
		},
	},
	{
		Name: "payloads/refusal-holds-after-a-deploy",
		Row:  "Payloads",
		Rule: "A call that was refused stays so, though the program that goes on would allow it.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[string]("s")
			missing := durable.NewStep("missing", func(context.Context, none) (string, error) { env.Note("ran"); return "", nil }, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				e1 := do(ctx, missing)
				_, e2 := echo.Do(ctx, strings.Repeat("x", 2000))
				s, err := sig.Receive(ctx)
				return says(e1) + ", " + says(e2) + ", " + s, err
			}, takes(sig))
			return &Play{Defs: durable.Set{wf, echo}, Later: []durable.Set{{wf, echo, missing}}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Waits(r, "signal")
				t.Note("raised")
				t.Deploy(1)
				t.OK("send", sig.Send(t.Context(), t.Of(r), "!", nil))
				result(t, wf, r, "not defined, too large, !")
				t.Equal("how often the step ran", t.Count("ran"), 0)
			}, Options: func(o *durable.Options) {
				if env.Count("raised") == 0 {
					o.MaxPayload = 1000
				}
			}}
		},
	},
	{
		Name: "payloads/portable-limits",
		Row:  "Payloads",
		Rule: "With portable limits, values over 2 MB, more than 2,000 calls under way, and more signals and updates than a server takes are refused at the call.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[string]("s")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				_, e1 := echo.Do(ctx, strings.Repeat("x", durable.PortablePayload))
				var e2 error
				n := 0
				in, cancel := durable.WithCancel(ctx)
				for ; n < 2010 && e2 == nil; n++ {
					f := echo.Start(in, "y")
					if f.Ready() {
						_, e2 = f.Get(ctx)
					}
				}
				cancel()
				s, err := sig.Receive(ctx)
				return fmt.Sprint(says(e1), ", ", says(e2), " at call ", n, ", ", s), err
			}, takes(sig))
			return &Play{Defs: durable.Set{wf, echo}, Loose: "thousands of calls, each like the other", Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Is("a signal of 2 MB", sig.Send(t.Context(), r, strings.Repeat("x", durable.PortablePayload), nil), durable.ErrTooLarge)
				t.OK("send", sig.Send(t.Context(), r, "!", nil))
				result(t, wf, r, "too large, limit at call 2001, !")
			}}
		},
	},
	{
		Name: "payloads/lowered-limit",
		Row:  "Payloads",
		Rule: "A limit that was lowered does not break the histories of before.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[string]("s")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, s string) (string, error) {
				a, err := echo.Do(ctx, s)
				if err != nil {
					return "", err
				}
				b, err := sig.Receive(ctx)
				return a[:3] + b, err
			}, takes(sig))
			return &Play{Defs: durable.Set{wf, echo}, Drive: func(t *T) {
				r := start(t, wf, strings.Repeat("x", 5000), "r")
				t.Waits(r, "signal")
				t.Note("lowered")
				t.Restart()
				t.OK("send", sig.Send(t.Context(), t.Of(r), "!", nil))
				result(t, wf, r, "xxx!")
			}, Options: func(o *durable.Options) {
				if env.Count("lowered") > 0 {
					o.MaxPayload = 1000
				}
			}}
		},
	},
}
