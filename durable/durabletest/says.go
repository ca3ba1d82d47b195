package durabletest

import (
	"context"
	"errors"

	"github.com/mcpagent/mcpagent/durable"
)

// known are the errors that code may decide by, with names for results.
var known = []struct {
	name string
	err  error
}{
	{"foreign context", durable.ErrForeignContext}, {"foreign goroutine", durable.ErrForeignGoroutine},
	{"wrong run", durable.ErrWrongRun}, {"lost context", durable.ErrLostContext},
	{"in step", durable.ErrInStep}, {"in workflow", durable.ErrInWorkflow}, {"read only", durable.ErrReadOnly},
	{"no engine", durable.ErrNoEngine}, {"unwinding", durable.ErrUnwinding}, {"not defined", durable.ErrNotDefined},
	{"outcome unknown", durable.ErrOutcomeUnknown}, {"not found", durable.ErrNotFound}, {"finished", durable.ErrFinished},
	{"id taken", durable.ErrIDTaken}, {"not accepted", durable.ErrNotAccepted}, {"no handler", durable.ErrNoHandler},
	{"rejected", durable.ErrRejected}, {"paused", durable.ErrPaused}, {"expired", durable.ErrExpired},
	{"answered", durable.ErrAnswered}, {"bad input", durable.ErrBadInput}, {"too large", durable.ErrTooLarge},
	{"limit", durable.ErrLimit}, {"not started", durable.ErrNotStarted}, {"unsupported", durable.ErrUnsupported}, {"shutdown", durable.ErrShutdown},
	{"canceled", context.Canceled}, {"deadline", context.DeadlineExceeded}, {"timeout", durable.ErrTimeout},
}

// says names an error, so that a workflow can return what it saw.
func says(err error) string {
	if err == nil {
		return "ok"
	}
	for _, k := range known {
		if errors.Is(err, k.err) {
			return k.name
		}
	}
	return err.Error()
}

// ended waits for the end of ctx, as a well-behaved step does.
func ended(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

type none = struct{}

// takes is what a workflow accepts.
func takes(a ...durable.Accepted) *durable.WorkflowOptions {
	return &durable.WorkflowOptions{Accepts: a}
}

// echo is a step that gives back what it is given.
var echo = durable.NewStep("echo", func(_ context.Context, s string) (string, error) { return s, nil }, nil)

// solo makes a scenario whose workflow needs no clients: its result tells.
func solo(name, row, rule, want string, program func(env *Env) (fn func(ctx context.Context) (string, error), defs durable.Set)) Scenario {
	return Scenario{Name: name, Row: row, Rule: rule, New: func(env *Env) *Play {
		fn, defs := program(env)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) { return fn(ctx) }, nil)
		return &Play{Defs: append(defs, wf), Drive: func(t *T) {
			result(t, wf, start(t, wf, none{}, "r"), want)
		}}
	}}
}
