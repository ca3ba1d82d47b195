package anthropic

import (
	"context"
	"iter"
	"net/http"

	sdk "github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"

	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/internal/wire"
)

type model struct {
	wire.Caller
	provider *Provider
	settings *settings
}

// Name is the provider's name for it.
func (m *model) Name() string { return m.Model }

// Call implements [llm.Model]. An answer that may take longer than a
// connection is kept without traffic is read as a stream.
func (m *model) Call(ctx context.Context, r *llm.Request) (*llm.Response, error) {
	q, err := m.query(r)
	if err != nil {
		return nil, err
	}
	if _, err := sdk.CalculateNonStreamingTimeout(int(q.MaxTokens), q.Model, nil); err != nil {
		var whole *llm.Response
		err := m.stream(ctx, r, q, func(d llm.Delta) bool {
			whole = d.Response
			return true
		})
		return whole, err
	}
	var raw *http.Response
	msg, err := m.settings.messages.New(ctx, q.MessageNewParams, option.WithResponseInto(&raw))
	if err != nil {
		return nil, m.failure(ctx, raw, err)
	}
	if msg == nil { // the body was null
		return nil, m.Malformed("the answer is none", "null")
	}
	a := answer{id: msg.ID, model: string(msg.Model), stop: msg.StopReason, refusal: msg.StopDetails.Explanation}
	a.count(msg.Usage)
	for _, c := range msg.Content {
		a.blocks = append(a.blocks, &block{raw: c.RawJSON()})
	}
	if a.stop == "" {
		return nil, m.Malformed("the answer has no reason to end", msg.RawJSON())
	}
	return a.response(m, r, q)
}

// Stream implements [llm.Model].
func (m *model) Stream(ctx context.Context, r *llm.Request) iter.Seq2[llm.Delta, error] {
	return wire.Once(func(yield func(llm.Delta, error) bool) {
		q, err := m.query(r)
		if err == nil {
			err = m.stream(ctx, r, q, func(d llm.Delta) bool { return yield(d, nil) })
		}
		if err != nil {
			yield(llm.Delta{}, err)
		}
	})
}
