package peers

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

// answers are what a script may say, and what has to be understood of it.
var answers = []struct {
	name   string
	answer llmtest.Answer
	want   said // Stop is ours
}{
	{"text",
		llmtest.Answer{Text: "Hi there, how are you?", Usage: llm.Usage{Input: 11, Output: 7}},
		said{Text: "Hi there, how are you?", Stop: "end", Usage: llm.Usage{Input: 11, Output: 7}}},
	{"any text",
		llmtest.Answer{Text: "  <a href=\"ü\">\\ & 𝄞</a>\n\ndata: [DONE]\r\n\u2028 ", Usage: llm.Usage{Input: 1, Output: 1}},
		said{Text: "  <a href=\"ü\">\\ & 𝄞</a>\n\ndata: [DONE]\r\n\u2028 ", Stop: "end", Usage: llm.Usage{Input: 1, Output: 1}}},
	{"nothing",
		llmtest.Answer{Usage: llm.Usage{Input: 3}},
		said{Stop: "end", Usage: llm.Usage{Input: 3}}},
	{"thoughts",
		llmtest.Answer{Reasoning: "Six times seven.", Text: "42", Usage: llm.Usage{Input: 9, Output: 30, Reasoning: 21}},
		said{Thought: "Six times seven.", Text: "42", Stop: "end", Usage: llm.Usage{Input: 9, Output: 30, Reasoning: 21}}},
	{"a call without arguments",
		llmtest.Answer{Calls: []llm.ToolCall{{ID: "a", Name: "now", Args: []byte(`{}`)}}, Usage: llm.Usage{Input: 2, Output: 2}},
		said{Stop: "tools", Calls: []call{{"a", "now", "{}"}}, Usage: llm.Usage{Input: 2, Output: 2}}},
	{"parallel calls after thoughts and text",
		llmtest.Answer{Reasoning: "Both.", Text: "Let me look.", Calls: []llm.ToolCall{
			{ID: "a", Name: "read_file", Args: []byte(`{"path":"ä \"b\"","lines":[1,2.5,-3e7],"o":{"n":null,"t":true}}`)},
			{ID: "b", Name: "read_file", Args: []byte(`{"path":"b"}`)},
			{ID: "c", Name: "now", Args: []byte(`{}`)},
		}, Usage: llm.Usage{Input: 100, Output: 50, Reasoning: 5}},
		said{Thought: "Both.", Text: "Let me look.", Stop: "tools", Calls: []call{
			{"a", "read_file", `{"path":"ä \"b\"","lines":[1,2.5,-3e7],"o":{"n":null,"t":true}}`}, {"b", "read_file", `{"path":"b"}`}, {"c", "now", "{}"},
		}, Usage: llm.Usage{Input: 100, Output: 50, Reasoning: 5}}},
	{"a prompt from the cache",
		llmtest.Answer{Text: "yes", Usage: llm.Usage{Input: 100, Output: 1, CacheRead: 60}},
		said{Text: "yes", Stop: "end", Usage: llm.Usage{Input: 100, Output: 1, CacheRead: 60}}},
	{"JSON",
		llmtest.Answer{Text: `{"n":4}`, Usage: llm.Usage{Input: 1, Output: 1}},
		said{Text: `{"n":4}`, Stop: "end", Usage: llm.Usage{Input: 1, Output: 1}}},
	{"too long",
		llmtest.Answer{Text: "one two", Stop: llm.StopLength, Usage: llm.Usage{Input: 1, Output: 2}},
		said{Text: "one two", Stop: "length", Usage: llm.Usage{Input: 1, Output: 2}}},
	{"stopped by a text",
		llmtest.Answer{Text: "one", Stop: llm.StopText, Usage: llm.Usage{Input: 1, Output: 1}},
		said{Text: "one", Stop: "stop", Usage: llm.Usage{Input: 1, Output: 1}}},
	{"held back",
		llmtest.Answer{Text: "I", Stop: llm.StopFilter, Usage: llm.Usage{Input: 1, Output: 1}},
		said{Text: "I", Stop: "filter", Usage: llm.Usage{Input: 1, Output: 1}}},
}

// understood compares what an SDK and a provider understood with what was
// meant; only the reason to stop has names of its own.
func understood(t *testing.T, theirs said, res *llm.Response, want said, theirStop, ourStop string) {
	t.Helper()
	want.ID, want.Model, want.Stop = "answer_0", "m", ourStop
	if diff := cmp.Diff(want, ours(res)); diff != "" {
		t.Errorf("meant (-), and understood by us (+):\n%s", diff)
	}
	want.Stop = theirStop
	if diff := cmp.Diff(want, theirs); diff != "" {
		t.Errorf("meant (-), and understood by the SDK (+):\n%s", diff)
	}
}
