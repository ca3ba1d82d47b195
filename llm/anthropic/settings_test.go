package anthropic_test

import (
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/engines"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/anthropic"
)

var key = durable.NewSecret(canary)

// openWith gives a model with some options.
func openWith(t *testing.T, e *endpoint, o *anthropic.Options) llm.Model {
	t.Helper()
	s := httptest.NewServer(e)
	t.Cleanup(s.Close)
	o.BaseURL, o.APIKey, o.HTTPClient = s.URL, key, s.Client()
	m, err := anthropic.New(o).Model("")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// load decodes a file's section into a provider, as a program does.
func load(t *testing.T, p llm.Configured, text string) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mcp_agent.config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := engines.Load(path, &engines.LoadOptions{Sections: map[string]any{p.Provider(): p.Section()}, Env: []string{"KEY=" + canary}})
	return err
}

func TestSettings(t *testing.T) {
	e := &endpoint{body: hello}
	s := httptest.NewServer(e)
	t.Cleanup(s.Close)
	t.Setenv("ANTHROPIC_API_KEY", "of the environment")
	t.Setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
	p := anthropic.New(&anthropic.Options{HTTPClient: s.Client(), Headers: map[string]durable.Secret{"X-Proxy": key}})
	if err := load(t, p, "anthropic: {api_key: env:KEY, base_url: "+s.URL+", default_model: claude-x, aws_region: eu-west-1}\n"); err != nil {
		t.Fatal(err)
	}
	m, err := p.Model("")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Call(t.Context(), question); err != nil {
		t.Fatal(err)
	}
	if m.Name() != "claude-x" || e.got.Header.Get("X-Api-Key") != canary || e.got.Header.Get("X-Proxy") != canary {
		t.Errorf("model %s, headers %v", m.Name(), e.got.Header)
	}
	p = anthropic.New(nil)
	if err := load(t, p, "anthropic: {provider: bedrock}\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Model(""); err == nil || !strings.Contains(err.Error(), "anthropic.provider is bedrock") {
		t.Errorf("got %v", err)
	}
	if _, err := anthropic.New(&anthropic.Options{BaseURL: "example.com"}).Model(""); err == nil || !strings.Contains(err.Error(), "write anthropic.base_url") {
		t.Errorf("got %v", err)
	}
	t.Setenv("ANTHROPIC_API_KEY", "")
	t.Setenv("ANTHROPIC_BASE_URL", "")
	m, err = anthropic.New(nil).Model("")
	if err != nil || m.Name() != anthropic.DefaultModel {
		t.Fatal(m, err)
	}
	_, err = m.Call(t.Context(), question)
	var le *llm.Error
	if !errors.As(err, &le) || le.Class != llm.Auth || !strings.Contains(err.Error(), "ANTHROPIC_API_KEY") {
		t.Errorf("without a key: %v", err)
	}
}
