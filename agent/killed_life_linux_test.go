package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.temporal.io/sdk/worker"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
	"github.com/mcpagent/mcpagent/llm/anthropic"
	"github.com/mcpagent/mcpagent/llm/openai"
	"github.com/mcpagent/mcpagent/mcphost"
)

const (
	lifeVar = "AGENT_TEST_LIFE" // makes the test binary a life of an agent, and says which
	toolVar = "AGENT_TEST_TOOL" // makes it an MCP server, and says where the world is
	markVar = "AGENT_TEST_MARK" // marks the processes of one history
)

func TestMain(m *testing.M) {
	var err error
	switch {
	case os.Getenv(lifeVar) != "":
		err = live(context.Background(), os.Getenv(lifeVar))
	case os.Getenv(toolVar) != "":
		err = serveTools(context.Background(), outer(os.Getenv(toolVar)))
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// part is what a process is told that is one life of an agent.
type part struct {
	World    outer
	Mark     string
	ID       string // of the run, and of the task queue
	Provider string
	Stream   bool

	Local    string // the file; empty: none
	Temporal string // the address; empty: none

	Node       string   // empty: there are no servers
	Filesystem []string // arguments
	Everything []string
}

// outer is the world outside of a process, by its URL: it counts what happens,
// and lets the process die where it says that it has come by.
type outer string

func (w outer) post(path string, args url.Values, body []byte) error {
	res, err := http.Post(string(w)+path+"?"+args.Encode(), "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the world says %s", res.Status)
	}
	return nil
}

// Observe says where in its life the run is.
func (w outer) Observe(o durable.Observation) {
	at := ""
	switch o.Kind {
	case "run.started", "run.ended":
		at = o.Kind
	case "turn":
		at = fmt.Sprintf("commit %d", o.Turns)
	case "step.started", "step.ended", "wait.started", "wait.ended":
		at = fmt.Sprintf("%s %s %s", o.Kind, o.Name, o.Call)
	default:
		return
	}
	args := url.Values{"at": {at}}
	if m := answerID.FindSubmatch(o.Output); o.Kind == "wait.ended" && m != nil {
		args.Set("recorded", string(m[1]))
	}
	if err := w.post("/point", args, nil); err != nil {
		panic(err) // the test is gone
	}
}

// WantsContent lets Observe see which answer of the model was recorded.
func (outer) WantsContent() bool { return true }

var answerID = regexp.MustCompile(`"id":"answer_(\d+)"`)

// live is a life: it opens the engine, starts the run or finds it, and waits
// for its end.
func live(ctx context.Context, told string) (err error) {
	var p part
	if err := json.Unmarshal([]byte(told), &p); err != nil {
		return err
	}
	server := func(command string, args ...string) mcphost.Server {
		return mcphost.Server{Command: command, Args: args, Env: map[string]durable.Secret{markVar: durable.NewSecret(p.Mark)}}
	}
	var names []string
	servers := map[string]mcphost.Server{}
	if p.Node != "" {
		own := server(os.Args[0])
		own.Env[toolVar] = durable.NewSecret(string(p.World))
		names = []string{"fs", "all", "own"}
		servers = map[string]mcphost.Server{"fs": server(p.Node, p.Filesystem...), "all": server(p.Node, p.Everything...), "own": own}
	}
	host := mcphost.New(&mcphost.Options{Logger: quiet, Servers: servers})
	defer func() { err = errors.Join(err, host.Close(ctx)) }()
	key := durable.NewSecret("sk-of-the-sweep")
	models := &agent.ModelSet{Default: p.Provider + ":some", Providers: agent.Models{
		openai.New(&openai.Options{BaseURL: string(p.World) + "/v1", APIKey: key}),
		anthropic.New(&anthropic.Options{BaseURL: string(p.World), APIKey: key}),
	}}
	if p.Stream {
		models.Watch = func(string, string) func(*agent.Event) { return func(*agent.Event) {} }
	}
	// What may not be repeated is allowed without a question.
	a := agent.New("worker", agent.Config{Instruction: "Work.", Servers: names, Policy: agent.Policy{{Tool: "*", Do: agent.Allow}},
		Budget: agent.Budget{Turns: -1}})
	o := durable.Options{Logger: quiet, Observer: p.World, MaxDeaths: -1}
	var e *durable.Engine
	if p.Local != "" {
		e, err = localengine.Open(ctx, p.Local, &localengine.Options{Engine: o}, a, models, host)
	} else {
		e, err = temporalengine.Open(ctx, &temporalengine.Options{Engine: o, HostPort: p.Temporal, TaskQueue: p.ID, Heartbeat: 2 * time.Second,
			Worker: worker.Options{StickyScheduleToStartTimeout: time.Second}}, a, models, host)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close(ctx)) }()
	run, err := agent.Start(ctx, e, a, &durable.StartOptions{ID: p.ID}, "Go.")
	if err != nil {
		return err
	}
	res, err := agent.ResultOf(ctx, run)
	if err != nil {
		return err
	}
	return p.World.post("/done", url.Values{"result": {fmt.Sprint(res.Text(), " ", res.Turns, " ", res.Calls)}}, nil)
}

// serveTools is a server whose effects the world counts: "count" says nothing
// about itself, so that it may be called once at most; "again" is idempotent.
func serveTools(ctx context.Context, w outer) error {
	type thing struct {
		N string `json:"n"`
	}
	s := mcp.NewServer(&mcp.Implementation{Name: "own", Version: "1"}, nil)
	add := func(tool *mcp.Tool) {
		mcp.AddTool(s, tool, func(_ context.Context, req *mcp.CallToolRequest, in thing) (*mcp.CallToolResult, any, error) {
			key, _ := req.Params.Meta[mcphost.EffectKey].(string)
			what := tool.Name + " " + in.N
			err := errors.Join(
				w.post("/point", url.Values{"at": {what + " begins"}}, nil),
				w.post("/effect", url.Values{"what": {what}, "key": {key}}, nil),
				w.post("/point", url.Values{"at": {what + " is done"}}, nil),
			)
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: what}}}, nil, err
		})
	}
	add(&mcp.Tool{Name: "count"})
	add(&mcp.Tool{Name: "again", Annotations: &mcp.ToolAnnotations{IdempotentHint: true}})
	return s.Run(ctx, &mcp.StdioTransport{})
}
