package agent_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

// adds calls sum with another pair in each turn.
var adds = llmtest.Answer{Always: true, Func: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
	n := len(r.Messages)
	if r.Choice == llm.ToolNone {
		return reply(llm.Part{Text: "that is all"}), nil
	}
	a, b := call(fmt.Sprint("a", n), "sum", fmt.Sprintf(`{"a":%d,"b":1}`, n)), call(fmt.Sprint("b", n), "sum", fmt.Sprintf(`{"a":%d,"b":2}`, n))
	return reply(llm.Part{Call: &a}, llm.Part{Call: &b}), nil
}}

func TestBudgets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		b            agent.Budget
		stop         llm.StopReason
		turns, calls int
	}{
		"turns":    {agent.Budget{Turns: 4}, agent.StopTurns, 4, 6},
		"one turn": {agent.Budget{Turns: 1}, agent.StopTurns, 1, 0},
		"calls":    {agent.Budget{Calls: 3}, agent.StopCalls, 3, 3},
		"tokens":   {agent.Budget{Tokens: 22}, agent.StopTokens, 3, 4},
		"default":  {agent.Budget{}, agent.StopTurns, 50, 98},
		"no limit": {agent.Budget{Turns: -1, Calls: 120}, agent.StopCalls, 61, 120},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := agent.New("adder", agent.Config{Instruction: "Add.", Tools: []*agent.Tool{sum}, Budget: c.b})
			everywhere(t, []llmtest.Answer{adds}, func(t *testing.T, w *world) {
				res, err := w.run(a, "Go.")
				if err != nil {
					t.Fatal(err)
				}
				asked := w.script.Requests()
				if res.Stop != c.stop || res.Turns != c.turns || res.Calls != c.calls || res.Text() != "that is all" || len(asked) != c.turns {
					t.Errorf("%d requests, %+v", len(asked), res)
				}
				last := asked[len(asked)-1]
				if last.Choice != llm.ToolNone || len(last.Tools) != 1 || !strings.Contains(last.System, "Add.") || !strings.Contains(last.System, "limit") {
					t.Errorf("the last request: %+v", last)
				}
			}, a)
		})
	}
}

// A model that calls tools in its last turn leaves no call without a result,
// also for who goes on with the conversation.
func TestCallsInTheLastTurn(t *testing.T) {
	t.Parallel()
	a := agent.New("adder", agent.Config{Tools: []*agent.Tool{sum}, Budget: agent.Budget{Turns: 2}})
	stubborn := llmtest.Answer{Always: true, Text: "So far: ", Calls: []llm.ToolCall{{Name: "sum", Args: []byte(`{"a":1,"b":1}`)}}}
	everywhere(t, []llmtest.Answer{stubborn}, func(t *testing.T, w *world) {
		res, err := w.run(a, "Go.")
		if err != nil {
			t.Fatal(err)
		}
		if res.Text() != "So far: " || res.Message.Calls() != nil || res.Stop != agent.StopTurns {
			t.Errorf("%+v", res)
		}
		if _, err := w.run(a, "Go.", res.Messages(), "And now?"); err != nil {
			t.Error(err)
		}
	}, a)
}

func TestATypedAnswerRespectsTheBudget(t *testing.T) {
	t.Parallel()
	for _, b := range []agent.Budget{{Turns: 2}, {Tokens: 1}} {
		a := agent.New("adder", agent.Config{Tools: []*agent.Tool{sum}, Budget: b})
		s := llmtest.New(llmtest.Call("sum", `{"a":1,"b":1}`), llmtest.Say("two"), llmtest.Say("2"))
		_, err := agent.Object[pair](durable.With(t.Context(), agent.Models{s}, a), a, "Add.")
		if !errors.Is(err, agent.ErrAnswer) || len(s.Requests()) != 2 {
			t.Errorf("%+v: %d requests, %v", b, len(s.Requests()), err)
		}
	}
}

func TestAModelThatTurnsInACircle(t *testing.T) {
	t.Parallel()
	a := agent.New("adder", agent.Config{Tools: []*agent.Tool{sum}})
	everywhere(t, []llmtest.Answer{{Always: true, Calls: []llm.ToolCall{{Name: "sum", Args: []byte(`{"a":1,"b":1}`)}}}}, func(t *testing.T, w *world) {
		_, err := w.run(a, "Go.")
		if !errors.Is(err, agent.ErrLoop) || !strings.Contains(err.Error(), `sum {"a":1,"b":1}`) {
			t.Errorf("error = %v", err)
		}
		asked := w.script.Requests()
		if len(asked) != 6 {
			t.Errorf("%d requests", len(asked))
		}
		last := asked[len(asked)-1].Messages
		if r := last[len(last)-1].Parts[0].Result; !r.Error || !strings.Contains(r.Text(), "5 times in a row") {
			t.Errorf("the model heard %s", r.Text())
		}
	}, a)
}

func TestAModelThatMakesMistakes(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][2]string{
		"no such tool": {"nothing", `{"n":%d}`},
		"schema":       {"sum", `{"a":"%d","b":1}`},
		"bad JSON":     {"sum", `{"a":%d`},
		"no object":    {"sum", `[%d]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := agent.New("adder", agent.Config{Tools: []*agent.Tool{sum}})
			wrong := func(n int) llmtest.Answer { return llmtest.Call(args[0], fmt.Sprintf(args[1], n)) }
			everywhere(t, []llmtest.Answer{wrong(1), wrong(2), wrong(3), wrong(4), llmtest.Say("sorry")}, func(t *testing.T, w *world) {
				if res, err := w.run(a, "Go."); err != nil || res.Text() != "sorry" {
					t.Errorf("four mistakes: %+v, %v", res, err)
				}
			}, a)
			everywhere(t, []llmtest.Answer{wrong(1), wrong(2), wrong(3), llmtest.Call("sum", `{"a":1,"b":1}`), wrong(5), wrong(6), wrong(7), wrong(8), wrong(9)}, func(t *testing.T, w *world) {
				_, err := w.run(a, "Go.")
				if !errors.Is(err, agent.ErrMistakes) || len(w.script.Requests()) != 9 {
					t.Errorf("%d requests: %v", len(w.script.Requests()), err)
				}
			}, a)
		})
	}
}

func TestAPanicAndAnErrorAreResults(t *testing.T) {
	t.Parallel()
	var runs atomic.Int32 // of functions side by side
	a := agent.New("worker", agent.Config{Tools: []*agent.Tool{
		agent.Func("panics", "", func(context.Context, struct{}) (string, error) { runs.Add(1); panic("ouch") }, nil),
		agent.Func("fails", "", func(context.Context, struct{}) (string, error) { return "", errors.New("disk full") }, nil),
		agent.Func("odd", "", func(context.Context, struct{}) (any, error) { runs.Add(1); return func() {}, nil }, &agent.FuncOptions{ReadOnly: true}),
		agent.Func("nothing", "", func(context.Context, struct{}) (string, error) { return "", nil }, nil),
		agent.Func("retried", "", func(ctx context.Context, _ struct{}) (string, error) {
			if i, ok := durable.StepInfoOf(ctx); ok && i.Attempt < 3 {
				return "", durable.RetryAfter(time.Minute, errors.New("not yet"))
			}
			return "at last", nil
		}, &agent.FuncOptions{ReadOnly: true}),
	}})
	onEngines(t, []llmtest.Answer{llmtest.Calls("panics", "{}", "fails", "", "odd", "{}", "nothing", "{}", "retried", "{}"), echo}, func(t *testing.T, w *world) {
		runs.Store(0)
		res, err := w.run(a, "Go.")
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"true panics panicked: ouch", "true fails failed: disk full", "true odd did its work, and what it gave can't be written as JSON", "false ", "false at last"} {
			if got := strings.Split(res.Text(), "\n")[i]; !strings.Contains(got, want) {
				t.Errorf("result %d: %s, want %s", i, got, want)
			}
		}
		if n := runs.Load(); n != 2 {
			t.Errorf("%d runs of two functions", n)
		}
	}, a)
}

func TestATypedAnswerIsRepaired(t *testing.T) {
	t.Parallel()
	typed := agent.New("typed", agent.Config{Tools: []*agent.Tool{sum}})
	a := agent.Do("whole", "", func(ctx context.Context, in *agent.Input) (*agent.Result, error) {
		p, err := agent.Object[pair](ctx, typed, in)
		return agent.Answer(fmt.Sprint(p)), err
	})
	everywhere(t, []llmtest.Answer{llmtest.Call("sum", `{"a":1,"b":1}`), llmtest.Say("two"), llmtest.Say(`{"a":1,"b":2}`)}, func(t *testing.T, w *world) {
		res, err := w.run(a, "Add.")
		if err != nil || res.Text() != "{1 2}" {
			t.Errorf("%+v, %v", res, err)
		}
		for _, r := range w.script.Requests() {
			if r.Schema == nil || !strings.Contains(string(r.Schema.Schema), `"b"`) {
				t.Errorf("the schema %+v", r.Schema)
			}
		}
	}, a.(durable.Definer), typed)
	for _, wrong := range []string{`{"a":"one"}`, ""} {
		everywhere(t, []llmtest.Answer{{Always: true, Text: wrong}}, func(t *testing.T, w *world) {
			_, err := w.run(a, "Add.")
			if !errors.Is(err, agent.ErrAnswer) || len(w.script.Requests()) != 3 {
				t.Errorf("%d requests: %v", len(w.script.Requests()), err)
			}
		}, a.(durable.Definer), typed)
	}
	everywhere(t, []llmtest.Answer{{Text: `{"a":1`, Stop: llm.StopLength}}, func(t *testing.T, w *world) {
		if _, err := w.run(a, "Add."); !errors.Is(err, agent.ErrAnswer) {
			t.Errorf("an answer that was cut off: %v", err)
		}
	}, a.(durable.Definer), typed)
}

func TestMessagesToAnAgentAtWork(t *testing.T) {
	t.Parallel()
	slow := agent.Func("slow", "", func(ctx context.Context, _ struct{}) (string, error) {
		select {
		case <-time.After(time.Minute): // of virtual time
			return "done", nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}, nil)
	a := agent.New("listener", agent.Config{Tools: []*agent.Tool{slow}})
	onEngines(t, []llmtest.Answer{llmtest.Call("slow", ""), echo}, func(t *testing.T, w *world) {
		run := w.start(a, "Go.", llm.User("Now."))
		w.pass(10 * time.Second)
		for _, text := range []string{"Stop.", "I mean it."} {
			if err := agent.Messages.Send(w.ctx, run, llm.User(text), nil); err != nil {
				t.Fatal(err)
			}
		}
		res, err := agent.ResultOf(w.ctx, run)
		if err != nil || res.Text() != "Stop.\nI mean it." {
			t.Errorf("%+v, %v", res, err)
		}
		if ms := w.script.Requests()[0].Messages; len(ms) != 1 || ms[0].Text() != "Go.Now." {
			t.Errorf("the input: %+v", ms)
		}
	}, a)
}

func TestAKeyIsMended(t *testing.T) {
	t.Parallel()
	answers := []llmtest.Answer{llmtest.Call("sum", `{"a":1,"b":1}`), llmtest.Fail(llm.Auth, 0), llmtest.Say("two")}
	a := agent.New("adder", agent.Config{Tools: []*agent.Tool{sum}})
	onEngines(t, answers, func(t *testing.T, w *world) {
		run := w.start(a, "Add.")
		q := w.questions(1)[0]
		if q.Kind != "repair" || !strings.Contains(q.Text, "script.api_key") || !strings.Contains(q.Text, "adder goes on") {
			t.Errorf("question: %+v", q)
		}
		w.answer(q, agent.Repair{})
		res, err := agent.ResultOf(w.ctx, run)
		if err != nil || res.Text() != "two" || res.Turns != 2 || len(w.script.Requests()) != 3 {
			t.Errorf("%d requests: %+v, %v", len(w.script.Requests()), res, err)
		}
	}, a)
	onEngines(t, answers, func(t *testing.T, w *world) {
		run := w.start(a, "Add.")
		w.answer(w.questions(1)[0], agent.Repair{GiveUp: true})
		if _, err := agent.ResultOf(w.ctx, run); err == nil || !strings.Contains(err.Error(), "auth (401)") {
			t.Errorf("given up: %v", err)
		}
	}, a)
	fails := agent.New("adder", agent.Config{Tools: []*agent.Tool{sum}, FailOnKey: true})
	everywhere(t, answers, func(t *testing.T, w *world) {
		if _, err := w.run(fails, "Add."); err == nil || !strings.Contains(err.Error(), "auth (401)") {
			t.Errorf("FailOnKey: %v", err)
		}
	}, fails)
	s := llmtest.New(llmtest.Fail(llm.Quota, 0))
	_, err := agent.Text(durable.With(t.Context(), &agent.ModelSet{Providers: agent.Models{s}, AskKey: true}, a), a, "Add.")
	if err == nil || !strings.Contains(err.Error(), "look at the account") {
		t.Errorf("in plain Go: %v", err)
	}
}

func TestABusyProviderIsAskedWhenItSays(t *testing.T) {
	t.Parallel()
	a := agent.New("adder", agent.Config{Tools: []*agent.Tool{sum}})
	onEngines(t, []llmtest.Answer{llmtest.Fail(llm.RateLimit, 7*time.Minute), llmtest.Say("two")}, func(t *testing.T, w *world) {
		began := time.Now()
		res, err := w.run(a, "Add.")
		took := time.Since(began)
		if err != nil || res.Text() != "two" || len(w.script.Requests()) != 2 || took < 7*time.Minute || took > 7*time.Minute+5*time.Second {
			t.Errorf("%d requests in %v: %+v, %v", len(w.script.Requests()), took, res, err)
		}
	}, a)
}

// A model that can't be reached is asked ten times, which takes some minutes.
func TestAModelThatCantBeReached(t *testing.T) {
	t.Parallel()
	a := agent.New("adder", agent.Config{Tools: []*agent.Tool{sum}})
	away := llmtest.Answer{Always: true, Func: func(context.Context, *llm.Request) (*llm.Response, error) {
		return nil, &llm.Error{Class: llm.Network, Message: "connection refused"}
	}}
	inMemory(t, []llmtest.Answer{away}, func(t *testing.T, w *world) {
		began := time.Now()
		_, err := w.run(a, "Add.")
		if took := time.Since(began); err == nil || !strings.Contains(err.Error(), "connection refused") || len(w.script.Requests()) != 10 || took < 3*time.Minute || took > 5*time.Minute {
			t.Errorf("%d requests in %v: %v", len(w.script.Requests()), took, err)
		}
	}, a)
}

// heard is what a listener heard, a line each.
func heard(evs []*agent.Event) string {
	var out []string
	for _, ev := range evs {
		s := string(ev.Kind)
		switch {
		case ev.Kind == agent.EventDelta:
			s = "+" + ev.Text + ev.Think
		case ev.Call != nil:
			s += " " + ev.Call.Name
		}
		out = append(out, s)
	}
	return strings.Join(out, "|")
}

func TestPlainGoIsListenedTo(t *testing.T) {
	t.Parallel()
	a := agent.New("adder", agent.Config{Tools: []*agent.Tool{sum}})
	s := llmtest.New(llmtest.Answer{Text: "Let me", Calls: []llm.ToolCall{{Name: "sum", Args: []byte(`{"a":1,"b":1}`)}}}, llmtest.Answer{Text: "It is thr", Error: &llm.Error{Class: llm.Invalid}}, llmtest.Say("It is two."))
	var evs []*agent.Event
	ctx := agent.Listen(durable.With(t.Context(), agent.Models{s}, a), func(ev *agent.Event) { evs = append(evs, ev) })
	if _, err := agent.Text(ctx, a, "Add."); err == nil {
		t.Error("no error")
	}
	want := "turn|+Let |+me|+|answer|call sum|result sum|turn|+It |+is |+thr|retract"
	if got := heard(evs); got != want {
		t.Errorf("heard %s\nwant  %s", got, want)
	}
	if i := slices.IndexFunc(evs, func(ev *agent.Event) bool {
		return ev.Talk == "" || ev.Talk != evs[0].Talk || ev.Agent != "adder" || ev.Time.IsZero()
	}); i >= 0 {
		t.Errorf("event %d: %+v", i, evs[i])
	}
}

func TestWhatIsRefusedIsTold(t *testing.T) {
	t.Parallel()
	a := agent.New("adder", agent.Config{Tools: []*agent.Tool{sum, agent.Func("gone", "", func(context.Context, struct{}) (string, error) { return "", nil }, nil)},
		Policy: agent.Policy{{Tool: "gone", Do: agent.Deny}, {Do: agent.Allow}}})
	s := llmtest.New(llmtest.Calls("sum", `{"a":1,"b":1}`, "none", `{}`), llmtest.Calls("gone", `{}`), llmtest.Calls("sum", `{`), llmtest.Say("So be it."))
	var evs []*agent.Event
	ctx := agent.Listen(durable.With(t.Context(), agent.Models{s}, a), func(ev *agent.Event) { evs = append(evs, ev) })
	if _, err := agent.Text(ctx, a, "Go."); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, ev := range evs {
		if ev.Kind == agent.EventCall || ev.Kind == agent.EventResult {
			got = append(got, fmt.Sprint(ev.Kind, " ", ev.Call.Name, " ", ev.Error))
		}
	}
	slices.Sort(got[:3]) // side by side
	want := []string{"call sum false", "result none true", "result sum false", "result gone true", "result sum true"}
	if !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}
