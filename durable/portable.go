package durable

import (
	"context"
	"fmt"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// The portable limits, see [Options.Portable].
const (
	PortablePayload = 2 << 20 // bytes of one value
	PortableSignals = 10_000  // to one run
	PortableUpdates = 2_000   // to one run
	PortablePending = 2_000   // calls of one run under way: steps, children, messages, cancels
)

// full reports why a run may not have one more signal, nil if it may. The
// history is counted once, when the first signal comes.
func (e *entry) full(ev *journal.Event) error {
	ex := e.ex
	if !ex.opts.Portable || ev.Kind != journal.Signaled {
		return nil
	}
	if e.signals < 0 {
		n, err := countSignals(ex.st, e.row)
		if err != nil {
			return err
		}
		e.signals = n
	}
	if e.signals < PortableSignals {
		e.signals++
		return nil
	}
	if ev.ID != "" && ex.hasSignal(e.row, ev.ID) {
		return nil // it was taken before
	}
	return refuse(ErrLimit, refOf(e.row), "run %v has had %d signals, which is the portable limit: its workflow should continue as new before", refOf(e.row), PortableSignals).err()
}

// countSignals counts the signals that ever reached a run, read or not.
func countSignals(st journal.Store, row *journal.Run) (n int, err error) {
	rows, err := st.Rows(row.Last, 0)
	if err != nil {
		return 0, fmt.Errorf("count the signals of run %v: %w", refOf(row), err)
	}
	for _, jr := range rows {
		ent, err := journal.Decode(jr)
		if err != nil {
			return 0, err
		}
		for _, ev := range ent.Events {
			if ev.Kind == journal.Signaled && ev.Ref == 0 {
				n++
			}
		}
	}
	return n, nil
}

// room reports why the run may not have one more call under way, nil if it
// may. Timers, questions and callbacks do not count.
func (r *run) room() error {
	if !r.ex.opts.Portable || len(r.open) < PortablePending {
		return nil
	}
	n := 0
	for _, f := range r.open {
		switch f.spec.kind {
		case kindStep, kindChild, kindMessage, kindStop:
			n++
		}
	}
	if n < PortablePending {
		return nil
	}
	return fmt.Errorf("%d calls of the run are under way: %w, the portable one: wait for some of them first, with Group.Limit", n, ErrLimit)
}

// offer is issue for a call that may be refused at once, for the reason that
// no gives. A refusal depends on what is defined and allowed when the call is
// made, so it is recorded like an outcome, and a replay repeats it whatever is
// allowed then.
func (r *run) offer(ctx context.Context, spec callSpec, no error) (*future, error) {
	if r.cluster() != nil {
		no = r.refusal(spec.kind, func() error { return no })
	}
	if no != nil {
		if r.replaying {
			// The history has no such call: it comes to a mismatch at the
			// next one that it does have.
			return nil, no
		}
		return r.refused(ctx, spec, no)
	}
	return r.made(ctx, spec)
}

// refused records a refusal.
func (r *run) refused(ctx context.Context, spec callSpec, no error) (*future, error) {
	spec.refused = toFailure(toError(no))
	return r.made(ctx, spec)
}

func (r *run) made(ctx context.Context, spec callSpec) (*future, error) {
	f := r.issue(ctx, spec)
	if f.refused {
		return nil, fromFailure(f.fail)
	}
	return f, nil
}

// allow is for calls that leave nothing in the history when they are accepted:
// only their refusal is recorded, as a call.
func (r *run) allow(ctx context.Context, kind, name string, check func() error) error {
	var no error
	if r.replaying {
		if !r.recorded(kind, name) {
			return nil
		}
	} else if r.cluster() != nil {
		if no = r.refusal(kind, check); no == nil {
			return nil
		}
		_, err := r.refused(ctx, callSpec{kind: kind, name: name}, no)
		return err
	} else if no = check(); no == nil {
		return nil
	}
	_, err := r.offer(ctx, callSpec{kind: kind, name: name}, no)
	return err
}
