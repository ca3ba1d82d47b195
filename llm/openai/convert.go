package openai

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	sdk "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/packages/respjson"
	"github.com/openai/openai-go/v3/shared"

	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/internal/wire"
)

// strict are the rules for schemas that OpenAI holds a model to.
var strict = wire.Rules{Known: []string{
	"type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "$ref", "$defs", "definitions",
	"title", "description", "pattern", "format", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems",
}}

// taken are the members of a request that Extra can't change: what is read of
// the answer depends on them.
var taken = []string{"model", "messages", "stream", "stream_options", "n", "tools", "functions"}

// params are a request in the protocol's form.
func (m *model) params(r *llm.Request) (*sdk.ChatCompletionNewParams, error) {
	s := m.settings
	if err := m.provider.Ready(); err != nil {
		return nil, err
	}
	if err := m.Validate(r); err != nil {
		return nil, err
	}
	out := &sdk.ChatCompletionNewParams{Model: m.Model}
	if r.System != "" {
		out.Messages = append(out.Messages, sdk.SystemMessage(r.System))
	}
	for i, msg := range r.Messages {
		var err error
		if out.Messages, err = m.message(out.Messages, i, msg); err != nil {
			return nil, err
		}
	}
	if err := m.tools(out, r); err != nil {
		return nil, err
	}
	if r.Schema != nil {
		schema, ok := m.provider.schemas.Answer(r.Schema.Schema, strict)
		format := shared.ResponseFormatJSONSchemaJSONSchemaParam{Name: r.Schema.Name, Schema: schema}
		if format.Name == "" {
			format.Name = "answer"
		}
		if ok {
			format.Strict = sdk.Bool(true)
		}
		out.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{JSONSchema: format}
	}
	if r.MaxTokens > 0 {
		if s.official {
			out.MaxCompletionTokens = sdk.Int(int64(r.MaxTokens))
		} else {
			out.MaxTokens = sdk.Int(int64(r.MaxTokens))
		}
	}
	if r.Temperature != nil {
		out.Temperature = sdk.Float(*r.Temperature)
	}
	if r.TopP != nil {
		out.TopP = sdk.Float(*r.TopP)
	}
	if r.Seed != nil {
		out.Seed = sdk.Int(*r.Seed)
	}
	if len(r.Stop) > 0 {
		out.Stop.OfStringArray = r.Stop
	}
	switch {
	case r.Effort != "":
		out.ReasoningEffort = shared.ReasoningEffort(r.Effort)
	case s.effort != "" && thinks(m.Model):
		out.ReasoningEffort = shared.ReasoningEffort(s.effort)
	}
	switch {
	case r.User != "":
		out.User = sdk.String(r.User)
	case s.user != "":
		out.User = sdk.String(s.user)
	}
	if len(r.Extra) > 0 {
		extra, err := m.Extra(r.Extra, taken...)
		if err != nil {
			return nil, err
		}
		out.SetExtraFields(extra)
	}
	return out, nil
}

// thinks tells whether a model of OpenAI's is one that the effort is for.
func thinks(name string) bool {
	_, base, vendor := strings.Cut(name, "/")
	if !vendor {
		base = name
	}
	if strings.Contains(base, "-chat") {
		return false
	}
	return slices.ContainsFunc([]string{"o1", "o3", "o4", "gpt-5", "gpt-6", "gpt-oss"}, func(p string) bool { return strings.HasPrefix(base, p) })
}

func (m *model) tools(out *sdk.ChatCompletionNewParams, r *llm.Request) error {
	if len(r.Tools) == 0 {
		return nil
	}
	out.Tools = make([]sdk.ChatCompletionToolUnionParam, len(r.Tools))
	for i, t := range r.Tools {
		schema := m.provider.schemas.Tool(t.Schema)
		if schema.Err != nil {
			return m.Refuse("the schema of tool %s: %v", t.Name, schema.Err)
		}
		f := shared.FunctionDefinitionParam{Name: t.Name, Parameters: schema.Fields}
		if t.Description != "" {
			f.Description = sdk.String(t.Description)
		} else if t.Title != "" {
			f.Description = sdk.String(t.Title)
		}
		out.Tools[i] = sdk.ChatCompletionFunctionTool(f)
	}
	switch r.Choice {
	case llm.ToolAuto:
	case llm.ToolNone, llm.ToolRequired:
		out.ToolChoice.OfAuto = sdk.String(string(r.Choice))
	default:
		out.ToolChoice = sdk.ToolChoiceOptionFunctionToolChoice(sdk.ChatCompletionNamedToolChoiceFunctionParam{Name: string(r.Choice)})
	}
	if r.Serial {
		out.ParallelToolCalls = sdk.Bool(false)
	}
	return nil
}

// message adds one message in the protocol's form, which may be several.
func (m *model) message(out []sdk.ChatCompletionMessageParamUnion, i int, msg llm.Message) ([]sdk.ChatCompletionMessageParamUnion, error) {
	switch msg.Role {
	case llm.RoleUser:
		if text, ok := onlyText(msg.Parts); ok {
			return append(out, sdk.UserMessage(text)), nil
		}
		parts, err := m.content(i, msg.Parts)
		if err != nil {
			return nil, err
		}
		return append(out, sdk.UserMessage(parts)), nil
	case llm.RoleModel:
		a, err := m.assistant(i, msg)
		if err != nil {
			return nil, err
		}
		return append(out, sdk.ChatCompletionMessageParamUnion{OfAssistant: a}), nil
	}
	// Results: one message each, and what is no text after all of them.
	var media []sdk.ChatCompletionContentPartUnionParam
	for _, p := range msg.Parts {
		res := p.Result
		var rest []llm.Part
		for _, q := range res.Parts {
			if q.Media != nil {
				rest = append(rest, q)
			}
		}
		text := res.Text()
		if len(rest) > 0 {
			parts, err := m.content(i, rest)
			if err != nil {
				return nil, err
			}
			media = append(media, sdk.TextContentPart("What "+res.Name+" gave ("+wire.CallID(res.ID)+"):"))
			media = append(media, parts...)
			if text == "" {
				text = "(in the message after the results)"
			}
		}
		if res.Error {
			text = "Error: " + text
		}
		out = append(out, sdk.ToolMessage(text, wire.CallID(res.ID)))
	}
	if len(media) > 0 {
		out = append(out, sdk.UserMessage(media))
	}
	return out, nil
}

func onlyText(parts []llm.Part) (string, bool) {
	var b strings.Builder
	for _, p := range parts {
		if p.Media != nil {
			return "", false
		}
		b.WriteString(p.Text)
	}
	return b.String(), true
}

// content is text and media.
func (m *model) content(i int, parts []llm.Part) ([]sdk.ChatCompletionContentPartUnionParam, error) {
	var out []sdk.ChatCompletionContentPartUnionParam
	for _, p := range parts {
		if p.Media == nil {
			if p.Text != "" {
				out = append(out, sdk.TextContentPart(p.Text))
			}
			continue
		}
		part, err := m.media(i, p.Media)
		if err != nil {
			return nil, err
		}
		out = append(out, part)
	}
	return out, nil
}

func (m *model) media(i int, d *llm.Media) (out sdk.ChatCompletionContentPartUnionParam, err error) {
	kind, _, _ := strings.Cut(d.Type, ";")
	data := func() string { return base64.StdEncoding.EncodeToString(d.Data) }
	uri := func() string { return "data:" + kind + ";base64," + data() }
	switch {
	case strings.HasPrefix(kind, "image/"):
		u := d.URL
		if u == "" {
			u = uri()
		}
		return sdk.ImageContentPart(sdk.ChatCompletionContentPartImageImageURLParam{URL: u}), nil
	case d.URL != "":
		return out, m.Refuse("message %d has %s by a URL, which the protocol has for images only: load it, and send its content", i, kind)
	case kind == "application/pdf":
		name := d.Name
		if name == "" {
			name = "document.pdf"
		}
		return sdk.FileContentPart(sdk.ChatCompletionContentPartFileFileParam{Filename: sdk.String(name), FileData: sdk.String(uri())}), nil
	case kind == "audio/wav", kind == "audio/x-wav":
		return sdk.InputAudioContentPart(sdk.ChatCompletionContentPartInputAudioInputAudioParam{Data: data(), Format: "wav"}), nil
	case kind == "audio/mpeg", kind == "audio/mp3":
		return sdk.InputAudioContentPart(sdk.ChatCompletionContentPartInputAudioInputAudioParam{Data: data(), Format: "mp3"}), nil
	case strings.HasPrefix(kind, "text/"), kind == "application/json":
		text := string(d.Data)
		if d.Name != "" {
			text = d.Name + ":\n\n" + text
		}
		return sdk.TextContentPart(text), nil
	}
	return out, m.Refuse("message %d has %s, which the protocol has no place for: it has images, PDF, WAV, MP3 and text", i, kind)
}

// reasoning are the names under which endpoints tell what a model thought.
var reasoning = []string{"reasoning_content", "reasoning"}

func (m *model) assistant(i int, msg llm.Message) (*sdk.ChatCompletionAssistantMessageParam, error) {
	out := &sdk.ChatCompletionAssistantMessageParam{}
	var text strings.Builder
	extra := map[string]any{}
	for _, p := range msg.Parts {
		switch own := p.Raw != nil && p.Raw.Provider == m.Provider; {
		case p.Media != nil:
			return nil, m.Refuse("message %d has %s of the model, which the protocol has no place for", i, p.Media.Type)
		case p.Call != nil:
			call := sdk.ChatCompletionMessageFunctionToolCallParam{
				ID:       wire.CallID(p.Call.ID),
				Function: sdk.ChatCompletionMessageFunctionToolCallFunctionParam{Name: p.Call.Name, Arguments: wire.Written(p.Call)},
			}
			if own {
				fields, err := wire.Fields(p.Raw.Data)
				if err != nil {
					return nil, m.Refuse("message %d: call %s has raw data that are no object", i, p.Call.ID)
				}
				call.SetExtraFields(fields)
			}
			out.ToolCalls = append(out.ToolCalls, sdk.ChatCompletionMessageToolCallUnionParam{OfFunction: &call})
		case p.Reasoning != nil:
			if own {
				fields, err := wire.Fields(p.Raw.Data)
				if err != nil {
					return nil, m.Refuse("message %d has raw reasoning that is no object", i)
				}
				for k, v := range fields {
					extra[k] = v
				}
			}
		default:
			text.WriteString(p.Text)
		}
	}
	if text.Len() > 0 || len(out.ToolCalls) == 0 {
		out.Content.OfString = sdk.String(text.String())
	}
	// Some endpoints demand what the model thought before its calls; some
	// refuse what it thought before an answer.
	if len(extra) > 0 && len(out.ToolCalls) > 0 {
		out.SetExtraFields(extra)
	}
	return out, nil
}

// response is a whole answer.
func (m *model) response(r *llm.Request, c *sdk.ChatCompletion) (*llm.Response, error) {
	if c == nil { // the body was null
		return nil, m.Malformed("the answer is none", "null")
	}
	if len(c.Choices) == 0 {
		return nil, m.Malformed("the answer has no choices", c.RawJSON())
	}
	var a answer
	choice := c.Choices[0]
	msg := choice.Message
	a.id, a.model, a.finish, a.usage = c.ID, c.Model, choice.FinishReason, usage(c.Usage)
	a.text.WriteString(msg.Content)
	a.refusal.WriteString(msg.Refusal)
	a.think(msg.JSON.ExtraFields)
	for i, call := range msg.ToolCalls {
		a.call(&a.order, i, call.ID, call.Function.Name, call.Function.Arguments, extraOf(call.RawJSON()))
	}
	if a.finish == "" {
		a.finish = "stop" // some endpoints say nothing in a whole answer
	}
	return a.response(m, r), nil
}

// extraOf are the members of a call that the protocol does not have.
func extraOf(raw string) map[string]json.RawMessage {
	var all map[string]json.RawMessage
	if json.Unmarshal([]byte(raw), &all) != nil {
		return nil
	}
	for _, known := range []string{"id", "type", "function", "index", "custom"} {
		delete(all, known)
	}
	return all
}

func usage(u sdk.CompletionUsage) llm.Usage {
	return llm.Usage{
		Input: u.PromptTokens, Output: u.CompletionTokens,
		CacheRead: u.PromptTokensDetails.CachedTokens, Reasoning: u.CompletionTokensDetails.ReasoningTokens,
	}
}

// answer is what has come of one.
type answer struct {
	id, model, finish string
	text, refusal     strings.Builder
	thought           strings.Builder
	thoughtName       string
	order             []*call
	usage             llm.Usage
}

type call struct {
	index    int
	id, name string
	args     strings.Builder
	extra    map[string]json.RawMessage
}

// think takes a piece of reasoning, under any of its names.
func (a *answer) think(extra map[string]respjson.Field) string {
	for _, name := range reasoning {
		var piece string
		if f, ok := extra[name]; ok && json.Unmarshal([]byte(f.Raw()), &piece) == nil && piece != "" {
			a.thoughtName = name
			a.thought.WriteString(piece)
			return piece
		}
	}
	return ""
}

// call takes a piece of a call, and gives the call if it is a new one.
func (a *answer) call(calls *[]*call, index int, id, name, args string, extra map[string]json.RawMessage) *call {
	var c *call
	for _, have := range slices.Backward(*calls) {
		if have.index == index {
			c = have
			break
		}
	}
	begun := c == nil || id != "" && c.id != "" && id != c.id // some endpoints give every call the index 0
	if begun {
		c = &call{index: index}
		*calls = append(*calls, c)
	}
	if c.id == "" {
		c.id = id
	}
	if begun || c.name == "" {
		c.name = name // some repeat it with each piece
	}
	c.args.WriteString(args)
	for k, v := range extra {
		if c.extra == nil {
			c.extra = map[string]json.RawMessage{}
		}
		c.extra[k] = v
	}
	if begun {
		return c
	}
	return nil
}

// response puts the pieces together.
func (a *answer) response(m *model, r *llm.Request) *llm.Response {
	out := &llm.Response{Message: llm.Message{Role: llm.RoleModel}, Usage: a.usage, Model: a.model, ID: a.id}
	msg := &out.Message
	if a.thought.Len() > 0 {
		raw, _ := json.Marshal(map[string]string{a.thoughtName: a.thought.String()}) // of strings
		msg.Parts = append(msg.Parts, llm.Part{Reasoning: &llm.Reasoning{Text: a.thought.String()}, Raw: &llm.Raw{Provider: m.Provider, Data: raw}})
	}
	if text := a.text.String() + a.refusal.String(); text != "" {
		msg.Parts = append(msg.Parts, llm.Part{Text: text})
	}
	for _, c := range a.order {
		p := llm.Part{Call: &llm.ToolCall{ID: c.id, Name: c.name}}
		p.Call.Args, p.Call.Bad = wire.Args(c.args.String())
		if len(c.extra) > 0 {
			raw, _ := json.Marshal(c.extra) // of JSON
			p.Raw = &llm.Raw{Provider: m.Provider, Data: raw}
		}
		msg.Parts = append(msg.Parts, p)
	}
	wire.UniqueIDs(r, msg)
	switch a.finish {
	case "stop", "tool_calls", "function_call":
		out.Stop = llm.StopEnd
		if len(a.order) > 0 {
			out.Stop = llm.StopTools // "stop" too, after a forced call
		}
	case "length":
		out.Stop = llm.StopLength
	case "content_filter":
		out.Stop = llm.StopFilter
	default:
		out.Stop = llm.StopReason(a.finish)
	}
	if a.refusal.Len() > 0 {
		out.Stop = llm.StopFilter
	}
	return out
}
