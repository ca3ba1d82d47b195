package anthropic_test

import (
	"testing"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/anthropic"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

func TestContract(t *testing.T) {
	t.Parallel()
	llmtest.TestModel(t, func(t *testing.T, s *llmtest.Script) llm.Model {
		srv := llmtest.Serve(t, s)
		m, err := anthropic.New(&anthropic.Options{BaseURL: srv.URL, APIKey: durable.NewSecret("key"), HTTPClient: srv.Client()}).Model("claude-sonnet-5-5")
		if err != nil {
			t.Fatal(err)
		}
		return m
	})
}
