package agent

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/mcpagent/mcpagent/durable"
)

// Start starts a run of a [Runner] on an engine that knows it, and returns when
// that is durable. With StartOptions.ID, starting the same again is that run.
func Start(ctx context.Context, e *durable.Engine, r Runner, o *durable.StartOptions, content ...any) (*durable.Run, error) {
	in, err := Say(content...)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("start %s: encode the messages: %w", r.Card().Name, err)
	}
	return e.Start(ctx, r.Card().Name, raw, o)
}

// ResultOf waits for the result of a run of a [Runner].
func ResultOf(ctx context.Context, run *durable.Run) (*Result, error) {
	raw, err := run.Result(ctx)
	if err != nil {
		return nil, err
	}
	res := &Result{}
	if err := json.Unmarshal(raw, res); err != nil {
		return nil, fmt.Errorf("run %s is not that of an agent: its result: %w", run.WorkflowID, err)
	}
	return res, nil
}
