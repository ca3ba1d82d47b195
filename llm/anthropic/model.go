package anthropic

import (
	"bytes"
	"context"
	"encoding/json"
	"iter"

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
	if q.MaxTokens > maxWhole {
		var whole *llm.Response
		err := m.stream(ctx, r, q, func(d llm.Delta) bool {
			whole = d.Response
			return true
		})
		return whole, err
	}
	body, err := m.Body(r.Extra, q.write, taken...)
	if err != nil {
		return nil, err
	}
	var msg said
	raw, err := m.Ask(ctx, body, &msg)
	if err != nil {
		return nil, err
	}
	return m.whole(r, q, &msg, raw)
}

// whole is an answer that came as a whole.
func (m *model) whole(r *llm.Request, q *query, msg *said, raw []byte) (*llm.Response, error) {
	switch {
	case string(bytes.TrimSpace(raw)) == "null":
		return nil, m.Malformed("the answer is none", "null")
	case msg.StopReason == "":
		return nil, m.Malformed("the answer has no reason to end", string(raw))
	case len(msg.Content) == 0: // or there is one of another type
		if err := json.Unmarshal(raw, new(struct{ Content []json.RawMessage })); err != nil {
			return nil, m.Malformed("the answer has no content: "+err.Error(), string(raw))
		}
	}
	a := answer{id: msg.ID, model: msg.Model, stop: msg.StopReason, refusal: msg.StopDetails.Explanation}
	a.count(&msg.Usage)
	for _, c := range msg.Content {
		a.blocks = append(a.blocks, &content{raw: c})
	}
	return a.response(m, r, q)
}

// maxWhole is how long an answer may be that comes as a whole: what is said in
// ten minutes. After that, what is on the way takes a silent connection for a
// dead one.
const maxWhole = 128_000 / 6

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
