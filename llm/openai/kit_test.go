package openai_test

import (
	"testing"

	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
	"github.com/mcpagent/mcpagent/llm/openai"
)

func TestContract(t *testing.T) {
	t.Parallel()
	llmtest.TestModel(t, func(t *testing.T, s *llmtest.Script) llm.Model {
		srv := llmtest.Serve(t, s)
		m, err := openai.Compatible("kit", &openai.Options{BaseURL: srv.URL + "/v1", HTTPClient: srv.Client()}).Model("m")
		if err != nil {
			t.Fatal(err)
		}
		return m
	})
}
