package durable

import (
	"context"
	"errors"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// watched is what somebody waits for.
type watched struct {
	rid int64
	end bool // only what Result tells of: the end, a problem
}

// watch returns a function that waits for the next change of a run.
func (ex *executor) watch(rid int64, end bool) func(context.Context) error {
	ex.mu.Lock()
	ch := ex.watchers[watched{rid, end}]
	if ch == nil {
		ch = make(chan struct{})
		if ex.life.Err() != nil || ex.broken != nil {
			close(ch)
		} else {
			ex.watchers[watched{rid, end}] = ch
		}
	}
	ex.mu.Unlock()
	return func(ctx context.Context) error {
		select {
		case <-ch:
			return ex.stopped()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stopped is why nobody needs to wait for a run any more, nil while it is worth it.
func (ex *executor) stopped() error {
	if ex.life.Err() != nil {
		return ErrClosed
	}
	ex.mu.Lock()
	defer ex.mu.Unlock()
	return ex.broken
}

// commit records tx. Once nothing can be recorded any more, whoever waits for
// a run hears of it: nothing will happen to it here.
func (ex *executor) commit(ctx context.Context, tx *journal.Tx) error {
	err := ex.st.Commit(ctx, tx)
	if errors.Is(err, ErrUnavailable) {
		ex.tellAll(err)
	}
	return err
}

// tellAll tells all who watch runs. With an error, it is what they hear from
// now on.
func (ex *executor) tellAll(err error) {
	ex.mu.Lock()
	defer ex.mu.Unlock()
	if ex.broken == nil {
		ex.broken = err
	}
	for w, ch := range ex.watchers {
		close(ch)
		delete(ex.watchers, w)
	}
}

// changed tells all who watch a run.
func (ex *executor) changed(rid int64) {
	ex.progressed(rid)
	ex.tell(watched{rid, true})
}

// progressed tells those who watch each turn of a run.
func (ex *executor) progressed(rid int64) { ex.tell(watched{rid, false}) }

func (ex *executor) tell(w watched) {
	ex.mu.Lock()
	ch := ex.watchers[w]
	delete(ex.watchers, w)
	ex.mu.Unlock()
	if ch != nil {
		close(ch)
	}
}
