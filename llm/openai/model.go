package openai

import (
	"context"
	"iter"

	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/internal/wire"
)

type model struct {
	wire.Caller
	provider *Provider
	settings *settings
}

// Name is the endpoint's name for it.
func (m *model) Name() string { return m.Model }

// Call implements [llm.Model].
func (m *model) Call(ctx context.Context, r *llm.Request) (*llm.Response, error) {
	body, err := m.body(r, false)
	if err != nil {
		return nil, err
	}
	var c completion
	raw, err := m.Ask(ctx, body, &c)
	if err != nil {
		return nil, err
	}
	return m.response(r, &c, raw)
}

// Stream implements [llm.Model].
func (m *model) Stream(ctx context.Context, r *llm.Request) iter.Seq2[llm.Delta, error] {
	return wire.Once(func(yield func(llm.Delta, error) bool) {
		if err := m.stream(ctx, r, func(d llm.Delta) bool { return yield(d, nil) }); err != nil {
			yield(llm.Delta{}, err)
		}
	})
}
