// Package pace changes in which portions runs take their events. Tests use it:
// what a run does must not depend on how many events reach it at once.
package pace

import (
	"context"
	"time"
)

// Pace says in which portions a run takes its events. The zero value takes
// what is there.
type Pace struct {
	// Hold is how long a run waits for more events before it takes those that
	// are there. In a bubble of testing/synctest a nanosecond is enough for
	// everything that can still come at that instant.
	Hold time.Duration
	// Single makes it take them one at a time, each in a turn of its own.
	Single bool
}

type key struct{}

// With puts a pace into a context. An executor that is made under it keeps it.
func With(ctx context.Context, p Pace) context.Context { return context.WithValue(ctx, key{}, p) }

// Of gives the pace of a context.
func Of(ctx context.Context) Pace {
	p, _ := ctx.Value(key{}).(Pace)
	return p
}
