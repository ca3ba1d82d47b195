package anthropic

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	sdk "github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"

	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/internal/wire"
)

// stream sends a request and hands out the answer as it comes, until yield
// wants no more.
func (m *model) stream(ctx context.Context, r *llm.Request, q *query, yield func(llm.Delta) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var raw *http.Response
	s := m.settings.messages.NewStreaming(ctx, q.MessageNewParams, option.WithResponseInto(&raw))
	defer s.Close()
	var a answer
	for s.Next() {
		more, err := a.add(s.Current(), q, yield)
		if err != nil {
			return m.Malformed(err.Error(), s.Current().RawJSON())
		}
		if !more {
			return nil
		}
	}
	if err := s.Err(); err != nil {
		return m.failure(ctx, raw, err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if a.stop == "" {
		return m.failure(ctx, raw, wire.ErrHalf)
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
	stop      sdk.StopReason
	refusal   string
	usage     llm.Usage
	blocks    []*block
}

// block is a piece of content: as the API sent it, and what was added since.
type block struct {
	raw                       string
	text, thinking, signature strings.Builder
	input                     strings.Builder
	citations                 []json.RawMessage
}

func (a *answer) count(u sdk.Usage) {
	a.usage = llm.Usage{
		Input:  u.InputTokens + u.CacheCreationInputTokens + u.CacheReadInputTokens,
		Output: u.OutputTokens, CacheRead: u.CacheReadInputTokens, CacheWrite: u.CacheCreationInputTokens,
		Reasoning: u.OutputTokensDetails.ThinkingTokens,
	}
}

type wrong string

func (w wrong) Error() string { return string(w) }

// add takes an event of the stream, and hands out what is new in it.
func (a *answer) add(e sdk.MessageStreamEventUnion, q *query, yield func(llm.Delta) bool) (bool, error) {
	switch e.Type {
	case "message_start":
		a.id, a.model = e.Message.ID, string(e.Message.Model)
		a.count(e.Message.Usage)
	case "message_delta":
		if e.Delta.StopReason != "" {
			a.stop, a.refusal = e.Delta.StopReason, e.Delta.StopDetails.Explanation
		}
		a.recount(e.Usage)
	case "content_block_start":
		if e.Index != int64(len(a.blocks)) {
			return false, wrong("a block begins out of order")
		}
		a.blocks = append(a.blocks, &block{raw: e.ContentBlock.RawJSON()})
		if c := e.ContentBlock; c.Type == "tool_use" && c.Name != q.answer {
			return yield(llm.Delta{Call: &llm.ToolCall{ID: c.ID, Name: c.Name}}), nil
		} else if c.Text != "" {
			return yield(llm.Delta{Text: c.Text}), nil
		}
	case "content_block_delta":
		if e.Index < 0 || e.Index >= int64(len(a.blocks)) {
			return false, wrong("a piece of a block that did not begin")
		}
		b, d := a.blocks[e.Index], e.Delta
		b.text.WriteString(d.Text)
		b.thinking.WriteString(d.Thinking)
		b.signature.WriteString(d.Signature)
		b.input.WriteString(d.PartialJSON)
		if raw := d.Citation.RawJSON(); raw != "" {
			b.citations = append(b.citations, json.RawMessage(raw))
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

// recount takes what a later event says: totals, where it has them.
func (a *answer) recount(u sdk.MessageDeltaUsage) {
	fresh := a.usage.Input - a.usage.CacheRead - a.usage.CacheWrite
	if u.JSON.InputTokens.Valid() {
		fresh = u.InputTokens
	}
	if u.JSON.CacheReadInputTokens.Valid() {
		a.usage.CacheRead = u.CacheReadInputTokens
	}
	if u.JSON.CacheCreationInputTokens.Valid() {
		a.usage.CacheWrite = u.CacheCreationInputTokens
	}
	a.usage.Input = fresh + a.usage.CacheRead + a.usage.CacheWrite
	if u.JSON.OutputTokens.Valid() {
		a.usage.Output = u.OutputTokens
	}
	if u.JSON.OutputTokensDetails.Valid() {
		a.usage.Reasoning = u.OutputTokensDetails.ThinkingTokens
	}
}

// name is that of the tool that is called.
func (b *block) name() string {
	var c struct {
		Name string `json:"name"`
	}
	_ = json.Unmarshal([]byte(b.raw), &c) // the SDK has read it
	return c.Name
}

// part is a block as this project has it.
func (b *block) part(provider string) (llm.Part, error) {
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
	if err := json.Unmarshal([]byte(b.raw), &c); err != nil {
		return llm.Part{}, wrong("a block is none: " + err.Error())
	}
	c.Text += b.text.String()
	c.Citations = append(c.Citations, b.citations...)
	raw := func(changed map[string]any) *llm.Raw {
		return &llm.Raw{Provider: provider, Data: wire.With(json.RawMessage(b.raw), changed)}
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
			return nil, m.Malformed(err.Error(), b.raw)
		}
		switch {
		case p.Call != nil && p.Call.Name == q.answer:
			answered = p.Call
		case p != (llm.Part{}):
			msg.Parts = append(msg.Parts, p)
		}
	}
	switch a.stop {
	case sdk.StopReasonEndTurn:
		out.Stop = llm.StopEnd
	case sdk.StopReasonToolUse:
		out.Stop = llm.StopTools
	case sdk.StopReasonMaxTokens, sdk.StopReasonModelContextWindowExceeded:
		out.Stop = llm.StopLength
	case sdk.StopReasonStopSequence:
		out.Stop = llm.StopText
	case sdk.StopReasonRefusal:
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
