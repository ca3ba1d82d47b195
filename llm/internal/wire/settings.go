package wire

import (
	"sync/atomic"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
)

// Settings are what holds for a provider, of what they all have.
type Settings struct {
	Key      durable.Secret
	Official bool   // the vendor's own endpoint, which takes nobody without a key
	Model    string // of who names none
	At       Endpoint
	Err      error // nothing of it makes sense
}

// Ready is [llm.Ready]. The variable is that of the environment.
func (s *Settings) Ready(provider, variable string) error {
	if s.Err != nil {
		return s.Err
	}
	if s.Official && s.Key.IsZero() && !s.At.Secrets() {
		return &llm.Error{Provider: provider, Model: s.Model, Class: llm.Auth,
			Message: "there is no key: write " + provider + ".api_key into the secrets file, or set " + variable}
	}
	return nil
}

func (s *Settings) common() *Settings { return s }

// Held are the settings of a provider: a pointer to a struct that embeds
// [Settings]. The zero value has none yet.
type Held[S interface{ common() *Settings }] struct{ now atomic.Value }

// Now gives them; the first one who asks resolves them.
func (h *Held[S]) Now(resolve func() S) S {
	if h.now.Load() == nil {
		h.now.CompareAndSwap(nil, resolve())
	}
	return h.now.Load().(S)
}

// Renew takes others, unless they make no sense. False: requests go where they
// went, with what they had.
func (h *Held[S]) Renew(s S) bool {
	if s.common().Err != nil {
		return false
	}
	was := h.now.Swap(s)
	return was == nil || !s.common().At.Same(&was.(S).common().At)
}
