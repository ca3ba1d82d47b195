package peers

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	ouranthropic "github.com/mcpagent/mcpagent/llm/anthropic"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

var weatherInput = anthropic.ToolInputSchemaParam{
	Properties:  object(weatherSchema)["properties"],
	Required:    []string{"city"},
	ExtraFields: map[string]any{"additionalProperties": false},
}

// anthropicTools are the tools, with a breakpoint of the cache after the last
// if there is one.
func anthropicTools(cache anthropic.CacheControlEphemeralParam) []anthropic.ToolUnionParam {
	return []anthropic.ToolUnionParam{
		{OfTool: &anthropic.ToolParam{Name: "weather", Description: anthropic.String("Tells the weather."), InputSchema: weatherInput}},
		{OfTool: &anthropic.ToolParam{Name: "now", InputSchema: anthropic.ToolInputSchemaParam{Properties: map[string]any{}}, CacheControl: cache}},
	}
}

var (
	uncached = anthropic.CacheControlEphemeralParam{}
	hello    = []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("x"))}
)

// anthropicRequests are conversations in our words and in Anthropic's.
var anthropicRequests = []struct {
	name    string
	model   string // default: the newest
	cache   string // default: off
	request llm.Request
	params  anthropic.MessageNewParams
}{
	{name: "text",
		request: llm.Request{Messages: []llm.Message{llm.User("Hello, \"<world>\" & all  ")}, MaxTokens: 10},
		params: anthropic.MessageNewParams{MaxTokens: 10, Messages: []anthropic.MessageParam{
			anthropic.NewUserMessage(anthropic.NewTextBlock("Hello, \"<world>\" & all  ")),
		}}},
	{name: "an instruction and all numbers",
		request: llm.Request{
			System: "Be short.", Messages: []llm.Message{llm.User("x")}, MaxTokens: 321, Temperature: new(0.0), TopP: new(0.25),
			Stop: []string{"END", "STOP"}, User: "somebody",
		},
		params: anthropic.MessageNewParams{
			System: []anthropic.TextBlockParam{{Text: "Be short."}}, Messages: hello, MaxTokens: 321, Temperature: anthropic.Float(0), TopP: anthropic.Float(0.25),
			StopSequences: []string{"END", "STOP"}, Metadata: anthropic.MetadataParam{UserID: anthropic.String("somebody")},
		}},
	{name: "images and documents",
		request: llm.Request{MaxTokens: 10, Messages: []llm.Message{{Role: llm.RoleUser, Parts: []llm.Part{
			{Text: "What is this?"},
			{Media: &llm.Media{Type: "image/png", Data: pixel}},
			{Media: &llm.Media{Type: "image/jpeg", URL: "https://example.com/a.jpg?b=c&d"}},
			{Media: &llm.Media{Type: "application/pdf", Data: document}},
			{Media: &llm.Media{Type: "application/pdf", URL: "https://example.com/a.pdf", Name: "a.pdf"}},
			{Media: &llm.Media{Type: "text/markdown", Data: []byte("# A"), Name: "a.md"}},
		}}}},
		params: anthropic.MessageNewParams{MaxTokens: 10, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(
			anthropic.NewTextBlock("What is this?"),
			anthropic.NewImageBlockBase64("image/png", pixel64),
			anthropic.NewImageBlock(anthropic.URLImageSourceParam{URL: "https://example.com/a.jpg?b=c&d"}),
			anthropic.NewDocumentBlock(anthropic.Base64PDFSourceParam{Data: document64}),
			anthropic.ContentBlockParamUnion{OfDocument: &anthropic.DocumentBlockParam{
				Source: anthropic.DocumentBlockParamSourceUnion{OfURL: &anthropic.URLPDFSourceParam{URL: "https://example.com/a.pdf"}}, Title: anthropic.String("a.pdf"),
			}},
			anthropic.ContentBlockParamUnion{OfDocument: &anthropic.DocumentBlockParam{
				Source: anthropic.DocumentBlockParamSourceUnion{OfText: &anthropic.PlainTextSourceParam{Data: "# A"}}, Title: anthropic.String("a.md"),
			}},
		)}}},
	{name: "tools, parallel calls, results and a failure",
		request: llm.Request{Messages: answered, Tools: tools, MaxTokens: 10},
		params: anthropic.MessageNewParams{
			MaxTokens: 10, Tools: anthropicTools(uncached),
			Messages: []anthropic.MessageParam{
				anthropic.NewUserMessage(anthropic.NewTextBlock("Compare them.")),
				anthropic.NewAssistantMessage(
					anthropic.NewTextBlock("Let me look."),
					anthropic.NewToolUseBlock("call_1", map[string]any{"city": "Köln & <Bonn>", "days": []int{1, 2}}, "weather"),
					anthropic.NewToolUseBlock("call_2", map[string]any{}, "now"),
					anthropic.NewToolUseBlock("call_3", map[string]any{}, "weather"),
				),
				anthropic.NewUserMessage(
					anthropic.NewToolResultBlock("call_1", "rain", false),
					anthropic.NewToolResultBlock("call_2", `{"hour":7}`, false),
					anthropic.NewToolResultBlock("call_3", "no city", true),
				),
				anthropic.NewAssistantMessage(anthropic.NewTextBlock("Which city?")),
				anthropic.NewUserMessage(anthropic.NewTextBlock("Bonn.")),
			},
		}},
	{name: "a result with an image",
		request: llm.Request{MaxTokens: 10, Tools: tools, Messages: []llm.Message{
			llm.User("x"),
			{Role: llm.RoleModel, Parts: []llm.Part{{Call: &llm.ToolCall{ID: "a", Name: "now"}}}},
			{Role: llm.RoleTools, Parts: []llm.Part{{Result: &llm.ToolResult{ID: "a", Name: "now", Parts: []llm.Part{{Text: "see"}, {Media: &llm.Media{Type: "image/png", Data: pixel}}}}}}},
		}},
		params: anthropic.MessageNewParams{MaxTokens: 10, Tools: anthropicTools(uncached), Messages: []anthropic.MessageParam{
			hello[0],
			anthropic.NewAssistantMessage(anthropic.NewToolUseBlock("a", map[string]any{}, "now")),
			anthropic.NewUserMessage(anthropic.ContentBlockParamUnion{OfToolResult: &anthropic.ToolResultBlockParam{ToolUseID: "a", Content: []anthropic.ToolResultBlockParamContentUnion{
				{OfText: &anthropic.TextBlockParam{Text: "see"}},
				{OfImage: &anthropic.ImageBlockParam{Source: anthropic.ImageBlockParamSourceUnion{OfBase64: &anthropic.Base64ImageSourceParam{Data: pixel64, MediaType: anthropic.Base64ImageSourceMediaTypeImagePNG}}}},
			}}}),
		}}},
	{name: "no calls allowed",
		request: llm.Request{Messages: []llm.Message{llm.User("x")}, Tools: tools, Choice: llm.ToolNone, MaxTokens: 10},
		params:  anthropic.MessageNewParams{MaxTokens: 10, Messages: hello, Tools: anthropicTools(uncached), ToolChoice: anthropic.ToolChoiceUnionParam{OfNone: &anthropic.ToolChoiceNoneParam{}}}},
	{name: "one call at a time",
		request: llm.Request{Messages: []llm.Message{llm.User("x")}, Tools: tools, Serial: true, MaxTokens: 10},
		params: anthropic.MessageNewParams{MaxTokens: 10, Messages: hello, Tools: anthropicTools(uncached), ToolChoice: anthropic.ToolChoiceUnionParam{
			OfAuto: &anthropic.ToolChoiceAutoParam{DisableParallelToolUse: anthropic.Bool(true)},
		}}},
	{name: "some call demanded",
		request: llm.Request{Messages: []llm.Message{llm.User("x")}, Tools: tools, Choice: llm.ToolRequired, MaxTokens: 10},
		params: anthropic.MessageNewParams{MaxTokens: 10, Messages: hello, Tools: anthropicTools(uncached), ToolChoice: anthropic.ToolChoiceUnionParam{
			OfAny: &anthropic.ToolChoiceAnyParam{DisableParallelToolUse: anthropic.Bool(false)},
		}}},
	{name: "one call demanded",
		request: llm.Request{Messages: []llm.Message{llm.User("x")}, Tools: tools, Choice: "now", Serial: true, MaxTokens: 10},
		params: anthropic.MessageNewParams{MaxTokens: 10, Messages: hello, Tools: anthropicTools(uncached), ToolChoice: anthropic.ToolChoiceUnionParam{
			OfTool: &anthropic.ToolChoiceToolParam{Name: "now", DisableParallelToolUse: anthropic.Bool(true)},
		}}},
	{name: "a schema that binds, after thinking",
		request: llm.Request{Messages: []llm.Message{llm.User("x")}, Schema: &llm.Schema{Name: "grade", Schema: []byte(gradeSchema)}, Effort: "low", MaxTokens: 10},
		params: anthropic.MessageNewParams{
			MaxTokens: 10, Messages: hello,
			Thinking:     anthropic.ThinkingConfigParamUnion{OfAdaptive: &anthropic.ThinkingConfigAdaptiveParam{Display: anthropic.ThinkingConfigAdaptiveDisplaySummarized}},
			OutputConfig: anthropic.OutputConfigParam{Effort: anthropic.OutputConfigEffortLow, Format: anthropic.JSONOutputFormatParam{Schema: object(gradeSchema)}},
		}},
	{name: "no thinking",
		request: llm.Request{Messages: []llm.Message{llm.User("x")}, Effort: "none", MaxTokens: 10},
		params:  anthropic.MessageNewParams{MaxTokens: 10, Messages: hello, Thinking: anthropic.ThinkingConfigParamUnion{OfDisabled: &anthropic.ThinkingConfigDisabledParam{}}}},
	{name: "thinking with a budget", model: "claude-opus-4-5",
		request: llm.Request{Messages: []llm.Message{llm.User("x")}, Effort: "medium", MaxTokens: 20000},
		params:  anthropic.MessageNewParams{MaxTokens: 20000, Messages: hello, Thinking: anthropic.ThinkingConfigParamOfEnabled(8192)}},
	{name: "thoughts go back",
		request: llm.Request{MaxTokens: 10, Effort: "high", Tools: tools, Messages: []llm.Message{
			llm.User("x"),
			{Role: llm.RoleModel, Parts: []llm.Part{
				{Reasoning: &llm.Reasoning{Text: "Hm."}, Raw: &llm.Raw{Provider: "anthropic", Data: []byte(`{"type":"thinking","thinking":"Hm.","signature":"c2ln"}`)}},
				{Reasoning: &llm.Reasoning{}, Raw: &llm.Raw{Provider: "anthropic", Data: []byte(`{"type":"redacted_thinking","data":"c2VjcmV0"}`)}},
				{Call: &llm.ToolCall{ID: "a", Name: "now"}},
			}},
			{Role: llm.RoleTools, Parts: []llm.Part{{Result: &llm.ToolResult{ID: "a", Name: "now", Parts: []llm.Part{{Text: "7"}}}}}},
		}},
		params: anthropic.MessageNewParams{
			MaxTokens: 10, Tools: anthropicTools(uncached),
			Thinking:     anthropic.ThinkingConfigParamUnion{OfAdaptive: &anthropic.ThinkingConfigAdaptiveParam{Display: anthropic.ThinkingConfigAdaptiveDisplaySummarized}},
			OutputConfig: anthropic.OutputConfigParam{Effort: anthropic.OutputConfigEffortHigh},
			Messages: []anthropic.MessageParam{
				hello[0],
				anthropic.NewAssistantMessage(anthropic.NewThinkingBlock("c2ln", "Hm."), anthropic.NewRedactedThinkingBlock("c2VjcmV0"), anthropic.NewToolUseBlock("a", map[string]any{}, "now")),
				anthropic.NewUserMessage(anthropic.NewToolResultBlock("a", "7", false)),
			},
		}},
	{name: "what is extra",
		request: llm.Request{Messages: []llm.Message{llm.User("x")}, MaxTokens: 10, Extra: []byte(`{"service_tier":"standard_only","top_k":5}`)},
		params:  anthropic.MessageNewParams{MaxTokens: 10, Messages: hello, ServiceTier: anthropic.MessageNewParamsServiceTierStandardOnly, TopK: anthropic.Int(5)}},
	{name: "a cache", cache: "5m",
		request: llm.Request{System: "Be short.", Messages: []llm.Message{llm.User("x")}, Tools: tools, MaxTokens: 10},
		params: anthropic.MessageNewParams{
			MaxTokens: 10, Tools: anthropicTools(anthropic.NewCacheControlEphemeralParam()),
			System:   []anthropic.TextBlockParam{{Text: "Be short.", CacheControl: anthropic.NewCacheControlEphemeralParam()}},
			Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.ContentBlockParamUnion{OfText: &anthropic.TextBlockParam{Text: "x", CacheControl: anthropic.NewCacheControlEphemeralParam()}})},
		}},
	{name: "a cache for an hour", cache: "1h",
		request: llm.Request{System: "Be short.", Messages: []llm.Message{llm.User("x")}, Tools: tools, MaxTokens: 10},
		params: anthropic.MessageNewParams{
			MaxTokens: 10, Tools: anthropicTools(anthropic.CacheControlEphemeralParam{TTL: anthropic.CacheControlEphemeralTTLTTL1h}),
			System: []anthropic.TextBlockParam{{Text: "Be short.", CacheControl: anthropic.CacheControlEphemeralParam{TTL: anthropic.CacheControlEphemeralTTLTTL1h}}},
			Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.ContentBlockParamUnion{OfText: &anthropic.TextBlockParam{
				Text: "x", CacheControl: anthropic.CacheControlEphemeralParam{TTL: anthropic.CacheControlEphemeralTTLTTL1h},
			}})},
		}},
}

// anthropicOptional is what a request may leave out: results are no errors, and
// calls may be parallel, where it says nothing.
var anthropicOptional = []map[string]any{
	{"type": "tool_result", "is_error": false},
	{"type": "any", "disable_parallel_tool_use": false},
}

// TestAnthropicRequests sends each conversation by the provider and by the SDK.
func TestAnthropicRequests(t *testing.T) {
	t.Parallel()
	for _, c := range anthropicRequests {
		if c.model == "" {
			c.model = anthropic.ModelClaudeSonnet5_5
		}
		if c.cache == "" {
			c.cache = "off"
		}
		for _, streamed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, streamed %t", c.name, streamed), func(t *testing.T) {
				t.Parallel()
				l := lineTo(t, llmtest.Serve(t, llmtest.New(llmtest.Answer{Text: "yes", Always: true})).URL)
				params := c.params
				params.Model = c.model
				if _, _, err := anthropicAsk(t, anthropicClient(l, option.WithHeader("Anthropic-Beta", "red")), params, streamed); err != nil {
					t.Fatal(err)
				}
				theirs := l.last(t)
				m := anthropicModel(t, l, c.model, ouranthropic.Options{Cache: c.cache, Headers: map[string]durable.Secret{"Anthropic-Beta": durable.NewSecret("red")}})
				if _, err := ask(t, m, &c.request, streamed); err != nil {
					t.Fatal(err)
				}
				same(t, l.last(t).body, theirs.body, anthropicOptional...)
				sameHeaders(t, l.last(t), theirs, "Anthropic-Beta")
			})
		}
	}
}

// TestAnthropicKnowsTheRequests has Anthropic's types read every request that
// the provider makes in the contract of models, and write it again: what they
// don't know is lost.
func TestAnthropicKnowsTheRequests(t *testing.T) {
	t.Parallel()
	var k kit
	k.run(t, func(t *testing.T, l *line) llm.Model {
		return anthropicModel(t, l, anthropic.ModelClaudeSonnet5_5, ouranthropic.Options{})
	})
	k.known(t, func(body []byte) ([]byte, error) {
		var p anthropic.MessageNewParams
		if err := json.Unmarshal(body, &p); err != nil {
			return nil, err
		}
		return json.Marshal(p)
	}, `{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"text","text":"x","cache":true}]}]}`,
		"stream") // is the method that is called
}

// TestAnthropicShorthands sends what Anthropic takes as well, in place of a
// list of one text.
func TestAnthropicShorthands(t *testing.T) {
	t.Parallel()
	l := lineTo(t, llmtest.Serve(t, llmtest.New(llmtest.Answer{Text: "yes", Always: true})).URL)
	params := anthropic.MessageNewParams{Model: "m", MaxTokens: 10, Tools: anthropicTools(uncached), Messages: []anthropic.MessageParam{
		hello[0],
		anthropic.NewAssistantMessage(anthropic.NewToolUseBlock("a", map[string]any{}, "now")),
		anthropic.NewUserMessage(anthropic.NewToolResultBlock("a", "7", false)),
	}}
	c := anthropicClient(l)
	_, err := c.Messages.New(t.Context(), params,
		option.WithJSONSet("system", "Be short."), option.WithJSONSet("messages.0.content", "x"), option.WithJSONSet("messages.2.content.0.content", "7"))
	if err != nil {
		t.Error(err)
	}
}
