package durabletest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// Scenario is a rule of the contract and a history that shows whether an
// engine keeps it.
type Scenario struct {
	Name  string    // area/what-holds
	Row   string    // the row of the contract that it belongs to
	Rule  string    // the sentence
	Needs []Ability // what the engine must be able to do
	// New makes the scenario's program and its clients. It is called in each
	// process that takes part and must depend on its argument only.
	New func(env *Env) *Play
}

// Ability is something that not every engine can do.
type Ability string

// The abilities.
const (
	// Killing is that the engine's process can be made to die.
	Killing Ability = "killing"
	// Newest is that lists come newest first, whatever has become of the runs.
	Newest Ability = "newest first"
	// AnyID is that workflow ids may have any characters but controls.
	AnyID Ability = "any id"
	// Notes is that the history has facts beside the code: when an attempt
	// was sent, that its result came too late.
	Notes Ability = "notes"
	// LastError is that a step which is cancelled between two attempts ends
	// with what the last attempt failed with.
	LastError Ability = "last error"
	// Stacks is that the problem of code that does not come back has its
	// stack.
	Stacks Ability = "stacks"
	// BothSides is that a mismatch tells also what the code does.
	BothSides Ability = "both sides"
	// OnePlace is that Options.MaxSteps bounds the steps of all runs together.
	OnePlace Ability = "one place"
	// Poison is that a step which ends its process again and again is kept from
	// that.
	Poison Ability = "poison"
)

// Play is a program and those who use it.
type Play struct {
	// Defs is the program. Its steps record their effects with [Env.Note].
	Defs durable.Set
	// Later are further versions of it, for [T.Deploy].
	Later []durable.Set
	// Options changes the settings of the engine; nil leaves them.
	Options func(o *durable.Options)
	// Drive is the clients: it starts runs, talks to them and checks what
	// comes of it.
	Drive func(t *T)
	// Blocked says that runs may be left with a problem.
	Blocked bool
	// Loose says why the canonical logs of two plays may differ; empty: they
	// may not.
	Loose string
}

// Scenarios are all of them, in the order of the contract.
func Scenarios() []Scenario {
	return slices.Concat(
		interleaving, rails, groups, selects, times, steps, retries, atMostOnce, failures, payloads,
		lifecycle, cancels, pauses, continued, starts, children, resets, registration, schedules, lists,
		signals, updates, queries, questions, published, putAway, problems, recoveries,
	)
}

// Env is what the program and the clients of a scenario share, also when they
// are in two processes, and when one of them dies.
type Env struct {
	hour  time.Duration
	notes notes
}

// Hours is a span of time. An hour is long enough for everything that does
// not wait; how long that is depends on the engine.
func (e *Env) Hours(n float64) time.Duration { return time.Duration(n * float64(e.hour)) }

// Whole says how many whole hours there are in d. A wait is never early and
// less than an hour late.
func (e *Env) Whole(d time.Duration) int { return int(math.Floor(float64(d) / float64(e.hour))) }

// Since is how many whole hours the run has gone on from a moment, by its own
// clock.
func (e *Env) Since(ctx context.Context, began time.Time) int {
	return e.Whole(durable.Now(ctx).Sub(began))
}

// Note records that something happened, and says how often it now has. It
// outlives the process.
func (e *Env) Note(kind string, detail ...any) int { return e.notes.add(kind, fmt.Sprint(detail...)) }

// Notes are the details that were recorded, in order.
func (e *Env) Notes(kind string) []string { return e.notes.list(kind) }

// Count says how often something was recorded.
func (e *Env) Count(kind string) int { return len(e.notes.list(kind)) }

// Wait waits until something was recorded n times. Not in workflows.
func (e *Env) Wait(ctx context.Context, kind string, n int) error {
	return e.notes.wait(ctx, kind, n)
}

// Stuck keeps a goroutine, and looks at nothing but the note: what code does
// that has not heard of contexts.
func (e *Env) Stuck(until string) { _ = e.notes.wait(context.Background(), until, 1) }
