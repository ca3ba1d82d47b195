// Package exampletest runs examples as a user would: as a process, with a
// configuration file. The test binary is the program, and its MCP server too, so
// that nothing is built twice.
package exampletest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpagent/mcpagent/internal/temporaltest"
)

const (
	serveEnv = "EXAMPLETEST_SERVE"
	mainEnv  = "EXAMPLETEST_MAIN"
)

// Main is what TestMain calls: the tests, the program, or the MCP server
// "filesystem".
func Main(m *testing.M, program func()) {
	switch {
	case os.Getenv(serveEnv) != "":
		serve()
	case os.Getenv(mainEnv) != "":
		program()
	default:
		os.Exit(m.Run())
	}
}

func serve() {
	s := mcp.NewServer(&mcp.Implementation{Name: "filesystem", Version: "1"}, nil)
	type file struct {
		Path string `json:"path"`
	}
	read := &mcp.ToolAnnotations{ReadOnlyHint: true}
	mcp.AddTool(s, &mcp.Tool{Name: "read_text_file", Annotations: read}, func(_ context.Context, _ *mcp.CallToolRequest, f file) (*mcp.CallToolResult, any, error) {
		b, err := os.ReadFile(f.Path)
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(b)}}}, nil, err
	})
	mcp.AddTool(s, &mcp.Tool{Name: "list_directory", Annotations: read}, func(_ context.Context, _ *mcp.CallToolRequest, f file) (*mcp.CallToolResult, any, error) {
		list, err := os.ReadDir(f.Path)
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprint(list)}}}, nil, err
	})
	if err := s.Run(context.Background(), &mcp.StdioTransport{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Config writes a configuration file: some lines, and the server.
func Config(t *testing.T, lines ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(lines, "\n") + fmt.Sprintf(`
mcp:
  servers:
    filesystem: {command: %q, env: {%s: "1"}, cwd: %q}
    fetch: {command: nowhere, required: false}
`, self, serveEnv, filepath.Join(wd, "..", ".."))
	path := filepath.Join(t.TempDir(), "mcp_agent.config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Command is the program with arguments.
func Command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), mainEnv+"=1")
	return cmd
}

// Run runs the program to its end, and gives its standard output and error.
func Run(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	cmd := Command(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), errs.String()
}

// OnEveryEngine runs the program on each engine, changing nothing but a line of
// configuration, with the models of script.yaml; want is a part of what it
// prints. Name is the program's, for the task queue.
func OnEveryEngine(t *testing.T, name, want string, args ...string) {
	t.Helper()
	addr := os.Getenv("TEMPORAL_ADDRESS")
	if addr == "" {
		addr = temporaltest.New(t, nil).Addr()
	}
	for engine, lines := range map[string][]string{
		"memory":   {"execution_engine: memory"},
		"local":    {"execution_engine: local"},
		"temporal": {"execution_engine: temporal", "temporal: {host: \"" + addr + "\", task_queue: example-" + name + "}"},
	} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			out, errs := Run(t, append([]string{"-config", Config(t, lines...), "-model", "script:script.yaml"}, args...)...)
			if !strings.Contains(out, want) {
				t.Errorf("it printed %q\n%s", out, errs)
			}
			if !strings.Contains(errs, "no model is asked") {
				t.Errorf("it does not say that no model is asked:\n%s", errs)
			}
		})
	}
}
