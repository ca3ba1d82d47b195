package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/examples/internal/exampletest"
)

func TestMain(m *testing.M) { exampletest.Main(m, main) }

func TestOnEveryEngine(t *testing.T) {
	t.Parallel()
	exampletest.OnEveryEngine(t, "hello", "goes on after its process was killed")
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
