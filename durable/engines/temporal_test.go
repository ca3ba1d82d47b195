package engines_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/engines"
	"github.com/mcpagent/mcpagent/internal/temporaltest"
)

// TestOneLine runs one program on every engine: what changes is one line of
// the file. Its policies, its default for ids and its key hold on each.
func TestOneLine(t *testing.T) {
	t.Parallel()
	server := temporaltest.New(t, nil)
	for _, engine := range []string{"asyncio", "memory", "local", "temporal"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			c := load(t, t.TempDir(), fmt.Sprintf(`
execution_engine: %s
local: {path: runs.db, codec_key: %[2]s, id_reuse_policy: allow_duplicate}
temporal: {host: %q, namespace: %s, task_queue: one-line, codec_key: %[2]s, id_reuse_policy: allow_duplicate, stop_timeout_seconds: 1, connect_timeout_seconds: 30}
workflow_task_retry_policies:
  mcp_agent.agents.agent.AgentTasks.call_tool_task: {maximum_attempts: 3, initial_interval: 0.001}
workflow_task_modules: [flows]
`, engine, strings.Repeat("ab", 32), server.Addr(), server.Namespace()))
			var n atomic.Int64
			step := failing("mcp.call_tool", &n, nil)
			flow := durable.NewWorkflow("flow", func(ctx context.Context, in string) (string, error) {
				_, err := step.Do(ctx, none{})
				return fmt.Sprint(in, " failed: ", err != nil), nil
			}, nil)
			eng, err := engines.Open(t.Context(), c, &engines.Options{Engine: quiet, Modules: map[string]durable.Set{"flows": {flow, step}}})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := eng.Close(context.Background()); err != nil {
					t.Error(err)
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for i := range 2 {
				run, err := flow.Start(ctx, eng, canary, &durable.StartOptions{ID: "one"})
				if err != nil {
					t.Fatal(err)
				}
				if run.Existing {
					t.Errorf("start %d: the finished run is taken for the answer", i+1)
				}
				if got, err := run.Result(ctx); err != nil || string(got) != `"`+canary+` failed: true"` {
					t.Errorf("start %d: %s, %v", i+1, got, err)
				}
				if want := int64(3 * (i + 1)); n.Load() != want {
					t.Errorf("start %d: %d attempts, want %d", i+1, n.Load(), want)
				}
			}
		})
	}
}

// TestTemporalIsNotThere says where it was looked for, in time.
func TestTemporalIsNotThere(t *testing.T) {
	t.Parallel()
	c := load(t, t.TempDir(), `
execution_engine: temporal
temporal: {host: 127.0.0.1, port: 1, connect_timeout_seconds: 0.2, api_key: `+canary+`, tls: true}
`)
	_, err := engines.Open(t.Context(), c, &engines.Options{Engine: quiet})
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") || strings.Contains(err.Error(), canary) {
		t.Errorf("%v", err)
	}
}
