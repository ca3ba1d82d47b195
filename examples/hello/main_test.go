package main

import (
	"os"
	"os/exec"
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
		"temporal": {"execution_engine: temporal", "temporal: {host: \"" + addr + "\", task_queue: example-hello}"},
	} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			out, errs := exampletest.Run(t, "-config", exampletest.Config(t, lines...), "-model", "script:script.yaml")
			if !strings.Contains(out, "goes on after its process was killed") {
				t.Errorf("it printed %q\n%s", out, errs)
			}
			if !strings.Contains(errs, "no model is asked") {
				t.Errorf("it does not say that no model is asked:\n%s", errs)
			}
		})
	}
}

// TestWithoutAKeyItSaysWhatToSet, at once, before a server is started.
func TestWithoutAKeyItSaysWhatToSet(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"memory", "local"} {
		cmd := exampletest.Command(t, "-config", exampletest.Config(t, "execution_engine: "+engine))
		cmd.Env = append(cmd.Environ(), "ANTHROPIC_API_KEY=", "OPENAI_API_KEY=")
		out, err := cmd.CombinedOutput()
		if _, ok := err.(*exec.ExitError); !ok || !strings.Contains(string(out), "set ANTHROPIC_API_KEY or OPENAI_API_KEY") {
			t.Errorf("%s: it ends with %v, and says %q", engine, err, out)
		}
		if strings.Contains(string(out), "left out") {
			t.Errorf("%s: it starts servers first: %s", engine, out)
		}
	}
}
