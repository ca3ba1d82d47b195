package agent_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.temporal.io/sdk/client"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
	"github.com/mcpagent/mcpagent/mcphost"
)

// TestAHistoryGrowsWithItsMessages counts what 100 turns of 4 KB messages need,
// against the bytes of the distinct messages: on the local engine in bytes of
// the journal and of the run's events, on Temporal in those of the history.
func TestAHistoryGrowsWithItsMessages(t *testing.T) {
	t.Parallel()
	addr := cluster(t)
	type arg struct {
		N    int    `json:"n"`
		Text string `json:"text,omitempty"`
	}
	long := func(n int) string { return strings.Repeat(fmt.Sprintf("%07d.", n), 512) }
	srv := mcp.NewServer(&mcp.Implementation{Name: "lib", Version: "1"}, nil)
	mcp.AddTool(srv, &mcp.Tool{Name: "read"}, func(_ context.Context, _ *mcp.CallToolRequest, a arg) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: long(-a.N)}}}, nil, nil
	})
	for name, answer := range map[string]func(n int) []llm.Part{
		"texts and results": func(n int) []llm.Part {
			c := call(fmt.Sprint("c", n), "read", fmt.Sprintf(`{"n":%d}`, n))
			return []llm.Part{{Text: long(n)}, {Call: &c}}
		},
		"arguments and results": func(n int) []llm.Part {
			c := call(fmt.Sprint("c", n), "read", fmt.Sprintf(`{"n":%d,"text":%q}`, n, long(n)))
			return []llm.Part{{Call: &c}}
		},
		"arguments and results of a server": func(n int) []llm.Part {
			c := call(fmt.Sprint("c", n), "lib_read", fmt.Sprintf(`{"n":%d,"text":%q}`, n, long(n)))
			return []llm.Part{{Call: &c}}
		},
	} {
		for engine, kept := range map[string]func(*testing.T, ...durable.Definer) (*durable.Engine, func(*durable.Run) int){
			"local": keptLocal,
			"temporal": func(t *testing.T, defs ...durable.Definer) (*durable.Engine, func(*durable.Run) int) {
				return keptTemporal(t, addr, defs...)
			},
		} {
			t.Run(name+"/"+engine, func(t *testing.T) {
				t.Parallel()
				a := agent.New("talker", agent.Config{Budget: agent.Budget{Turns: -1}, Servers: []string{"lib"}, Tools: []*agent.Tool{agent.Func("read", "", func(_ context.Context, a arg) (string, error) { return long(-a.N), nil }, nil)}})
				script := llmtest.New(llmtest.Answer{Always: true, Func: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
					if n := len(r.Messages); n < 199 {
						return reply(answer(n)...), nil
					}
					return reply(llm.Part{Text: long(199)}), nil
				}})
				host := mcphost.New(&mcphost.Options{Logger: quiet, Servers: map[string]mcphost.Server{"lib": {Dial: func(ctx context.Context) (mcp.Transport, error) {
					theirs, ours := mcp.NewInMemoryTransports()
					_, err := srv.Connect(ctx, theirs, nil)
					return ours, err
				}}}})
				e, size := kept(t, a, agent.Models{script}, host)
				w := &world{t: t, script: script, eng: e, ctx: t.Context()}
				run := w.start(a, "Go.")
				res, err := agent.ResultOf(t.Context(), run)
				if err != nil || res.Turns != 100 {
					t.Fatalf("%+v, %v", res, err)
				}
				if err := e.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := host.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				sound(t, script)
				messages := 0
				for _, m := range append(script.Requests()[99].Messages, res.Message) {
					b, err := json.Marshal(m)
					if err != nil {
						t.Fatal(err)
					}
					messages += len(b)
				}
				history := size(run)
				ratio := float64(history) / float64(messages)
				t.Logf("messages %d bytes, history %d: %.2f", messages, history, ratio)
				if ratio > 1.3 {
					t.Errorf("the history is %.2f times its messages", ratio)
				}
			})
		}
	}
}

func keptLocal(t *testing.T, defs ...durable.Definer) (*durable.Engine, func(*durable.Run) int) {
	path := filepath.Join(t.TempDir(), "a.db")
	e, err := localengine.Open(t.Context(), path, &localengine.Options{Engine: durable.Options{Logger: quiet}}, defs...)
	if err != nil {
		t.Fatal(err)
	}
	return e, func(*durable.Run) int {
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		var journal, events int
		if err := db.QueryRow("SELECT sum(length(kind) + length(head) + coalesce(length(data), 0)) FROM journal").Scan(&journal); err != nil {
			t.Fatal(err)
		}
		if err := db.QueryRow("SELECT sum(length(name) + length(data)) FROM items").Scan(&events); err != nil {
			t.Fatal(err)
		}
		return journal + events
	}
}

func keptTemporal(t *testing.T, addr string, defs ...durable.Definer) (*durable.Engine, func(*durable.Run) int) {
	e, err := temporalengine.Open(t.Context(), &temporalengine.Options{Engine: durable.Options{Logger: quiet}, HostPort: addr, TaskQueue: "size-" + rand.Text()[:6]}, defs...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(client.Options{HostPort: addr, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return e, func(run *durable.Run) int {
		d, err := c.DescribeWorkflowExecution(t.Context(), run.WorkflowID, run.RunID)
		if err != nil {
			t.Fatal(err)
		}
		return int(d.WorkflowExecutionInfo.HistorySizeBytes)
	}
}
