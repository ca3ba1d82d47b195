package anthropic_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/anthropic"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

const hello = `{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"Hello"}],"stop_reason":"end_turn","usage":{"input_tokens":5,"output_tokens":7}}`

// sent is what a model sends for a request, beside model and messages.
func sent(t *testing.T, name string, r *llm.Request) (map[string]json.RawMessage, *endpoint) {
	t.Helper()
	e := &endpoint{body: hello}
	if _, err := open(t, e, name).Call(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := llmtest.ValidateAnthropic([]byte(e.sent)); err != nil {
		t.Errorf("%v\n%s", err, e.sent)
	}
	var body map[string]json.RawMessage
	if err := json.Unmarshal([]byte(e.sent), &body); err != nil {
		t.Fatal(err)
	}
	delete(body, "model")
	delete(body, "messages")
	return body, e
}

func TestParameters(t *testing.T) {
	t.Parallel()
	zero, half := 0.0, 0.5
	ask := []llm.Message{llm.User("x")}
	closed := json.RawMessage(`{"type":"object","properties":{"n":{"type":"integer","minimum":1}},"required":["n"]}`)
	open := json.RawMessage(`{"type":"object","properties":{"m":{"type":"object","additionalProperties":{"type":"string"}}}}`)
	const answer = `{"input_schema":{"type":"object","properties":{"m":{"type":"object","additionalProperties":{"type":"string"}}}},"name":"answer","description":"Give your final answer by calling this, once, and say nothing else.","cache_control":{"type":"ephemeral"}}`
	for name, c := range map[string]struct {
		model string
		r     llm.Request
		want  map[string]string
	}{
		"nothing": {"claude-sonnet-5-5", llm.Request{}, map[string]string{"max_tokens": "16384"}},
		"all": {"claude-sonnet-5-5",
			llm.Request{System: "s", MaxTokens: 9, Temperature: &zero, TopP: &half, Stop: []string{"END"}, User: "u", Extra: json.RawMessage(`{"top_k":3,"service_tier":"auto"}`)},
			map[string]string{"max_tokens": "9", "temperature": "0", "top_p": "0.5", "stop_sequences": `["END"]`, "metadata": `{"user_id":"u"}`, "top_k": "3", "service_tier": `"auto"`, "system": `[{"text":"s","cache_control":{"type":"ephemeral"},"type":"text"}]`}},
		"effort of a new model": {"claude-opus-4-6", llm.Request{Effort: "low"}, map[string]string{"max_tokens": "16384", "output_config": `{"effort":"low"}`, "thinking": `{"display":"summarized","type":"adaptive"}`}},
		"effort of an old one":  {"claude-haiku-4-5", llm.Request{Effort: "low"}, map[string]string{"max_tokens": "18432", "thinking": `{"budget_tokens":2048,"type":"enabled"}`}},
		"effort and a bound":    {"claude-3-7-sonnet-20250219", llm.Request{Effort: "high", MaxTokens: 4000}, map[string]string{"max_tokens": "4000", "thinking": `{"budget_tokens":2000,"type":"enabled"}`}},
		"no effort":             {"claude-sonnet-5-5", llm.Request{Effort: "none"}, map[string]string{"max_tokens": "16384", "thinking": `{"type":"disabled"}`}},
		"serial": {"m", llm.Request{Tools: []llm.Tool{{Name: "t", Title: "T"}}, Serial: true},
			map[string]string{"max_tokens": "16384", "tool_choice": `{"disable_parallel_tool_use":true,"type":"auto"}`, "tools": `[{"input_schema":{"type":"object","properties":{}},"name":"t","description":"T","cache_control":{"type":"ephemeral"}}]`}},
		"a schema": {"claude-sonnet-5-5", llm.Request{Schema: &llm.Schema{Schema: closed}},
			map[string]string{"max_tokens": "16384", "output_config": `{"format":{"schema":{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false},"type":"json_schema"}}`}},
		"a schema that can't bind": {"claude-sonnet-5-5", llm.Request{Schema: &llm.Schema{Schema: open}},
			map[string]string{"max_tokens": "16384", "tool_choice": `{"name":"answer","type":"tool"}`, "tools": "[" + answer + "]"}},
		"and thinking": {"claude-sonnet-5-5", llm.Request{Schema: &llm.Schema{Schema: open}, Effort: "low"},
			map[string]string{"max_tokens": "16384", "tools": "[" + answer + "]", "output_config": `{"effort":"low"}`, "thinking": `{"display":"summarized","type":"adaptive"}`}},
		"and tools": {"claude-sonnet-4-20250514", llm.Request{Schema: &llm.Schema{Schema: open}, Tools: []llm.Tool{{Name: "t"}}},
			map[string]string{"max_tokens": "16384", "tool_choice": `{"type":"any"}`, "tools": `[{"input_schema":{"type":"object","properties":{}},"name":"t"},` + answer + "]"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.r.Messages = ask
			body, _ := sent(t, c.model, &c.r)
			got := map[string]string{}
			for k, v := range body {
				got[k] = string(v)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

// TestAnswerByTool has the call of the tool that the model answers by.
func TestAnswerByTool(t *testing.T) {
	t.Parallel()
	r := &llm.Request{Messages: []llm.Message{llm.User("x")}, Schema: &llm.Schema{Name: "grade", Schema: json.RawMessage(`{"type":"object"}`)}}
	whole := &endpoint{body: `{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"tool_use","id":"a","name":"grade","input":{"n": 4}}],"stop_reason":"tool_use","usage":{"input_tokens":5,"output_tokens":7}}`}
	streamed := &endpoint{body: events(
		`{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":5,"output_tokens":1}}}`,
		`{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"grade","input":{}}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"n\":"}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"4}"}}`,
		`{"type":"content_block_stop","index":0}`,
		`{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":7}}`,
		`{"type":"message_stop"}`,
	)}
	want := &llm.Response{Message: llm.Message{Role: llm.RoleModel, Parts: []llm.Part{{Text: `{"n":4}`}}}, Stop: llm.StopEnd, Usage: llm.Usage{Input: 5, Output: 7}, Model: "m", ID: "msg_1"}
	got, err := open(t, whole, "").Call(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("called: -want +got\n%s", d)
	}
	text := ""
	for d, err := range open(t, streamed, "").Stream(t.Context(), r) {
		if err != nil {
			t.Fatal(err)
		}
		if d.Call != nil {
			t.Errorf("callers see the call of %s", d.Call.Name)
		}
		text, got = text+d.Text, d.Response
	}
	if d := cmp.Diff(want, got); d != "" || text != `{"n":4}` {
		t.Errorf("streamed: %s: -want +got\n%s", text, d)
	}
}

// TestLongAnswersAreStreamed has one that may take longer than ten minutes.
func TestLongAnswersAreStreamed(t *testing.T) {
	t.Parallel()
	s := llmtest.New(llmtest.Say("Hello there."))
	srv := llmtest.Serve(t, s)
	m, err := anthropic.New(&anthropic.Options{BaseURL: srv.URL + "/v1/", APIKey: key, HTTPClient: srv.Client()}).Model("claude-opus-5-5")
	if err != nil {
		t.Fatal(err)
	}
	res, err := m.Call(t.Context(), &llm.Request{Messages: []llm.Message{llm.User("x")}, MaxTokens: 64000})
	if err != nil || res.Message.Text() != "Hello there." || res.Model != "claude-opus-5-5" {
		t.Errorf("got %+v, %v", res, err)
	}
}

// TestHalfAnswers end where a proxy closed the stream in good order.
func TestHalfAnswers(t *testing.T) {
	t.Parallel()
	start := `{"type":"message_start","message":{"id":"msg_1","usage":{"input_tokens":5}}}`
	for name, c := range map[string]struct {
		body string
		want llm.Class
	}{
		"nothing":     {"event: ping\ndata: {}\n\n", llm.Network},
		"a beginning": {events(start), llm.Network},
		"a text":      {events(start, `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"x"}}`), llm.Network},
		"a gap":       {events(start, `{"type":"content_block_start","index":3,"content_block":{"type":"text","text":"x"}}`), llm.Malformed},
		"no block":    {events(start, `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}`), llm.Malformed},
	} {
		var err error
		for d, e := range open(t, &endpoint{body: c.body}, "").Stream(t.Context(), question) {
			if err = e; d.Response != nil {
				t.Errorf("%s is given as a whole answer", name)
			}
		}
		var le *llm.Error
		if !errors.As(err, &le) || le.Class != c.want {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	e := &endpoint{body: `{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":"refusal","stop_details":{"type":"refusal","category":"cyber","explanation":"I won't."},"usage":{"input_tokens":5,"output_tokens":7}}`}
	res, err := open(t, e, "").Call(t.Context(), question)
	if err != nil || res.Stop != llm.StopFilter || res.Message.Text() != "I won't." {
		t.Errorf("got %+v, %v", res, err)
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	seed := int64(1)
	e := &endpoint{body: hello}
	m := open(t, e, "claude-haiku-4-5")
	for want, r := range map[string]*llm.Request{
		"Seed":                 {Messages: []llm.Message{llm.User("x")}, Seed: &seed},
		`extra has "messages"`: {Messages: []llm.Message{llm.User("x")}, Extra: json.RawMessage(`{"messages":[]}`)},
		"audio/wav, which the API has no place for": {Messages: []llm.Message{{Role: llm.RoleUser, Parts: []llm.Part{{Media: &llm.Media{Type: "audio/wav", Data: []byte("x")}}}}}},
		"nothing but white space":                   {Messages: []llm.Message{llm.User(" \n")}},
		"wants MaxTokens of 2048 at least":          {Messages: []llm.Message{llm.User("x")}, Effort: "high", MaxTokens: 100},
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

func TestCacheCanBeOff(t *testing.T) {
	t.Parallel()
	for cache, want := range map[string]string{"off": "", "1h": `"cache_control":{"ttl":"1h","type":"ephemeral"}`} {
		e := &endpoint{body: hello}
		m := openWith(t, e, &anthropic.Options{Cache: cache})
		if _, err := m.Call(t.Context(), question); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(e.sent, want) || want == "" && strings.Contains(e.sent, "cache_control") {
			t.Errorf("%s: %s", cache, e.sent)
		}
	}
	if _, err := anthropic.New(&anthropic.Options{Cache: "2h"}).Model(""); err == nil || !strings.Contains(err.Error(), "want 5m, 1h or off") {
		t.Errorf("got %v", err)
	}
}
