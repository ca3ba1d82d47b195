package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// workload is something for an engine to do, with the clients that make it do
// it. All of it is made anew in each life of the process.
type workload struct {
	name string
	// defs are the definitions; their steps act on the world.
	defs func(w *world) durable.Set
	// drive plays the clients, from the beginning, whatever earlier lives
	// did: everything has an id. It returns when the work is done.
	drive func(ctx context.Context, w *world, e *durable.Engine) error
	// options are what the workload needs of the engine.
	options func(o *durable.Options)
	// forgets says that the runs are deleted when they have ended.
	forgets bool
}

// tally is what every workflow of the sweep returns.
type tally struct {
	Out     []string          `json:"out,omitempty"`     // the same in every history
	Once    map[string]string `json:"once,omitempty"`    // at-most-once effects: ok, or unknown
	Replies map[string]string `json:"replies,omitempty"` // answers to updates, by id
}

// world is one life of a process.
type world struct {
	life  int
	book  *book
	at    func(point string) // asked at each point; it may end the process
	quick bool               // steps take no time
}

func (w *world) point(format string, args ...any) {
	if w.at != nil {
		w.at(fmt.Sprintf(format, args...))
	}
}

// effect acts on the world, under the key of the call. Its start is booked
// before anything else happens, its end after everything.
func (w *world) effect(ctx context.Context, what string) error {
	i, ok := durable.StepInfoOf(ctx)
	if !ok || i.Key == "" {
		return durable.Permanent(errors.New("a step without a key"))
	}
	w.point("dispatch %s", what)
	r := record{Kind: "start", Life: w.life, Key: i.Key, What: what, Attempt: i.Attempt}
	if err := w.book.note(r); err != nil {
		return err
	}
	w.point("effect %s", what)
	if !w.quick {
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	r.Kind = "end"
	if err := w.book.note(r); err != nil {
		return err
	}
	w.point("return %s", what)
	return nil
}

// ack books what a client was told.
func (w *world) ack(id string, v any) error {
	return w.book.note(record{Kind: "ack", Life: w.life, Key: id, What: fmt.Sprint(v)})
}

// seen books what a client has read.
func (w *world) seen(id string, v any) error {
	return w.book.note(record{Kind: "seen", Life: w.life, Key: id, What: fmt.Sprint(v)})
}

// logger writes the log of the user's code into the book.
func (w *world) logger() *slog.Logger { return slog.New(logs{w}) }

type logs struct{ w *world }

func (l logs) Enabled(context.Context, slog.Level) bool { return true }
func (l logs) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l logs) WithGroup(string) slog.Handler            { return l }
func (l logs) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "user" {
		return nil // the engine's own
	}
	line := ""
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "line" {
			line = a.Value.String()
		}
		return true
	})
	return l.w.book.note(record{Kind: "log", Life: l.w.life, What: line})
}

// say logs a line of a workflow, which must appear once at most.
func say(ctx context.Context, format string, args ...any) {
	i, _ := durable.InfoOf(ctx)
	durable.Logger(ctx).InfoContext(ctx, "user", "line", i.RunID+" "+fmt.Sprintf(format, args...))
}

// probe asks a run for anything: one that is put away or has ended is replayed
// for it.
var probe = durable.NewQuery[string, string]("sweep.probe")

// define makes a workflow that answers to probe, and whose being put away is a
// point of the sweep.
func define[In, Out any](w *world, name string, fn func(context.Context, In) (Out, error), accepts ...durable.Accepted) *durable.Workflow[In, Out] {
	return durable.NewWorkflow(name, func(ctx context.Context, in In) (Out, error) {
		i, _ := durable.InfoOf(ctx)
		defer w.point("put away %s", i.WorkflowID)
		if err := probe.Handle(ctx, func(s string) (string, error) { return s, nil }); err != nil {
			var zero Out
			return zero, err
		}
		return fn(ctx, in)
	}, &durable.WorkflowOptions{Accepts: append(accepts, probe)})
}

// once makes an at-most-once call and says what came of it.
func once(ctx context.Context, step *durable.Step[string, string], what string) (string, error) {
	_, err := step.Do(ctx, what)
	switch {
	case err == nil:
		return "ok", nil
	case errors.Is(err, durable.ErrOutcomeUnknown):
		return "unknown", nil
	}
	return "", err
}

// start starts a run, or finds it, and books that it was acknowledged.
func start[In any](ctx context.Context, w *world, e *durable.Engine, wf *durable.Workflow[In, tally], id string, in In) (*durable.Run, error) {
	r, err := wf.Start(ctx, e, in, &durable.StartOptions{ID: id, Key: "key of " + id})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", id, err)
	}
	return e.Run(id, ""), w.ack("start "+id, r.RunID)
}

// ended waits for the end of a run and books the result that it was told.
func ended(ctx context.Context, w *world, r *durable.Run) (*tally, error) {
	raw, err := r.Result(ctx)
	if err != nil {
		return nil, fmt.Errorf("result of %s: %w", r.WorkflowID, err)
	}
	var t tally
	if err := json.Unmarshal(raw, &t); err != nil {
		return nil, err
	}
	return &t, w.ack("result "+r.WorkflowID, string(raw))
}

// both runs the parts of a client side by side.
func both(parts ...func() error) error {
	errs := make([]error, len(parts))
	var wg sync.WaitGroup
	for i, p := range parts {
		wg.Go(func() { errs[i] = p() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// sent says whether a message to a run may be taken as done: it was
// acknowledged, or the run has ended, which it does not without all messages.
func sent(err error) error {
	if errors.Is(err, durable.ErrFinished) {
		return nil
	}
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
