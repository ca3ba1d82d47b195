package agent_test

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

// TestABusyProviderIsLeftAloneThroughADeath is a restart after SIGKILL: the
// process that was told to wait is killed in the middle of it, by another one
// that only looks and waits for the result.
func TestABusyProviderIsLeftAloneThroughADeath(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"local", "temporal"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			provider := &overloaded{wait: 3 * time.Second}
			script := llmtest.New(llmtest.Answer{Always: true, Func: provider.answer})
			model := llmtest.Serve(t, script)
			asked := make(chan bool, 10)
			world := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/point" && r.URL.Path != "/done" {
					model.ServeHTTP(w, r)
					asked <- true
				}
			}))
			defer world.Close()
			p := part{World: outer(world.URL), Mark: rand.Text(), Provider: "openai"}
			p.ID = "busy-" + p.Mark
			stderr := filepath.Join(t.TempDir(), "stderr")
			life := func() *life {
				l, err := begin(ctx, &p, stderr)
				if err != nil {
					t.Fatal(err)
				}
				return l
			}
			s := &store{t: t, ctx: ctx}
			if kind == "local" {
				p.Local = filepath.Join(t.TempDir(), "runs.db")
				s.open = func(...durable.Definer) (*durable.Engine, error) {
					return localengine.Open(ctx, p.Local, &localengine.Options{Engine: busy, Client: true})
				}
			} else {
				p.Temporal = cluster(t)
				s.open = func(...durable.Definer) (*durable.Engine, error) {
					return temporalengine.Open(ctx, &temporalengine.Options{Engine: busy, HostPort: p.Temporal, TaskQueue: p.ID, ClientOnly: true})
				}
			}
			first := life()
			select {
			case <-asked:
			case <-first.dead:
				said, _ := os.ReadFile(stderr)
				t.Fatalf("it ended by itself:\n%s", said)
			}
			s.begin()
			defer s.end()
			run := s.eng.Run(p.ID, "")
			s.until(run, failing)
			if err := first.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			<-first.dead
			second := life()
			if res, err := agent.ResultOf(ctx, run); err != nil || res.Text() != "two" {
				said, _ := os.ReadFile(stderr)
				t.Errorf("%+v, %v\n%s", res, err, said)
			}
			<-second.dead
			provider.once(t)
			sound(t, script)
		})
	}
}
