package agent

import (
	"context"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
)

// EventKind says what an [Event] tells.
type EventKind string

// The kinds. Milestones are recorded with the run, in order and once, and can
// be read from any process while it runs and after. Deltas are said as they
// come, to who listens in the process where the model is called; what a failed
// attempt had said is taken back.
const (
	EventTurn   EventKind = "turn"   // milestone: a model is asked
	EventAnswer EventKind = "answer" // milestone: it answered
	EventCall   EventKind = "call"   // milestone: a tool is called
	EventResult EventKind = "result" // milestone: the result of a call, also of one that was denied or could not be made

	EventDelta   EventKind = "delta"   // a piece of an answer
	EventRetract EventKind = "retract" // the pieces of this turn so far don't count

	EventDone EventKind = "done" // the last one of a stream, with the result
)

// Event is what happens in an agent.
type Event struct {
	Kind    EventKind     `json:"kind"`
	Agent   string        `json:"agent"`
	Turn    int           `json:"turn,omitempty"`
	Talk    string        `json:"talk,omitempty"`    // tells apart what one agent does several times in a run
	Attempt int           `json:"attempt,omitempty"` // of a delta
	Time    time.Time     `json:"time,omitzero"`
	Text    string        `json:"text,omitempty"`      // of a delta
	Think   string        `json:"reasoning,omitempty"` // of a delta
	Call    *llm.ToolCall `json:"call,omitempty"`      // of a call and a result: its ID and Name
	Error   bool          `json:"error,omitempty"`     // of a result
	Tokens  int64         `json:"tokens,omitempty"`    // of an answer: input and output
	Stop    string        `json:"stop,omitempty"`      // of an answer
	Result  *Result       `json:"done,omitempty"`      // of the run
}

// Events are the milestones of a run's agents.
var Events = durable.NewStream[*Event](events)

const events = "agent.events"

// milestones are Events as they are written.
var milestones = durable.NewStream[*milestone](events)

// sinkKey finds who listens, in plain Go.
type sinkKey struct{}

func sinkOf(ctx context.Context) func(*Event) {
	fn, _ := ctx.Value(sinkKey{}).(func(*Event))
	return fn
}

// Listen makes who runs a [Runner] in plain Go, or in a test, hear its events.
// Calls of fn may come from several goroutines. In a run of an engine it has no
// effect: its events are in [Events], and deltas go to [ModelSet].Watch.
func Listen(ctx context.Context, fn func(*Event)) context.Context {
	return context.WithValue(ctx, sinkKey{}, fn)
}

// tell records a milestone.
func tell(ctx context.Context, ev *Event) error {
	if _, in := durable.InfoOf(ctx); in {
		return milestones.Append(ctx, (*milestone)(ev))
	}
	if fn := sinkOf(ctx); fn != nil {
		ev.Time = durable.Now(ctx)
		fn(ev)
	}
	return nil
}
