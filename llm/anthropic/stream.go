package anthropic

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/internal/wire"
)

// event is one of a stream.
type event struct {
	Type    string          `json:"type"`
	Index   int             `json:"index"`
	Message said            `json:"message"`
	Block   json.RawMessage `json:"content_block"`
	Delta   struct {
		Text        string          `json:"text"`
		Thinking    string          `json:"thinking"`
		Signature   string          `json:"signature"`
		PartialJSON string          `json:"partial_json"`
		Citation    json.RawMessage `json:"citation"`
		StopReason  string          `json:"stop_reason"`
		StopDetails stopDetails     `json:"stop_details"`
	} `json:"delta"`
	Usage usage `json:"usage"`
}

// stream sends a request and hands out the answer as it comes, until yield
// wants no more.
func (m *model) stream(ctx context.Context, r *llm.Request, q *query, yield func(llm.Delta) bool) error {
	q.Stream = true
	body, err := m.Body(r.Extra, q.write, taken...)
	if err != nil {
		return err
	}
	s, err := m.Listen(ctx, body)
	if err != nil {
		return err
	}
	defer s.Close()
	var msg said
	if whole, err := s.Whole(&msg, func(raw []byte) (*llm.Response, error) { return m.whole(r, q, &msg, raw) }, yield); whole {
		return err
	}
	var a answer
	for s.Next() {
		if s.Kind == "error" {
			return s.Told()
		}
		var e event
		if err := s.Decode(&e); err != nil {
			return err
		}
		if e.Type == "error" {
			return s.Told()
		}
		more, err := a.add(&e, q, yield)
		if err != nil {
			return m.Malformed(err.Error(), string(s.Data))
		}
		if !more {
			return nil
		}
	}
	if err := s.End(a.stop != ""); err != nil {
		return err
	}
	res, err := a.response(m, r, q)
	if err == nil {
		yield(llm.Delta{Response: res})
	}
	return err
}

// answer is what has come of one.
type answer struct {
	id, model string
	stop      string
	refusal   string
	usage     llm.Usage
	blocks    []*content
}

// content is a block of an answer: as the API sent it, and what was added since.
type content struct {
	raw                       json.RawMessage
	text, thinking, signature strings.Builder
	input                     strings.Builder
	citations                 []json.RawMessage
}

// count takes what an event says of tokens.
func (a *answer) count(u *usage) {
	fresh := a.usage.Input - a.usage.CacheRead - a.usage.CacheWrite
	tell := func(of, n *int64) {
		if n != nil {
			*of = *n
		}
	}
	tell(&fresh, u.Input)
	tell(&a.usage.CacheRead, u.CacheRead)
	tell(&a.usage.CacheWrite, u.CacheWrite)
	tell(&a.usage.Output, u.Output)
	a.usage.Input = fresh + a.usage.CacheRead + a.usage.CacheWrite
	if u.Details != nil {
		a.usage.Reasoning = u.Details.Thinking
	}
}

type wrong string

func (w wrong) Error() string { return string(w) }

// add takes an event of the stream, and hands out what is new in it.
func (a *answer) add(e *event, q *query, yield func(llm.Delta) bool) (bool, error) {
	switch e.Type {
	case "message_start":
		a.id, a.model = e.Message.ID, e.Message.Model
		a.count(&e.Message.Usage)
	case "message_delta":
		if e.Delta.StopReason != "" {
			a.stop, a.refusal = e.Delta.StopReason, e.Delta.StopDetails.Explanation
		}
		a.count(&e.Usage)
	case "content_block_start":
		if e.Index != len(a.blocks) {
			return false, wrong("a block begins out of order")
		}
		a.blocks = append(a.blocks, &content{raw: e.Block})
		var c struct{ Type, ID, Name, Text string }
		_ = json.Unmarshal(e.Block, &c) // as far as it goes; what is wrong with it is found at its end
		if c.Type == "tool_use" && c.Name != q.answer {
			return yield(llm.Delta{Call: &llm.ToolCall{ID: c.ID, Name: c.Name}}), nil
		} else if c.Text != "" {
			return yield(llm.Delta{Text: c.Text}), nil
		}
	case "content_block_delta", "content_block_stop":
		if e.Index < 0 || e.Index >= len(a.blocks) {
			return false, wrong("a piece of a block that did not begin")
		}
		if e.Type == "content_block_stop" {
			break
		}
		b, d := a.blocks[e.Index], &e.Delta
		b.text.WriteString(d.Text)
		b.thinking.WriteString(d.Thinking)
		b.signature.WriteString(d.Signature)
		b.input.WriteString(d.PartialJSON)
		if d.Citation != nil {
			b.citations = append(b.citations, d.Citation)
		}
		switch {
		case d.Text != "":
			return yield(llm.Delta{Text: d.Text}), nil
		case d.Thinking != "":
			return yield(llm.Delta{Reasoning: d.Thinking}), nil
		case d.PartialJSON != "" && q.answer != "" && b.name() == q.answer:
			return yield(llm.Delta{Text: d.PartialJSON}), nil
		}
	}
	return true, nil
}

// name is that of the tool that is called.
func (b *content) name() string {
	var c struct {
		Name string `json:"name"`
	}
	_ = json.Unmarshal(b.raw, &c) // as far as it goes
	return c.Name
}

// part is a block as this project has it.
func (b *content) part(provider string) (llm.Part, error) {
	var c struct {
		Type      string            `json:"type"`
		Text      string            `json:"text"`
		Thinking  string            `json:"thinking"`
		Signature string            `json:"signature"`
		ID        string            `json:"id"`
		Name      string            `json:"name"`
		Input     json.RawMessage   `json:"input"`
		Citations []json.RawMessage `json:"citations"`
		Caller    struct {
			Type string `json:"type"`
		} `json:"caller"`
	}
	if err := json.Unmarshal(b.raw, &c); err != nil {
		return llm.Part{}, wrong("a block is none: " + err.Error())
	}
	c.Text += b.text.String()
	c.Citations = append(c.Citations, b.citations...)
	raw := func(changed map[string]any) *llm.Raw {
		return &llm.Raw{Provider: provider, Data: wire.With(b.raw, changed)}
	}
	switch c.Type {
	case "text":
		p := llm.Part{Text: c.Text}
		if len(c.Citations) > 0 {
			p.Raw = raw(map[string]any{"text": c.Text, "citations": c.Citations})
		}
		return p, nil
	case "thinking":
		c.Thinking += b.thinking.String()
		c.Signature += b.signature.String()
		return llm.Part{Reasoning: &llm.Reasoning{Text: c.Thinking}, Raw: raw(map[string]any{"thinking": c.Thinking, "signature": c.Signature})}, nil
	case "redacted_thinking":
		return llm.Part{Reasoning: &llm.Reasoning{}, Raw: raw(nil)}, nil
	case "tool_use":
		written := string(c.Input)
		if b.input.Len() > 0 {
			written = b.input.String()
		}
		p := llm.Part{Call: &llm.ToolCall{ID: c.ID, Name: c.Name}}
		if p.Call.Args, p.Call.Bad = wire.Args(written); c.Caller.Type != "" && c.Caller.Type != "direct" {
			p.Raw = raw(map[string]any{"input": p.Call.Args})
		}
		return p, nil
	}
	changed := map[string]any{}
	if b.input.Len() > 0 && json.Valid([]byte(b.input.String())) {
		changed["input"] = json.RawMessage(b.input.String())
	}
	return llm.Part{Raw: raw(changed)}, nil // of the provider's own tools
}

// response puts the pieces together.
func (a *answer) response(m *model, r *llm.Request, q *query) (*llm.Response, error) {
	out := &llm.Response{Message: llm.Message{Role: llm.RoleModel}, Usage: a.usage, Model: a.model, ID: a.id, Stop: llm.StopReason(a.stop)}
	msg := &out.Message
	var answered *llm.ToolCall
	for _, b := range a.blocks {
		p, err := b.part(m.Provider)
		if err != nil {
			return nil, m.Malformed(err.Error(), string(b.raw))
		}
		switch {
		case p.Call != nil && p.Call.Name == q.answer:
			answered = p.Call
		case p != (llm.Part{}):
			msg.Parts = append(msg.Parts, p)
		}
	}
	switch a.stop {
	case "end_turn":
		out.Stop = llm.StopEnd
	case "tool_use":
		out.Stop = llm.StopTools
	case "max_tokens", "model_context_window_exceeded":
		out.Stop = llm.StopLength
	case "stop_sequence":
		out.Stop = llm.StopText
	case "refusal":
		out.Stop = llm.StopFilter
		if msg.Text() == "" && a.refusal != "" {
			msg.Parts = append(msg.Parts, llm.Part{Text: a.refusal})
		}
	}
	if answered != nil && len(msg.Calls()) == 0 { // beside other calls it comes too early
		msg.Parts = append(msg.Parts, llm.Part{Text: wire.Written(answered)})
		if out.Stop == llm.StopTools {
			out.Stop = llm.StopEnd
		}
	}
	wire.UniqueIDs(r, msg)
	return out, nil
}
