package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mcpagent/mcpagent/durable/localengine"
)

// reopen measures how long a file takes to open that holds many unfinished
// runs, and counts the replays: there must be none.
func reopen(b *bench) error {
	const target = 2 * time.Second
	n := b.size(10_000)
	for _, what := range []string{forSignal, forTime, forStep} {
		w := newWaiter()
		path, later := b.file("reopen.db"), b.file("later.db")
		e, err := w.open(b, path)
		if err != nil {
			return err
		}
		_, err = w.settle(b, e, what, n)
		// A copy of the file as it is now is what a process leaves that dies
		// now: nobody has said good-bye in it.
		if err == nil {
			err = localengine.Backup(b.ctx, path, later)
		}
		if err = errors.Join(err, e.Close(context.Background())); err != nil {
			return err
		}
		woken := w.awoken.Load()
		t := time.Now()
		if e, err = w.open(b, later); err != nil {
			return err
		}
		took := time.Since(t)
		h, err := e.Health(b.ctx)
		replays := w.awoken.Load() - woken
		if err = errors.Join(err, e.Close(context.Background())); err != nil {
			return err
		}
		if h.Running != n {
			return fmt.Errorf("%d runs are there again, of %d", h.Running, n)
		}
		r := row{what: fmt.Sprintf("opening a file with %d runs that wait for %s", n, what), ours: fmt.Sprintf("%s, %d replays", short(took), replays), limit: "2 s, none",
			ratio: float64(took) / float64(target), target: 1}
		if replays > 0 {
			r.ratio = float64(replays) + 1
		}
		b.add(r)
	}
	return nil
}
