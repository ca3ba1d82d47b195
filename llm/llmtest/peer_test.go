package llmtest_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/npmtest"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/anthropic"
	"github.com/mcpagent/mcpagent/llm/llmtest"
	"github.com/mcpagent/mcpagent/llm/openai"
)

// aimock starts a server of somebody else's that speaks the providers'
// protocols, and gives its address.
func aimock(t *testing.T) string {
	t.Helper()
	dir := filepath.Join("testdata", "aimock")
	node, args := npmtest.Node(t, dir, "@copilotkit/aimock/dist/cli.js")
	cmd := exec.CommandContext(t.Context(), node, append(args, "-p", "0", "-f", filepath.Join(dir, "fixtures.json"), "--validate-on-load", "--strict")...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	said := bufio.NewScanner(out)
	var lines []string
	for said.Scan() {
		lines = append(lines, said.Text())
		if _, url, ok := strings.Cut(said.Text(), "listening on "); ok {
			go func() { _, _ = io.Copy(io.Discard, out) }() // until it ends
			return strings.TrimSpace(url)
		}
	}
	t.Fatalf("aimock did not start:\n%s", strings.Join(lines, "\n"))
	return ""
}

// checked holds each request to the rules of its provider, which aimock does
// not.
type checked struct {
	t *testing.T
	http.RoundTripper
}

func (c checked) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	validate := llmtest.ValidateOpenAI
	if strings.HasSuffix(r.URL.Path, "/messages") {
		validate = llmtest.ValidateAnthropic
	}
	if err := validate(b); err != nil {
		c.t.Errorf("%v\n%s", err, b)
	}
	return c.RoundTripper.RoundTrip(r)
}

// TestAgainstAimock has the providers talk to a server that nobody here wrote.
func TestAgainstAimock(t *testing.T) {
	t.Parallel()
	url := aimock(t)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	key, client := durable.NewSecret("key"), &http.Client{Transport: checked{t, transport}}
	for _, c := range []struct {
		p    llm.Provider
		name string
	}{
		{openai.New(&openai.Options{APIKey: key, BaseURL: url + "/v1", HTTPClient: client}), "gpt-5.5"},
		{anthropic.New(&anthropic.Options{APIKey: key, BaseURL: url, HTTPClient: client}), "claude-sonnet-5-5"},
	} {
		m, err := c.p.Model(c.name)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(c.p.Provider(), func(t *testing.T) { talk(t, m) })
	}
}

// once gives an answer, called or streamed, with all text that came before it.
func once(t *testing.T, m llm.Model, r *llm.Request, streamed bool) (res *llm.Response, text string, err error) {
	if !streamed {
		res, err = m.Call(t.Context(), r)
		return res, "", err
	}
	for d, e := range m.Stream(t.Context(), r) {
		text, res, err = text+d.Text, d.Response, e
	}
	return res, text, err
}

func talk(t *testing.T, m llm.Model) {
	for _, streamed := range []bool{false, true} {
		say := func(text string) *llm.Request {
			return &llm.Request{System: "Be short.", Messages: []llm.Message{llm.User(text)}}
		}
		res, text, err := once(t, m, say("hello"), streamed)
		if err != nil || res.Message.Text() != "Hi there, how are you?" || res.Stop != llm.StopEnd || res.Usage.Input != 11 || res.Usage.Output != 7 || streamed && text != res.Message.Text() {
			t.Errorf("hello: %+v, %q, %v", res, text, err)
		}

		r := say("compare")
		r.Tools = []llm.Tool{{Name: "read_file", Schema: json.RawMessage(`{"type":"object","properties":{"path":{"type":"string"}}}`)}}
		res, _, err = once(t, m, r, streamed)
		if err != nil {
			t.Fatal(err)
		}
		calls := res.Message.Calls()
		if len(calls) != 2 || string(calls[0].Args) != `{"path":"a"}` || string(calls[1].Args) != `{"path":"b"}` || res.Message.Text() != "Let me look." || res.Stop != llm.StopTools {
			t.Fatalf("compare: %+v", res)
		}
		tools := llm.Message{Role: llm.RoleTools}
		for _, c := range calls {
			tools.Parts = append(tools.Parts, llm.Part{Result: &llm.ToolResult{ID: c.ID, Name: c.Name, Parts: []llm.Part{{Text: "x"}}}})
		}
		r.Messages = append(r.Messages, res.Message, tools)
		if res, _, err = once(t, m, r, streamed); err != nil || res.Message.Text() != "They are equal." {
			t.Errorf("compared: %+v, %v", res, err)
		}

		r = say("think")
		r.Effort = "low"
		if res, _, err = once(t, m, r, streamed); err != nil || res.Message.Text() != "42" || len(res.Message.Parts) != 2 || res.Message.Parts[0].Reasoning == nil || res.Message.Parts[0].Reasoning.Text != "Six times seven." {
			t.Errorf("think: %+v, %v", res, err)
		}

		r = say("grade")
		r.Schema = &llm.Schema{Schema: json.RawMessage(`{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}`)}
		if res, _, err = once(t, m, r, streamed); err != nil || res.Message.Text() != `{"n":4}` {
			t.Errorf("grade: %+v, %v", res, err)
		}

		for text, want := range map[string]llm.Error{
			"too fast":   {Class: llm.RateLimit, RetryAfter: 2 * time.Second},
			"overloaded": {Class: llm.Overloaded},
			"wrong":      {Class: llm.Invalid},
		} {
			_, _, err := once(t, m, say(text), streamed)
			var e *llm.Error
			if !errors.As(err, &e) || e.Class != want.Class || e.RetryAfter != want.RetryAfter {
				t.Errorf("%s: %v, want %s and %v", text, err, want.Class, want.RetryAfter)
			}
		}
	}
	res, text, err := once(t, m, &llm.Request{Messages: []llm.Message{llm.User("breaks off")}}, true)
	var e *llm.Error
	if !errors.As(err, &e) || e.Class != llm.Network || res != nil || !strings.HasPrefix("one two three four five", text) {
		t.Errorf("breaks off: %+v, %q, %v", res, text, err)
	}
}
