package openai

import (
	"context"
	"encoding/json"
	"net/http"

	sdk "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/internal/wire"
)

// stream sends a request and hands out the answer as it comes, until yield
// wants no more.
func (m *model) stream(ctx context.Context, r *llm.Request, yield func(llm.Delta) bool) error {
	params, err := m.params(r)
	if err != nil {
		return err
	}
	params.StreamOptions.IncludeUsage = sdk.Bool(true)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var raw *http.Response
	s := m.settings.chat.NewStreaming(ctx, *params, option.WithResponseInto(&raw))
	defer s.Close()
	var a answer
	for s.Next() {
		if !a.add(s.Current(), yield) {
			return nil
		}
	}
	if err := s.Err(); err != nil {
		return m.failure(ctx, raw, err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if a.finish == "" {
		return m.failure(ctx, raw, wire.ErrHalf)
	}
	yield(llm.Delta{Response: a.response(m, r)})
	return nil
}

// add takes a piece of the stream, and hands out what is new in it.
func (a *answer) add(c sdk.ChatCompletionChunk, yield func(llm.Delta) bool) bool {
	if c.ID != "" {
		a.id = c.ID
	}
	if c.Model != "" {
		a.model = c.Model
	}
	if c.Usage.TotalTokens != 0 || c.Usage.PromptTokens != 0 || c.Usage.CompletionTokens != 0 {
		a.usage = usage(c.Usage)
	}
	if len(c.Choices) == 0 {
		return true
	}
	choice := c.Choices[0]
	if choice.Index != 0 {
		return true
	}
	d := choice.Delta
	if piece := a.think(d.JSON.ExtraFields); piece != "" && !yield(llm.Delta{Reasoning: piece}) {
		return false
	}
	a.text.WriteString(d.Content)
	a.refusal.WriteString(d.Refusal)
	if piece := d.Content + d.Refusal; piece != "" && !yield(llm.Delta{Text: piece}) {
		return false
	}
	for _, t := range d.ToolCalls {
		var extra map[string]json.RawMessage
		if len(t.JSON.ExtraFields) > 0 {
			extra = extraOf(t.RawJSON())
		}
		begun := a.call(&a.order, int(t.Index), t.ID, t.Function.Name, t.Function.Arguments, extra)
		if begun != nil && !yield(llm.Delta{Call: &llm.ToolCall{ID: begun.id, Name: begun.name}}) {
			return false
		}
	}
	if choice.FinishReason != "" {
		a.finish = choice.FinishReason
	}
	return true
}
