package agent_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

// TestAHistoryGrowsWithItsMessages counts what 100 turns of 4 KB messages need
// on the local engine, in bytes of the journal and of the run's events, against
// the bytes of the distinct messages.
func TestAHistoryGrowsWithItsMessages(t *testing.T) {
	t.Parallel()
	type arg struct {
		N    int    `json:"n"`
		Text string `json:"text,omitempty"`
	}
	long := func(n int) string { return strings.Repeat(fmt.Sprintf("%07d.", n), 512) }
	for name, answer := range map[string]func(n int) []llm.Part{
		"texts and results": func(n int) []llm.Part {
			c := call(fmt.Sprint("c", n), "read", fmt.Sprintf(`{"n":%d}`, n))
			return []llm.Part{{Text: long(n)}, {Call: &c}}
		},
		"arguments and results": func(n int) []llm.Part {
			c := call(fmt.Sprint("c", n), "read", fmt.Sprintf(`{"n":%d,"text":%q}`, n, long(n)))
			return []llm.Part{{Call: &c}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := agent.New("talker", agent.Config{Budget: agent.Budget{Turns: -1}, Tools: []*agent.Tool{agent.Func("read", "", func(_ context.Context, a arg) (string, error) { return long(-a.N), nil }, nil)}})
			script := llmtest.New(llmtest.Answer{Always: true, Func: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
				if n := len(r.Messages); n < 199 {
					return reply(answer(n)...), nil
				}
				return reply(llm.Part{Text: long(199)}), nil
			}})
			path := filepath.Join(t.TempDir(), "a.db")
			e, err := localengine.Open(t.Context(), path, &localengine.Options{Engine: durable.Options{Logger: quiet}}, a, agent.Models{script})
			if err != nil {
				t.Fatal(err)
			}
			w := &world{t: t, script: script, eng: e, ctx: t.Context()}
			res, err := w.run(a, "Go.")
			if err != nil || res.Turns != 100 {
				t.Fatalf("%+v, %v", res, err)
			}
			if err := e.Close(t.Context()); err != nil {
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
			ratio := float64(journal+events) / float64(messages)
			t.Logf("messages %d bytes, journal %d, events %d: %.2f", messages, journal, events, ratio)
			if ratio > 1.3 {
				t.Errorf("the history is %.2f times its messages", ratio)
			}
		})
	}
}
