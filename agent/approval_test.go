package agent_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

type file struct {
	Path string `json:"path"`
}

// remover is an agent with a destructive tool and a harmless one, and more.
func remover(removed *atomic.Int32, c agent.Config, more ...*agent.Tool) *agent.Agent {
	c.Tools = append(more, sum, agent.Func("remove", "Removes a file.", func(_ context.Context, f file) (string, error) {
		removed.Add(1)
		return "removed " + f.Path, nil
	}, &agent.FuncOptions{Destructive: true}))
	return agent.New("remover", c)
}

var removeTwo = []llmtest.Answer{
	{Calls: []llm.ToolCall{call("1", "remove", `{"path":"a"}`), call("2", "sum", `{"a":1,"b":1}`), call("3", "remove", `{"path":"b"}`)}},
	{Calls: []llm.ToolCall{call("4", "remove", `{"path":"c"}`)}},
	echo,
}

func TestADestructiveToolIsAskedAbout(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers []agent.Approval // to a, b and, if there is a question, c
		want    []string         // results 1, 3 and 4
		removed int32
	}{
		"approved":  {[]agent.Approval{{Approve: true}, {Approve: true}, {Approve: true}}, []string{"false removed a", "false removed b", "false removed c"}, 3},
		"edited":    {[]agent.Approval{{Approve: true, Args: json.RawMessage(`{"path":"z"}`)}, {Approve: true, Args: json.RawMessage("null")}, {Approve: true, Args: json.RawMessage(`{"way":"z"}`)}}, []string{"false removed z", "false removed b", "true the arguments of remove do not fit"}, 2},
		"denied":    {[]agent.Approval{{Note: "never a"}, {Approve: true}, {}}, []string{"true a person denied the call of remove: never a", "false removed b", "true a person denied the call of remove"}, 1},
		"remember":  {[]agent.Approval{{Approve: true, Remember: true}, {Approve: true}}, []string{"false removed a", "false removed b", "false removed c"}, 3},
		"never ask": {[]agent.Approval{{Approve: true}, {Remember: true}}, []string{"false removed a", "true a person denied", "true a person denied calls of remove in this run"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var removed atomic.Int32
			onEngines(t, removeTwo, func(t *testing.T, w *world) {
				removed.Store(0)
				run := w.start(remover(&removed, agent.Config{}), "Remove a, b and c.")
				for i, q := range w.questions(2) {
					if q.Kind != "approval" || !strings.Contains(q.Text, `May remover call remove with {"path":`) || q.Digest == "" || !strings.Contains(string(q.Context), "destructive") {
						t.Errorf("question: %+v", q)
					}
					w.answer(q, c.answers[i])
				}
				if len(c.answers) == 3 {
					w.answer(w.questions(1)[0], c.answers[2])
				}
				res, err := agent.ResultOf(w.ctx, run)
				if err != nil {
					t.Fatal(err)
				}
				asked := w.script.Requests()
				first, last := asked[1].Messages[2].Parts, asked[2].Messages[4].Parts
				for i, r := range []*llm.ToolResult{first[0].Result, first[2].Result, last[0].Result} {
					if got := map[bool]string{false: "false ", true: "true "}[r.Error] + r.Text(); !strings.HasPrefix(got, c.want[i]) {
						t.Errorf("result %d: %s, want %s", i, got, c.want[i])
					}
				}
				if r := first[1].Result; r.Text() != "2" || r.Error {
					t.Errorf("the sibling's result: %+v", r)
				}
				if removed.Load() != c.removed || res.Stop != llm.StopEnd {
					t.Errorf("%d files were removed; %+v", removed.Load(), res)
				}
			}, remover(&removed, agent.Config{}))
		})
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	for wait, want := range map[time.Duration]time.Duration{0: 7 * 24 * time.Hour, 90 * time.Minute: 90 * time.Minute} {
		var removed atomic.Int32
		a := remover(&removed, agent.Config{Wait: wait})
		inMemory(t, removeTwo, func(t *testing.T, w *world) {
			began := time.Now()
			res, err := w.run(a, "Remove them.")
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(began) // of two turns
			if removed.Load() != 0 || !strings.Contains(res.Text(), "nobody answered whether remove may be called, for "+want.String()) || took < 2*want || took > 2*want+time.Minute {
				t.Errorf("after %v: %s", took, res.Text())
			}
		}, a)
	}
	if _, err := durable.NewDefinitions(agent.New("a", agent.Config{Wait: -time.Second})); err == nil || !strings.Contains(err.Error(), "-1s (Wait)") {
		t.Errorf("a negative wait: %v", err)
	}
}

// A key that nobody mends is waited for as long as the agent says.
func TestNobodyMendsAKey(t *testing.T) {
	t.Parallel()
	a := agent.New("adder", agent.Config{Wait: time.Hour})
	inMemory(t, []llmtest.Answer{llmtest.Fail(llm.Auth, 0)}, func(t *testing.T, w *world) {
		began := time.Now()
		if _, err := w.run(a, "Add."); err == nil || !strings.Contains(err.Error(), "auth (401)") || time.Since(began) < time.Hour || time.Since(began) > time.Hour+time.Minute {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	}, a)
}

func TestAnAnswerIsBoundToTheCall(t *testing.T) {
	t.Parallel()
	var removed atomic.Int32
	a := remover(&removed, agent.Config{})
	onEngines(t, []llmtest.Answer{llmtest.Call("remove", `{"path":"a"}`), echo}, func(t *testing.T, w *world) {
		run := w.start(a, "Remove it.")
		q := w.questions(1)[0]
		if err := agent.Approvals.Answer(w.ctx, w.eng, q.ID, agent.Approval{Approve: true}, &durable.AnswerOptions{Digest: "sha256:another"}); err == nil {
			t.Error("an answer to another call was taken")
		}
		if err := agent.Approvals.Answer(w.ctx, w.eng, q.ID, agent.Approval{}, nil); err == nil {
			t.Error("an answer that names no call was taken")
		}
		w.answer(q, agent.Approval{Approve: true})
		if res, err := agent.ResultOf(w.ctx, run); err != nil || !strings.Contains(res.Text(), "removed a") {
			t.Errorf("%+v, %v", res, err)
		}
	}, a)
}

// Bad arguments are the model's to mend, not a person's to look at.
func TestNobodyIsAskedAboutBadArguments(t *testing.T) {
	t.Parallel()
	var removed atomic.Int32
	a := remover(&removed, agent.Config{})
	everywhere(t, []llmtest.Answer{llmtest.Call("remove", `{"path":`), echo}, func(t *testing.T, w *world) {
		res, err := w.run(a, "Remove it.")
		if err != nil || !strings.Contains(res.Text(), "do not fit") {
			t.Errorf("%+v, %v", res, err)
		}
	}, a)
}

func TestPlainGoNamesWhoCouldBeAsked(t *testing.T) {
	t.Parallel()
	var removed atomic.Int32
	a := remover(&removed, agent.Config{})
	s := llmtest.New(removeTwo...)
	_, err := agent.Text(durable.With(t.Context(), agent.Models{s}, a), a, "Remove them.")
	if err == nil || !strings.Contains(err.Error(), "Config.Policy") || removed.Load() != 0 {
		t.Errorf("%v; %d removed", err, removed.Load())
	}
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	small := func(args json.RawMessage) bool { return len(args) < 14 }
	for name, c := range map[string]struct {
		policy agent.Policy
		want   string // results of remove a, sum, remove long
	}{
		"allowed":            {agent.Policy{{Tool: "re*", Do: agent.Allow}}, "removed a|2|removed long"},
		"deny wins":          {agent.Policy{{Do: agent.Allow}, {Tool: "remove", Do: agent.Deny}}, "not allowed|2|not allowed"},
		"destructive":        {agent.Policy{{Destructive: true, Do: agent.Deny}}, "not allowed|2|not allowed"},
		"by arguments":       {agent.Policy{{If: small, Do: agent.Allow}, {Tool: "remove", If: func(a json.RawMessage) bool { return !small(a) }, Do: agent.Deny}}, "removed a|2|not allowed"},
		"the first one fits": {agent.Policy{{Tool: "remove", Do: agent.Allow}, {Tool: "*", Do: agent.Ask}, {Tool: "sum", Do: agent.Deny}}, "removed a|not allowed|removed long"},
		"no such server":     {agent.Policy{{Server: "fs", Do: agent.Deny}, {Destructive: true, Do: agent.Allow}}, "removed a|2|removed long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var removed atomic.Int32
			a := remover(&removed, agent.Config{Policy: c.policy})
			everywhere(t, []llmtest.Answer{llmtest.Calls("remove", `{"path":"a"}`, "sum", `{"a":1,"b":1}`, "remove", `{"path":"long"}`), echo}, func(t *testing.T, w *world) {
				res, err := w.run(a, "Go.")
				if err != nil {
					t.Fatal(err)
				}
				lines := strings.Split(res.Text(), "\n")
				for i, want := range strings.Split(c.want, "|") {
					if !strings.Contains(lines[i], want) {
						t.Errorf("result %d: %s, want %s", i, lines[i], want)
					}
				}
			}, a)
		})
	}
	for _, p := range []agent.Policy{{{}}, {{Do: "maybe"}}, {{Tool: "[", Do: agent.Ask}}} {
		if _, err := durable.NewDefinitions(agent.New("a", agent.Config{Policy: p})); err == nil || !strings.Contains(err.Error(), "rule 1 of the policy") {
			t.Errorf("%+v: %v", p, err)
		}
	}
}
