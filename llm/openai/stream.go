package openai

import (
	"bytes"
	"context"

	"github.com/mcpagent/mcpagent/llm"
)

// stream sends a request and hands out the answer as it comes, until yield
// wants no more.
func (m *model) stream(ctx context.Context, r *llm.Request, yield func(llm.Delta) bool) error {
	body, err := m.body(r, true)
	if err != nil {
		return err
	}
	s, err := m.Listen(ctx, body)
	if err != nil {
		return err
	}
	defer s.Close()
	var c completion
	if whole, err := s.Whole(&c, func(raw []byte) (*llm.Response, error) { return m.response(r, &c, raw) }, yield); whole {
		return err
	}
	var a answer
	for s.Next() && string(bytes.TrimSpace(s.Data)) != "[DONE]" {
		var c completion
		if err := s.Decode(&c); err != nil {
			return err
		}
		if s.Kind == "error" || c.failed() {
			return s.Told()
		}
		if !a.add(&c, yield) {
			return nil
		}
	}
	if err := s.End(a.finish != ""); err != nil {
		return err
	}
	yield(llm.Delta{Response: a.response(m, r)})
	return nil
}

// add takes a piece of the stream, and hands out what is new in it.
func (a *answer) add(c *completion, yield func(llm.Delta) bool) bool {
	if c.ID != "" {
		a.id = c.ID
	}
	if c.Model != "" {
		a.model = c.Model
	}
	if c.Usage.Input != 0 || c.Usage.Output != 0 {
		a.usage = c.Usage.usage()
	}
	if len(c.Choices) == 0 {
		return true
	}
	choice := &c.Choices[0]
	if choice.Index != 0 {
		return true
	}
	d := &choice.Delta
	if thought := a.think(d); thought != "" && !yield(llm.Delta{Reasoning: thought}) {
		return false
	}
	a.text.WriteString(string(d.Content))
	a.refusal.WriteString(d.Refusal)
	if text := string(d.Content) + d.Refusal; text != "" && !yield(llm.Delta{Text: text}) {
		return false
	}
	for i := range d.ToolCalls {
		if begun := a.call(&d.ToolCalls[i]); begun != nil && !yield(llm.Delta{Call: &llm.ToolCall{ID: begun.id, Name: begun.name}}) {
			return false
		}
	}
	if choice.FinishReason != "" {
		a.finish = choice.FinishReason
	}
	return true
}
