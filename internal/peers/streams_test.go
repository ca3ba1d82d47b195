package peers

import (
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	ouranthropic "github.com/mcpagent/mcpagent/llm/anthropic"
	ouropenai "github.com/mcpagent/mcpagent/llm/openai"
	"github.com/openai/openai-go/v3"
)

// odd are forms that a stream of events may have as well.
var odd = map[string]func(stream string) string{
	"as it is":          func(s string) string { return s },
	"lines end in CRLF": func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
	"comments":          func(s string) string { return ": alive\n\n" + strings.ReplaceAll(s, "data:", ": alive\ndata:") },
	"no space":          func(s string) string { return strings.ReplaceAll(s, "data: ", "data:") },
	"ids and a retry":   func(s string) string { return "retry: 3000\n\n" + strings.ReplaceAll(s, "data:", "id: 7\ndata:") },
	"data of two lines": func(s string) string { return strings.ReplaceAll(s, `data: {`, "data: {\ndata: ") },
	"empty lines":       func(s string) string { return strings.ReplaceAll(s, "\n\n", "\n\n\n\n") },
}

// TestOpenAIStreams reads streams that OpenAI documents, in any form.
func TestOpenAIStreams(t *testing.T) {
	t.Parallel()
	head := `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"f","service_tier":"default","obfuscation":"xyz","usage":null,"choices":[{"index":0,"logprobs":null,`
	for name, stream := range map[string]string{
		"text": head + `"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}]}` + "\n\n" +
			head + `"delta":{"content":"Hi \"there\" "},"finish_reason":null}]}` + "\n\n" +
			head + `"delta":{"content":"ü"},"finish_reason":null}]}` + "\n\n" +
			head + `"delta":{},"finish_reason":"length"}]}` + "\n\n",
		"a refusal": head + `"delta":{"role":"assistant","content":null,"refusal":"I "},"finish_reason":null}]}` + "\n\n" +
			head + `"delta":{"refusal":"won't"},"finish_reason":"stop"}]}` + "\n\n",
		"calls that take turns": head + `"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"x","arguments":""}},{"index":1,"id":"b","type":"function","function":{"name":"y","arguments":"{"}}]},"finish_reason":null}]}` + "\n\n" +
			head + `"delta":{"tool_calls":[{"index":1,"function":{"arguments":"\"n\":1}"}}]},"finish_reason":null}]}` + "\n\n" +
			head + `"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]},"finish_reason":null}]}` + "\n\n" +
			head + `"delta":{},"finish_reason":"tool_calls"}]}` + "\n\n",
	} {
		stream += `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8,"prompt_tokens_details":{"cached_tokens":2,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":1}}}` + "\n\ndata: [DONE]\n\n"
		for form, change := range odd {
			t.Run(name+", "+form, func(t *testing.T) {
				t.Parallel()
				f := fixture{name, change(stream), true}
				c := openaiClient(f.line())
				theirs, wrong, err := openaiRead(t, c.Chat.Completions.NewStreaming(t.Context(), openai.ChatCompletionNewParams{}))
				if len(wrong) > 0 {
					t.Errorf("for a stream of OpenAI's: %q", wrong)
				}
				if !agree(t, f, theirs, err, openaiModel(t, f.line(), "m", ouropenai.Options{}), openaiStops) {
					t.Errorf("not read: %v", err)
				}
			})
		}
	}
}

// TestAnthropicStreams does the same for Anthropic.
func TestAnthropicStreams(t *testing.T) {
	t.Parallel()
	start := event("message_start", `"message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"container":null,"diagnostics":null,"stop_reason":null,"stop_sequence":null,"stop_details":null,`+
		`"usage":{"input_tokens":5,"cache_creation_input_tokens":3,"cache_read_input_tokens":2,"cache_creation":{"ephemeral_5m_input_tokens":3,"ephemeral_1h_input_tokens":0},"output_tokens":1,"output_tokens_details":null,"inference_geo":null,"server_tool_use":null,"service_tier":"standard","speed":null}}`)
	end := func(reason string) string {
		return event("message_delta", `"delta":{"stop_reason":"`+reason+`","stop_sequence":null,"stop_details":null,"container":null},"usage":{"input_tokens":6,"cache_creation_input_tokens":null,"cache_read_input_tokens":2,"output_tokens":9,"output_tokens_details":{"thinking_tokens":4},"server_tool_use":null}`) +
			event("message_stop", "")
	}
	for name, stream := range map[string]string{
		"text": event("content_block_start", `"index":0,"content_block":{"type":"text","text":"","citations":null}`) + event("ping", "") +
			event("content_block_delta", `"index":0,"delta":{"type":"text_delta","text":"Hi \"there\" "}`) +
			event("content_block_delta", `"index":0,"delta":{"type":"text_delta","text":"ü"}`) + event("content_block_stop", `"index":0`) + end("max_tokens"),
		"thoughts and calls that take turns": event("content_block_start", `"index":0,"content_block":{"type":"thinking","thinking":"","signature":""}`) +
			event("content_block_delta", `"index":0,"delta":{"type":"thinking_delta","thinking":"Hm."}`) +
			event("content_block_delta", `"index":0,"delta":{"type":"signature_delta","signature":"c2ln"}`) + event("content_block_stop", `"index":0`) +
			event("content_block_start", `"index":1,"content_block":{"type":"tool_use","id":"a","name":"x","input":{},"caller":{"type":"direct"}}`) +
			event("content_block_start", `"index":2,"content_block":{"type":"tool_use","id":"b","name":"y","input":{},"caller":{"type":"direct"}}`) +
			event("content_block_delta", `"index":2,"delta":{"type":"input_json_delta","partial_json":""}`) +
			event("content_block_delta", `"index":1,"delta":{"type":"input_json_delta","partial_json":"{\"n\""}`) +
			event("content_block_delta", `"index":1,"delta":{"type":"input_json_delta","partial_json":":1}"}`) +
			event("content_block_stop", `"index":1`) + event("content_block_stop", `"index":2`) + end("tool_use"),
	} {
		for form, change := range odd {
			t.Run(name+", "+form, func(t *testing.T) {
				t.Parallel()
				f := fixture{name, change(start + stream), true}
				c := anthropicClient(f.line())
				theirs, wrong, err := anthropicRead(c.Messages.NewStreaming(t.Context(), anthropic.MessageNewParams{}))
				if len(wrong) > 0 {
					t.Errorf("for a stream of Anthropic's: %q", wrong)
				}
				if !agree(t, f, theirs, err, anthropicModel(t, f.line(), "m", ouranthropic.Options{}), anthropicStops) {
					t.Errorf("not read: %v", err)
				}
			})
		}
	}
}

// event is one of Anthropic's.
func event(kind, members string) string {
	if members != "" {
		members = "," + members
	}
	return "event: " + kind + "\ndata: {\"type\":\"" + kind + "\"" + members + "}\n\n"
}
