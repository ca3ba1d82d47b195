package mcphost_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
	"github.com/mcpagent/mcpagent/mcphost"
)

// TestAnAgentAmongHostileServers has an agent call servers of every bad kind,
// side by side, and those that broke once more: each call has its result within
// its deadlines, the run comes to its end, and nothing of the servers is left.
func TestAnAgentAmongHostileServers(t *testing.T) {
	t.Parallel()
	// What comes of the calls of the first turn, and of the second.
	first := []struct{ server, tool, want string }{
		{"deaf", "echo", "x"}, {"chatty", "echo", "x"}, {"banner", "echo", "x"}, {"family", "echo", "x"}, {"runaway", "echo", "x"}, {"mute", "sum", "42"},
		{"fragile", "die", "exit status 7"}, {"huge", "huge", "more than 16777216 bytes"}, {"slow", "wait", "timeouts.idle"},
		{"silent", "echo", "there is no tool"}, {"quitter", "echo", "there is no tool"},
	}
	second := []string{"fragile", "huge", "slow"}
	onStores(t, func(t *testing.T, s *store) {
		mark := rand.Text()
		servers := map[string]mcphost.Server{}
		var names []string
		var calls, again []string
		for _, c := range first {
			srv := child(c.server, markVar, mark)
			srv.Timeouts = mcphost.Timeouts{Connect: 5 * time.Second, Idle: 10 * time.Second, Request: 12 * time.Second, Close: 2 * time.Second}
			if c.server == "slow" {
				srv.Timeouts.Idle = 3 * time.Second
			}
			srv.Optional = true
			servers[c.server], names = srv, append(names, c.server)
			calls = append(calls, c.server+"_"+c.tool, `{"text":"x"}`)
		}
		for _, name := range second {
			again = append(again, name+"_echo", `{"text":"again"}`)
		}
		script := llmtest.New(llmtest.Calls(calls...), llmtest.Calls(again...), llmtest.Say("done"))
		h := mcphost.New(&mcphost.Options{Servers: servers, Logger: slog.New(slog.DiscardHandler)})
		a := agent.New("caller", agent.Config{Servers: names, Policy: agent.Policy{{Do: agent.Allow}}})
		eng := s.open(t, false, a, agent.Models{script}, h)
		ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
		defer cancel()
		began := time.Now()
		run, err := agent.Start(ctx, eng, a, nil, "Go.")
		if err != nil {
			t.Fatal(err)
		}
		res, err := agent.ResultOf(ctx, run)
		if err != nil || res.Text() != "done" {
			t.Errorf("%+v, %v", res, err)
		}
		t.Logf("the run took %v", time.Since(began))
		if err := eng.Close(context.Background()); err != nil {
			t.Error(err)
		}
		asked := script.Requests()
		if len(asked) != 3 {
			t.Fatalf("%d requests", len(asked))
		}
		results := func(turn int) []llm.Part { m := asked[turn].Messages; return m[len(m)-1].Parts }
		for i, p := range results(1) {
			if got := p.Result.Text(); !strings.Contains(got, first[i].want) || strings.Contains(got, "outcome unknown") != slices.Contains(second, first[i].server) {
				t.Errorf("%s of %s: %s", first[i].tool, first[i].server, got)
			}
		}
		for i, p := range results(2) {
			if got := p.Result.Text(); got != "again" {
				t.Errorf("%s: %s", second[i], got)
			}
		}
		if err := script.Problems(); err != nil {
			t.Error(err)
		}
		err = closes(t, h, mark, closeBudget)
		for _, kind := range []string{"deaf", "family", "runaway"} {
			if err == nil || !strings.Contains(err.Error(), kind) {
				t.Errorf("Close does not say that it killed what was left of %q: %v", kind, err)
			}
		}
	})
}

// TestAnAgentWhoseServerNeverAnswers fails with the server's name and the reason,
// where it needs the server.
func TestAnAgentWhoseServerNeverAnswers(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, s *store) {
		h, mark := hostile(t, "silent")
		a := agent.New("caller", agent.Config{Servers: []string{"it"}})
		eng := s.open(t, false, a, agent.Models{llmtest.New()}, h)
		began := time.Now()
		run, err := agent.Start(t.Context(), eng, a, nil, "Go.")
		if err != nil {
			t.Fatal(err)
		}
		_, err = agent.ResultOf(t.Context(), run)
		if !errors.Is(err, mcphost.ErrUnavailable) || !errors.Is(err, durable.ErrTimeout) || !strings.Contains(fmt.Sprint(err), `"it"`) {
			t.Errorf("error = %v", err)
		}
		if took := time.Since(began); took > patience/2 { // connect 3 s, close 2 s
			t.Errorf("it took %v", took)
		}
		if err := eng.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := closes(t, h, mark, closeBudget); err != nil {
			t.Error(err)
		}
	})
}

// TestAnAgentsServerAsks in a run of an agent: a person answers after a restart,
// from a program that executes nothing; or nobody does, for as long as the agent
// says.
func TestAnAgentsServerAsks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		wait time.Duration
		want string
	}{"a person": {0, "booked for Ann"}, "nobody": {300 * time.Millisecond, "nobody: cancel"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onStores(t, func(t *testing.T, s *store) {
				var calls atomic.Int64
				a := agent.New("clerk", agent.Config{Servers: []string{"desk"}, Wait: c.wait})
				script := llmtest.New(llmtest.Call("desk_book", `{}`), llmtest.Say("done"))
				begin := func() (*durable.Engine, func()) {
					h := mcphost.New(&mcphost.Options{Servers: map[string]mcphost.Server{"desk": reach(t, desk(&calls), "inside", "2026-07-28")}, Logger: slog.New(slog.DiscardHandler)})
					eng := s.open(t, false, a, agent.Models{script}, h)
					return eng, func() {
						if err := errors.Join(eng.Close(context.Background()), h.Close(context.Background())); err != nil {
							t.Error(err)
						}
					}
				}
				eng, end := begin()
				run, err := agent.Start(t.Context(), eng, a, nil, "Go.")
				if err != nil {
					t.Fatal(err)
				}
				if c.wait == 0 {
					q := question(t, eng)
					end()
					eng, end = begin()
					person := eng
					if s.kind != "memory" { // which no other program sees
						person = s.open(t, true)
					}
					answer(t, person, q, `{"guest":"Ann"}`)
					if person != eng {
						if err := person.Close(context.Background()); err != nil {
							t.Error(err)
						}
					}
				}
				defer func() { end() }()
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				res, err := agent.ResultOf(ctx, eng.Run(run.WorkflowID, run.RunID))
				if err != nil || res.Text() != "done" || calls.Load() != 1 {
					t.Fatalf("%+v, %v, %d calls", res, err, calls.Load())
				}
				asked := script.Requests()
				if last := asked[len(asked)-1].Messages; len(asked) != 2 || last[len(last)-1].Parts[0].Result.Text() != c.want {
					t.Errorf("%d requests, the last one with %+v", len(asked), last[len(last)-1])
				}
			})
		})
	}
}
