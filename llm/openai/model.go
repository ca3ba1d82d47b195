package openai

import (
	"context"
	"iter"
	"net/http"

	"github.com/openai/openai-go/v3/option"

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
	params, err := m.params(r)
	if err != nil {
		return nil, err
	}
	var raw *http.Response
	c, err := m.settings.chat.New(ctx, *params, option.WithResponseInto(&raw))
	if err != nil {
		return nil, m.failure(ctx, raw, err)
	}
	return m.response(r, c)
}

// Stream implements [llm.Model].
func (m *model) Stream(ctx context.Context, r *llm.Request) iter.Seq2[llm.Delta, error] {
	return wire.Once(func(yield func(llm.Delta, error) bool) {
		if err := m.stream(ctx, r, func(d llm.Delta) bool { return yield(d, nil) }); err != nil {
			yield(llm.Delta{}, err)
		}
	})
}
