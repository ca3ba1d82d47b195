package mcpagent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mcpagent/mcpagent"
	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

// TestAbandonedStreams breaks off 1,000 streams at different events: their runs
// are cancelled, and nothing is left of them.
func TestAbandonedStreams(t *testing.T) {
	before := goleak.IgnoreCurrent()
	app, err := mcpagent.Open(t.Context(), &mcpagent.Options{File: os.DevNull, Models: agent.Models{llmtest.New(
		llmtest.Answer{Text: "Let me see, I have to look that up.", Calls: []llm.ToolCall{{Name: "clock", Args: json.RawMessage(`{"city":"Rome"}`)}}},
		llmtest.Answer{Text: "It is noon in Rome.", Pace: time.Millisecond})}, Logger: slog.New(slog.DiscardHandler)}, teller)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for worker := range 20 {
		wg.Go(func() {
			for i := range 50 {
				n := 0
				for _, err := range app.Stream(t.Context(), teller, "What time is it in Rome?") {
					if err != nil {
						t.Error(err)
						return
					}
					if n++; n > (worker+i)%20 {
						break
					}
				}
			}
		})
	}
	wg.Wait()
	if err := app.Close(); err != nil {
		t.Error(err)
	}
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

// TestAStreamTakesBack what a failed attempt said, and what an agent says when
// it works again in the same run is told too.
func TestAStreamTakesBack(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"memory", "local"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			s := llmtest.New(llmtest.Answer{Text: "It is mid", Error: &llm.Error{Class: llm.Network, RetryAfter: time.Millisecond}}, llmtest.Say("It is noon."))
			twice := agent.Do("twice", "", func(ctx context.Context, in *agent.Input) (*agent.Result, error) {
				if _, err := teller.Run(ctx, in); err != nil {
					return nil, err
				}
				return teller.Run(ctx, in)
			})
			app := open(t, engine, s, durable.Set{twice.(durable.Definer), teller})
			said, got := "", []string{}
			for ev, err := range app.Stream(t.Context(), twice, "What time is it?") {
				if err != nil {
					t.Fatal(err)
				}
				switch ev.Kind {
				case agent.EventDelta:
					said += ev.Text
				case agent.EventRetract:
					got = append(got, "not "+said)
					said = ""
				case agent.EventAnswer:
					got = append(got, said)
					said = ""
				}
			}
			if want := "not It is mid|It is noon.|It is noon."; strings.Join(got, "|") != want {
				t.Errorf("it said %s, want %s", strings.Join(got, "|"), want)
			}
		})
	}
}

func TestMistakesInTheConfiguration(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config string
		want   []string
	}{
		"a model of nobody":   {"models: {default: \"other:m\"}", []string{`provider "other"`, "add other.New(nil) to agent.Models"}},
		"a name of nobody":    {"models: {names: {fast: {provider: other, model: m}}}", []string{`"other:m" is of provider "other"`}},
		"what is not yet":     {"models:\n  names:\n    fast: {provider: script, max_tokens: 5}", []string{"names.fast", "no effect yet"}},
		"keys that are wrong": {"execution_engin: memory\nmodels:\n  defalt: x", []string{"yaml:1:1", "execution_engine", "yaml:3:3", "default"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "mcp_agent.config.yaml")
			if err := os.WriteFile(file, []byte(c.config), 0o600); err != nil {
				t.Fatal(err)
			}
			app, err := mcpagent.Open(t.Context(), &mcpagent.Options{File: file, Models: agent.Models{llmtest.New()}}, teller)
			if err == nil {
				t.Fatal(errors.Join(errors.New("it was opened"), app.Close()))
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error = %v, want %s", err, want)
				}
			}
		})
	}
	if _, err := mcpagent.Open(t.Context(), &mcpagent.Options{File: os.DevNull}, teller, agent.New("teller", agent.Config{})); err == nil || strings.Count(err.Error(), "defined twice") != 1 {
		t.Errorf("two agents of one name: %v", err)
	}
	app, err := mcpagent.Open(t.Context(), &mcpagent.Options{File: os.DevNull, Logger: slog.New(slog.DiscardHandler)}, teller)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Run(t.Context(), teller, "Hello?"); err == nil || !strings.Contains(err.Error(), "anthropic.New(nil)") {
		t.Errorf("without a model: %v", err)
	}
	for range 2 {
		if err := app.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

// TestAToolThatHangs does not keep Close from ending, and is named.
func TestAToolThatHangs(t *testing.T) {
	t.Parallel()
	began, end := make(chan struct{}), make(chan struct{})
	a := agent.New("hanging", agent.Config{Tools: []*agent.Tool{agent.Func("hang", "", func(context.Context, struct{}) (string, error) {
		close(began)
		<-end
		return "", nil
	}, nil)}})
	app, err := mcpagent.Open(t.Context(), &mcpagent.Options{File: os.DevNull, Models: agent.Models{llmtest.New(llmtest.Call("hang", ""))}, CloseWithin: 200 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)}, a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Start(t.Context(), a, nil, "Hang."); err != nil {
		t.Fatal(err)
	}
	<-began
	err = app.Close()
	close(end)
	if err == nil || !strings.Contains(err.Error(), "hanging.hang") {
		t.Errorf("error = %v", err)
	}
}

// TestSecretsStayWhereTheyAre: what a provider was given is in no journal,
// event, error or log.
func TestSecretsStayWhereTheyAre(t *testing.T) {
	t.Parallel()
	const canary = "sk-canary-7d1f"
	var logs bytes.Buffer
	dir := t.TempDir()
	file := filepath.Join(dir, "mcp_agent.config.yaml")
	config := fmt.Sprintf("execution_engine: local\nlocal: {path: %q}\nmcp:\n  servers:\n    fs:\n      command: /nowhere/%s\n      required: true\n      env: {KEY: %s}\n      args: [--key=%s]\n", filepath.Join(dir, "a.db"), "server", canary, canary)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	a := agent.New("finder", agent.Config{Servers: []string{"fs"}})
	app, err := mcpagent.Open(t.Context(), &mcpagent.Options{File: file, Models: agent.Models{script()}, Logger: slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))}, a)
	if err != nil {
		t.Fatal(err)
	}
	run, err := app.Start(t.Context(), a, nil, "Hello?")
	if err != nil {
		t.Fatal(err)
	}
	_, err = agent.ResultOf(t.Context(), run)
	if err == nil {
		t.Error("a server that is not there was listed")
	}
	export, xerr := run.Export(t.Context())
	if xerr != nil {
		t.Fatal(xerr)
	}
	if cerr := app.Close(); cerr != nil {
		t.Error(cerr)
	}
	db, rerr := os.ReadFile(filepath.Join(dir, "a.db"))
	if rerr != nil {
		t.Fatal(rerr)
	}
	for what, text := range map[string]string{"error": err.Error(), "history": string(export), "file": string(db), "log": logs.String()} {
		if i := strings.Index(text, canary); i >= 0 {
			t.Errorf("the %s has the secret: %s", what, text[max(0, i-200):i+len(canary)])
		}
	}
}
