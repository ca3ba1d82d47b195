package peers

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
	ouropenai "github.com/mcpagent/mcpagent/llm/openai"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/shared"
)

const (
	weatherSchema = `{"type":"object","properties":{"city":{"type":"string","description":"<b>Where</b>"},"days":{"type":"array","items":{"type":"integer","minimum":1}}},"required":["city"],"additionalProperties":false}`
	gradeSchema   = `{"type":"object","properties":{"n":{"type":"integer"},"why":{"type":"string"}},"required":["n","why"],"additionalProperties":false}`
)

// object is a schema as the SDKs take it.
func object(schema string) map[string]any {
	var m map[string]any
	if err := json.Unmarshal([]byte(schema), &m); err != nil {
		panic(err)
	}
	return m
}

// pixel is an image, and document a PDF, as far as anybody here looks.
var pixel, document, sound = []byte("\x89PNG\r\n\x1a\n\xff"), []byte("%PDF-1.7\n"), []byte("RIFF....WAVE")

const pixel64, document64, sound64 = "iVBORw0KGgr/", "JVBERi0xLjcK", "UklGRi4uLi5XQVZF"

// answered is a conversation with calls and what came of them.
var answered = []llm.Message{
	llm.User("Compare them."),
	{Role: llm.RoleModel, Parts: []llm.Part{
		{Text: "Let me look."},
		{Call: &llm.ToolCall{ID: "call_1", Name: "weather", Args: []byte(`{"city":"Köln & <Bonn>","days":[1,2]}`)}},
		{Call: &llm.ToolCall{ID: "call_2", Name: "now"}},
		{Call: &llm.ToolCall{ID: "call_3", Name: "weather", Args: []byte(`{}`)}},
	}},
	{Role: llm.RoleTools, Parts: []llm.Part{
		{Result: &llm.ToolResult{ID: "call_1", Name: "weather", Parts: []llm.Part{{Text: "rain"}}}},
		{Result: &llm.ToolResult{ID: "call_2", Name: "now", Data: []byte(`{"hour":7}`)}},
		{Result: &llm.ToolResult{ID: "call_3", Name: "weather", Parts: []llm.Part{{Text: "no city"}}, Error: true}},
	}},
	{Role: llm.RoleModel, Parts: []llm.Part{{Text: "Which city?"}}},
	llm.User("Bonn."),
}

var tools = []llm.Tool{
	{Name: "weather", Description: "Tells the weather.", Schema: []byte(weatherSchema), Output: []byte(`{"type":"object"}`), Hints: llm.Hints{ReadOnly: true}},
	{Name: "now"},
}

var openaiTools = []openai.ChatCompletionToolUnionParam{
	openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{Name: "weather", Description: openai.String("Tells the weather."), Parameters: object(weatherSchema)}),
	// To leave the parameters out is the same as an empty list of them.
	openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{Name: "now", Parameters: object(`{"type":"object","properties":{}}`)}),
}

func openaiCall(id, name, args string) openai.ChatCompletionMessageToolCallUnionParam {
	return openai.ChatCompletionMessageToolCallUnionParam{OfFunction: &openai.ChatCompletionMessageFunctionToolCallParam{
		ID: id, Function: openai.ChatCompletionMessageFunctionToolCallFunctionParam{Name: name, Arguments: args},
	}}
}

// openaiMessages is short for the type.
type openaiMessages = []openai.ChatCompletionMessageParamUnion

// openaiRequests are conversations in our words and in OpenAI's.
var openaiRequests = []struct {
	name    string
	request llm.Request
	params  openai.ChatCompletionNewParams
}{
	{"text",
		llm.Request{Messages: []llm.Message{llm.User("Hello, \"<world>\" & all  ")}},
		openai.ChatCompletionNewParams{Messages: openaiMessages{openai.UserMessage("Hello, \"<world>\" & all  ")}}},
	{"an instruction and all numbers",
		llm.Request{
			System: "Be short.", Messages: []llm.Message{llm.User("x")}, MaxTokens: 321, Temperature: new(0.0), TopP: new(0.25), Seed: new(int64(7)),
			Stop: []string{"END", "\n\n"}, User: "somebody", Effort: "low",
		},
		openai.ChatCompletionNewParams{
			Messages:            openaiMessages{openai.SystemMessage("Be short."), openai.UserMessage("x")},
			MaxCompletionTokens: openai.Int(321), Temperature: openai.Float(0), TopP: openai.Float(0.25), Seed: openai.Int(7),
			Stop: openai.ChatCompletionNewParamsStopUnion{OfStringArray: []string{"END", "\n\n"}}, User: openai.String("somebody"), ReasoningEffort: shared.ReasoningEffortLow,
		}},
	{"images, a document and a sound",
		llm.Request{Messages: []llm.Message{{Role: llm.RoleUser, Parts: []llm.Part{
			{Text: "What is this?"},
			{Media: &llm.Media{Type: "image/png", Data: pixel}},
			{Media: &llm.Media{Type: "image/jpeg", URL: "https://example.com/a.jpg?b=c&d"}},
			{Media: &llm.Media{Type: "application/pdf", Data: document, Name: "a.pdf"}},
			{Media: &llm.Media{Type: "audio/wav", Data: sound}},
			{Text: "And that?"},
		}}}},
		openai.ChatCompletionNewParams{Messages: openaiMessages{openai.UserMessage([]openai.ChatCompletionContentPartUnionParam{
			openai.TextContentPart("What is this?"),
			openai.ImageContentPart(openai.ChatCompletionContentPartImageImageURLParam{URL: "data:image/png;base64," + pixel64}),
			openai.ImageContentPart(openai.ChatCompletionContentPartImageImageURLParam{URL: "https://example.com/a.jpg?b=c&d"}),
			openai.FileContentPart(openai.ChatCompletionContentPartFileFileParam{FileData: openai.String("data:application/pdf;base64," + document64), Filename: openai.String("a.pdf")}),
			openai.InputAudioContentPart(openai.ChatCompletionContentPartInputAudioInputAudioParam{Data: sound64, Format: "wav"}),
			openai.TextContentPart("And that?"),
		})}}},
	{"tools, parallel calls, results and a failure",
		llm.Request{Messages: answered, Tools: tools},
		openai.ChatCompletionNewParams{
			Messages: openaiMessages{
				openai.UserMessage("Compare them."),
				{OfAssistant: &openai.ChatCompletionAssistantMessageParam{
					Content: openai.ChatCompletionAssistantMessageParamContentUnion{OfString: openai.String("Let me look.")},
					ToolCalls: []openai.ChatCompletionMessageToolCallUnionParam{
						openaiCall("call_1", "weather", `{"city":"Köln & <Bonn>","days":[1,2]}`), openaiCall("call_2", "now", "{}"), openaiCall("call_3", "weather", "{}"),
					},
				}},
				openai.ToolMessage("rain", "call_1"),
				openai.ToolMessage(`{"hour":7}`, "call_2"),
				openai.ToolMessage("Error: no city", "call_3"),
				openai.AssistantMessage("Which city?"),
				openai.UserMessage("Bonn."),
			},
			Tools: openaiTools,
		}},
	{"no calls allowed",
		llm.Request{Messages: []llm.Message{llm.User("x")}, Tools: tools, Choice: llm.ToolNone},
		openai.ChatCompletionNewParams{
			Messages: openaiMessages{openai.UserMessage("x")}, Tools: openaiTools,
			ToolChoice: openai.ChatCompletionToolChoiceOptionUnionParam{OfAuto: openai.String(string(openai.ChatCompletionToolChoiceOptionAutoNone))},
		}},
	{"some call demanded, one at a time",
		llm.Request{Messages: []llm.Message{llm.User("x")}, Tools: tools, Choice: llm.ToolRequired, Serial: true},
		openai.ChatCompletionNewParams{
			Messages: openaiMessages{openai.UserMessage("x")}, Tools: openaiTools, ParallelToolCalls: openai.Bool(false),
			ToolChoice: openai.ChatCompletionToolChoiceOptionUnionParam{OfAuto: openai.String(string(openai.ChatCompletionToolChoiceOptionAutoRequired))},
		}},
	{"one call demanded",
		llm.Request{Messages: []llm.Message{llm.User("x")}, Tools: tools, Choice: "now"},
		openai.ChatCompletionNewParams{
			Messages: openaiMessages{openai.UserMessage("x")}, Tools: openaiTools,
			ToolChoice: openai.ToolChoiceOptionFunctionToolChoice(openai.ChatCompletionNamedToolChoiceFunctionParam{Name: "now"}),
		}},
	{"a schema that binds",
		llm.Request{Messages: []llm.Message{llm.User("x")}, Schema: &llm.Schema{Name: "grade", Schema: []byte(gradeSchema)}, Effort: "high"},
		openai.ChatCompletionNewParams{
			Messages: openaiMessages{openai.UserMessage("x")}, ReasoningEffort: shared.ReasoningEffortHigh,
			ResponseFormat: openai.ChatCompletionNewParamsResponseFormatUnion{OfJSONSchema: &shared.ResponseFormatJSONSchemaParam{
				JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{Name: "grade", Strict: openai.Bool(true), Schema: object(gradeSchema)},
			}},
		}},
	{"a schema that can't bind",
		llm.Request{Messages: []llm.Message{llm.User("x")}, Schema: &llm.Schema{Name: "any", Schema: []byte(`{"type":"object","additionalProperties":true}`)}},
		openai.ChatCompletionNewParams{
			Messages: openaiMessages{openai.UserMessage("x")},
			ResponseFormat: openai.ChatCompletionNewParamsResponseFormatUnion{OfJSONSchema: &shared.ResponseFormatJSONSchemaParam{
				JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{Name: "any", Strict: openai.Bool(false), Schema: object(`{"type":"object","additionalProperties":true}`)},
			}},
		}},
	{"what is extra",
		llm.Request{Messages: []llm.Message{llm.User("x")}, Extra: []byte(`{"service_tier":"flex","store":true,"metadata":{"a":"b"}}`)},
		openai.ChatCompletionNewParams{
			Messages: openaiMessages{openai.UserMessage("x")}, ServiceTier: openai.ChatCompletionNewParamsServiceTierFlex, Store: openai.Bool(true), Metadata: shared.Metadata{"a": "b"},
		}},
}

// openaiOptional is what a request may leave out: without strict, a schema does
// not bind.
var openaiOptional = []map[string]any{{"strict": false}}

// TestOpenAIRequests sends each conversation by the provider and by the SDK.
func TestOpenAIRequests(t *testing.T) {
	t.Parallel()
	for _, c := range openaiRequests {
		for _, streamed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, streamed %t", c.name, streamed), func(t *testing.T) {
				t.Parallel()
				srv := llmtest.Serve(t, llmtest.New(llmtest.Answer{Text: "yes", Always: true}))
				l := lineTo(t, srv.URL)
				params := c.params
				params.Model = openai.ChatModelGPT5_5
				if _, _, err := openaiAsk(t, openaiClient(l, option.WithHeader("X-Team", "red")), params, streamed); err != nil {
					t.Fatal(err)
				}
				theirs := l.last(t)
				m := openaiModel(t, l, "gpt-5.5", ouropenai.Options{Headers: map[string]durable.Secret{"X-Team": durable.NewSecret("red")}})
				if _, err := ask(t, m, &c.request, streamed); err != nil {
					t.Fatal(err)
				}
				same(t, l.last(t).body, theirs.body, openaiOptional...)
				sameHeaders(t, l.last(t), theirs, "X-Team")
			})
		}
	}
}

// TestOpenAIKnowsTheRequests has OpenAI's types read every request that the
// provider makes in the contract of models, and write it again: what they don't
// know is lost.
func TestOpenAIKnowsTheRequests(t *testing.T) {
	t.Parallel()
	var k kit
	k.run(t, func(t *testing.T, l *line) llm.Model { return openaiModel(t, l, "gpt-5.5", ouropenai.Options{}) })
	k.known(t, func(body []byte) ([]byte, error) {
		var p openai.ChatCompletionNewParams
		if err := json.Unmarshal(body, &p); err != nil {
			return nil, err
		}
		return json.Marshal(p)
	}, `{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens_of_answer":1}`,
		"stream",            // is the method that is called
		"reasoning_content", // is of other endpoints
		"tool_choice")       // is one of several types, and the SDK takes another to read it; TestOpenAIRequests has it
}

// TestOpenAIShorthands sends what OpenAI takes as well, in place of a list.
func TestOpenAIShorthands(t *testing.T) {
	t.Parallel()
	l := lineTo(t, llmtest.Serve(t, llmtest.New(llmtest.Say("yes"))).URL)
	out, _, err := openaiAsk(t, openaiClient(l), openai.ChatCompletionNewParams{
		Model: "m", Messages: openaiMessages{openai.UserMessage("x")}, Stop: openai.ChatCompletionNewParamsStopUnion{OfString: openai.String("END")},
	}, false)
	if err != nil || out.Text != "yes" {
		t.Errorf("%+v, %v", out, err)
	}
}
