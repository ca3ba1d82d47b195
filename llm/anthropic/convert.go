package anthropic

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	sdk "github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/packages/param"

	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/internal/wire"
)

// strict are the rules for schemas that the API holds a model to.
var strict = wire.Rules{
	Known: []string{
		"type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "title", "description", "default",
	},
	Dropped: []string{
		"pattern", "format", "minLength", "maxLength", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
		"minItems", "maxItems", "uniqueItems", "examples",
	},
	Optional: true,
}

// taken are the members of a request that Extra can't change: what is read of
// the answer depends on them.
var taken = []string{"model", "messages", "stream", "tools", "system"}

// query is a request in the API's form.
type query struct {
	sdk.MessageNewParams
	answer string // the tool that the model answers by, if there is one
}

func (m *model) query(r *llm.Request) (*query, error) {
	if err := m.provider.Ready(); err != nil {
		return nil, err
	}
	if err := m.Validate(r); err != nil {
		return nil, err
	}
	if r.Seed != nil {
		return nil, m.Refuse("the request has a Seed, which the API has no place for")
	}
	q := &query{MessageNewParams: sdk.MessageNewParams{Model: m.Model, MaxTokens: DefaultMaxTokens, StopSequences: r.Stop}}
	if r.MaxTokens > 0 {
		q.MaxTokens = int64(r.MaxTokens)
	}
	if r.System != "" {
		q.System = []sdk.TextBlockParam{{Text: r.System}}
	}
	if r.Temperature != nil {
		q.Temperature = sdk.Float(*r.Temperature)
	}
	if r.TopP != nil {
		q.TopP = sdk.Float(*r.TopP)
	}
	if r.User != "" {
		q.Metadata.UserID = sdk.String(r.User)
	}
	for i, msg := range r.Messages {
		if err := m.message(q, i, msg); err != nil {
			return nil, err
		}
	}
	if err := m.think(q, r); err != nil {
		return nil, err
	}
	if err := m.tools(q, r); err != nil {
		return nil, err
	}
	if err := m.schema(q, r); err != nil {
		return nil, err
	}
	m.cache(q)
	if len(r.Extra) > 0 {
		extra, err := m.Extra(r.Extra, taken...)
		if err != nil {
			return nil, err
		}
		q.SetExtraFields(extra)
	}
	return q, nil
}

// think says how much a model thinks. Those before 4.6 want a budget.
func (m *model) think(q *query, r *llm.Request) error {
	budget := map[string]int64{"low": 2048, "medium": 8192, "high": 24576}[r.Effort]
	switch {
	case r.Effort == "":
	case r.Effort == "none":
		q.Thinking.OfDisabled = &sdk.ThinkingConfigDisabledParam{}
	case !before(m.Model, 4, 6):
		q.OutputConfig.Effort = sdk.OutputConfigEffort(r.Effort)
		q.Thinking.OfAdaptive = &sdk.ThinkingConfigAdaptiveParam{Display: sdk.ThinkingConfigAdaptiveDisplaySummarized}
	case r.MaxTokens == 0:
		q.MaxTokens += budget
		q.Thinking = sdk.ThinkingConfigParamOfEnabled(budget)
	default: // a part of what the answer may have
		if budget = min(budget, q.MaxTokens/2); budget < 1024 {
			return m.Refuse("effort %s wants MaxTokens of 2048 at least, not %d", r.Effort, r.MaxTokens)
		}
		q.Thinking = sdk.ThinkingConfigParamOfEnabled(budget)
	}
	return nil
}

// before tells whether a model is of an earlier version: claude-opus-4-1,
// claude-3-5-haiku, claude-sonnet-4-20250514. What has no number is new.
func before(name string, major, minor int) bool {
	var v []int
	for word := range strings.SplitSeq(name, "-") {
		if len(word) <= 2 && strings.Trim(word, "0123456789") == "" && word != "" {
			n := 0
			for _, c := range word {
				n = 10*n + int(c-'0')
			}
			v = append(v, n)
		}
	}
	if len(v) == 0 || !strings.Contains(name, "claude") {
		return false
	}
	v = append(v, 0)
	return v[0] < major || v[0] == major && v[1] < minor
}

func (m *model) tools(q *query, r *llm.Request) error {
	tools := r.Tools
	choice := r.Choice
	if len(tools) == 0 {
		// The API wants tools where the conversation has calls.
		tools, choice = used(r.Messages), llm.ToolNone
	}
	for _, t := range tools {
		schema := m.provider.schemas.Tool(t.Schema)
		if schema.Err != nil {
			return m.Refuse("the schema of tool %s: %v", t.Name, schema.Err)
		}
		out := &sdk.ToolParam{Name: t.Name, InputSchema: param.Override[sdk.ToolInputSchemaParam](schema.Schema)}
		if t.Description != "" {
			out.Description = sdk.String(t.Description)
		} else if t.Title != "" {
			out.Description = sdk.String(t.Title)
		}
		q.Tools = append(q.Tools, sdk.ToolUnionParam{OfTool: out})
	}
	if len(tools) == 0 {
		return nil
	}
	var serial param.Opt[bool]
	if r.Serial {
		serial = sdk.Bool(true)
	}
	switch choice {
	case llm.ToolAuto:
		if r.Serial {
			q.ToolChoice.OfAuto = &sdk.ToolChoiceAutoParam{DisableParallelToolUse: serial}
		}
	case llm.ToolNone:
		q.ToolChoice.OfNone = &sdk.ToolChoiceNoneParam{}
	case llm.ToolRequired:
		q.ToolChoice.OfAny = &sdk.ToolChoiceAnyParam{DisableParallelToolUse: serial}
	default:
		q.ToolChoice.OfTool = &sdk.ToolChoiceToolParam{Name: string(choice), DisableParallelToolUse: serial}
	}
	return nil
}

// used are the tools that a conversation has calls of.
func used(messages []llm.Message) (out []llm.Tool) {
	for _, m := range messages {
		for _, c := range m.Calls() {
			if !slices.ContainsFunc(out, func(t llm.Tool) bool { return t.Name == c.Name }) {
				out = append(out, llm.Tool{Name: c.Name})
			}
		}
	}
	return out
}

// schema asks for an answer of a schema: by the API's own means, or by a tool.
func (m *model) schema(q *query, r *llm.Request) error {
	if r.Schema == nil {
		return nil
	}
	if !before(m.Model, 4, 5) {
		if schema, ok := m.provider.schemas.Answer(r.Schema.Schema, strict); ok {
			fields, err := wire.Fields(schema)
			if err != nil {
				return m.Refuse("the schema of the answer: %v", err)
			}
			q.OutputConfig.Format.Schema = fields
			return nil
		}
	}
	schema := m.provider.schemas.Tool(r.Schema.Schema)
	if schema.Err != nil {
		return m.Refuse("the schema of the answer: %v", schema.Err)
	}
	q.answer = r.Schema.Name
	if q.answer == "" {
		q.answer = "answer"
	}
	for slices.ContainsFunc(r.Tools, func(t llm.Tool) bool { return t.Name == q.answer }) {
		q.answer = "final_" + q.answer
	}
	q.Tools = append(q.Tools, sdk.ToolUnionParam{OfTool: &sdk.ToolParam{
		Name: q.answer, Description: sdk.String("Give your final answer by calling this, once, and say nothing else."),
		InputSchema: param.Override[sdk.ToolInputSchemaParam](schema.Schema),
	}})
	switch forced := q.Thinking.OfEnabled == nil && q.Thinking.OfAdaptive == nil; {
	case !forced: // the API has no forced calls after thinking
		q.ToolChoice = sdk.ToolChoiceUnionParam{}
	case len(r.Tools) == 0 || r.Choice == llm.ToolNone:
		q.ToolChoice = sdk.ToolChoiceUnionParam{OfTool: &sdk.ToolChoiceToolParam{Name: q.answer}}
	case q.ToolChoice.OfTool == nil:
		some := &sdk.ToolChoiceAnyParam{}
		if r.Serial {
			some.DisableParallelToolUse = sdk.Bool(true)
		}
		q.ToolChoice = sdk.ToolChoiceUnionParam{OfAny: some}
	}
	return nil
}

// message adds one message. Results, and what a user says after them, are one.
func (m *model) message(q *query, i int, msg llm.Message) error {
	role := sdk.MessageParamRoleUser
	var blocks []sdk.ContentBlockParamUnion
	for _, p := range msg.Parts {
		b, err := m.block(i, msg.Role, p)
		if err != nil {
			return err
		}
		if b != nil {
			blocks = append(blocks, *b)
		}
	}
	if msg.Role == llm.RoleModel {
		role = sdk.MessageParamRoleAssistant
	}
	if len(blocks) == 0 {
		if msg.Role == llm.RoleModel {
			return nil // it said nothing
		}
		return m.Refuse("message %d has nothing but white space", i)
	}
	if n := len(q.Messages); n > 0 && q.Messages[n-1].Role == role {
		q.Messages[n-1].Content = append(q.Messages[n-1].Content, blocks...)
		return nil
	}
	q.Messages = append(q.Messages, sdk.MessageParam{Role: role, Content: blocks})
	return nil
}

// block is a part in the API's form; nil if there is nothing to send.
func (m *model) block(i int, role llm.Role, p llm.Part) (*sdk.ContentBlockParamUnion, error) {
	if p.Raw != nil && p.Raw.Provider == m.Provider && role == llm.RoleModel {
		raw := param.Override[sdk.TextBlockParam](p.Raw.Data) // whatever it is
		return &sdk.ContentBlockParamUnion{OfText: &raw}, nil
	}
	switch {
	case p.Media != nil && role == llm.RoleModel:
		return nil, m.Refuse("message %d has %s of the model, which the API has no place for", i, p.Media.Type)
	case p.Media != nil:
		return m.media(i, p.Media)
	case p.Reasoning != nil: // of another provider
		return nil, nil
	case p.Call != nil:
		var input any = p.Call.Args
		switch {
		case p.Call.Bad != "":
			input = map[string]string{"arguments": wire.Written(p.Call)}
		case len(p.Call.Args) == 0:
			input = json.RawMessage("{}")
		}
		b := sdk.NewToolUseBlock(wire.CallID(p.Call.ID), input, p.Call.Name)
		return &b, nil
	case p.Result != nil:
		return m.result(i, p.Result)
	case strings.TrimSpace(p.Text) == "": // the API refuses it
		return nil, nil
	}
	b := sdk.NewTextBlock(p.Text)
	return &b, nil
}

func (m *model) result(i int, res *llm.ToolResult) (*sdk.ContentBlockParamUnion, error) {
	out := &sdk.ToolResultBlockParam{ToolUseID: wire.CallID(res.ID)}
	pieces := false
	for _, p := range res.Parts {
		pieces = pieces || p.Media != nil
	}
	switch {
	case res.Error && pieces: // the API has errors of text only
		out.Content = append(out.Content, sdk.ToolResultBlockParamContentUnion{OfText: &sdk.TextBlockParam{Text: "It failed:"}})
	case res.Error:
		out.IsError = sdk.Bool(true)
	}
	if !pieces {
		if text := res.Text(); strings.TrimSpace(text) != "" {
			out.Content = append(out.Content, sdk.ToolResultBlockParamContentUnion{OfText: &sdk.TextBlockParam{Text: text}})
		}
		return &sdk.ContentBlockParamUnion{OfToolResult: out}, nil
	}
	for _, p := range res.Parts {
		b, err := m.block(i, llm.RoleUser, p)
		if err != nil {
			return nil, err
		}
		if b != nil {
			out.Content = append(out.Content, sdk.ToolResultBlockParamContentUnion{OfText: b.OfText, OfImage: b.OfImage, OfDocument: b.OfDocument})
		}
	}
	return &sdk.ContentBlockParamUnion{OfToolResult: out}, nil
}

func (m *model) media(i int, d *llm.Media) (*sdk.ContentBlockParamUnion, error) {
	kind, _, _ := strings.Cut(d.Type, ";")
	data := func() string { return base64.StdEncoding.EncodeToString(d.Data) }
	doc := func(s sdk.DocumentBlockParamSourceUnion) *sdk.ContentBlockParamUnion {
		b := &sdk.DocumentBlockParam{Source: s}
		if d.Name != "" {
			b.Title = sdk.String(d.Name)
		}
		return &sdk.ContentBlockParamUnion{OfDocument: b}
	}
	switch {
	case strings.HasPrefix(kind, "image/"):
		var s sdk.ImageBlockParamSourceUnion
		if d.URL != "" {
			s.OfURL = &sdk.URLImageSourceParam{URL: d.URL}
		} else {
			s.OfBase64 = &sdk.Base64ImageSourceParam{Data: data(), MediaType: sdk.Base64ImageSourceMediaType(kind)}
		}
		return &sdk.ContentBlockParamUnion{OfImage: &sdk.ImageBlockParam{Source: s}}, nil
	case kind == "application/pdf" && d.URL != "":
		return doc(sdk.DocumentBlockParamSourceUnion{OfURL: &sdk.URLPDFSourceParam{URL: d.URL}}), nil
	case kind == "application/pdf":
		return doc(sdk.DocumentBlockParamSourceUnion{OfBase64: &sdk.Base64PDFSourceParam{Data: data()}}), nil
	case (strings.HasPrefix(kind, "text/") || kind == "application/json") && d.URL == "":
		return doc(sdk.DocumentBlockParamSourceUnion{OfText: &sdk.PlainTextSourceParam{Data: string(d.Data)}}), nil
	case d.URL != "":
		return nil, m.Refuse("message %d has %s by a URL, which the API has for images and PDF: load it, and send its content", i, kind)
	}
	return nil, m.Refuse("message %d has %s, which the API has no place for: it has images, PDF and text", i, kind)
}

// cache sets the breakpoints, of which there may be four.
func (m *model) cache(q *query) {
	if m.settings.cache == "off" {
		return
	}
	c := sdk.NewCacheControlEphemeralParam()
	if m.settings.cache == "1h" {
		c.TTL = sdk.CacheControlEphemeralTTLTTL1h
	}
	if n := len(q.Tools); n > 0 {
		q.Tools[n-1].OfTool.CacheControl = c
	}
	if n := len(q.System); n > 0 {
		q.System[n-1].CacheControl = c
	}
	left := 2
	for i := len(q.Messages) - 1; i >= 0 && left > 0; i-- {
		if msg := q.Messages[i]; msg.Role == sdk.MessageParamRoleUser {
			if at := msg.Content[len(msg.Content)-1].GetCacheControl(); at != nil {
				*at = c
			}
			left--
		}
	}
}
