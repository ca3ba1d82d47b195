package durable

import (
	"context"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// NewMemory makes an engine without a file: the same executor, every value
// still encoded and decoded, and nothing survives the process. o may be nil.
func NewMemory(ctx context.Context, o *Options, defs ...Definer) (*Engine, error) {
	d, err := NewDefinitions(defs...)
	if err != nil {
		return nil, err
	}
	b, err := NewExecutor(ctx, journal.NewMemory(), d, o)
	if err != nil {
		return nil, err
	}
	return NewEngine(b, d, o), nil
}
