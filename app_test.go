package mcpagent_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mcpagent/mcpagent"
	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

type city struct {
	City string `json:"city"`
}

var clock = agent.Func("clock", "The time in a city.", func(_ context.Context, c city) (string, error) { return "noon in " + c.City, nil }, &agent.FuncOptions{ReadOnly: true})

var teller = agent.New("teller", agent.Config{Instruction: "Tell the time.", Tools: []*agent.Tool{clock}})

// open opens an App on an engine, with a configuration file that says so.
func open(t *testing.T, engine string, s *llmtest.Script, def durable.Definer) *mcpagent.App {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mcp_agent.config.yaml")
	if err := os.WriteFile(file, []byte("execution_engine: "+engine+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	app, err := mcpagent.Open(t.Context(), &mcpagent.Options{File: file, Models: agent.Models{s}}, def)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	})
	return app
}

func script() *llmtest.Script {
	return llmtest.New(llmtest.Call("clock", `{"city":"Rome"}`), llmtest.Say("It is noon in Rome."))
}

func TestAnAppRunsAnAgent(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"memory", "local"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			s := script()
			res, err := open(t, engine, s, teller).Run(t.Context(), teller, "What time is it in Rome?")
			if err != nil {
				t.Fatal(err)
			}
			if res.Text() != "It is noon in Rome." || res.Turns != 2 || res.Calls != 1 {
				t.Errorf("result = %+v", res)
			}
			if p := s.Problems(); p != nil {
				t.Errorf("requests that no provider would take: %v", p)
			}
		})
	}
}

func TestAStreamIsInOrder(t *testing.T) {
	t.Parallel()
	app := open(t, "memory", script(), teller)
	var got []string
	said := ""
	for ev, err := range app.Stream(t.Context(), teller, "What time is it in Rome?") {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind == agent.EventDelta {
			said += ev.Text
			continue
		}
		s := string(ev.Kind)
		if ev.Call != nil {
			s += " " + ev.Call.Name
		}
		if ev.Kind == agent.EventAnswer && said != "" {
			s += ": " + said
		}
		if ev.Result != nil {
			s += ": " + ev.Result.Text()
		}
		got = append(got, s)
	}
	want := "turn, answer, call clock, result clock, turn, answer: It is noon in Rome., done: It is noon in Rome."
	if strings.Join(got, ", ") != want {
		t.Errorf("events:\n%s\nwant:\n%s", strings.Join(got, ", "), want)
	}
}

// firstLine is closed when something is logged, which is then there.
type firstLine struct {
	got  chan struct{}
	once sync.Once
	line string
}

func (h *firstLine) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		h.once.Do(func() {
			h.line = r.Message
			r.Attrs(func(a slog.Attr) bool { h.line += " " + a.String(); return true })
			close(h.got)
		})
	}
	return nil
}

func (h *firstLine) Enabled(context.Context, slog.Level) bool { return true }
func (h *firstLine) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *firstLine) WithGroup(string) slog.Handler            { return h }

// TestWhoWaitsForARunHearsOfItsTrouble: a model's server that is not there, say.
func TestWhoWaitsForARunHearsOfItsTrouble(t *testing.T) {
	t.Parallel()
	log := &firstLine{got: make(chan struct{})}
	unreachable := llmtest.Fail(llm.Network, 0)
	unreachable.Error.Message = "connection refused"
	app, err := mcpagent.Open(t.Context(), &mcpagent.Options{
		File: os.DevNull, Models: agent.Models{llmtest.New(unreachable)}, Logger: slog.New(log),
	}, teller)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-log.got; cancel() }()
	if _, err := app.Run(ctx, teller, "What time is it in Rome?"); err == nil {
		t.Error("it has an answer")
	}
	if err := app.Close(); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"a run tries again", "llm.script.call", "connection refused"} {
		if !strings.Contains(log.line, want) {
			t.Errorf("it logs %q, which does not tell %q", log.line, want)
		}
	}
}
