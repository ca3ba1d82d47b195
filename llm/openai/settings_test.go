package openai_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/engines"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/openai"
)

type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func newRecorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

// load decodes a file's section into a provider, as a program does.
func load(t *testing.T, p llm.Configured, text string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mcp_agent.config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := engines.Load(path, &engines.LoadOptions{Sections: map[string]any{p.Provider(): p.Section()}, Env: []string{"KEY=" + canary}})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSettings(t *testing.T) {
	e := &endpoint{body: hello}
	s := httptest.NewServer(e)
	t.Cleanup(s.Close)
	ask := &llm.Request{Messages: []llm.Message{llm.User("x")}}
	t.Setenv("OPENAI_API_KEY", "of the environment")
	t.Setenv("OPENAI_BASE_URL", s.URL+"/v1")
	call := func(p *openai.Provider, name string) {
		t.Helper()
		m, err := p.Model(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Call(t.Context(), ask); err != nil {
			t.Fatal(err)
		}
	}

	call(openai.New(nil), "")
	if e.got.Header.Get("Authorization") != "Bearer of the environment" || !strings.Contains(e.sent, `"model":"`+openai.DefaultModel+`"`) {
		t.Errorf("from the environment: %v %s", e.got.Header, e.sent)
	}

	call(openai.New(&openai.Options{BaseURL: s.URL + "/deployment/?api-version=1"}), "")
	if got := e.got.URL.String(); got != "/deployment/chat/completions?api-version=1" {
		t.Errorf("asked %s", got)
	}

	p := openai.New(nil)
	load(t, p, "openai: {api_key: env:KEY, default_model: gpt-5.4, reasoning_effort: high, user: u, default_headers: {X-Org: env:KEY}}\n")
	call(p, "")
	if h := e.got.Header; h.Get("Authorization") != "Bearer "+canary || h.Get("X-Org") != canary || !strings.Contains(e.sent, `"reasoning_effort":"high"`) || !strings.Contains(e.sent, `"user":"u"`) {
		t.Errorf("from the section: %v %s", h, e.sent)
	}
	call(p, "gpt-4.1")
	if strings.Contains(e.sent, "reasoning_effort") {
		t.Errorf("a model that does not think first is told to: %s", e.sent)
	}

	p = openai.New(&openai.Options{APIKey: durable.NewSecret("of Go"), DefaultModel: "m"})
	load(t, p, "openai: {api_key: env:KEY, default_model: gpt-5.4}\n")
	call(p, "")
	if e.got.Header.Get("Authorization") != "Bearer of Go" || !strings.Contains(e.sent, `"model":"m"`) {
		t.Errorf("from Go: %v %s", e.got.Header, e.sent)
	}

	// What is not OpenAI's gets nothing of OpenAI's.
	p = openai.Ollama(nil)
	load(t, p, "ollama: {base_url: "+s.URL+"/v1, default_model: llama}\n")
	call(p, "")
	if e.got.Header.Get("Authorization") != "" || !strings.Contains(e.sent, `"model":"llama"`) {
		t.Errorf("Ollama: %v %s", e.got.Header, e.sent)
	}
	for want, p := range map[string]*openai.Provider{
		"lm_studio: no model is named: name one as lm_studio:NAME, or write lm_studio.default_model": openai.LMStudio(nil),
		`groq: the base URL is "", want https://…: write groq.base_url`:                              openai.Compatible("groq", nil),
	} {
		if _, err := p.Model(""); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}

	t.Setenv("OPENAI_API_KEY", "")
	t.Setenv("OPENAI_BASE_URL", "")
	m, err := openai.New(nil).Model("")
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Call(t.Context(), ask)
	var le *llm.Error
	if !errors.As(err, &le) || le.Class != llm.Auth || !strings.Contains(err.Error(), "OPENAI_API_KEY") {
		t.Errorf("without a key: %v", err)
	}
}
