package main

import (
	"os"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/examples/internal/exampletest"
	"github.com/mcpagent/mcpagent/internal/temporaltest"
)

func TestMain(m *testing.M) { exampletest.Main(m, main) }

// TestOnEveryEngine changes nothing but a line of configuration.
func TestOnEveryEngine(t *testing.T) {
	t.Parallel()
	addr := os.Getenv("TEMPORAL_ADDRESS")
	if addr == "" {
		addr = temporaltest.New(t, nil).Addr()
	}
	for engine, lines := range map[string][]string{
		"memory":   {"execution_engine: memory"},
		"local":    {"execution_engine: local"},
		"temporal": {"execution_engine: temporal", "temporal: {host: \"" + addr + "\", task_queue: example-report}"},
	} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			out, errs := exampletest.Run(t, "-config", exampletest.Config(t, lines...), "-model", "script:script.yaml", "Why do cats purr?")
			if !strings.Contains(out, "25 times a second") {
				t.Errorf("it printed %q\n%s", out, errs)
			}
			if !strings.Contains(errs, "no model is asked") {
				t.Errorf("it does not say that no model is asked:\n%s", errs)
			}
		})
	}
}

// TestAServerEndsWithItsClient, and that is no failure.
func TestAServerEndsWithItsClient(t *testing.T) {
	t.Parallel()
	out, errs := exampletest.Run(t, "-config", exampletest.Config(t, "execution_engine: memory"), "-model", "script:script.yaml")
	if out != "" || strings.Contains(errs, "nil") {
		t.Errorf("it says %q, and %q", out, errs)
	}
}
