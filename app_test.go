package mcpagent_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"

	"github.com/mcpagent/mcpagent"
	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/temporaltest"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/anthropic"
	"github.com/mcpagent/mcpagent/llm/llmtest"
	"github.com/mcpagent/mcpagent/llm/openai"
)

type city struct {
	City string `json:"city"`
}

var clock = agent.Func("clock", "The time in a city.", func(_ context.Context, c city) (string, error) { return "noon in " + c.City, nil }, &agent.FuncOptions{ReadOnly: true})

var teller = agent.New("teller", agent.Config{Instruction: "Tell the time.", Tools: []*agent.Tool{clock}})

// open opens an App on an engine, with a configuration file that says so.
func open(t *testing.T, engine string, p llm.Provider, def durable.Definer) *mcpagent.App {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mcp_agent.config.yaml")
	if err := os.WriteFile(file, []byte("execution_engine: "+engine+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	app, err := mcpagent.Open(t.Context(), &mcpagent.Options{File: file, Models: agent.Models{p}}, def)
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

// asked counts how a model is asked.
type asked struct {
	*llmtest.Script
	whole, streams atomic.Int32
}

func (a *asked) Model(name string) (llm.Model, error) {
	m, err := a.Script.Model(name)
	return &askedModel{m, a}, err
}

type askedModel struct {
	llm.Model
	a *asked
}

func (m *askedModel) Call(ctx context.Context, r *llm.Request) (*llm.Response, error) {
	m.a.whole.Add(1)
	return m.Model.Call(ctx, r)
}

func (m *askedModel) Stream(ctx context.Context, r *llm.Request) iter.Seq2[llm.Delta, error] {
	m.a.streams.Add(1)
	return m.Model.Stream(ctx, r)
}

// TestWhoIsNotFollowedDoesNotStream: nobody would read it.
func TestWhoIsNotFollowedDoesNotStream(t *testing.T) {
	t.Parallel()
	a := &asked{Script: llmtest.New(llmtest.Answer{Always: true, Func: func(context.Context, *llm.Request) (*llm.Response, error) {
		return &llm.Response{Message: llm.Message{Role: llm.RoleModel, Parts: []llm.Part{{Text: "noon"}}}, Stop: llm.StopEnd}, nil
	}})}
	app := open(t, "memory", a, teller)
	if _, err := app.Run(t.Context(), teller, "What time is it?"); err != nil {
		t.Fatal(err)
	}
	if a.whole.Load() != 1 || a.streams.Load() != 0 {
		t.Errorf("Run asked for %d answers and %d streams", a.whole.Load(), a.streams.Load())
	}
	for _, err := range app.Stream(t.Context(), teller, "What time is it?") {
		if err != nil {
			t.Fatal(err)
		}
	}
	if a.whole.Load() != 1 || a.streams.Load() != 1 {
		t.Errorf("with Stream it is %d answers and %d streams", a.whole.Load(), a.streams.Load())
	}
}

// What a model said before its stream was listened to was lost, on a machine
// that had more to do.
func TestAStreamMissesNothing(t *testing.T) {
	t.Parallel()
	app := open(t, "memory", script(), teller)
	var wg sync.WaitGroup
	for range 500 {
		wg.Go(func() {
			said := ""
			for ev, err := range app.Stream(t.Context(), teller, "What time is it in Rome?") {
				if err != nil {
					t.Error(err)
					return
				}
				if ev.Kind == agent.EventDelta {
					said += ev.Text
				}
			}
			if said != "It is noon in Rome." {
				t.Errorf("it said %q", said)
			}
		})
	}
	wg.Wait()
}

// warned is a log of warnings. It is closed when the first one is there.
type warned struct {
	logged
	got  chan struct{}
	once sync.Once
}

func (w *warned) Write(b []byte) (int, error) {
	defer w.once.Do(func() { close(w.got) })
	return w.logged.Write(b)
}

func warnings() (*warned, *slog.Logger) {
	w := &warned{got: make(chan struct{})}
	return w, slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// TestTroubleIsLogged: a model's server that is not there, say, of a run that
// somebody waits for, and of one that was only started.
func TestTroubleIsLogged(t *testing.T) {
	t.Parallel()
	for way, start := range map[string]func(ctx context.Context, app *mcpagent.App) error{
		"Run": func(ctx context.Context, app *mcpagent.App) error {
			_, err := app.Run(ctx, teller, "What time is it in Rome?")
			return err
		},
		"Start": func(ctx context.Context, app *mcpagent.App) error {
			run, err := app.Start(ctx, teller, nil, "What time is it in Rome?")
			if err != nil {
				return nil
			}
			<-ctx.Done()
			return errors.Join(ctx.Err(), run.Cancel(context.Background(), "the test is over"))
		},
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			log, logger := warnings()
			unreachable := llmtest.Fail(llm.Network, 0)
			unreachable.Error.Message = "connection refused"
			app, err := mcpagent.Open(t.Context(), &mcpagent.Options{
				File: os.DevNull, Models: agent.Models{llmtest.New(unreachable)}, Logger: logger,
			}, teller)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				select {
				case <-log.got:
				case <-time.After(time.Minute):
				}
				cancel()
			}()
			if err := start(ctx, app); err == nil {
				t.Error("it has an answer")
			}
			if err := app.Close(); err != nil {
				t.Error(err)
			}
			for _, want := range []string{"a model call failed", "llm.script.call", "attempt=1", "connection refused"} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("it logs %q, which does not tell %q", log.String(), want)
				}
			}
		})
	}
}

// TestAStepThatIsTriedAgainIsLogged, of a run that somebody waits for.
func TestAStepThatIsTriedAgainIsLogged(t *testing.T) {
	t.Parallel()
	log, logger := warnings()
	a := agent.New("worker", agent.Config{Tools: []*agent.Tool{agent.Func("fetch", "", func(context.Context, struct{}) (string, error) {
		return "", durable.RetryAfter(time.Hour, errors.New("connection refused"))
	}, &agent.FuncOptions{ReadOnly: true})}})
	app, err := mcpagent.Open(t.Context(), &mcpagent.Options{
		File: os.DevNull, Models: agent.Models{llmtest.New(llmtest.Call("fetch", "{}"))}, Logger: logger,
	}, a)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-log.got; cancel() }()
	if _, err := app.Run(ctx, a, "Go."); err == nil {
		t.Error("it has an answer")
	}
	if err := app.Close(); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"a run tries again", "worker.fetch", "connection refused"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("it logs %q, which does not tell %q", log.String(), want)
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
// are cancelled, and nothing is left of them. On a cluster it is 80: each run
// is some thirty requests to a server that is not ours to measure. The race
// detector makes SQLite twenty times slower; under it, the file has 200.
func TestAbandonedStreams(t *testing.T) {
	file := 50
	if b, ok := debug.ReadBuildInfo(); ok && slices.Contains(b.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		file = 10
	}
	for _, c := range []struct {
		engine string
		each   int // of 20 workers
	}{{"memory", 50}, {"local", file}, {"temporal", 4}} {
		t.Run(c.engine, func(t *testing.T) { abandon(t, c.engine, c.each) })
	}
}

func abandon(t *testing.T, engine string, each int) {
	file := filepath.Join(t.TempDir(), "mcp_agent.config.yaml")
	config := "execution_engine: " + engine + "\n"
	if engine == "temporal" {
		config += fmt.Sprintf("temporal: {host: %q, task_queue: streams}\n", temporaltest.New(t, nil).Addr())
	}
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	before := goleak.IgnoreCurrent()
	app, err := mcpagent.Open(t.Context(), &mcpagent.Options{File: file, Models: agent.Models{llmtest.New(
		llmtest.Answer{Text: "Let me see, I have to look that up.", Calls: []llm.ToolCall{{Name: "clock", Args: json.RawMessage(`{"city":"Rome"}`)}}},
		llmtest.Answer{Text: "It is noon in Rome.", Pace: time.Millisecond})}, Logger: slog.New(slog.DiscardHandler), Engine: durable.Options{Watchdog: time.Minute}}, teller)
	if err != nil {
		t.Fatal(err)
	}
	var broken atomic.Int32
	var wg sync.WaitGroup
	for worker := range 20 {
		wg.Go(func() {
			for i := range each {
				n := 0
				for _, err := range app.Stream(t.Context(), teller, "What time is it in Rome?") {
					if err != nil {
						t.Error(err)
						return
					}
					if n++; n > (worker+i)%20 {
						broken.Add(1)
						break
					}
				}
			}
		})
	}
	wg.Wait()
	if n := broken.Load(); n < int32(20*each)/2 {
		t.Errorf("%d of %d streams were broken off", n, 20*each)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		left, err := app.Engine().List(t.Context(), &durable.Filter{States: []durable.State{durable.Running}})
		if err != nil {
			t.Fatal(err)
		}
		if len(left.Runs) == 0 {
			break
		}
		<-tick.C
	}
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

// canary is the secret of a place that a program has for one. Nothing else has
// the word.
func canary(place string) string { return "canary-of-" + place + "-7d1f" }

// echoing is a provider that tells what it was sent, in every way in which one
// can fail; in the end it answers.
type echoing struct {
	answers http.Handler
	thief   string
	n       atomic.Int32
}

func (e *echoing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	said := fmt.Sprint(r.Header, " ", user, " ", password)
	key := cmp.Or(r.Header.Get("X-Api-Key"), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	failure, err := json.Marshal(map[string]any{"type": "error", "error": map[string]any{"type": key, "code": key, "message": said}, "request_id": key})
	if err != nil {
		panic(err)
	}
	w.Header().Set("X-Request-Id", key)
	w.Header().Set("Request-Id", key)
	switch e.n.Add(1) {
	case 1:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write(failure)
	case 2:
		http.Redirect(w, r, e.thief+"?key="+key, http.StatusFound)
	case 3:
		http.Redirect(w, r, e.thief+"?key="+key, http.StatusTemporaryRedirect)
	case 4:
		http.Error(w, said, http.StatusInternalServerError)
	case 5:
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprintf(w, "event: error\ndata: %s\n\n", failure)
	case 6:
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprintf(w, "event: message_start\ndata: {%q\n\n", said)
	case 7:
		_, _ = fmt.Fprintf(w, "{%q", said)
	case 8:
		panic(http.ErrAbortHandler) // the connection breaks
	default:
		e.answers.ServeHTTP(w, r)
	}
}

// TestSecretsStayWhereTheyAre: what a program was given to keep is in no
// journal, history, question, event, span, error or log, whatever those say whom it
// is shown to.
func TestSecretsStayWhereTheyAre(t *testing.T) {
	t.Parallel()
	for _, provider := range []string{"openai", "anthropic"} {
		for _, engine := range []string{"memory", "local", "temporal"} {
			t.Run(provider+"/"+engine, func(t *testing.T) {
				t.Parallel()
				secrets(t, provider, engine)
			})
		}
	}
}

func secrets(t *testing.T, provider, engine string) {
	// Somebody to whom nothing is sent on purpose.
	var stolen sync.Map
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/mcp" { // where the secrets are its own
			stolen.Store(fmt.Sprint(r.Header), true)
		}
		http.Error(w, fmt.Sprint(r.URL, r.Header), http.StatusTeapot)
	}))
	defer thief.Close()
	model := httptest.NewServer(&echoing{thief: thief.URL, answers: llmtest.Serve(t, llmtest.New(llmtest.Call("web_say", ""), llmtest.Say("done")))})
	defer model.Close()
	// An MCP server that says what it was sent, and one that ends after that.
	say := mcp.NewServer(&mcp.Implementation{Name: "web", Version: "1"}, nil)
	mcp.AddTool(say, &mcp.Tool{Name: "say"}, func(_ context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprint(r.Extra.Header)}}}, nil, nil
	})
	web := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return say }, nil))
	defer web.Close()
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, fmt.Sprint(r.Header), http.StatusForbidden)
	}))
	defer collector.Close()

	dir := t.TempDir()
	stored := filepath.Join(dir, "runs.db")
	where := fmt.Sprintf("local: {path: %q}", stored)
	if engine == "temporal" {
		server := temporaltest.New(t, &temporaltest.Options{File: stored})
		where = fmt.Sprintf("temporal: {host: %q, task_queue: %s, rpc_metadata: {x-secret: %s}}", server.Addr(), "secrets", canary("metadata"))
	}
	base := strings.Replace(model.URL, "://", "://user:"+canary("password")+"@", 1)
	if provider == "openai" {
		base += "/v1"
	}
	spans := filepath.Join(dir, "spans.jsonl")
	config := fmt.Sprintf(`
execution_engine: %s
%s
workflow_task_retry_policies: {"*": {initial_interval: 10ms, backoff_coefficient: 1, maximum_attempts: 10}}
models: {default: %s}
%s: {api_key: %s, base_url: %q}
otel:
  enabled: true
  capture_content: true
  exporters: [{file: {path: %q}}, {otlp: {endpoint: %q, headers: {x-token: %s}}}]
mcp:
  servers:
    web: {url: %q, headers: {X-Key: %s, Authorization: Basic %s}}
    fs:
      command: /bin/sh
      required: false
      env: {TOKEN: %s}
      args: ["-c", "env >&2; exit 3", --key=%s]
    gone: {url: %q, required: false}
    nowhere: {url: "http://user:%s@127.0.0.1:1/mcp?api_key=%s", required: false}
`, engine, where, provider, provider, canary("key"), base, spans, collector.URL, canary("otlp"), web.URL, canary("header"), canary("basic"), canary("env"), canary("argument"),
		strings.Replace(thief.URL, "://", "://user:"+canary("password")+"@", 1)+"/mcp?api_key="+canary("query"),
		canary("password"), canary("query"))
	file := filepath.Join(dir, "mcp_agent.config.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	headers := map[string]durable.Secret{"X-Proxy": durable.NewSecret(canary("proxy")), "Proxy-Authorization": durable.NewSecret("Bearer " + canary("bearer"))}
	var logs logged
	a := agent.New("finder", agent.Config{Servers: []string{"fs", "gone", "nowhere", "web"}})
	app, err := mcpagent.Open(t.Context(), &mcpagent.Options{
		File: file, Logger: slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Models: agent.Models{openai.New(&openai.Options{Headers: headers}), anthropic.New(&anthropic.Options{Headers: headers})},
	}, a)
	if err != nil {
		t.Fatal(err)
	}
	// The control shows that what there is can be found.
	const control = "control-of-the-question"
	var told strings.Builder // to whoever runs it
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	done := make(chan struct{})
	var person sync.WaitGroup
	var asked strings.Builder
	person.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			qs, err := app.Engine().Questions(ctx, nil)
			if err != nil {
				t.Error(err)
				return
			}
			for _, q := range qs {
				fmt.Fprintf(&asked, "%+v\n", *q)
				if err := app.Engine().Answer(ctx, q.ID, json.RawMessage("{}"), nil); err != nil {
					t.Error(err)
				}
			}
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	})
	answer := ""
	for tries := 0; answer == "" && tries < 4; tries++ { // a redirect fails a run, and in memory a key that is refused
		for ev, err := range app.Stream(ctx, a, control) {
			fmt.Fprintf(&told, "%+v %v\n", ev, err)
			if ev != nil && ev.Result != nil {
				answer = ev.Result.Text()
				for _, m := range ev.Result.Messages() {
					fmt.Fprintf(&told, "%+v %q\n", m, m.Text())
				}
			}
		}
	}
	close(done)
	person.Wait()
	if answer != "done" {
		t.Errorf("the answer is %q\n%s\n%s", answer, told.String(), logs.String())
	}
	var history strings.Builder
	runs, err := app.Engine().List(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range runs.Runs {
		run := app.Engine().Run(r.WorkflowID, r.RunID)
		export, err := run.Export(ctx)
		if err != nil {
			t.Fatal(err)
		}
		d, err := run.Describe(ctx)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&history, "%s\n%+v\n", export, *d)
	}
	if err := app.Close(); err != nil {
		fmt.Fprintln(&told, err) // of telemetry, which is refused
	}
	texts := map[string]string{"events, errors and the result": told.String(), "questions": asked.String(), "history": history.String(), "log": logs.String()}
	for name, pattern := range map[string]string{"file": stored + "*", "spans": spans} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil && !errors.Is(err, os.ErrNotExist) { // the database takes files of its own away
				t.Fatal(err)
			}
			texts[name] += string(b)
		}
	}
	for name, text := range texts {
		if i := strings.Index(text, "canary-of-"); i >= 0 {
			t.Errorf("the %s: a secret: …%q…", name, text[max(0, i-300):min(len(text), i+100)])
		}
		if found := strings.Contains(text, control); !found && (name == "history" || name == "spans" || name == "file" && engine != "memory") {
			t.Errorf("the %s: no control in %d bytes", name, len(text))
		}
	}
	stolen.Range(func(headers, _ any) bool {
		if strings.Contains(headers.(string), "canary-of-") {
			t.Errorf("sent to another server: %s", headers)
		}
		return true
	})
	// All of it has happened.
	for _, want := range []string{"401 (secret)", "500", "was not followed", "no answer", "EOF", "teapot", "connection refused", "can't be delivered"} {
		if !strings.Contains(told.String()+history.String()+logs.String(), want) {
			t.Errorf("nothing tells of %q", want)
		}
	}
}

// logged is a log that is written by many.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
