package llmtest_test

import (
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/llm/llmtest"
)

// TestRulesOfOpenAI breaks each rule of a request that keeps them all.
func TestRulesOfOpenAI(t *testing.T) {
	t.Parallel()
	good := `{"model":"m","max_tokens":9,"temperature":0.5,"tool_choice":"auto","stream":true,"stream_options":{},
		"tools":[{"type":"function","function":{"name":"t","parameters":{"type":"object","properties":{}}}}],
		"response_format":{"type":"json_schema","json_schema":{"name":"a","strict":true,"schema":{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false}}},
		"messages":[{"role":"system","content":"s"},{"role":"user","content":"u"},
		{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"t","arguments":"{}"}},{"id":"b","type":"function","function":{"name":"t","arguments":"{}"}}]},
		{"role":"tool","tool_call_id":"a","content":"1"},{"role":"tool","tool_call_id":"b","content":"2"},{"role":"user","content":[{"type":"text","text":"x"}]}]}`
	if err := llmtest.ValidateOpenAI([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ from, to, want string }{
		{`"model":"m"`, `"model":""`, "no model"},
		{`"max_tokens":9`, `"max_tokens":0`, "max_tokens below 1"},
		{`"max_tokens":9`, `"max_tokens":9,"max_completion_tokens":9`, "max_tokens and max_completion_tokens"},
		{`0.5`, `3`, "temperature is 3"},
		{`"stream":true`, `"stream":false`, "stream_options, and no stream"},
		{`"name":"t","parameters"`, `"name":"t.t","parameters"`, `tools[0] has the name "t.t"`},
		{`"type":"object","properties":{}}`, `"properties":{}}`, "must be of type object"},
		{`"type":"object","properties":{}}`, `"type":"object","properties":{},"anyOf":[]}`, "anyOf on top"},
		{`"tool_choice":"auto"`, `"tool_choice":{"type":"function","function":{"name":"x"}}`, "tool_choice is"},
		{`"required":["n"],`, ``, "n is not required"},
		{`"additionalProperties":false`, `"title":"x"`, "additionalProperties must be false"},
		{`{"role":"tool","tool_call_id":"b","content":"2"},`, ``, "must be followed by tool messages"},
		{`"tool_call_id":"b"`, `"tool_call_id":"a"`, "which is no open call"},
		{`"id":"b"`, `"id":"a"`, `call "a"`},
		{`"id":"b"`, `"id":"` + strings.Repeat("b", 41) + `"`, `call "bbb`},
		{`"role":"system"`, `"role":"assistant"`, "messages[0]: an assistant"},
		{`"role":"user","content":"u"`, `"role":"system","content":"u"`, "the instruction is not the first"},
		{`"content":"u"`, `"content":""`, "a user who says nothing"},
		{`"role":"user","content":[`, `"role":"robot","content":[`, `the role "robot"`},
		{`{"type":"text","text":"x"}`, `{"type":"image_url"}`, `is a "image_url" that is none`},
		{`,{"role":"user","content":[{"type":"text","text":"x"}]}`, `,{"role":"assistant","content":"x"}`, `the last message is of role "assistant"`},
	} {
		breaks(t, llmtest.ValidateOpenAI, good, c.from, c.to, c.want)
	}
}

// breaks changes a request, and wants it refused.
func breaks(t *testing.T, validate func([]byte) error, good, from, to, want string) {
	t.Helper()
	if strings.Count(good, from) != 1 {
		t.Fatalf("%q is %d times in the request", from, strings.Count(good, from))
	}
	if err := validate([]byte(strings.Replace(good, from, to, 1))); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s in place of %s\ngot  %v\nwant %s", to, from, err, want)
	}
}

// TestRulesOfAnthropic does the same.
func TestRulesOfAnthropic(t *testing.T) {
	t.Parallel()
	good := `{"model":"m","max_tokens":4096,"temperature":1,"tool_choice":{"type":"auto"},"thinking":{"type":"enabled","budget_tokens":2048},
		"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],
		"tools":[{"name":"t","input_schema":{"type":"object","properties":{}},"cache_control":{"type":"ephemeral"}}],
		"output_config":{"effort":"low","format":{"type":"json_schema","schema":{"type":"object","properties":{"n":{"type":"integer"}},"additionalProperties":false}}},
		"messages":[{"role":"user","content":[{"type":"text","text":"u"}]},
		{"role":"assistant","content":[{"type":"thinking","thinking":"h","signature":"s"},{"type":"tool_use","id":"a","name":"t","input":{}},{"type":"tool_use","id":"b","name":"t","input":{}}]},
		{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"1"}]},{"type":"tool_result","tool_use_id":"b"},{"type":"text","text":"x"}]}]}`
	if err := llmtest.ValidateAnthropic([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ from, to, want string }{
		{`"model":"m"`, `"model":""`, "model: Field required"},
		{`"max_tokens":4096`, `"max_tokens":0`, "max_tokens"},
		{`"budget_tokens":2048`, `"budget_tokens":1000`, "a budget of 1000"},
		{`"temperature":1`, `"temperature":0.5`, "temperature may only be set to 1"},
		{`{"type":"auto"}`, `{"type":"any"}`, "thinking may not be enabled"},
		{`{"type":"auto"}`, `{"type":"tool","name":"x"}`, "tool_choice is tool x"},
		{`"text":"s"`, `"text":" "`, "system.0 is no text"},
		{`"name":"t","input_schema"`, `"name":"","input_schema"`, "tools.0"},
		{`"tools":[`, `"tool":[`, "while providing tools"},
		{`"type":"object","properties":{}}`, `"type":"string"}`, "must be of type object"},
		{`,"additionalProperties":false`, ``, "additionalProperties must be false"},
		{`{"type":"text","text":"u"}`, `{"type":"text","text":""}`, `a "text" of a user that is none`},
		{`"role":"assistant"`, `"role":"user"`, "roles must alternate"},
		{`,{"type":"tool_result","tool_use_id":"b"}`, ``, "without `tool_result` blocks immediately after: [b]"},
		{`{"type":"tool_result","tool_use_id":"b"},{"type":"text","text":"x"}`, `{"type":"text","text":"x"},{"type":"tool_result","tool_use_id":"b"}`, "a result after something else"},
		{`"tool_use_id":"b"`, `"tool_use_id":"c"`, "unexpected `tool_use_id`"},
		{`"id":"b"`, `"id":"a"`, "ids must be unique"},
		{`"id":"b"`, `"id":"b.b"`, `a "tool_use" of a assistant that is none`},
		{`"signature":"s"`, `"signature":""`, `a "thinking" of a assistant that is none`},
		{`[{"type":"text","text":"1"}]`, `[{"type":"image","source":{"type":"url","url":"u"}}],"is_error":true`, `a "tool_result" of a user that is none`},
		{`{"type":"text","text":"u"}`, `{"type":"text","text":"u","cache_control":{}},{"type":"text","text":"u","cache_control":{}},{"type":"text","text":"u","cache_control":{}}`, "5 blocks with cache_control"},
	} {
		breaks(t, llmtest.ValidateAnthropic, good, c.from, c.to, c.want)
	}
}
