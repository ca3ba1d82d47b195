package openai_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
	"github.com/mcpagent/mcpagent/llm/openai"
)

const hello = `{"id":"c1","object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"Hello"}}]}`

// official is an HTTP client for which OpenAI's own address is a server of the
// test.
func official(e *endpoint) *http.Client {
	return &http.Client{Transport: trip(func(r *http.Request) (*http.Response, error) {
		w := newRecorder()
		e.ServeHTTP(w, r)
		return w.Result(), nil
	})}
}

func parameters(t *testing.T, e *endpoint) map[string]string {
	t.Helper()
	if err := llmtest.ValidateOpenAI([]byte(e.sent)); err != nil {
		t.Errorf("%v\n%s", err, e.sent)
	}
	var body map[string]json.RawMessage
	if err := json.Unmarshal([]byte(e.sent), &body); err != nil {
		t.Fatal(err)
	}
	delete(body, "model")
	delete(body, "messages")
	out := map[string]string{}
	for k, v := range body {
		out[k] = string(v)
	}
	return out
}

func TestParameters(t *testing.T) {
	t.Parallel()
	zero, half, seed := 0.0, 0.5, int64(7)
	strict := json.RawMessage(`{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}`)
	loose := json.RawMessage(`{"type":"object","properties":{"n":{"type":"integer"}}}`)
	for name, c := range map[string]struct {
		r     llm.Request
		want  map[string]string // of OpenAI's own
		other map[string]string // of another endpoint, where it differs
	}{
		"nothing": {llm.Request{}, map[string]string{}, nil},
		"all": {
			llm.Request{MaxTokens: 9, Temperature: &zero, TopP: &half, Seed: &seed, Stop: []string{"END"}, User: "u", Effort: "none", Extra: json.RawMessage(`{"verbosity":"low"}`)},
			map[string]string{"max_completion_tokens": "9", "temperature": "0", "top_p": "0.5", "seed": "7", "stop": `["END"]`, "user": `"u"`, "reasoning_effort": `"none"`, "verbosity": `"low"`},
			map[string]string{"max_tokens": "9", "temperature": "0", "top_p": "0.5", "seed": "7", "stop": `["END"]`, "user": `"u"`, "reasoning_effort": `"none"`, "verbosity": `"low"`},
		},
		"serial": {llm.Request{Tools: []llm.Tool{{Name: "t", Description: "d"}}, Serial: true, Choice: "t"},
			map[string]string{"parallel_tool_calls": "false", "tool_choice": `{"function":{"name":"t"},"type":"function"}`, "tools": `[{"function":{"name":"t","description":"d","parameters":{"type":"object","properties":{}}},"type":"function"}]`}, nil},
		"strict": {llm.Request{Schema: &llm.Schema{Name: "n", Schema: strict}},
			map[string]string{"response_format": `{"json_schema":{"name":"n","strict":true,"schema":{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false}},"type":"json_schema"}`}, nil},
		"loose": {llm.Request{Schema: &llm.Schema{Schema: loose}},
			map[string]string{"response_format": `{"json_schema":{"name":"answer","schema":{"type":"object","properties":{"n":{"type":"integer"}}}},"type":"json_schema"}`}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.r.Messages = []llm.Message{llm.User("x")}
			e := &endpoint{body: hello}
			m, err := openai.New(&openai.Options{APIKey: durable.NewSecret(canary), BaseURL: "https://api.openai.com/v1", HTTPClient: official(e)}).Model("gpt-5.5")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.Call(t.Context(), &c.r); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, parameters(t, e)); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
			if c.other == nil {
				c.other = c.want
			}
			e = &endpoint{body: hello}
			if _, err := open(t, e).Call(t.Context(), &c.r); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.other, parameters(t, e)); d != "" {
				t.Errorf("elsewhere: -want +got\n%s", d)
			}
		})
	}
}

// TestWhatEndpointsAdd goes back to the endpoint that added it, and to no other.
func TestWhatEndpointsAdd(t *testing.T) {
	t.Parallel()
	e := &endpoint{body: `data: {"id":"c1","choices":[{"index":0,"delta":{"reasoning_content":"H"}}]}

data: {"id":"c1","choices":[{"index":0,"delta":{"reasoning_content":"m."}}]}

data: {"id":"c1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"t","arguments":"{}"},"extra_content":{"google":{"thought_signature":"c2ln"}}}]}}]}

data: {"id":"c1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"b","type":"function","function":{"name":"t","arguments":"{}"}}]}}]}

data: {"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

`}
	m := open(t, e)
	r := &llm.Request{Messages: []llm.Message{llm.User("x")}, Tools: []llm.Tool{{Name: "t"}}}
	_, calls, res, err := stream(t, m, r)
	if err != nil {
		t.Fatal(err)
	}
	want := []llm.Part{
		{Reasoning: &llm.Reasoning{Text: "Hm."}, Raw: &llm.Raw{Provider: "local", Data: json.RawMessage(`{"reasoning_content":"Hm."}`)}},
		{Call: &llm.ToolCall{ID: "a", Name: "t", Args: json.RawMessage("{}")}, Raw: &llm.Raw{Provider: "local", Data: json.RawMessage(`{"extra_content":{"google":{"thought_signature":"c2ln"}}}`)}},
		{Call: &llm.ToolCall{ID: "b", Name: "t", Args: json.RawMessage("{}")}}, // also with the index 0
	}
	if d := cmp.Diff(want, res.Message.Parts); d != "" || res.Stop != llm.StopTools || len(calls) != 2 {
		t.Fatalf("%s, %v: -want +got\n%s", res.Stop, calls, d)
	}
	back := func(provider string) string {
		msg := llm.Message{Role: llm.RoleModel}
		for _, p := range res.Message.Parts {
			if p.Raw != nil {
				p.Raw = &llm.Raw{Provider: provider, Data: p.Raw.Data}
			}
			msg.Parts = append(msg.Parts, p)
		}
		e.body = hello
		_, err := m.Call(t.Context(), &llm.Request{Messages: []llm.Message{llm.User("x"), msg, {Role: llm.RoleTools, Parts: []llm.Part{
			{Result: &llm.ToolResult{ID: "a", Name: "t"}}, {Result: &llm.ToolResult{ID: "b", Name: "t"}}}}}})
		if err != nil {
			t.Fatal(err)
		}
		var sent struct{ Messages []json.RawMessage }
		if err := json.Unmarshal([]byte(e.sent), &sent); err != nil {
			t.Fatal(err)
		}
		return string(sent.Messages[1])
	}
	call := func(id, extra string) string {
		return `{"id":"` + id + `","function":{"arguments":"{}","name":"t"},"type":"function"` + extra + `}`
	}
	if d := cmp.Diff(`{"tool_calls":[`+call("a", `,"extra_content":{"google":{"thought_signature":"c2ln"}}`)+`,`+call("b", "")+`],"role":"assistant","reasoning_content":"Hm."}`, back("local")); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if d := cmp.Diff(`{"tool_calls":[`+call("a", "")+`,`+call("b", "")+`],"role":"assistant"}`, back("other")); d != "" {
		t.Errorf("of another: -want +got\n%s", d)
	}
}

// TestWords are what models say in the forms that endpoints have for it.
func TestWords(t *testing.T) {
	t.Parallel()
	event := func(delta string) string { return `data: {"choices":[{"index":0,"delta":` + delta + "}]}\n\n" }
	const done = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE] \n\n"
	const parts = `{"content":[{"type":"thinking","thinking":[{"type":"text","text":"Hm."}]},{"type":"text","text":"It is "},7,{"type":"text","text":"42."}]}`
	for name, body := range map[string]string{
		"parts":           `{"choices":[{"message":` + parts + `}]}`,
		"parts, streamed": event(parts) + done,
	} {
		m := open(t, &endpoint{body: body})
		r := &llm.Request{Messages: []llm.Message{llm.User("x")}}
		var res *llm.Response
		var err error
		if strings.HasPrefix(body, "data:") {
			_, _, res, err = stream(t, m, r)
		} else {
			res, err = m.Call(t.Context(), r)
		}
		if err != nil || res.Message.Text() != "It is 42." {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
}

// TestServersThatDoNotStream answer as a whole though they are asked for a
// stream.
func TestServersThatDoNotStream(t *testing.T) {
	t.Parallel()
	m := open(t, &endpoint{body: "\n" + whole})
	r := &llm.Request{Messages: []llm.Message{llm.User("x")}, Tools: []llm.Tool{{Name: "read"}}}
	text, calls, res, err := stream(t, m, r)
	if d := cmp.Diff(want, res); d != "" || err != nil || text != "Let me look." || !slices.Equal(calls, []string{"read", "read"}) {
		t.Errorf("%v, %q, %v: -want +got\n%s", err, text, calls, d)
	}
	for range m.Stream(t.Context(), r) {
		break
	}
}

// TestCallsWithoutIDs are told apart though all have the index 0.
func TestCallsWithoutIDs(t *testing.T) {
	t.Parallel()
	piece := func(name, args string) string {
		b, _ := json.Marshal(args)
		return `data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"","type":"function","function":{"name":"` + name + `","arguments":` + string(b) + "}}]}}]}\n\n"
	}
	m := open(t, &endpoint{body: piece("a", `{"n":`) + piece("a", `{}`) + piece("a", `}`) + piece("a", "") + piece("a", `{"n":2}`) + piece("b", `{}`) + piece("c", "null") +
		"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n"})
	_, _, res, err := stream(t, m, &llm.Request{Messages: []llm.Message{llm.User("x")}, Tools: []llm.Tool{{Name: "a"}}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range res.Message.Calls() {
		got = append(got, c.Name+" "+string(c.Args)+c.Bad)
	}
	if want := []string{`a {"n":{}}`, `a {"n":2}`, `b {}`, `c {}`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestOddAnswers are those of endpoints that have their own ideas.
func TestOddAnswers(t *testing.T) {
	t.Parallel()
	class := func(err error) llm.Class {
		var e *llm.Error
		if errors.As(err, &e) {
			return e.Class
		}
		return ""
	}
	for name, c := range map[string]struct {
		e    endpoint
		want llm.Class
	}{
		"no choices":     {endpoint{body: `{"id":"c1","choices":[]}`}, llm.Malformed},
		"a page":         {endpoint{body: `<html>`, header: map[string]string{"Content-Type": "text/html"}}, llm.Malformed},
		"no JSON":        {endpoint{body: `{"id"`}, llm.Malformed},
		"error with 200": {endpoint{body: "data: {\"error\":{\"message\":\"x\",\"code\":\"rate_limit_exceeded\"}}\n\n"}, llm.RateLimit},
		"error by name":  {endpoint{body: "data: {\"message\":\"x\",\"code\":\"rate_limit_exceeded\"}\nevent: error\n\n"}, llm.Server},
		"only an error":  {endpoint{body: `{"error":{"message":"x","code":429}}`}, llm.RateLimit},
		"error in words": {endpoint{body: `{"error":"Unexpected endpoint or method."}`}, llm.Server},
		"no message":     {endpoint{body: `{"choices":[{"text":"x","finish_reason":"stop"}]}`}, llm.Malformed},
		"null message":   {endpoint{body: `{"choices":[{"message":null,"finish_reason":"stop"}]}`}, llm.Malformed},
		"half a stream":  {endpoint{body: "data: {\"id\":\"c1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n"}, llm.Network},
		"a redirect":     {endpoint{status: 304}, llm.Malformed},
	} {
		m := open(t, &c.e)
		r := &llm.Request{Messages: []llm.Message{llm.User("x")}}
		if !strings.HasPrefix(c.e.body, "data:") {
			if _, err := m.Call(t.Context(), r); class(err) != c.want {
				t.Errorf("%s: got %v, want %s", name, err, c.want)
			}
		}
		if _, _, _, err := stream(t, m, r); class(err) != c.want {
			t.Errorf("%s, streamed: got %v, want %s", name, err, c.want)
		}
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	e := &endpoint{body: hello}
	m := open(t, e)
	for want, r := range map[string]*llm.Request{
		"application/pdf by a URL": {Messages: []llm.Message{{Role: llm.RoleUser, Parts: []llm.Part{{Media: &llm.Media{Type: "application/pdf", URL: "https://example.com/x.pdf"}}}}}},
		"video/mp4, which":         {Messages: []llm.Message{{Role: llm.RoleUser, Parts: []llm.Part{{Media: &llm.Media{Type: "video/mp4", Data: []byte("x")}}}}}},
		"image/png of the model":   {Messages: []llm.Message{llm.User("x"), {Role: llm.RoleModel, Parts: []llm.Part{{Media: &llm.Media{Type: "image/png", Data: []byte("x")}}}}, llm.User("x")}},
		`extra has "stream"`:       {Messages: []llm.Message{llm.User("x")}, Extra: json.RawMessage(`{"stream":true}`)},
	} {
		_, err := m.Call(t.Context(), r)
		var le *llm.Error
		if !errors.As(err, &le) || le.Class != llm.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	if e.n != 0 {
		t.Errorf("%d requests were sent", e.n)
	}
}

// TestMembersOfOtherTypes has what some endpoints send in another form.
func TestMembersOfOtherTypes(t *testing.T) {
	t.Parallel()
	e := &endpoint{body: `{"id":7,"choices":[{"index":"0","finish_reason":"tool_calls","message":{"content":["x"],"tool_calls":[
		{"id":"a","index":"0","function":{"name":"t","arguments":{"n": 1}}},{"id":"b","function":{"name":"t","arguments":null}},7]}}],"usage":"little"}`}
	res, err := open(t, e).Call(t.Context(), &llm.Request{Messages: []llm.Message{llm.User("x")}, Tools: []llm.Tool{{Name: "t"}}})
	if err != nil {
		t.Fatal(err)
	}
	calls := res.Message.Calls()
	if len(calls) != 3 || calls[0].ID != "a" || string(calls[0].Args) != `{"n":1}` || string(calls[1].Args) != `{}` || res.Stop != llm.StopTools {
		t.Errorf("got %+v, %+v", res, calls)
	}
}
