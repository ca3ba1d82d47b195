package agent_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

// world is where a test's runners run, in virtual time: plain Go, or an engine.
type world struct {
	t      *testing.T
	script *llmtest.Script
	eng    *durable.Engine // nil in plain Go
	ctx    context.Context
}

// run runs a runner from beginning to end.
func (w *world) run(r agent.Runner, content ...any) (*agent.Result, error) {
	w.t.Helper()
	if w.eng == nil {
		in, err := agent.Say(content...)
		if err != nil {
			return nil, err
		}
		return r.Run(w.ctx, in)
	}
	return agent.ResultOf(w.ctx, w.start(r, content...))
}

func (w *world) start(r agent.Runner, content ...any) *durable.Run {
	w.t.Helper()
	run, err := agent.Start(w.ctx, w.eng, r, nil, content...)
	if err != nil {
		w.t.Fatal(err)
	}
	return run
}

// everywhere runs a test in plain Go and on the engines of this process, awake
// and put away after each turn. Each request of the test must be one that a
// provider would take.
func everywhere(t *testing.T, answers []llmtest.Answer, test func(t *testing.T, w *world), defs ...durable.Definer) {
	t.Helper()
	t.Run("plain", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := llmtest.New(answers...)
			test(t, &world{t: t, script: s, ctx: durable.With(t.Context(), append(defs, agent.Models{s})...)})
			sound(t, s)
		})
	})
	onEngines(t, answers, test, defs...)
}

var quiet = slog.New(slog.DiscardHandler)

// onEngines is everywhere without plain Go.
func onEngines(t *testing.T, answers []llmtest.Answer, test func(t *testing.T, w *world), defs ...durable.Definer) {
	t.Helper()
	inMemory(t, answers, test, defs...)
	t.Run("local", func(t *testing.T) {
		on(t, func(defs ...durable.Definer) (*durable.Engine, error) {
			return local(t, filepath.Join(t.TempDir(), "a.db"), defs...)
		}, answers, test, defs...)
	})
}

// inMemory is for tests that wait for days: the local engine looks at its file
// all the time.
func inMemory(t *testing.T, answers []llmtest.Answer, test func(t *testing.T, w *world), defs ...durable.Definer) {
	t.Helper()
	for name, o := range map[string]durable.Options{"memory": {Logger: quiet}, "put away": {Logger: quiet, MaxAwake: -1}} {
		t.Run(name, func(t *testing.T) {
			on(t, func(defs ...durable.Definer) (*durable.Engine, error) {
				return durable.NewMemory(context.Background(), &o, defs...)
			}, answers, test, defs...)
		})
	}
}

func local(t *testing.T, path string, defs ...durable.Definer) (*durable.Engine, error) {
	return localengine.Open(context.Background(), path, &localengine.Options{Engine: durable.Options{Logger: quiet, MaxAwake: -1}}, defs...)
}

// on runs a test on an engine.
func on(t *testing.T, open func(...durable.Definer) (*durable.Engine, error), answers []llmtest.Answer, test func(t *testing.T, w *world), defs ...durable.Definer) {
	synctest.Test(t, func(t *testing.T) {
		s := llmtest.New(answers...)
		e, err := open(append(defs, &agent.ModelSet{Providers: agent.Models{s}, AskKey: true})...)
		if err != nil {
			t.Fatal(err)
		}
		test(t, &world{t: t, script: s, eng: e, ctx: t.Context()})
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
		sound(t, s)
	})
}

// sound fails the test if a request was not one that a provider would take.
func sound(t *testing.T, s *llmtest.Script) {
	t.Helper()
	if err := s.Problems(); err != nil {
		t.Errorf("requests that no provider would take: %v", err)
	}
}

// questions waits until there are n of them.
func (w *world) questions(n int) []*durable.QuestionInfo {
	w.t.Helper()
	for range 100 {
		qs, err := w.eng.Questions(w.ctx, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(qs) == n {
			return qs
		}
		time.Sleep(time.Second) // of virtual time
	}
	w.t.Fatalf("there are not %d questions", n)
	return nil
}

func (w *world) answer(q *durable.QuestionInfo, v any) {
	w.t.Helper()
	b, err := json.Marshal(v)
	if err == nil {
		err = w.eng.Answer(w.ctx, q.ID, b, &durable.AnswerOptions{Digest: q.Digest})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// echo answers with the results that it got, a line each.
var echo = llmtest.Answer{Always: true, Func: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
	var got []string
	for _, p := range r.Messages[len(r.Messages)-1].Parts {
		if p.Result == nil {
			got = append(got, p.Text)
			continue
		}
		got = append(got, fmt.Sprint(p.Result.ID, " ", p.Result.Error, " ", p.Result.Text()))
	}
	return reply(llm.Part{Text: strings.Join(got, "\n")}), nil
}}

// reply is an answer of a model.
func reply(parts ...llm.Part) *llm.Response {
	m := llm.Message{Role: llm.RoleModel, Parts: parts}
	stop := llm.StopEnd
	if m.Calls() != nil {
		stop = llm.StopTools
	}
	return &llm.Response{Message: m, Stop: stop, Usage: llm.Usage{Input: 10, Output: 1}}
}

func call(id, tool, args string) llm.ToolCall {
	return llm.ToolCall{ID: id, Name: tool, Args: json.RawMessage(args)}
}

// pass lets virtual time pass.
func (w *world) pass(d time.Duration) { time.Sleep(d) }
