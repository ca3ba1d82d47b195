package agent_test

import (
	"context"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
	"github.com/mcpagent/mcpagent/internal/temporaltest"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

// TestOnTemporal plays the parts that matter on a server, in real time.
func TestOnTemporal(t *testing.T) {
	t.Parallel()
	addr := os.Getenv("TEMPORAL_ADDRESS")
	if addr == "" {
		addr = temporaltest.New(t, nil).Addr()
	}
	var removed atomic.Int32
	a := remover(&removed, agent.Config{})
	for name, c := range map[string]struct {
		answers []llmtest.Answer
		person  any // answers the one question
		want    string
		turns   int
	}{
		"calls and mistakes": {[]llmtest.Answer{llmtest.Calls("sum", `{"a":2,"b":3}`, "nothing", "{}", "sum", `{"a":"x"}`, "sum", `{`), echo}, nil, "false 5\n", 2},
		"approval":           {[]llmtest.Answer{llmtest.Calls("remove", `{"path":"a"}`, "sum", `{"a":1,"b":1}`), echo}, agent.Approval{Approve: true}, "removed a", 2},
		"denial":             {[]llmtest.Answer{llmtest.Call("remove", `{"path":"b"}`), echo}, agent.Approval{Note: "never"}, "denied the call of remove: never", 2},
		"key":                {[]llmtest.Answer{llmtest.Call("sum", `{"a":1,"b":1}`), llmtest.Fail(llm.Auth, 0), llmtest.Say("two")}, agent.Repair{}, "two", 2},
		"busy":               {[]llmtest.Answer{llmtest.Fail(llm.RateLimit, 2*time.Second), llmtest.Say("two")}, nil, "two", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script := llmtest.New(c.answers...)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			e, err := temporalengine.Open(ctx, &temporalengine.Options{Engine: durable.Options{Logger: quiet}, HostPort: addr, TaskQueue: "agent-" + strings.ReplaceAll(name, " ", "-")},
				a, &agent.ModelSet{Providers: agent.Models{script}, AskKey: true})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := e.Close(context.Background()); err != nil {
					t.Error(err)
				}
			}()
			w := &world{t: t, script: script, eng: e, ctx: ctx}
			run := w.start(a, "Go.")
			for asked := c.person == nil; !asked; {
				d, err := run.Describe(ctx)
				if err != nil {
					t.Fatal(err)
				}
				for _, q := range d.Questions {
					w.answer(q, c.person)
					asked = true
				}
			}
			res, err := agent.ResultOf(ctx, run)
			if err != nil || !strings.Contains(res.Text(), c.want) || res.Turns != c.turns {
				t.Errorf("%+v, %v", res, err)
			}
			sound(t, script)
		})
	}
}
