package peers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/google/go-cmp/cmp"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	ouranthropic "github.com/mcpagent/mcpagent/llm/anthropic"
	ouropenai "github.com/mcpagent/mcpagent/llm/openai"
	"github.com/openai/openai-go/v3"
)

// TestMain takes away what the environment says to providers and SDKs.
func TestMain(m *testing.M) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "OPENAI_") || strings.HasPrefix(name, "ANTHROPIC_") {
			os.Unsetenv(name)
		}
	}
	os.Exit(m.Run())
}

const key = "sk-0123456789"

// line is what stands between a client and the server: clients take it for the
// vendor's, and it keeps what they send.
type line struct {
	to *url.URL // nil: answers come from reply
	// reply makes an answer.
	reply func(*http.Request) *http.Response

	mu   sync.Mutex
	sent []sent
}

type sent struct {
	url    string
	header http.Header
	body   []byte
}

// RoundTrip implements [http.RoundTripper].
func (l *line) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.sent = append(l.sent, sent{r.URL.String(), r.Header.Clone(), body})
	l.mu.Unlock()
	on := r.Clone(r.Context())
	on.Body = io.NopCloser(bytes.NewReader(body))
	if l.to == nil {
		res := l.reply(on)
		res.Request = on
		return res, nil
	}
	on.URL.Scheme, on.URL.Host, on.Host = l.to.Scheme, l.to.Host, l.to.Host
	return http.DefaultTransport.RoundTrip(on)
}

// lineTo leads to a server.
func lineTo(t *testing.T, address string) *line {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return &line{to: u}
}

// replying has one answer to everything.
func replying(kind, body string) *line {
	return &line{reply: func(*http.Request) *http.Response {
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(body))}
	}}
}

func (l *line) client() *http.Client { return &http.Client{Transport: l} }

// last is what was sent last.
func (l *line) last(t *testing.T) sent {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.sent) == 0 {
		t.Fatal("nothing was sent")
	}
	return l.sent[len(l.sent)-1]
}

func openaiModel(t *testing.T, l *line, name string, o ouropenai.Options) llm.Model {
	t.Helper()
	o.APIKey, o.HTTPClient = durable.NewSecret(key), l.client()
	m, err := ouropenai.New(&o).Model(name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func anthropicModel(t *testing.T, l *line, name string, o ouranthropic.Options) llm.Model {
	t.Helper()
	o.APIKey, o.HTTPClient = durable.NewSecret(key), l.client()
	m, err := ouranthropic.New(&o).Model(name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// ask gives an answer, called or streamed.
func ask(t *testing.T, m llm.Model, r *llm.Request, streamed bool) (res *llm.Response, err error) {
	t.Helper()
	if !streamed {
		return m.Call(t.Context(), r)
	}
	for d, e := range m.Stream(t.Context(), r) {
		res, err = d.Response, e
	}
	return res, err
}

// said is an answer as somebody understood it.
type said struct {
	ID, Model, Text, Thought, Stop string
	Calls                          []call
	Usage                          llm.Usage
}

type call struct{ ID, Name, Args string }

// ours is what a provider understood.
func ours(r *llm.Response) said {
	out := said{ID: r.ID, Model: r.Model, Text: r.Message.Text(), Stop: string(r.Stop), Usage: r.Usage}
	for _, p := range r.Message.Parts {
		if p.Reasoning != nil {
			out.Thought += p.Reasoning.Text
		}
		if c := p.Call; c != nil {
			args := string(c.Args)
			if c.Bad != "" {
				if err := json.Unmarshal(c.Args, &args); err != nil {
					args = err.Error()
				}
			}
			out.Calls = append(out.Calls, call{c.ID, c.Name, args})
		}
	}
	return out
}

// openaiSaid is what OpenAI's SDK understood.
func openaiSaid(c *openai.ChatCompletion) said {
	out := said{ID: c.ID, Model: c.Model, Usage: openaiUsage(c.Usage)}
	if len(c.Choices) == 0 {
		return out
	}
	choice := c.Choices[0]
	out.Text, out.Stop = choice.Message.Content+choice.Message.Refusal, choice.FinishReason
	if choice.Message.Refusal != "" {
		out.Stop = "content_filter" // we have no other place for it
	}
	if f, there := choice.Message.JSON.ExtraFields["reasoning_content"]; there {
		if err := json.Unmarshal([]byte(f.Raw()), &out.Thought); err != nil {
			out.Thought = err.Error()
		}
	}
	for _, c := range choice.Message.ToolCalls {
		out.Calls = append(out.Calls, call{c.ID, c.Function.Name, c.Function.Arguments})
	}
	return out
}

func openaiUsage(u openai.CompletionUsage) llm.Usage {
	return llm.Usage{Input: u.PromptTokens, Output: u.CompletionTokens, CacheRead: u.PromptTokensDetails.CachedTokens, Reasoning: u.CompletionTokensDetails.ReasoningTokens}
}

// anthropicSaid is what Anthropic's SDK understood.
func anthropicSaid(m *anthropic.Message) said {
	u := m.Usage
	out := said{ID: m.ID, Model: m.Model, Stop: string(m.StopReason), Usage: llm.Usage{
		Input: u.InputTokens + u.CacheReadInputTokens + u.CacheCreationInputTokens, Output: u.OutputTokens,
		CacheRead: u.CacheReadInputTokens, CacheWrite: u.CacheCreationInputTokens, Reasoning: u.OutputTokensDetails.ThinkingTokens,
	}}
	for _, b := range m.Content {
		switch b.Type {
		case "text":
			out.Text += b.Text
		case "thinking":
			out.Thought += b.Thinking
		case "tool_use":
			out.Calls = append(out.Calls, call{b.ID, b.Name, string(b.Input)})
		}
	}
	return out
}

// field is the part of the SDKs' respjson.Field that is needed.
type field interface {
	Raw() string
	Valid() bool
}

// lacks finds what an answer has too little or too much, going by the types of
// an SDK: members that always come, and members that the vendor does not have.
func lacks(answer any, also ...string) []string {
	var out []string
	walk(reflect.ValueOf(answer), "", func(at, what string) {
		for _, known := range also {
			if strings.HasSuffix(at, known) {
				return
			}
		}
		out = append(out, at+" "+what)
	})
	return out
}

func walk(v reflect.Value, at string, report func(at, what string)) {
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Slice:
		for i := range v.Len() {
			walk(v.Index(i), fmt.Sprintf("%s[%d]", at, i), report)
		}
		return
	case reflect.Struct:
	default:
		return
	}
	if as := v.MethodByName("AsAny"); as.IsValid() {
		one := as.Call(nil)[0]
		if one.IsNil() {
			report(at, "is none of the kinds that there are")
			return
		}
		walk(one.Elem(), at, report)
		return
	}
	meta := v.FieldByName("JSON")
	if !meta.IsValid() {
		return
	}
	if extra := meta.FieldByName("ExtraFields"); extra.IsValid() {
		for _, name := range extra.MapKeys() {
			report(at+"."+name.String(), "is unknown")
		}
	}
	for i := range v.NumField() {
		t := v.Type().Field(i)
		about := meta.FieldByName(t.Name)
		if !about.IsValid() || t.Name == "JSON" {
			continue
		}
		name, rest, _ := strings.Cut(t.Tag.Get("json"), ",")
		f := about.Interface().(field)
		switch want := t.Tag.Get("default"); {
		case want != "" && f.Raw() != `"`+want+`"`:
			report(at+"."+name, "is "+f.Raw()+", want "+want)
		case f.Raw() == "" && (t.Tag.Get("api") == "required" || rest == "required"):
			report(at+"."+name, "is missing")
		case f.Valid():
			walk(v.Field(i), at+"."+name, report)
		case f.Raw() != "" && f.Raw() != "null":
			report(at+"."+name, "is of the wrong type: "+f.Raw())
		}
	}
}

// same compares two bodies as JSON values, after what a request may as well
// leave out was taken from both.
func same(t *testing.T, ours, theirs []byte, optional ...map[string]any) {
	t.Helper()
	if diff := cmp.Diff(value(t, theirs, optional), value(t, ours, optional)); diff != "" {
		t.Errorf("the SDK's request (-) and ours (+):\n%s", diff)
	}
}

func value(t *testing.T, body []byte, optional []map[string]any) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	without(v, optional)
	return v
}

// without takes members with their default value away, from objects of their
// type: {"type": "tool_result", "is_error": false}.
func without(v any, optional []map[string]any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			without(e, optional)
		}
	case map[string]any:
		for _, o := range optional {
			if v["type"] != o["type"] {
				continue
			}
			for name, def := range o {
				if have, there := v[name]; there && name != "type" && have == def {
					delete(v, name)
				}
			}
		}
		for _, e := range v {
			without(e, optional)
		}
	}
}

// sameHeaders compares those that matter to a server.
func sameHeaders(t *testing.T, ours, theirs sent, names ...string) {
	t.Helper()
	if ours.url != theirs.url {
		t.Errorf("the SDK asks %s, we ask %s", theirs.url, ours.url)
	}
	for _, name := range append(names, "Content-Type", "Authorization", "X-Api-Key", "Anthropic-Version") {
		if diff := cmp.Diff(theirs.header.Values(name), ours.header.Values(name)); diff != "" {
			t.Errorf("header %s of the SDK (-) and ours (+):\n%s", name, diff)
		}
	}
}

// failure is the error of a provider.
func failure(t *testing.T, err error) *llm.Error {
	t.Helper()
	e, ok := errors.AsType[*llm.Error](err)
	if !ok {
		t.Fatalf("our error is %v", err)
	}
	return e
}

// compact is JSON without spaces; what is none stays.
func compact(text string) string {
	var b bytes.Buffer
	if json.Compact(&b, []byte(text)) != nil {
		return text
	}
	return b.String()
}

// text is what a string of JSON says.
func text(t *testing.T, raw string) (s string) {
	t.Helper()
	if err := json.Unmarshal([]byte(raw), &s); err != nil {
		t.Errorf("%v: %s", err, raw)
	}
	return s
}
