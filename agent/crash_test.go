package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

var turns = flag.Int("turns", 3, "turns of the agent that is killed at every commit")

var seeds = flag.Uint64("seeds", 200, "random scripts of a model")

// outside is what survives the death of the process: what tools did, and what
// was asked.
type outside struct {
	mu    sync.Mutex
	did   map[string]int // by tool and arguments
	keys  map[string]string
	asked map[string]bool // turns of the model
	twice []string
}

func (o *outside) do(ctx context.Context, what string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.did[what]++
	if i, ok := durable.StepInfoOf(ctx); ok {
		if had := o.keys[what]; had != "" && had != i.Key {
			o.twice = append(o.twice, what+" has two effect keys")
		}
		o.keys[what] = i.Key
	}
	return "did " + what
}

// TestAnAgentIsKilledAtEveryCommit lets the process die wherever it can in the
// life of an agent with parallel tools, also while it recovers. For more:
//
//	go test ./agent -run Killed -turns 10 -timeout 1h
func TestAnAgentIsKilledAtEveryCommit(t *testing.T) {
	t.Parallel()
	rep := durabletest.Sweep(t, func() *durabletest.World {
		o := &outside{did: map[string]int{}, keys: map[string]string{}, asked: map[string]bool{}}
		w := &durabletest.World{}
		type arg struct {
			N int `json:"n"`
		}
		tool := func(name string, opts *agent.FuncOptions) *agent.Tool {
			return agent.Func(name, "", func(ctx context.Context, a arg) (string, error) {
				w.Point("before " + name)
				s := o.do(ctx, fmt.Sprint(name, " ", a.N))
				w.Point("after " + name)
				return s, nil
			}, opts)
		}
		a := agent.New("worker", agent.Config{Instruction: "Work.", Tools: []*agent.Tool{
			tool("write", nil), tool("read", &agent.FuncOptions{ReadOnly: true}),
		}})
		// The model counts its turns by the conversation, and notes which answer
		// the run has heard of: who asks for it again would pay for it again.
		script := llmtest.New(llmtest.Answer{Always: true, Func: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
			w.Point("model")
			o.mu.Lock()
			defer o.mu.Unlock()
			n := 0
			for _, m := range r.Messages {
				if m.Role == llm.RoleModel {
					n++
				}
			}
			if o.asked[fmt.Sprint("turn ", n+1)] {
				o.twice = append(o.twice, fmt.Sprintf("turn %d is asked for after turn %d", n, n+1))
			}
			o.asked[fmt.Sprint("turn ", n)] = true
			if n == *turns-1 {
				return reply(llm.Part{Text: "done"}), nil
			}
			var parts []llm.Part
			for i, name := range []string{"write", "read", "write"} {
				c := call(fmt.Sprint("c", n, "_", i), name, fmt.Sprintf(`{"n":%d}`, 10*n+i))
				parts = append(parts, llm.Part{Call: &c})
			}
			return reply(parts...), nil
		}})
		w.Defs = durable.Set{a, agent.Models{script}}
		w.Drive = func(ctx context.Context, e *durable.Engine) (string, error) {
			run, err := agent.Start(ctx, e, a, &durable.StartOptions{ID: "work"}, "Go.")
			if err != nil {
				return "", err
			}
			res, err := agent.ResultOf(ctx, run)
			if err != nil {
				return "", err
			}
			return fmt.Sprint(res.Text(), " ", res.Turns, " ", res.Calls), nil
		}
		w.Check = func(t *testing.T, result string, died bool) {
			sound(t, script)
			if want := fmt.Sprint("done ", *turns, " ", 3*(*turns-1)); result != want {
				t.Errorf("result %q, want %q", result, want)
			}
			for what, n := range o.did {
				if strings.HasPrefix(what, "write") && n > 1 {
					t.Errorf("%s: done %d times", what, n)
				}
			}
			if !died && len(o.did) != 3*(*turns-1) {
				t.Errorf("an undisturbed life did %d things", len(o.did))
			}
			if o.twice != nil {
				t.Error(strings.Join(o.twice, "\n"))
			}
			// A death costs one answer at most, that which was under way.
			if n := len(script.Requests()); n > *turns+3 {
				t.Errorf("%d requests for %d turns", n, *turns)
			}
		}
		return w
	})
	t.Logf("%d turns: %d points, %d commits, %d lives, %d deaths", *turns, rep.Points, rep.Commits, rep.Lives, rep.Deaths)
}

// TestEveryCallHasOneResult plays random models against random tools, people
// and cancels: whatever happens, each request is one that a provider takes. For
// more: -seeds 10000.
func TestEveryCallHasOneResult(t *testing.T) {
	t.Parallel()
	for seed := range *seeds {
		c := newChaos(seed, time.Hour)
		synctest.Test(t, func(t *testing.T) {
			script := llmtest.NewScenes(c.scene)
			e, err := durable.NewMemory(context.Background(), &durable.Options{Logger: quiet, MaxAwake: c.awake}, c.agent, agent.Models{script})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(c.play(t.Context(), e, script), script.Problems(), e.Close(context.Background())); err != nil {
				t.Errorf("%v: %v", c, err)
			}
		})
	}
}

// TestEveryCallHasOneResultOnEachEngine is the same in real time, where an hour
// is short: many runs at once, on a file and on a cluster too.
func TestEveryCallHasOneResultOnEachEngine(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, s *store) {
		var all []*chaos
		var defs []durable.Definer
		var scenes []llmtest.Scene
		for seed := range min(*seeds/4, 500) {
			c := newChaos(seed, 50*time.Millisecond)
			all, defs, scenes = append(all, c), append(defs, c.agent), append(scenes, c.scene)
		}
		script := llmtest.NewScenes(scenes...)
		s.begin(append(defs, agent.Models{script})...)
		var wg sync.WaitGroup
		places := make(chan bool, 20) // more of them is a test of the server
		for _, c := range all {
			places <- true
			wg.Go(func() {
				defer func() { <-places }()
				if err := c.play(s.ctx, s.eng, script); err != nil {
					t.Errorf("%v: %v", c, err)
				}
			})
		}
		wg.Wait()
		sound(t, script)
	})
}

// chaos is a random model with its tools and its people.
type chaos struct {
	seed        uint64
	hour        time.Duration // how long one takes
	plan        [][]string    // calls, by turn
	approvals   []int         // what people do when they look
	budget      agent.Budget
	cancelAfter time.Duration
	awake       int
	agent       *agent.Agent
	scene       llmtest.Scene
}

func (c *chaos) String() string {
	return fmt.Sprintf("seed %d: calls %v, budget %+v, cancel after %v, awake %d, approvals %v", c.seed, c.plan, c.budget, c.cancelAfter, c.awake, c.approvals)
}

type number struct {
	N int `json:"n"`
}

// naps is a child run that takes a while.
var naps = durable.NewWorkflow("child", func(ctx context.Context, a struct {
	number
	For time.Duration `json:"for,omitempty"`
}) (string, error) {
	return "slept", durable.Sleep(ctx, a.For)
}, nil)

func newChaos(seed uint64, hour time.Duration) *chaos {
	kinds := []string{"ok", "fails", "panics", "lost", "asked", "denied", "slow", "child", "missing", "bad", "misfit"}
	r := rand.New(rand.NewPCG(seed, 1))
	c := &chaos{seed: seed, hour: hour, plan: make([][]string, 1+r.IntN(6)), approvals: make([]int, 24)}
	for i := range c.plan {
		for range 1 + r.IntN(4) {
			c.plan[i] = append(c.plan[i], kinds[r.IntN(len(kinds))])
		}
	}
	for i := range c.approvals {
		c.approvals[i] = r.IntN(4)
	}
	c.budget = []agent.Budget{{}, {Turns: 3}, {Calls: 4}}[r.IntN(3)]
	c.cancelAfter = []time.Duration{0, 0, hour / 60, hour * 3 / 2}[r.IntN(4)]
	c.awake = -r.IntN(2)
	fn := func(name string, f func(ctx context.Context) (string, error), o *agent.FuncOptions) *agent.Tool {
		return agent.Func(name, "", func(ctx context.Context, _ number) (string, error) { return f(ctx) }, o)
	}
	name := fmt.Sprintf("chaos-%05d", seed)
	c.agent = agent.New(name, agent.Config{Instruction: name, Budget: c.budget, Policy: agent.Policy{{Tool: "denied", Do: agent.Deny}}, Tools: []*agent.Tool{
		fn("ok", func(context.Context) (string, error) { return "fine", nil }, nil),
		fn("fails", func(context.Context) (string, error) { return "", errors.New("no") }, nil),
		fn("panics", func(context.Context) (string, error) { panic("ouch") }, nil),
		fn("lost", func(context.Context) (string, error) { return "", durable.OutcomeUnknown(errors.New("gone")) }, nil),
		fn("asked", func(context.Context) (string, error) { return "fine", nil }, &agent.FuncOptions{Destructive: true}),
		fn("denied", func(context.Context) (string, error) { return "", errors.New("it was called") }, nil),
		fn("slow", func(ctx context.Context) (string, error) {
			select {
			case <-time.After(hour):
				return "late", nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}, &agent.FuncOptions{Idempotent: true}),
		agent.Workflow(naps, nil),
	}})
	c.scene.System = name
	for i, names := range c.plan {
		var as []llm.ToolCall
		for j, name := range names {
			n := 10*i + j
			call := llm.ToolCall{Name: name, Args: json.RawMessage(fmt.Sprintf(`{"n":%d}`, n))}
			switch name {
			case "bad":
				call.Name, call.Args, call.Bad = "ok", json.RawMessage(`"{"`), "not JSON"
			case "misfit":
				call.Name, call.Args = "ok", json.RawMessage(fmt.Sprintf(`{"m":%d}`, n))
			case "child":
				call.Args = json.RawMessage(fmt.Sprintf(`{"n":%d,"for":%d}`, n, hour))
			}
			as = append(as, call)
		}
		c.scene.Answers = append(c.scene.Answers, llmtest.Answer{Calls: as})
	}
	c.scene.Answers = append(c.scene.Answers, llmtest.Answer{Always: true, Text: "done"})
	return c
}

// play plays it as a run: people look a minute after another.
func (c *chaos) play(ctx context.Context, e *durable.Engine, script *llmtest.Script) error {
	run, err := agent.Start(ctx, e, c.agent, nil, "Go.")
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { _, err := agent.ResultOf(ctx, run); ended <- err }()
	tick := time.NewTicker(max(c.hour/60, 20*time.Millisecond))
	defer tick.Stop()
	began, n := time.Now(), 0
	for done := false; !done; {
		select {
		case err = <-ended:
			done = true
		case <-tick.C:
			d, derr := run.Describe(ctx)
			if derr != nil {
				return derr
			}
			for _, q := range d.Questions {
				n++
				var a agent.Approval
				switch c.approvals[n%len(c.approvals)] {
				case 0:
					a.Approve = true
				case 2:
					a = agent.Approval{Approve: true, Args: json.RawMessage(`{"x":1}`)}
				case 3:
					continue // later, perhaps
				}
				if err := agent.Approvals.Answer(ctx, e, q.ID, a, &durable.AnswerOptions{Digest: q.Digest}); err != nil && !errors.Is(err, durable.ErrFinished) {
					return err
				}
			}
			if c.cancelAfter > 0 && time.Since(began) > c.cancelAfter {
				if err := run.Cancel(ctx, "enough"); err != nil && !errors.Is(err, durable.ErrFinished) {
					return err
				}
			}
		}
	}
	cancelled := errors.Is(err, context.Canceled) && ctx.Err() == nil
	if err != nil && !errors.Is(err, agent.ErrMistakes) && !(cancelled && c.cancelAfter > 0) {
		return err
	}
	if err != nil {
		return nil
	}
	return c.hold(script)
}

// hold holds the last request of a run that came to its end against the rules.
func (c *chaos) hold(script *llmtest.Script) error {
	var last *llm.Request
	for _, r := range script.Requests() {
		if strings.Contains(r.System, c.scene.System) && (last == nil || len(r.Messages) >= len(last.Messages)) {
			last = r
		}
	}
	results := map[string]int{}
	for _, m := range last.Messages {
		for _, p := range m.Parts {
			switch {
			case p.Call != nil:
				results[p.Call.ID]--
			case p.Result == nil:
			case p.Result.Name == "denied" && strings.Contains(p.Result.Text(), "it was called"):
				return errors.New("a denied tool was called")
			default:
				results[p.Result.ID]++
			}
		}
	}
	for id, n := range results {
		if n != 0 {
			return fmt.Errorf("call %s has %d results", id, n+1)
		}
	}
	return nil
}

// A run that was cancelled while a tool's outcome got lost was one that failed.
func TestACancelledRunWhoseToolIsLost(t *testing.T) {
	t.Parallel()
	for _, calls := range [][]string{{"lost", "{}"}, {"lost", "{}", "sum", `{"a":1,"b":1}`}} {
		began := make(chan struct{}, 10)
		a := agent.New("worker", agent.Config{Tools: []*agent.Tool{sum, agent.Func("lost", "", func(ctx context.Context, _ struct{}) (string, error) {
			began <- struct{}{}
			<-ctx.Done()
			return "", durable.OutcomeUnknown(errors.New("gone"))
		}, nil)}})
		onEngines(t, []llmtest.Answer{llmtest.Calls(calls...)}, func(t *testing.T, w *world) {
			run := w.start(a, "Go.")
			<-began
			if err := run.Cancel(w.ctx, "enough"); err != nil {
				t.Fatal(err)
			}
			_, err := agent.ResultOf(w.ctx, run)
			d, derr := run.Describe(w.ctx)
			if derr != nil || d.State != durable.Cancelled || !errors.Is(err, context.Canceled) {
				t.Errorf("the run is %s: %v, %v", d.State, err, derr)
			}
		}, a)
	}
}

// TestAFunctionWhoseProcessDies runs at most once, and the model hears that
// nobody knows what came of it; one that may be repeated runs until it is done.
func TestAFunctionWhoseProcessDies(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		o            *agent.FuncOptions
		deaths, runs int
		want         string
	}{
		"at most once": {nil, 1, 1, "outcome unknown: pay was called and no result came back. It may have taken effect: verify before repeating it."},
		"idempotent":   {&agent.FuncOptions{Idempotent: true}, 1, 2, "false paid"},
		// It had three attempts, and the model heard that it failed.
		"idempotent, again and again": {&agent.FuncOptions{Idempotent: true}, 3, 4, "false paid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				runs, store, began := 0, durabletest.NewSurvivor(), make(chan struct{})
				a := agent.New("payer", agent.Config{Tools: []*agent.Tool{agent.Func("pay", "", func(ctx context.Context, _ struct{}) (string, error) {
					if runs++; runs <= c.deaths {
						began <- struct{}{}
						<-ctx.Done() // its process is dead
					}
					return "paid", nil
				}, c.o)}})
				script := llmtest.New(llmtest.Call("pay", ""), echo)
				live := func(killed func(string) bool) *durable.Engine {
					e, err := store.Open(t.Context(), &durable.Options{Logger: quiet, MaxDeaths: -1}, killed, a, agent.Models{script})
					if err != nil {
						t.Fatal(err)
					}
					return e
				}
				for range c.deaths {
					var killed atomic.Bool
					e := live(func(string) bool { return killed.Load() })
					if _, err := agent.Start(t.Context(), e, a, &durable.StartOptions{ID: "pay"}, "Pay."); err != nil {
						t.Fatal(err)
					}
					<-began
					killed.Store(true)
					_ = e.Close(context.Background())
				}
				e := live(nil)
				res, err := agent.ResultOf(t.Context(), e.Run("pay", ""))
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(res.Text(), c.want) || runs != c.runs {
					t.Errorf("%d runs: %s", runs, res.Text())
				}
				if err := e.Close(context.Background()); err != nil {
					t.Error(err)
				}
				sound(t, script)
			})
		})
	}
}

// TestAnApprovalOutlivesItsProcess asks in one process, and is answered in
// another, days later.
func TestAnApprovalOutlivesItsProcess(t *testing.T) {
	t.Parallel()
	var removed atomic.Int64
	a := agent.New("remover", agent.Config{Tools: []*agent.Tool{sum, agent.Func("remove", "", func(_ context.Context, f file) (string, error) {
		removed.Add(1)
		return "removed " + f.Path, nil
	}, &agent.FuncOptions{Destructive: true})}})
	script := llmtest.New(llmtest.Calls("sum", `{"a":1,"b":1}`, "remove", `{"path":"a"}`), llmtest.Fail(llm.RateLimit, time.Hour), echo)
	path := filepath.Join(t.TempDir(), "a.db")
	open := func() *durable.Engine {
		e, err := local(t, path, a, agent.Models{script})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := open()
	w := &world{t: t, script: script, eng: e, ctx: t.Context()}
	var question string
	for run := w.start(a, "Remove it."); question == ""; {
		d, err := run.Describe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Questions) > 0 {
			question = d.Questions[0].ID
		}
	}
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	e = open()
	defer func() {
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	qs, err := e.Questions(t.Context(), nil)
	if err != nil || len(qs) != 1 || qs[0].ID != question || removed.Load() != 0 {
		t.Fatalf("%d removed; questions %+v, %v", removed.Load(), qs, err)
	}
	w.eng = e
	w.answer(qs[0], agent.Approval{Approve: true})
	run := e.Run(qs[0].WorkflowID, qs[0].RunID)
	for removed.Load() == 0 || len(script.Requests()) < 2 {
		if _, err := run.Describe(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	sound(t, script)
	if len(script.Requests()) != 2 || removed.Load() != 1 {
		t.Errorf("%d requests, %d removed", len(script.Requests()), removed.Load())
	}
}
