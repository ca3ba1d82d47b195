package mcpagent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mcpagent/mcpagent"
	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/anthropic"
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

// TestAMendedKeyIsTaken: a key that is replaced in the file is taken by a
// program that goes on, with a question where the file had none yet.
func TestAMendedKeyIsTaken(t *testing.T) {
	t.Parallel()
	var key atomic.Value
	key.Store("first")
	var refused atomic.Int32
	models := llmtest.Serve(t, llmtest.New(llmtest.Say("So be it.")))
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Api-Key") != key.Load() {
			refused.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = fmt.Fprint(w, `{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}`)
			return
		}
		models.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	dir := t.TempDir()
	file := filepath.Join(dir, "mcp_agent.config.yaml")
	write := func(key string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "mcp_agent.secrets.yaml"), []byte("anthropic:\n  api_key: "+key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, []byte("execution_engine: local\nanthropic:\n  base_url: "+front.URL+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	write("first")
	sage := agent.New("sage", agent.Config{Instruction: "Speak."})
	app, err := mcpagent.Open(t.Context(), &mcpagent.Options{File: file, Models: agent.Models{anthropic.New(nil)}}, sage)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	})
	says := func(requests int32) {
		t.Helper()
		res, err := app.Run(t.Context(), sage, "Speak.")
		if err != nil || res.Text() != "So be it." || refused.Swap(0) != requests {
			t.Fatalf("%v, %v, %d refused", res, err, requests)
		}
	}
	says(0)

	write("second")
	key.Store("second")
	says(1)

	key.Store("third")
	run, err := app.Start(t.Context(), sage, nil, "Speak.")
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	asked := ""
	for asked == "" {
		qs, err := app.Engine().Questions(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(qs) > 0 {
			asked = qs[0].ID
		}
		<-tick.C
	}
	write("third")
	if err := agent.Repairs.Answer(t.Context(), app.Engine(), asked, agent.Repair{}, nil); err != nil {
		t.Fatal(err)
	}
	if res, err := agent.ResultOf(t.Context(), run); err != nil || res.Text() != "So be it." || refused.Load() != 2 {
		t.Errorf("%v, %v, %d refused", res, err, refused.Load())
	}
}

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
