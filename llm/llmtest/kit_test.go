package llmtest_test

import (
	"testing"

	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

func TestScriptKeepsTheContract(t *testing.T) {
	t.Parallel()
	llmtest.TestModel(t, func(t *testing.T, s *llmtest.Script) llm.Model {
		m, err := s.Model("m")
		if err != nil {
			t.Fatal(err)
		}
		return m
	})
}
