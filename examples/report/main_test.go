package main

import (
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/examples/internal/exampletest"
)

func TestMain(m *testing.M) { exampletest.Main(m, main) }

func TestOnEveryEngine(t *testing.T) {
	t.Parallel()
	exampletest.OnEveryEngine(t, "report", "25 times a second", "Why do cats purr?")
}

// TestAServerEndsWithItsClient, and that is no failure.
func TestAServerEndsWithItsClient(t *testing.T) {
	t.Parallel()
	out, errs := exampletest.Run(t, "-config", exampletest.Config(t, "execution_engine: memory"), "-model", "script:script.yaml")
	if out != "" || strings.Contains(errs, "nil") {
		t.Errorf("it says %q, and %q", out, errs)
	}
}
