package durabletest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

var published = []Scenario{
	{
		Name: "published/status",
		Row:  "Published values",
		Rule: "A status is visible with the turn that it belongs to, without a replay, also after the end and to a program that lacks the workflow.",
		New: func(env *Env) *Play {
			st := durable.NewStatus[int]("st")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				for i := range 3 {
					st.Set(ctx, i)
					st.Set(ctx, 10+i)
					if err := durable.Sleep(ctx, env.Hours(1)); err != nil {
						return "", err
					}
				}
				return "end", nil
			}, takes(st))
			return &Play{Defs: durable.Set{wf}, Later: []durable.Set{{echo}}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				var seen []int
				t.Until("the last value", func() bool {
					n, ok, err := st.Of(t.Context(), r)
					t.OK("read the status", err)
					if ok && (len(seen) == 0 || seen[len(seen)-1] != n) {
						seen = append(seen, n)
					}
					return n == 12
				})
				for _, n := range seen {
					if n < 10 {
						t.Errorf("a value was seen that was replaced in its own turn: %v", seen)
					}
				}
				result(t, wf, r, "end")
				t.Deploy(1)
				n, ok, err := st.Of(t.Context(), t.Of(r))
				t.Equal("the status of the finished run", fmt.Sprint(n, ok, err), "12 true <nil>")
				t.Deploy(0)
			}}
		},
	},
	{
		Name: "published/stream",
		Row:  "Published values",
		Rule: "What a run appends to a stream is there once, in order, with its offset, while it runs and after; a reader waits for more until the end.",
		New: func(env *Env) *Play {
			str := durable.NewStream[int]("n")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				for i := range 4 {
					for k := range 2 {
						if err := str.Append(ctx, 2*i+k); err != nil {
							return "", err
						}
					}
					if err := durable.Sleep(ctx, env.Hours(1)); err != nil {
						return "", err
					}
				}
				return "end", nil
			}, takes(str))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				read := func(from int64) (out []string) {
					for it, err := range str.Read(t.Context(), t.Of(r), from) {
						t.OK("read", err)
						out = append(out, fmt.Sprint(it.Offset, "=", it.Value))
					}
					return out
				}
				t.Equal("read while it grows", read(3), []string{"3=3", "4=4", "5=5", "6=6", "7=7"})
				result(t, wf, r, "end")
				t.Restart()
				t.Equal("read after the end", read(0), []string{"0=0", "1=1", "2=2", "3=3", "4=4", "5=5", "6=6", "7=7"})
				n := 0
				for _, err := range str.Read(t.Context(), t.Of(r), 0) {
					t.OK("read", err)
					if n++; n == 3 {
						break
					}
				}
				t.Equal("entries before a break", n, 3)
			}}
		},
	},
	{
		Name: "published/blobs",
		Row:  "Published values",
		Rule: "A blob is read by its digest in its own turn, later, by clients, and by steps.",
		New: func(env *Env) *Play {
			read := durable.NewStep("read", func(ctx context.Context, sum string) (string, error) {
				b, err := durable.GetBlob(ctx, sum)
				return string(b), err
			}, nil)
			write := durable.NewStep("write", func(ctx context.Context, s string) (string, error) { return durable.PutBlob(ctx, []byte(s)) }, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				sum, err := durable.PutBlob(ctx, []byte("the content"))
				if err != nil {
					return "", err
				}
				if b, err := durable.GetBlob(ctx, sum); err != nil || string(b) != "the content" {
					return "", fmt.Errorf("in its own turn: %q, %w", b, err)
				}
				s, err := read.Do(ctx, sum)
				if err != nil {
					return "", err
				}
				other, err := write.Do(ctx, "of a step")
				if err != nil {
					return "", err
				}
				b, err := durable.GetBlob(ctx, other)
				return s + ", " + string(b) + ", " + sum, err
			}, nil)
			return &Play{Defs: durable.Set{wf, read, write}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				got := try(wf.Result(t.Context(), r)).or(t, "result")
				said, sum, _ := strings.Cut(got, ", of a step, ")
				t.Equal("what the workflow read", said, "the content")
				t.Restart()
				t.Equal("what a client reads", string(try(t.Engine.GetBlob(t.Context(), sum)).or(t, "get")), "the content")
				mine := try(t.Engine.PutBlob(t.Context(), t.Of(r), nil)).or(t, "put")
				t.Equal("an empty blob", len(try(t.Engine.GetBlob(t.Context(), mine)).or(t, "get")), 0)
				_, err := t.Engine.GetBlob(t.Context(), strings.Repeat("0", 64))
				t.Is("an unknown blob", err, durable.ErrNotFound)
			}}
		},
	},
	{
		Name: "published/lent",
		Row:  "Published values",
		Rule: "What a run lends is read by its steps, also when the run was put away and the step is sent again in another process, and is not stored. What definitions provide is found in workflows and steps.",
		New: func(env *Env) *Play {
			table := &lentTable{name: "of the program"}
			read := durable.NewStep("read", func(ctx context.Context, sum string) (string, error) {
				if _, err := durable.GetBlob(ctx, strings.Repeat("0", 64)); !errors.Is(err, durable.ErrNotFound) {
					return "", fmt.Errorf("what nobody lent: %w", err)
				}
				b, err := durable.GetBlob(ctx, sum)
				p, _ := durable.Provided[*lentTable](ctx)
				return string(b) + " " + p.name, err
			}, &durable.StepOptions{Retry: &durable.Retry{MaxAttempts: 1}})
			late := durable.NewStep("late", func(ctx context.Context, sum string) (string, error) {
				if i, _ := durable.StepInfoOf(ctx); i.Attempt == 1 {
					return "", durable.RetryAfter(env.Hours(2), errors.New("later"))
				}
				b, err := durable.GetBlob(ctx, sum)
				return string(b), err
			}, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				p, _ := durable.Provided[*lentTable](ctx)
				sum, err := durable.LendBlob(ctx, []byte("lent"))
				if err != nil {
					return "", err
				}
				if b, err := durable.GetBlob(ctx, sum); err != nil || string(b) != "lent" {
					return "", fmt.Errorf("in its own turn: %q, %w", b, err)
				}
				one, err := read.Do(ctx, sum)
				if err != nil {
					return "", err
				}
				two, err := late.Do(ctx, sum)
				return one + ", " + two + ", " + p.name, err
			}, nil)
			return &Play{Defs: durable.Set{wf, read, late, table}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Pass(1)
				t.Restart()
				result(t, wf, r, "lent of the program, lent, of the program")
				_, err := t.Engine.GetBlob(t.Context(), durable.BlobDigest([]byte("lent")))
				t.Is("what is lent is not kept", err, durable.ErrNotFound)
			}}
		},
	},
	{
		Name: "published/log-lines",
		Row:  "Commit before effect",
		Rule: "A log line of a workflow is written once, when its turn is on disk: not in replays, queries or deferred functions of a run that is put away.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[string]("s")
			q := durable.NewQuery[none, int]("q")
			step := durable.NewStep("step", func(ctx context.Context, _ none) (int, error) {
				durable.Logger(ctx).Info("mark step")
				return 1, nil
			}, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				log := durable.Logger(ctx).With("a", 1).WithGroup("g")
				defer log.Info("mark end")
				_ = q.Handle(ctx, func(none) (int, error) { log.Info("mark query"); return 1, nil })
				log.Info("mark first")
				if env.Count("log") > 0 && env.Count("replayed") == 0 && env.Notes("log")[0] != "mark first" {
					return "", errors.New("a line came before its turn was committed")
				}
				if _, err := step.Do(ctx, none{}); err != nil {
					return "", err
				}
				log.Info("mark second")
				s, err := sig.Receive(ctx)
				if err != nil {
					return "", err
				}
				log.Info("mark third")
				return s, nil
			}, takes(sig, q))
			return &Play{Defs: durable.Set{wf, step},
				Options: func(o *durable.Options) { o.Logger = slog.New(noteHandler{env: env}) },
				Drive: func(t *T) {
					r := start(t, wf, none{}, "r")
					t.Waits(r, "signal")
					t.Restart()
					_ = try(q.Ask(t.Context(), t.Of(r), none{})).or(t, "ask")
					t.OK("send", sig.Send(t.Context(), t.Of(r), "go", nil))
					result(t, wf, r, "go")
					_ = try(q.Ask(t.Context(), t.Of(r), none{})).or(t, "ask") // replays all of it
					t.Settle()
					t.Equal("lines", t.Notes("log"), []string{"mark first", "mark step", "mark second", "mark third", "mark end"})
				}}
		},
	},
}

// noteHandler notes the marked lines of a log.
type noteHandler struct {
	slog.Handler
	env *Env
}

func (h noteHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h noteHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h noteHandler) WithGroup(string) slog.Handler            { return h }
func (h noteHandler) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "mark ") {
		h.env.Note("log", r.Message)
	}
	return nil
}

// tenant carries the value of tenantKey.
type tenant struct{}

type tenantKey struct{}

func (tenant) Key() string { return "tenant" }
func (tenant) Extract(ctx context.Context) string {
	s, _ := ctx.Value(tenantKey{}).(string)
	return s
}
func (tenant) Inject(ctx context.Context, v string) context.Context {
	return context.WithValue(ctx, tenantKey{}, v)
}

var lists = []Scenario{
	{
		Name: "context/values-cross-by-propagators",
		Row:  "Context values",
		Rule: "A context's values never cross into runs, steps and children, unless a propagator carries them; over continue-as-new and a restart too.",
		New: func(env *Env) *Play {
			show := func(ctx context.Context) string {
				return fmt.Sprint(ctx.Value(tenantKey{}), " ", ctx.Value(ctxKey{}), " ", durable.TraceOf(ctx))
			}
			step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) { return show(ctx), nil }, nil)
			kid := durable.NewWorkflow("kid", func(ctx context.Context, n int) (string, error) {
				if n == 0 {
					return "", durable.ContinueAsNew(1)
				}
				s, err := step.Do(ctx, none{})
				return show(ctx) + ", " + s, err
			}, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				if err := durable.Sleep(ctx, env.Hours(2)); err != nil {
					return "", err
				}
				in := context.WithValue(ctx, ctxKey{}, "mine")
				a, err := step.Do(in, none{})
				if err != nil {
					return "", err
				}
				b, err := kid.Run(in, 0)
				return show(ctx) + ", " + a + ", " + b, err
			}, nil)
			return &Play{Defs: durable.Set{wf, kid, step},
				Options: func(o *durable.Options) { o.Propagators = []durable.Propagator{tenant{}} },
				Drive: func(t *T) {
					ctx := durable.WithTrace(t.Context(), "00-t")
					ctx = context.WithValue(context.WithValue(ctx, tenantKey{}, "acme"), ctxKey{}, "caller")
					r := try(wf.Start(ctx, t.Engine, none{}, &durable.StartOptions{ID: "r"})).or(t, "start")
					t.Pass(1)
					t.Restart()
					one := "acme <nil> 00-t"
					result(t, wf, r, strings.Join([]string{one, one, one, one}, ", "))
				}}
		},
	},
	{
		Name: "list/filters-and-pages",
		Row:  "List",
		Rule: "Runs are listed newest first, by workflow, id, state, time and tags, in pages without gaps or repeats.",
		New: func(env *Env) *Play {
			a := durable.NewWorkflow("a", func(ctx context.Context, _ none) (string, error) { return "", durable.Sleep(ctx, env.Hours(200)) }, nil)
			b := durable.NewWorkflow("b", func(context.Context, none) (string, error) { return "", errors.New("x") }, nil)
			return &Play{Defs: durable.Set{a, b}, Drive: func(t *T) {
				var mid time.Time
				for i := range 12 {
					tags := map[string]string{"parity": fmt.Sprint(i % 2), "n": fmt.Sprint(i)}
					_, err := a.Start(t.Context(), t.Engine, none{}, &durable.StartOptions{ID: fmt.Sprint("a", i), Tags: tags, Memo: []byte(fmt.Sprintf(`{"i":%d}`, i))})
					t.OK("start", err)
					if i == 4 {
						t.Pass(0.5)
						mid = t.Describe(t.Engine.Run("a4", "")).Created.Add(env.Hours(0.25))
					}
				}
				bad := start(t, b, none{}, "b")
				_, _ = bad.Result(t.Context())
				for i := range 3 {
					t.OK("pause", t.Engine.Run(fmt.Sprint("a", 11-i), "").Pause(t.Context(), nil))
				}
				ids := func(f durable.Filter) (out []string, pages int) {
					for {
						p := try(t.Engine.List(t.Context(), &f)).or(t, "list")
						pages++
						for _, d := range p.Runs {
							out = append(out, d.WorkflowID)
						}
						if p.Next == "" || pages > 50 {
							return out, pages
						}
						f.Cursor = p.Next
					}
				}
				for _, c := range []struct {
					what        string
					f           durable.Filter
					n, pages    int
					first, last string
				}{
					{"all", durable.Filter{}, 13, 1, "b", "a0"},
					{"all in pages", durable.Filter{Limit: 5}, 13, 3, "b", "a0"},
					{"whole pages", durable.Filter{Workflow: "a", Limit: 4}, 12, 3, "a11", "a0"},
					{"id", durable.Filter{WorkflowID: "a7"}, 1, 1, "a7", "a7"},
					{"tag", durable.Filter{Tags: map[string]string{"parity": "1"}, Limit: 4}, 6, 2, "a11", "a1"},
					{"tags", durable.Filter{Tags: map[string]string{"parity": "1", "n": "3"}}, 1, 1, "a3", "a3"},
					{"paused", durable.Filter{States: []durable.State{durable.Paused}, Limit: 2}, 3, 2, "a11", "a9"},
					{"running", durable.Filter{States: []durable.State{durable.Running}}, 9, 1, "a8", "a0"},
					{"failed or paused", durable.Filter{States: []durable.State{durable.Failed, durable.Paused}}, 4, 1, "b", "a9"},
					{"young", durable.Filter{CreatedAfter: mid}, 8, 1, "b", "a5"},
					{"old", durable.Filter{CreatedBefore: mid}, 5, 1, "a4", "a0"},
				} {
					got, pages := ids(c.f)
					ends := len(got) == 0 || got[0] == c.first && got[len(got)-1] == c.last
					if !t.Can(Newest) {
						ends = slices.Contains(got, c.first) == (c.n > 0) && slices.Contains(got, c.last) == (c.n > 0)
					}
					if len(got) != c.n || pages != c.pages || !ends {
						t.Errorf("%s: %d runs on %d pages %v; want %d on %d, %s to %s", c.what, len(got), pages, got, c.n, c.pages, c.first, c.last)
					}
				}
				d := t.Describe(t.Engine.Run("a3", ""))
				t.Equal("tags and memo", d.Tags["n"]+string(d.Memo), `3{"i":3}`)
				_, err := t.Engine.List(t.Context(), &durable.Filter{Cursor: "x"})
				t.Is("a cursor that is none", err, durable.ErrBadInput)
			}}
		},
	},
	{
		Name: "list/describe-says-what-a-run-waits-for",
		Row:  "List",
		Rule: "Describe never lags, and says what a run waits for.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("go")
			ask := durable.NewQuestion[int]("q")
			step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) { return "", ended(ctx) }, &durable.StepOptions{Timeout: env.Hours(100)})
			kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (string, error) { return "", durable.Sleep(ctx, env.Hours(100)) }, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				g, _ := durable.NewGroup(ctx, nil)
				g.Go(func(ctx context.Context) error { return durable.Sleep(ctx, env.Hours(100)) })
				g.Go(func(ctx context.Context) error { return durable.Await(ctx, func() bool { return false }) })
				g.Go(func(ctx context.Context) error { _, err := sig.Receive(ctx); return err })
				g.Go(func(ctx context.Context) error { _, err := ask.Ask(ctx, "Well?", nil); return err })
				g.Go(func(ctx context.Context) error { return do(ctx, step) })
				g.Go(func(ctx context.Context) error { _, err := kid.Run(ctx, none{}); return err })
				return "", g.Wait()
			}, takes(sig, ask))
			return &Play{Defs: durable.Set{wf, kid, step}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Waits(r, "child")
				for _, when := range []string{"first", "after a restart"} {
					have := map[string]string{}
					for _, w := range t.Describe(r).Waiting {
						have[w.Kind] = w.Name
						if w.Text == "" {
							t.Errorf("%s: a wait without a text: %+v", when, w)
						}
					}
					t.Equal("waits "+when, have, map[string]string{"timer": "sleep", "condition": "", "signal": "go", "question": "q", "step": "step", "child": "kid"})
					t.Restart()
				}
				t.OK("terminate", t.Of(r).Terminate(t.Context(), ""))
				t.Equal("waits of a finished run", len(t.Describe(r).Waiting), 0)
			}}
		},
	},
	{
		Name: "list/owners-are-kept-apart",
		Row:  "List",
		Rule: "Whoever acts for an owner sees and touches that owner's runs only; what belongs to others is not found.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("s")
			ask := durable.NewQuestion[int]("ask")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
				a, err := ask.Ask(ctx, "?", nil)
				if err != nil {
					return 0, err
				}
				return a.Value, nil
			}, takes(sig, ask))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				ann := durable.WithActor(t.Context(), durable.Actor{Name: "ann", Owner: "a"})
				bob := durable.WithActor(t.Context(), durable.Actor{Name: "bob", Owner: "b"})
				r := try(wf.Start(ann, t.Engine, none{}, &durable.StartOptions{ID: "w"})).or(t, "start")
				q := question(t)
				t.Equal("owner of the question", q.Owner, "a")
				result := func(ctx context.Context) error { _, err := r.Result(ctx); return err }
				describe := func(ctx context.Context) error { _, err := r.Describe(ctx); return err }
				history := func(ctx context.Context) error { _, err := r.History(ctx); return err }
				for what, op := range map[string]func(ctx context.Context) error{
					"result": result, "describe": describe, "history": history,
					"signal":    func(ctx context.Context) error { return sig.Send(ctx, r, 1, nil) },
					"pause":     func(ctx context.Context) error { return r.Pause(ctx, nil) },
					"cancel":    func(ctx context.Context) error { return r.Cancel(ctx, "") },
					"terminate": func(ctx context.Context) error { return r.Terminate(ctx, "") },
					"answer":    func(ctx context.Context) error { return ask.Answer(ctx, t.Engine, q.ID, 1, nil) },
				} {
					t.Is(what+" of another owner's run", op(bob), durable.ErrNotFound)
				}
				t.Equal("bob's list", len(try(t.Engine.List(bob, nil)).or(t, "list").Runs), 0)
				t.Equal("ann's list", len(try(t.Engine.List(ann, nil)).or(t, "list").Runs), 1)
				t.Equal("bob's inbox", len(try(t.Engine.Questions(bob, nil)).or(t, "questions")), 0)
				_, err := wf.Start(bob, t.Engine, none{}, &durable.StartOptions{ID: "w"})
				if t.Is("a start with ann's id", err, durable.ErrIDTaken); strings.Contains(fmt.Sprint(err), r.RunID) {
					t.Errorf("the refusal tells another owner's run id: %v", err)
				}
				t.OK("answer", ask.Answer(ann, t.Engine, q.ID, 7, nil))
				got, err := wf.Result(ann, r)
				t.Equal("result", fmt.Sprint(got, err), "7 <nil>")
			}}
		},
	},
}

// lentTable is a value of a program that its code finds.
type lentTable struct{ name string }

// Define implements [durable.Definer].
func (l *lentTable) Define(d *durable.Definitions) { d.Provide(l) }
