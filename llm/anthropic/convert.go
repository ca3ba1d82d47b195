package anthropic

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"github.com/mcpagent/mcpagent/internal/plainjson"
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
	Model     string
	MaxTokens int
	System    []block
	Messages  []message
	Tools     []tool
	rest

	answer string  // the tool that the model answers by, if there is one
	blocks []block // of all messages
}

// rest is what is rare, or short.
type rest struct {
	ToolChoice    *toolChoice   `json:"tool_choice,omitempty"`
	StopSequences []string      `json:"stop_sequences,omitempty"`
	Temperature   *float64      `json:"temperature,omitempty"`
	TopP          *float64      `json:"top_p,omitempty"`
	Thinking      *thinking     `json:"thinking,omitempty"`
	OutputConfig  *outputConfig `json:"output_config,omitempty"`
	Metadata      *metadata     `json:"metadata,omitempty"`
	Stream        bool          `json:"stream,omitempty"`
}

// write writes the request.
func (q *query) write(w *plainjson.Writer) {
	w.Text("{")
	w.Key("model")
	w.String(q.Model)
	w.Key("max_tokens")
	w.Int(int64(q.MaxTokens))
	if len(q.System) > 0 {
		w.Key("system")
		w.Text("[")
		for i := range q.System {
			w.Comma()
			q.System[i].write(w)
		}
		w.Text("]")
	}
	w.Key("messages")
	w.Text("[")
	for _, m := range q.Messages {
		w.Comma()
		w.Text(`{"content":[`)
		for i := range m.Content {
			w.Comma()
			m.Content[i].write(w)
		}
		w.Text("]")
		w.Field("role", m.Role)
		w.Text("}")
	}
	w.Text("]")
	if len(q.Tools) > 0 {
		w.Key("tools")
		w.Text("[")
		for i := range q.Tools {
			t := &q.Tools[i]
			w.Comma()
			w.Text(`{"input_schema":`)
			w.B = append(w.B, t.InputSchema...)
			w.Field("name", t.Name)
			w.Field("description", t.Description)
			t.CacheControl.write(w)
			w.Text("}")
		}
		w.Text("]")
	}
	w.Members(&q.rest)
	w.Text("}")
}

type message struct {
	Content []block
	Role    string
}

type block struct {
	Raw          json.RawMessage // of type "raw": what the API sent
	ID           string
	ToolUseID    string
	Text         string
	Input        json.RawMessage
	Name         string
	Title        string
	Source       *source
	Content      []block
	Said         string // it, where it is a text
	IsError      bool
	CacheControl *cacheControl
	Type         string
}

func (b *block) write(w *plainjson.Writer) {
	if b.Type == "raw" {
		w.Raw(b.Raw)
		return
	}
	w.Text("{")
	w.Field("id", b.ID)
	w.Field("tool_use_id", b.ToolUseID)
	w.Field("text", b.Text)
	if len(b.Input) > 0 {
		w.Key("input")
		w.Raw(b.Input)
	}
	w.Field("name", b.Name)
	w.Field("title", b.Title)
	if b.Source != nil {
		w.Key("source")
		w.Any(b.Source)
	}
	if b.Said != "" {
		w.Key("content")
		w.Text(`[{"text":`)
		w.String(b.Said)
		w.Text(`,"type":"text"}]`)
	}
	if len(b.Content) > 0 {
		w.Key("content")
		w.Text("[")
		for i := range b.Content {
			w.Comma()
			b.Content[i].write(w)
		}
		w.Text("]")
	}
	w.Flag("is_error", b.IsError)
	b.CacheControl.write(w)
	w.Field("type", b.Type)
	w.Text("}")
}

type source struct {
	Data      string `json:"data,omitempty"`
	MediaType string `json:"media_type,omitempty"`
	URL       string `json:"url,omitempty"`
	Type      string `json:"type"`
}

type cacheControl struct {
	TTL  string
	Type string
}

// write writes it as a member; nil is none.
func (c *cacheControl) write(w *plainjson.Writer) {
	if c == nil {
		return
	}
	w.Key("cache_control")
	w.Text("{")
	w.Field("ttl", c.TTL)
	w.Field("type", c.Type)
	w.Text("}")
}

type tool struct {
	InputSchema  json.RawMessage // without spaces
	Name         string
	Description  string
	CacheControl *cacheControl
}

type toolChoice struct {
	Name   string `json:"name,omitempty"`
	Serial bool   `json:"disable_parallel_tool_use,omitempty"`
	Type   string `json:"type"`
}

type thinking struct {
	Budget  int    `json:"budget_tokens,omitempty"`
	Display string `json:"display,omitempty"`
	Type    string `json:"type"`
}

type outputConfig struct {
	Effort string  `json:"effort,omitempty"`
	Format *format `json:"format,omitempty"`
}

type format struct {
	Schema json.RawMessage `json:"schema"`
	Type   string          `json:"type"`
}

type metadata struct {
	UserID string `json:"user_id"`
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
	q := &query{
		Model: m.Model, MaxTokens: cmp.Or(r.MaxTokens, DefaultMaxTokens), Messages: make([]message, 0, len(r.Messages)),
		rest: rest{StopSequences: r.Stop, Temperature: r.Temperature, TopP: r.TopP},
	}
	if r.System != "" {
		q.System = []block{{Type: "text", Text: r.System}}
	}
	if r.User != "" {
		q.Metadata = &metadata{r.User}
	}
	parts := 0
	for i := range r.Messages {
		parts += len(r.Messages[i].Parts)
	}
	q.blocks = make([]block, 0, parts)
	for i := range r.Messages {
		if err := m.message(q, i, &r.Messages[i]); err != nil {
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
	return q, nil
}

// think says how much a model thinks. Those before 4.6 want a budget.
func (m *model) think(q *query, r *llm.Request) error {
	budget := map[string]int{"low": 2048, "medium": 8192, "high": 24576}[r.Effort]
	switch {
	case r.Effort == "":
	case r.Effort == "none":
		q.Thinking = &thinking{Type: "disabled"}
	case !before(m.Model, 4, 6):
		q.OutputConfig = &outputConfig{Effort: r.Effort}
		q.Thinking = &thinking{Type: "adaptive", Display: "summarized"}
	case r.MaxTokens == 0:
		q.MaxTokens += budget
		q.Thinking = &thinking{Type: "enabled", Budget: budget}
	default: // a part of what the answer may have
		if budget = min(budget, q.MaxTokens/2); budget < 1024 {
			return m.Refuse("effort %s wants MaxTokens of 2048 at least, not %d", r.Effort, r.MaxTokens)
		}
		q.Thinking = &thinking{Type: "enabled", Budget: budget}
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
		q.Tools = append(q.Tools, tool{InputSchema: schema.Schema, Name: t.Name, Description: cmp.Or(t.Description, t.Title)})
	}
	if len(tools) == 0 {
		return nil
	}
	switch choice {
	case llm.ToolAuto:
		if r.Serial {
			q.ToolChoice = &toolChoice{Type: "auto", Serial: true}
		}
	case llm.ToolNone:
		q.ToolChoice = &toolChoice{Type: "none"}
	case llm.ToolRequired:
		q.ToolChoice = &toolChoice{Type: "any", Serial: r.Serial}
	default:
		q.ToolChoice = &toolChoice{Type: "tool", Name: string(choice), Serial: r.Serial}
	}
	return nil
}

// used are the tools that a conversation has calls of.
func used(messages []llm.Message) (out []llm.Tool) {
	for _, m := range messages {
		for _, c := range m.Calls() {
			name := wire.CallName(c.Name)
			if !slices.ContainsFunc(out, func(t llm.Tool) bool { return t.Name == name }) {
				out = append(out, llm.Tool{Name: name})
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
			if q.OutputConfig == nil {
				q.OutputConfig = &outputConfig{}
			}
			q.OutputConfig.Format = &format{Type: "json_schema", Schema: schema}
			return nil
		}
	}
	schema := m.provider.schemas.Tool(r.Schema.Schema)
	if schema.Err != nil {
		return m.Refuse("the schema of the answer: %v", schema.Err)
	}
	q.answer = cmp.Or(r.Schema.Name, "answer")
	for slices.ContainsFunc(r.Tools, func(t llm.Tool) bool { return t.Name == q.answer }) {
		q.answer = "final_" + q.answer
	}
	q.Tools = append(q.Tools, tool{
		InputSchema: schema.Schema, Name: q.answer, Description: "Give your final answer by calling this, once, and say nothing else.",
	})
	switch forced := q.Thinking == nil || q.Thinking.Type == "disabled"; {
	case !forced: // the API has no forced calls after thinking
		q.ToolChoice = nil
	case len(r.Tools) == 0 || r.Choice == llm.ToolNone:
		q.ToolChoice = &toolChoice{Type: "tool", Name: q.answer}
	case q.ToolChoice == nil || q.ToolChoice.Type != "tool":
		q.ToolChoice = &toolChoice{Type: "any", Serial: r.Serial}
	}
	return nil
}

// message adds one message. Results, and what a user says after them, are one.
func (m *model) message(q *query, i int, msg *llm.Message) error {
	role := "user"
	if msg.Role == llm.RoleModel {
		role = "assistant"
	}
	from := len(q.blocks)
	for j := range msg.Parts {
		p := &msg.Parts[j]
		if p.Raw != nil && p.Raw.Provider == m.Provider && msg.Role == llm.RoleModel {
			q.blocks = append(q.blocks, block{Raw: p.Raw.Data, Type: "raw"}) // whatever it is
			continue
		}
		b, err := m.block(i, msg.Role, p)
		if err != nil {
			return err
		}
		if b.Type != "" {
			q.blocks = append(q.blocks, b)
		}
	}
	if len(q.blocks) == from {
		if msg.Role == llm.RoleModel {
			return nil // it said nothing
		}
		return m.Refuse("message %d has nothing but white space", i)
	}
	if n := len(q.Messages); n > 0 && q.Messages[n-1].Role == role {
		last := &q.Messages[n-1]
		last.Content = q.blocks[from-len(last.Content):]
		return nil
	}
	q.Messages = append(q.Messages, message{Role: role, Content: q.blocks[from:]})
	return nil
}

// block is a part in the API's form; without a type if there is nothing to
// send.
func (m *model) block(i int, role llm.Role, p *llm.Part) (block, error) {
	switch {
	case p.Media != nil && role == llm.RoleModel:
		return block{}, m.Refuse("message %d has %s of the model, which the API has no place for", i, p.Media.Type)
	case p.Media != nil:
		return m.media(i, p.Media)
	case p.Reasoning != nil: // of another provider
		return block{}, nil
	case p.Call != nil:
		input := p.Call.Args
		switch {
		case p.Call.Bad != "":
			input, _ = plainjson.Marshal(map[string]string{"arguments": wire.Written(p.Call)}) // of strings
		case len(input) == 0:
			input = json.RawMessage("{}")
		}
		return block{Type: "tool_use", ID: wire.CallID(p.Call.ID), Name: wire.CallName(p.Call.Name), Input: input}, nil
	case p.Result != nil:
		return m.result(i, p.Result)
	case strings.TrimSpace(p.Text) == "": // the API refuses it
		return block{}, nil
	}
	return block{Type: "text", Text: p.Text}, nil
}

func (m *model) result(i int, res *llm.ToolResult) (block, error) {
	out := block{Type: "tool_result", ToolUseID: wire.CallID(res.ID)}
	pieces := slices.ContainsFunc(res.Parts, func(p llm.Part) bool { return p.Media != nil })
	switch {
	case res.Error && pieces: // the API has errors of text only
		out.Content = append(out.Content, block{Type: "text", Text: "It failed:"})
	case res.Error:
		out.IsError = true
	}
	if !pieces {
		if text := res.Text(); strings.TrimSpace(text) != "" {
			out.Said = text
		}
		return out, nil
	}
	for j := range res.Parts {
		p := &res.Parts[j]
		b, err := m.block(i, llm.RoleUser, p)
		if p.Media != nil && (err != nil || !wire.Shown(p.Media)) {
			b, err = block{Type: "text", Text: wire.Named(p.Media)}, nil
		}
		if err != nil {
			return block{}, err
		}
		if b.Type != "" {
			out.Content = append(out.Content, b)
		}
	}
	return out, nil
}

func (m *model) media(i int, d *llm.Media) (block, error) {
	kind, _, _ := strings.Cut(d.Type, ";")
	from := &source{Type: "url", URL: d.URL}
	if d.URL == "" {
		from = &source{Type: "base64", MediaType: kind, Data: base64.StdEncoding.EncodeToString(d.Data)}
	}
	switch text := strings.HasPrefix(kind, "text/") || kind == "application/json"; {
	case strings.HasPrefix(kind, "image/"):
		return block{Type: "image", Source: from}, nil
	case kind == "application/pdf":
		return block{Type: "document", Title: d.Name, Source: from}, nil
	case text && d.URL == "":
		return block{Type: "document", Title: d.Name, Source: &source{Type: "text", MediaType: "text/plain", Data: string(d.Data)}}, nil
	case d.URL != "":
		return block{}, m.Refuse("message %d has %s by a URL, which the API has for images and PDF: load it, and send its content", i, kind)
	}
	return block{}, m.Refuse("message %d has %s, which the API has no place for: it has images, PDF and text", i, kind)
}

// cache sets the breakpoints, of which there may be four.
func (m *model) cache(q *query) {
	if m.settings.cache == "off" {
		return
	}
	c := &cacheControl{Type: "ephemeral"}
	if m.settings.cache == "1h" {
		c.TTL = "1h"
	}
	if n := len(q.Tools); n > 0 {
		q.Tools[n-1].CacheControl = c
	}
	if n := len(q.System); n > 0 {
		q.System[n-1].CacheControl = c
	}
	left := 2
	for i := len(q.Messages) - 1; i >= 0 && left > 0; i-- {
		if msg := q.Messages[i]; msg.Role == "user" {
			msg.Content[len(msg.Content)-1].CacheControl = c
			left--
		}
	}
}
