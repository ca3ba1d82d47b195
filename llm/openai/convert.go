package openai

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"github.com/mcpagent/mcpagent/internal/plainjson"
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

// query is a request in the protocol's form, beside what is written piece by
// piece: the model, the conversation and the tools.
type query struct {
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

// choice is that of a function.
type choice struct {
	Function struct {
		Name string `json:"name"`
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
	if err := m.provider.Ready(); err != nil {
		return nil, err
	}
	if err := m.Validate(r); err != nil {
		return nil, err
	}
	q := &query{
		Temperature: r.Temperature, TopP: r.TopP, Seed: r.Seed, Stop: r.Stop,
		ReasoningEffort: r.Effort, User: cmp.Or(r.User, m.settings.user), Stream: stream,
	}
	if r.Schema != nil {
		q.ResponseFormat = &format{Type: "json_schema"}
		f := &q.ResponseFormat.Schema
		f.Name = cmp.Or(r.Schema.Name, "answer")
		f.Schema, f.Strict = m.provider.schemas.Answer(r.Schema.Schema, strict)
	}
	if m.settings.Official {
		q.MaxCompletionTokens = r.MaxTokens
	} else {
		q.MaxTokens = r.MaxTokens
	}
	if r.Effort == "" && thinks(m.Model) {
		q.ReasoningEffort = m.settings.effort
	}
	if stream {
		q.StreamOptions = &streamOptions{IncludeUsage: true}
	}
	if len(r.Tools) > 0 {
		switch r.Choice {
		case llm.ToolAuto:
		case llm.ToolNone, llm.ToolRequired:
			q.ToolChoice = r.Choice
		default:
			c := choice{Type: "function"}
			c.Function.Name = string(r.Choice)
			q.ToolChoice = c
		}
		if r.Serial {
			q.ParallelToolCalls = new(bool)
		}
	}
	return m.Body(r.Extra, func(w *plainjson.Writer) {
		w.Text("{")
		w.Key("model")
		w.String(m.Model)
		w.Key("messages")
		w.Text("[")
		if r.System != "" {
			w.Text(`{"content":`)
			w.String(r.System)
			w.Text(`,"role":"system"}`)
		}
		for i := range r.Messages {
			w.Fail(m.message(w, i, &r.Messages[i]))
		}
		w.Text("]")
		w.Fail(m.tools(w, r.Tools))
		w.Members(q)
		w.Text("}")
	}, taken...)
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

func (m *model) tools(w *plainjson.Writer, tools []llm.Tool) error {
	if len(tools) == 0 {
		return nil
	}
	w.Key("tools")
	w.Text("[")
	for i := range tools {
		t := &tools[i]
		schema := m.provider.schemas.Tool(t.Schema)
		if schema.Err != nil {
			return m.Refuse("the schema of tool %s: %v", t.Name, schema.Err)
		}
		w.Comma()
		w.Text(`{"function":{`)
		w.Key("name")
		w.String(t.Name)
		w.Field("description", cmp.Or(t.Description, t.Title))
		w.Key("parameters")
		w.B = append(w.B, schema.Schema...)
		w.Text(`},"type":"function"}`)
	}
	w.Text("]")
	return nil
}

// message adds one message in the protocol's form, which may be several.
func (m *model) message(w *plainjson.Writer, i int, msg *llm.Message) error {
	switch msg.Role {
	case llm.RoleUser:
		w.Comma()
		w.Text(`{"content":`)
		if slices.ContainsFunc(msg.Parts, isMedia) {
			parts, err := m.content(i, msg.Parts)
			if err != nil {
				return err
			}
			w.Any(parts)
		} else {
			w.String(msg.Text())
		}
		w.Text(`,"role":"user"}`)
		return nil
	case llm.RoleModel:
		return m.assistant(w, i, msg)
	}
	// Results: one message each, and what is no text after all of them.
	var media []part
	for _, p := range msg.Parts {
		res := p.Result
		text := res.Text()
		if slices.ContainsFunc(res.Parts, isMedia) {
			var parts []part
			var unshown []string
			for _, p := range res.Parts {
				if p.Media == nil {
					continue
				}
				shown, err := m.media(i, p.Media)
				if err != nil || !wire.Shown(p.Media) {
					unshown = append(unshown, wire.Named(p.Media))
					continue
				}
				parts = append(parts, shown)
			}
			if len(parts) > 0 {
				media = append(media, textPart("What "+res.Name+" gave ("+wire.CallID(res.ID)+"):"))
				media = append(media, parts...)
				if text == "" {
					text = "(in the message after the results)"
				}
			}
			if len(unshown) > 0 {
				text = strings.TrimPrefix(text+"\n"+strings.Join(unshown, "\n"), "\n")
			}
		}
		if res.Error {
			text = "Error: " + text
		}
		w.Comma()
		w.Text(`{"content":`)
		w.String(text)
		w.Text(`,"role":"tool"`)
		w.Field("tool_call_id", wire.CallID(res.ID))
		w.Text("}")
	}
	if len(media) > 0 {
		w.Comma()
		w.Text(`{"content":`)
		w.Any(media)
		w.Text(`,"role":"user"}`)
	}
	return nil
}

func isMedia(p llm.Part) bool { return p.Media != nil }

func textPart(text string) part { return part{Type: "text", Text: text} }

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

// assistant adds a message of the model, with what an endpoint added to it and
// gets back.
func (m *model) assistant(w *plainjson.Writer, i int, msg *llm.Message) error {
	calls := false
	var thought []json.RawMessage
	for _, p := range msg.Parts {
		calls = calls || p.Call != nil
		switch {
		case p.Media != nil:
			return m.Refuse("message %d has %s of the model, which the protocol has no place for", i, p.Media.Type)
		case p.Reasoning != nil && m.own(p):
			thought = append(thought, p.Raw.Data)
		}
	}
	w.Comma()
	from := len(w.B)
	w.Text("{")
	if text := msg.Text(); text != "" || !calls {
		w.Key("content")
		w.String(text)
	}
	if calls {
		w.Key("tool_calls")
		w.Text("[")
		for _, p := range msg.Parts {
			if p.Call == nil {
				continue
			}
			w.Comma()
			from := len(w.B)
			w.Text("{")
			w.Key("id")
			w.String(wire.CallID(p.Call.ID))
			w.Text(`,"function":{"arguments":`)
			w.String(wire.Written(p.Call))
			w.Text(`,"name":`)
			w.String(wire.CallName(p.Call.Name))
			w.Text(`},"type":"function"}`)
			if m.own(p) && !join(w, from, p.Raw.Data) {
				return m.Refuse("message %d: call %s has raw data that are no object", i, p.Call.ID)
			}
		}
		w.Text("]")
	}
	w.Text(`,"role":"assistant"}`)
	// Some endpoints demand what the model thought before its calls; some
	// refuse what it thought before an answer.
	if calls && !join(w, from, thought...) {
		return m.Refuse("message %d has raw reasoning that is no object", i)
	}
	return nil
}

// own reports whether a part has the endpoint's own form beside it.
func (m *model) own(p llm.Part) bool { return p.Raw != nil && p.Raw.Provider == m.Provider }

// join gives the object that was written last the members of others; false:
// one is no object.
func join(w *plainjson.Writer, from int, more ...json.RawMessage) bool {
	for _, o := range more {
		b, err := wire.Joined(w.B[from:], o)
		if err != nil {
			return false
		}
		w.B = append(w.B[:from], b...)
	}
	return true
}

// response is a whole answer.
func (m *model) response(r *llm.Request, c *completion, raw []byte) (*llm.Response, error) {
	if string(bytes.TrimSpace(raw)) == "null" {
		return nil, m.Malformed("the answer is none", "null")
	}
	if len(c.Choices) == 0 {
		return nil, m.Malformed("the answer has no choices", string(raw))
	}
	var a answer
	choice := c.Choices[0]
	msg := &choice.Message
	a.id, a.model, a.finish, a.usage = c.ID, c.Model, choice.FinishReason, c.Usage.usage()
	a.text.WriteString(string(msg.Content))
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
	out := a.response(m, r)
	if len(out.Message.Parts) == 0 && !spoke(raw) {
		return nil, m.Malformed("the answer has no message", string(raw))
	}
	return out, nil
}

// spoke reports whether an answer that says nothing has a message that does so.
func spoke(raw []byte) bool {
	var c struct {
		Choices []struct{ Message *struct{} }
	}
	return json.Unmarshal(raw, &c) == nil && len(c.Choices) > 0 && c.Choices[0].Message != nil
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

// whole reports whether all arguments have come.
func (c *call) whole() bool {
	args := c.args.String()
	return strings.HasSuffix(args, "}") && json.Valid([]byte(args))
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
	// Some endpoints give every call the index 0, and some no ID.
	begun := c == nil || p.id != "" && c.id != "" && p.id != c.id || p.id == "" && p.name != "" && p.args != "" && c.whole()
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
