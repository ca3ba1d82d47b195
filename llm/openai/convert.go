package openai

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

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

// query is a request in the protocol's form.
type query struct {
	Model               string         `json:"model"`
	Messages            []any          `json:"messages"` // message, or one with what an endpoint added
	Tools               []tool         `json:"tools,omitempty"`
	ToolChoice          any            `json:"tool_choice,omitempty"`
	ParallelToolCalls   *bool          `json:"parallel_tool_calls,omitempty"`
	ResponseFormat      *format        `json:"response_format,omitempty"`
	MaxTokens           int            `json:"max_tokens,omitempty"`
	MaxCompletionTokens int            `json:"max_completion_tokens,omitempty"`
	Temperature         *float64       `json:"temperature,omitempty"`
	TopP                *float64       `json:"top_p,omitempty"`
	Seed                *int64         `json:"seed,omitempty"`
	Stop                []string       `json:"stop,omitempty"`
	ReasoningEffort     string         `json:"reasoning_effort,omitempty"`
	User                string         `json:"user,omitempty"`
	Stream              bool           `json:"stream,omitempty"`
	StreamOptions       *streamOptions `json:"stream_options,omitempty"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

type format struct {
	Schema struct {
		Name   string          `json:"name"`
		Strict bool            `json:"strict,omitempty"`
		Schema json.RawMessage `json:"schema"`
	} `json:"json_schema"`
	Type string `json:"type"`
}

// tool is a function, or the choice of one.
type tool struct {
	Function function `json:"function"`
	Type     string   `json:"type"`
}

type function struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters,omitempty"`
}

type message struct {
	Content    any    `json:"content,omitempty"`    // string, or []part
	ToolCalls  []any  `json:"tool_calls,omitempty"` // toolCall, or one with what an endpoint added
	Role       string `json:"role"`
	ToolCallID string `json:"tool_call_id,omitempty"`
}

type toolCall struct {
	ID       string `json:"id"`
	Function struct {
		Arguments string `json:"arguments"`
		Name      string `json:"name"`
	} `json:"function"`
	Type string `json:"type"`
}

type part struct {
	Text       string    `json:"text,omitempty"`
	ImageURL   *imageURL `json:"image_url,omitempty"`
	File       *file     `json:"file,omitempty"`
	InputAudio *audio    `json:"input_audio,omitempty"`
	Type       string    `json:"type"`
}

type imageURL struct {
	URL string `json:"url"`
}

type file struct {
	Data string `json:"file_data"`
	Name string `json:"filename"`
}

type audio struct {
	Data   string `json:"data"`
	Format string `json:"format"`
}

// body is a request as it is sent.
func (m *model) body(r *llm.Request, stream bool) ([]byte, error) {
	s := m.settings
	if err := m.provider.Ready(); err != nil {
		return nil, err
	}
	if err := m.Validate(r); err != nil {
		return nil, err
	}
	q := &query{
		Model: m.Model, Messages: make([]any, 0, len(r.Messages)+1), Temperature: r.Temperature, TopP: r.TopP, Seed: r.Seed, Stop: r.Stop,
		ReasoningEffort: r.Effort, User: cmp.Or(r.User, s.user),
	}
	if r.System != "" {
		q.Messages = append(q.Messages, message{Role: "system", Content: r.System})
	}
	for i, msg := range r.Messages {
		if err := m.message(q, i, msg); err != nil {
			return nil, err
		}
	}
	if err := m.tools(q, r); err != nil {
		return nil, err
	}
	if r.Schema != nil {
		q.ResponseFormat = &format{Type: "json_schema"}
		f := &q.ResponseFormat.Schema
		f.Name = cmp.Or(r.Schema.Name, "answer")
		f.Schema, f.Strict = m.provider.schemas.Answer(r.Schema.Schema, strict)
	}
	if s.Official {
		q.MaxCompletionTokens = r.MaxTokens
	} else {
		q.MaxTokens = r.MaxTokens
	}
	if r.Effort == "" && thinks(m.Model) {
		q.ReasoningEffort = s.effort
	}
	if q.Stream = stream; stream {
		q.StreamOptions = &streamOptions{IncludeUsage: true}
	}
	return m.Body(q, r.Extra, taken...)
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

func (m *model) tools(q *query, r *llm.Request) error {
	if len(r.Tools) == 0 {
		return nil
	}
	q.Tools = make([]tool, len(r.Tools))
	for i, t := range r.Tools {
		schema := m.provider.schemas.Tool(t.Schema)
		if schema.Err != nil {
			return m.Refuse("the schema of tool %s: %v", t.Name, schema.Err)
		}
		q.Tools[i] = tool{function{t.Name, cmp.Or(t.Description, t.Title), schema.Schema}, "function"}
	}
	switch r.Choice {
	case llm.ToolAuto:
	case llm.ToolNone, llm.ToolRequired:
		q.ToolChoice = r.Choice
	default:
		q.ToolChoice = tool{function{Name: string(r.Choice)}, "function"}
	}
	if r.Serial {
		q.ParallelToolCalls = new(bool)
	}
	return nil
}

// message adds one message in the protocol's form, which may be several.
func (m *model) message(q *query, i int, msg llm.Message) error {
	switch msg.Role {
	case llm.RoleUser:
		if text, ok := onlyText(msg.Parts); ok {
			q.Messages = append(q.Messages, message{Role: "user", Content: text})
			return nil
		}
		parts, err := m.content(i, msg.Parts)
		q.Messages = append(q.Messages, message{Role: "user", Content: parts})
		return err
	case llm.RoleModel:
		a, err := m.assistant(i, msg)
		q.Messages = append(q.Messages, a)
		return err
	}
	// Results: one message each, and what is no text after all of them.
	var media []part
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
				return err
			}
			media = append(media, textPart("What "+res.Name+" gave ("+wire.CallID(res.ID)+"):"))
			media = append(media, parts...)
			if text == "" {
				text = "(in the message after the results)"
			}
		}
		if res.Error {
			text = "Error: " + text
		}
		q.Messages = append(q.Messages, message{Role: "tool", Content: text, ToolCallID: wire.CallID(res.ID)})
	}
	if len(media) > 0 {
		q.Messages = append(q.Messages, message{Role: "user", Content: media})
	}
	return nil
}

func textPart(text string) part { return part{Type: "text", Text: text} }

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
func (m *model) content(i int, parts []llm.Part) ([]part, error) {
	var out []part
	for _, p := range parts {
		if p.Media == nil {
			if p.Text != "" {
				out = append(out, textPart(p.Text))
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

func (m *model) media(i int, d *llm.Media) (out part, err error) {
	kind, _, _ := strings.Cut(d.Type, ";")
	data := func() string { return base64.StdEncoding.EncodeToString(d.Data) }
	uri := func() string { return "data:" + kind + ";base64," + data() }
	switch {
	case strings.HasPrefix(kind, "image/"):
		u := d.URL
		if u == "" {
			u = uri()
		}
		return part{Type: "image_url", ImageURL: &imageURL{u}}, nil
	case d.URL != "":
		return out, m.Refuse("message %d has %s by a URL, which the protocol has for images only: load it, and send its content", i, kind)
	case kind == "application/pdf":
		return part{Type: "file", File: &file{Data: uri(), Name: cmp.Or(d.Name, "document.pdf")}}, nil
	case kind == "audio/wav", kind == "audio/x-wav":
		return part{Type: "input_audio", InputAudio: &audio{data(), "wav"}}, nil
	case kind == "audio/mpeg", kind == "audio/mp3":
		return part{Type: "input_audio", InputAudio: &audio{data(), "mp3"}}, nil
	case strings.HasPrefix(kind, "text/"), kind == "application/json":
		text := string(d.Data)
		if d.Name != "" {
			text = d.Name + ":\n\n" + text
		}
		return textPart(text), nil
	}
	return out, m.Refuse("message %d has %s, which the protocol has no place for: it has images, PDF, WAV, MP3 and text", i, kind)
}

// assistant is a message of the model: a message, or JSON where an endpoint
// gets back what it added.
func (m *model) assistant(i int, msg llm.Message) (any, error) {
	out := message{Role: "assistant"}
	var text strings.Builder
	var thought []json.RawMessage
	for _, p := range msg.Parts {
		switch own := p.Raw != nil && p.Raw.Provider == m.Provider; {
		case p.Media != nil:
			return nil, m.Refuse("message %d has %s of the model, which the protocol has no place for", i, p.Media.Type)
		case p.Call != nil:
			c := toolCall{ID: wire.CallID(p.Call.ID), Type: "function"}
			c.Function.Name, c.Function.Arguments = p.Call.Name, wire.Written(p.Call)
			if !own {
				out.ToolCalls = append(out.ToolCalls, c)
				continue
			}
			full, err := joined(c, p.Raw.Data)
			if err != nil {
				return nil, m.Refuse("message %d: call %s has raw data that are no object", i, p.Call.ID)
			}
			out.ToolCalls = append(out.ToolCalls, full)
		case p.Reasoning != nil:
			if own {
				thought = append(thought, p.Raw.Data)
			}
		default:
			text.WriteString(p.Text)
		}
	}
	if text.Len() > 0 || len(out.ToolCalls) == 0 {
		out.Content = text.String()
	}
	// Some endpoints demand what the model thought before its calls; some
	// refuse what it thought before an answer.
	if len(thought) == 0 || len(out.ToolCalls) == 0 {
		return out, nil
	}
	full, err := joined(out, thought...)
	if err != nil {
		return nil, m.Refuse("message %d has raw reasoning that is no object", i)
	}
	return full, nil
}

// joined is a value with the members of objects.
func joined(v any, more ...json.RawMessage) (json.RawMessage, error) {
	b, err := wire.Encode(v)
	for _, o := range more {
		if err == nil {
			b, err = wire.Joined(b, o)
		}
	}
	return b, err
}

// completion is a whole answer, or a piece of one.
type completion struct {
	ID      string `json:"id"`
	Model   string `json:"model"`
	Choices []struct {
		Index        int    `json:"index"`
		FinishReason string `json:"finish_reason"`
		Message      spoken `json:"message"`
		Delta        spoken `json:"delta"`
	} `json:"choices"`
	Usage usage           `json:"usage"`
	Error json.RawMessage `json:"error"` // in a stream
}

// spoken is what a model says, or the next piece of it.
type spoken struct {
	Content          string  `json:"content"`
	Refusal          string  `json:"refusal"`
	ReasoningContent string  `json:"reasoning_content"` // endpoints have two names for it
	Reasoning        string  `json:"reasoning"`
	ToolCalls        []piece `json:"tool_calls"`
}

type usage struct {
	Input   int64 `json:"prompt_tokens"`
	Output  int64 `json:"completion_tokens"`
	Details struct {
		Cached int64 `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
	OutputDetails struct {
		Reasoning int64 `json:"reasoning_tokens"`
	} `json:"completion_tokens_details"`
}

func (u *usage) usage() llm.Usage {
	return llm.Usage{Input: u.Input, Output: u.Output, CacheRead: u.Details.Cached, Reasoning: u.OutputDetails.Reasoning}
}

// piece is a call, or a piece of one.
type piece struct {
	index          int
	id, name, args string
	extra          map[string]json.RawMessage // what the protocol does not have
}

// UnmarshalJSON implements [json.Unmarshaler]. What is of another type than it
// should be is left out, except for arguments that are JSON themselves.
func (p *piece) UnmarshalJSON(b []byte) error {
	var known struct {
		Index    int    `json:"index"`
		ID       string `json:"id"`
		Function struct {
			Name      string          `json:"name"`
			Arguments json.RawMessage `json:"arguments"`
		} `json:"function"`
	}
	_ = json.Unmarshal(b, &known) // as far as it goes
	*p = piece{index: known.Index, id: known.ID, name: known.Function.Name, extra: wire.Others(b, "index", "id", "function", "type", "custom")}
	if args := known.Function.Arguments; string(args) != "null" && json.Unmarshal(args, &p.args) != nil {
		p.args = string(args)
	}
	return nil
}

// response is a whole answer.
func (m *model) response(r *llm.Request, c *completion, raw []byte) (*llm.Response, error) {
	if c == nil { // the body was null
		return nil, m.Malformed("the answer is none", "null")
	}
	if len(c.Choices) == 0 {
		return nil, m.Malformed("the answer has no choices", string(raw))
	}
	var a answer
	choice := c.Choices[0]
	msg := &choice.Message
	a.id, a.model, a.finish, a.usage = c.ID, c.Model, choice.FinishReason, c.Usage.usage()
	a.text.WriteString(msg.Content)
	a.refusal.WriteString(msg.Refusal)
	a.think(msg)
	for i := range msg.ToolCalls {
		p := &msg.ToolCalls[i]
		p.index = i
		a.call(p)
	}
	if a.finish == "" {
		a.finish = "stop" // some endpoints say nothing in a whole answer
	}
	return a.response(m, r), nil
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
func (a *answer) think(s *spoken) string {
	piece, name := s.ReasoningContent, "reasoning_content"
	if piece == "" {
		piece, name = s.Reasoning, "reasoning"
	}
	if piece != "" {
		a.thoughtName = name
		a.thought.WriteString(piece)
	}
	return piece
}

// call takes a piece of a call, and gives the call if it is a new one.
func (a *answer) call(p *piece) *call {
	var c *call
	for _, have := range slices.Backward(a.order) {
		if have.index == p.index {
			c = have
			break
		}
	}
	begun := c == nil || p.id != "" && c.id != "" && p.id != c.id // some endpoints give every call the index 0
	if begun {
		c = &call{index: p.index}
		a.order = append(a.order, c)
	}
	if c.id == "" {
		c.id = p.id
	}
	if begun || c.name == "" {
		c.name = p.name // some repeat it with each piece
	}
	c.args.WriteString(p.args)
	for k, v := range p.extra {
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
