package durabletest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/mcpagent/mcpagent/durable"
)

var continued = []Scenario{
	{
		Name: "continue/carries-signals-in-order",
		Row:  "Continue as new",
		Rule: "Signals that were not read are carried over in order; none is lost or doubled, whenever it comes.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("n")
			str := durable.NewStream[int]("out")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, sum int) (int, error) {
				// Some have been taken in when it continues, others not yet.
				if err := durable.Sleep(ctx, env.Hours(1)); err != nil {
					return 0, err
				}
				for range 3 {
					n, err := sig.Receive(ctx)
					if err != nil {
						return 0, err
					}
					if n == 0 {
						return sum, nil
					}
					sum += n
					if err := str.Append(ctx, n); err != nil {
						return 0, err
					}
				}
				return 0, durable.ContinueAsNew(sum)
			}, takes(sig, str))
			return &Play{Defs: durable.Set{wf}, Loose: "which run of the chain takes a signal that comes while it continues", Drive: func(t *T) {
				r := start(t, wf, 0, "r")
				for i := 1; i <= 20; i++ {
					t.OK("send", sig.Send(t.Context(), r, i, nil))
				}
				t.OK("send", sig.Send(t.Context(), r, 0, nil))
				result(t, wf, r, 210)
				var got, want []string
				for it, err := range str.Read(t.Context(), r, 0) {
					t.OK("read the stream", err)
					got = append(got, fmt.Sprint(it.Offset, "=", it.Value))
				}
				for i := range 20 {
					want = append(want, fmt.Sprint(i, "=", i+1))
				}
				t.Equal("the stream of the chain", got, want)
			}}
		},
	},
	{
		Name: "continue/result-of-the-chain",
		Row:  "Continue as new",
		Rule: "The handle of the first run follows the chain to its end; what is asked of the first run is done by the last.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[string]("s")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (string, error) {
				i, _ := durable.InfoOf(ctx)
				if i.Continued != 5-n {
					return "", fmt.Errorf("continued %d times, want %d", i.Continued, 5-n)
				}
				if n > 0 {
					return "", durable.ContinueAsNew(n - 1)
				}
				s, err := sig.Receive(ctx)
				return fmt.Sprint(s, " ", i.Chain == i.RunID), err
			}, takes(sig))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := try(wf.Start(t.Context(), t.Engine, 5, &durable.StartOptions{ID: "r", Tags: map[string]string{"x": "y"}, Timeout: env.Hours(400)})).or(t, "start")
				t.Waits(t.Engine.Run("r", ""), "signal")
				t.OK("send", sig.Send(t.Context(), r, "hi", nil))
				result(t, wf, r, "hi false")
				first, last := t.Describe(r), t.Describe(t.Engine.Run("r", ""))
				t.Equal("state of the first run", first.State, durable.Continued)
				t.Equal("the chain of the last", last.Chain, r.RunID)
				t.Equal("its tags, and whether it has a deadline", fmt.Sprint(last.Tags, last.Deadline.IsZero()), "map[x:y] false")
			}}
		},
	},
	{
		Name: "continue/carries-ids-of-signals",
		Row:  "Continue as new",
		Rule: "The ids of signals are carried over: one that was sent to an earlier run is not taken again.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("n")
			round := durable.NewStatus[int]("round")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, got []int) ([]int, error) {
				round.Set(ctx, len(got))
				if len(got) == 4 {
					return got, durable.Sleep(ctx, env.Hours(2))
				}
				n, err := sig.Receive(ctx)
				if err != nil {
					return nil, err
				}
				return nil, durable.ContinueAsNew(append(got, n))
			}, takes(sig, round))
			return &Play{Defs: durable.Set{wf}, Loose: "which run of the chain takes a signal that comes while it continues", Drive: func(t *T) {
				r := start(t, wf, nil, "r")
				for i := range 4 {
					for k := range i + 1 {
						t.OK("send", sig.Send(t.Context(), r, k, &durable.SendOptions{ID: fmt.Sprint("id", k)}))
					}
				}
				t.Until("round 4", func() bool {
					n, _, err := round.Of(t.Context(), t.Engine.Run("r", ""))
					return err == nil && n == 4
				})
				result(t, wf, r, []int{0, 1, 2, 3})
			}}
		},
	},
	{
		Name: "continue/carries-what-came-with-the-start",
		Row:  "Continue as new",
		Rule: "What came before the first turn of a run that continues at once is the next one's: a signal, a cancel.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[string]("s")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, rounds int) (string, error) {
				if rounds > 0 {
					return "", durable.ContinueAsNew(rounds - 1)
				}
				s, err := sig.Receive(durable.WithoutCancel(ctx))
				if err != nil {
					return "", err
				}
				return s + " " + says(durable.Sleep(ctx, env.Hours(100))), nil
			}, takes(sig))
			return &Play{Defs: durable.Set{wf}, Loose: "which run of the chain takes a signal that comes while it continues", Drive: func(t *T) {
				r := try(wf.Start(t.Context(), t.Engine, 3, &durable.StartOptions{ID: "r", Delay: env.Hours(2)})).or(t, "start")
				t.OK("send", sig.Send(t.Context(), r, "early", nil))
				t.OK("cancel", r.Cancel(t.Context(), ""))
				result(t, wf, r, "early canceled")
			}}
		},
	},
	{
		Name: "continue/carries-answers-of-updates",
		Row:  "Continue as new",
		Rule: "An update that was answered by an earlier run has the same answer, and no second effect.",
		New: func(env *Env) *Play {
			u := durable.NewUpdate[int, string]("u")
			sig := durable.NewSignal[int]("s")
			book := durable.NewStep("book", func(_ context.Context, n int) (int, error) { return env.Note("booked", n), nil }, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, round int) (string, error) {
				_ = u.Handle(ctx, func(ctx context.Context, n int) (string, error) {
					k, err := book.Do(ctx, n)
					return fmt.Sprint("round ", round, " booking ", k), err
				}, nil)
				n, err := sig.Receive(ctx)
				if err != nil || n == 0 {
					return "end", err
				}
				return "", durable.ContinueAsNew(round + 1)
			}, takes(u, sig))
			return &Play{Defs: durable.Set{wf, book}, Drive: func(t *T) {
				r := start(t, wf, 0, "r")
				a := try(u.Send(t.Context(), r, 1, &durable.SendOptions{ID: "once"})).or(t, "update")
				t.OK("send", sig.Send(t.Context(), r, 1, nil))
				t.Until("the next run", func() bool { return t.Describe(r).State == durable.Continued })
				b := try(u.Send(t.Context(), r, 1, &durable.SendOptions{ID: "once"})).or(t, "update again")
				t.Equal("the answer again", b, a)
				t.Equal("a new update", try(u.Send(t.Context(), r, 2, &durable.SendOptions{ID: "two"})).or(t, "another update"), "round 1 booking 2")
				t.OK("send", sig.Send(t.Context(), r, 0, nil))
				result(t, wf, r, "end")
				t.Equal("bookings", t.Notes("booked"), []string{"1", "2"})
			}}
		},
	},
	{
		Name: "continue/waits-for-handlers",
		Row:  "End of a run",
		Rule: "Continue-as-new waits for accepted update handlers.",
		New: func(env *Env) *Play {
			u := durable.NewUpdate[none, int]("u")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, round int) (string, error) {
				_ = u.Handle(ctx, func(ctx context.Context, _ none) (int, error) {
					env.Note("accepted")
					return round, durable.Sleep(ctx, env.Hours(3))
				}, nil)
				if err := durable.Sleep(ctx, env.Hours(2)); err != nil || round == 1 {
					return "end", err
				}
				return "", durable.ContinueAsNew(1)
			}, takes(u))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, 0, "r")
				t.Equal("answer", try(u.Send(t.Context(), r, none{}, &durable.SendOptions{ID: "u"})).or(t, "update"), 0)
				result(t, wf, r, "end")
			}}
		},
	},
	{
		Name: "continue/bad-input-fails",
		Row:  "Continue as new",
		Rule: "An input that does not fit, can't be encoded or is too large is an error of the run, not a loop.",
		New: func(env *Env) *Play {
			wf := durable.NewWorkflow("wf", func(ctx context.Context, how string) (string, error) {
				switch how {
				case "type":
					return "", durable.ContinueAsNew(7)
				case "encode":
					return "", durable.ContinueAsNew(func() {})
				}
				return "", durable.ContinueAsNew(strings.Repeat("x", 2000))
			}, nil)
			return &Play{Defs: durable.Set{wf}, Options: func(o *durable.Options) { o.MaxPayload = 1000 }, Drive: func(t *T) {
				for how, want := range map[string]error{"type": durable.ErrBadInput, "encode": durable.ErrBadInput, "large": durable.ErrTooLarge} {
					r := start(t, wf, how, "r-"+how)
					_, err := r.Result(t.Context())
					t.Is(how, err, want)
					t.Equal("state", t.Describe(r).State, durable.Failed)
				}
			}}
		},
	},
	{
		Name: "continue/too-large-tells-the-code",
		Row:  "Continue as new",
		Rule: "What is too large to carry is an error of the call, and the run goes on.",
		New: func(env *Env) *Play {
			wf := durable.NewWorkflow("wf", func(ctx context.Context, s string) (string, error) {
				if s != "" {
					return s, nil
				}
				err := durable.ContinueAsNew(strings.Repeat("x", 2000))
				if !errors.Is(err, durable.ErrTooLarge) {
					return "", fmt.Errorf("want ErrTooLarge, got %w", err)
				}
				return "", durable.ContinueAsNew("small")
			}, nil)
			return &Play{Defs: durable.Set{wf}, Options: func(o *durable.Options) { o.MaxPayload = 1000 }, Drive: func(t *T) {
				result(t, wf, start(t, wf, "", "r"), "small")
			}}
		},
	},
	{
		Name:  "continue/atomic",
		Row:   "Continue as new",
		Rule:  "A run ends and the next one begins in one commit: a death between the two is not possible.",
		Needs: []Ability{Killing},
		New: func(env *Env) *Play {
			step := durable.NewStep("step", func(_ context.Context, n int) (int, error) { return n, env.noteOnce("ran", n) }, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (string, error) {
				if _, err := step.Do(ctx, n); err != nil {
					return "", err
				}
				if n == 6 {
					return "end", nil
				}
				if n%2 == 1 {
					if err := durable.Sleep(ctx, env.Hours(1)); err != nil {
						return "", err
					}
				}
				return "", durable.ContinueAsNew(n + 1)
			}, nil)
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				r := start(t, wf, 0, "r")
				for range 3 {
					t.Pass(0.5)
					t.Kill()
				}
				result(t, wf, r, "end")
				runs := try(t.Engine.List(t.Context(), nil)).or(t, "list").Runs
				t.Equal("runs of the chain", len(runs), 7)
				t.Equal("rounds", fmt.Sprint(t.Notes("ran")), "[0 1 2 3 4 5 6]")
			}}
		},
	},
}

// noteOnce is Note for what may rightly be done again after a death.
func (e *Env) noteOnce(kind string, detail any) error {
	for _, n := range e.Notes(kind) {
		if n == fmt.Sprint(detail) {
			return nil
		}
	}
	e.Note(kind, detail)
	return nil
}

var starts = []Scenario{
	{
		Name: "start/same-id-is-the-same-run",
		Row:  "Start",
		Rule: "A start with the id, workflow and input of a run is that run, also when it has finished; with others it is refused, and names the run.",
		New: func(env *Env) *Play {
			wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (int, error) {
				env.Note("ran")
				return n, durable.Sleep(ctx, env.Hours(1))
			}, nil)
			other := durable.NewWorkflow("other", func(_ context.Context, n int) (int, error) { return n, nil }, nil)
			return &Play{Defs: durable.Set{wf, other}, Drive: func(t *T) {
				a := start(t, wf, 1, "a")
				check := func(when string) {
					b := try(wf.Start(t.Context(), t.Engine, 1, &durable.StartOptions{ID: "a"})).or(t, "start again")
					t.Equal("the same start "+when, fmt.Sprint(b.Existing, b.RunID == a.RunID), "true true")
					var te *durable.TakenError
					_, err := wf.Start(t.Context(), t.Engine, 2, &durable.StartOptions{ID: "a"})
					if t.Is("another input "+when, err, durable.ErrIDTaken); !errors.As(err, &te) || te.RunID != a.RunID {
						t.Errorf("another input %s: %#v does not name the run", when, err)
					}
					_, err = other.Start(t.Context(), t.Engine, 1, &durable.StartOptions{ID: "a"})
					t.Is("another workflow "+when, err, durable.ErrIDTaken)
				}
				check("while it runs")
				result(t, wf, a, 1)
				check("after its end")
				t.Restart()
				check("after a restart")
				if t.Count("ran") == 0 {
					t.Errorf("the code did not run")
				}
			}}
		},
	},
	{
		Name: "start/reuse-policies",
		Row:  "Start",
		Rule: "A reuse policy says whether a finished run's id may be used again.",
		New: func(env *Env) *Play {
			wf := durable.NewWorkflow("wf", func(_ context.Context, n int) (int, error) {
				if n < 0 {
					return 0, errors.New("negative")
				}
				return n, nil
			}, nil)
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				begin := func(n int, id string, p durable.ReusePolicy) *durable.Run {
					r := try(wf.Start(t.Context(), t.Engine, n, &durable.StartOptions{ID: id, Reuse: p})).or(t, "start "+id)
					_, _ = r.Result(t.Context())
					return r
				}
				ok := begin(1, "ok", "")
				t.Equal("ReuseFailed of a completed run", begin(1, "ok", durable.ReuseFailed).RunID, ok.RunID)
				if r := begin(3, "ok", durable.ReuseAllow); r.RunID == ok.RunID || r.Existing {
					t.Errorf("ReuseAllow of a completed run: %+v", r)
				}
				bad := begin(-1, "bad", "")
				t.Equal("the same start of a failed run", begin(-1, "bad", "").RunID, bad.RunID)
				if r := begin(-1, "bad", durable.ReuseFailed); r.RunID == bad.RunID || r.Existing {
					t.Errorf("ReuseFailed of a failed run: %+v", r)
				}
				_, err := wf.Start(t.Context(), t.Engine, 1, &durable.StartOptions{ID: "ok", Reuse: "bogus"})
				t.Is("an unknown policy", err, durable.ErrBadInput)
			}}
		},
	},
	{
		Name: "start/key",
		Row:  "Start",
		Rule: "A key makes the start itself repeatable, whatever the id.",
		New: func(env *Env) *Play {
			wf := durable.NewWorkflow("wf", func(_ context.Context, n int) (int, error) { return n, nil }, nil)
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				begin := func(n int) (*durable.Run, error) {
					return wf.Start(t.Context(), t.Engine, n, &durable.StartOptions{Key: "k"})
				}
				a := try(begin(5)).or(t, "start")
				t.Restart()
				b := try(begin(5)).or(t, "start again")
				t.Equal("the same key", fmt.Sprint(b.Existing, a.RunID == b.RunID), "true true")
				_, err := begin(6)
				t.Is("the same key with another input", err, durable.ErrIDTaken)
				result(t, wf, b, 5)
			}}
		},
	},
	{
		Name: "start/many-at-once",
		Row:  "Start",
		Rule: "Many starts of one id at once make one run.",
		New: func(env *Env) *Play {
			step := durable.NewStep("step", func(context.Context, none) (string, error) { env.Note("ran"); return "done", nil }, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) { return step.Do(ctx, none{}) }, nil)
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				for range 20 {
					t.Go(func() {
						r := try(wf.Start(t.Context(), t.Engine, none{}, &durable.StartOptions{ID: "one", Key: "key"})).or(t, "start")
						t.Note("run", r.RunID)
					})
				}
				t.OK("wait for the starts", t.Wait(t.Context(), "run", 20))
				ids := map[string]bool{}
				for _, id := range t.Notes("run") {
					ids[id] = true
				}
				t.Equal("runs", len(ids), 1)
				result(t, wf, t.Engine.Run("one", ""), "done")
				t.Equal("how often the step ran", t.Count("ran"), 1)
			}}
		},
	},
	{
		Name: "start/delay",
		Row:  "Start",
		Rule: "A delayed run is there at once, takes signals, and its code begins when the delay is over.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[string]("s")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				i, _ := durable.InfoOf(ctx)
				late := durable.Now(ctx).Sub(i.Started) >= env.Hours(3)
				s, err := sig.Receive(ctx)
				return fmt.Sprint(s, " ", late), err
			}, takes(sig))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := try(wf.Start(t.Context(), t.Engine, none{}, &durable.StartOptions{ID: "r", Delay: env.Hours(3)})).or(t, "start")
				t.OK("send", sig.Send(t.Context(), r, "early", nil))
				t.Equal("state", t.Describe(r).State, durable.Running)
				t.Pass(1)
				t.Restart()
				result(t, wf, r, "early true")
			}}
		},
	},
	{
		Name:  "start/acknowledged-survives",
		Row:   "Start",
		Rule:  "A start that was acknowledged is on disk.",
		Needs: []Ability{Killing},
		New: func(env *Env) *Play {
			wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (int, error) { return n, durable.Sleep(ctx, env.Hours(1)) }, nil)
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				for i := range 3 {
					start(t, wf, i, fmt.Sprint("r", i))
					t.Kill()
				}
				for i := range 3 {
					result(t, wf, t.Engine.Run(fmt.Sprint("r", i), ""), i)
				}
			}}
		},
	},
	{
		Name: "start/refused",
		Row:  "Start",
		Rule: "A workflow that is not defined, an input that does not fit, a negative time and an id that is not plain text are refused, and leave nothing.",
		New: func(env *Env) *Play {
			wf := durable.NewWorkflow("wf", func(_ context.Context, n int) (int, error) { return n, nil }, nil)
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				_, err := t.Engine.Start(t.Context(), "nowhere", nil, nil)
				t.Is("a workflow that is not defined", err, durable.ErrNotDefined)
				_, err = t.Engine.Start(t.Context(), "wf", json.RawMessage(`"x"`), nil)
				t.Is("an input that does not fit", err, durable.ErrBadInput)
				_, err = wf.Start(t.Context(), t.Engine, 1, &durable.StartOptions{Timeout: -1})
				t.Is("a negative timeout", err, durable.ErrBadInput)
				for _, id := range []string{"a\x00b", "a\nb", strings.Repeat("x", 501)} {
					_, err := wf.Start(t.Context(), t.Engine, 1, &durable.StartOptions{ID: id})
					t.Is(fmt.Sprintf("id %.10q", id), err, durable.ErrBadInput)
				}
				t.Equal("runs", len(try(t.Engine.List(t.Context(), nil)).or(t, "list").Runs), 0)
				if odd := "é/\"quoted\" 注文"; t.Can(AnyID) {
					result(t, wf, start(t, wf, 7, odd), 7)
				} else {
					_, err := wf.Start(t.Context(), t.Engine, 7, &durable.StartOptions{ID: odd})
					t.Is("an id beyond the engine", err, durable.ErrBadInput)
				}
			}}
		},
	},
}
