package durable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// query answers between turns.
func (ex *executor) query(ctx context.Context, req *Request) (*Reply, error) {
	type outcome struct {
		rep *Reply
		err error
	}
	ch := make(chan outcome, 1)
	run := func(r *run, ref Ref) {
		rep, err := r.answerQuery(req, ref)
		ch <- outcome{rep, err}
	}
	e, _, no := ex.target(req)
	if no != nil {
		if no.Err.Code != "finished" {
			return no, nil
		}
		row, no := findRun(ex.st, no.Err.Ref, req.Actor)
		if no != nil {
			return no, nil
		}
		// A finished run answers from a replay of its own.
		tmp := &entry{ex: ex, row: row, cfg: configOf(row), open: map[string]*openCall{}}
		if !ex.work(func() {
			r, p := ex.rebuild(tmp, row)
			if p != nil {
				ch <- outcome{notAwake(row, p), nil}
				return
			}
			run(r, refOf(row))
			tmp.run = r
			tmp.putAway()
		}) {
			return nil, ErrClosed
		}
	} else {
		ex.deliver(e, &incoming{ack: func(err error) { ch <- outcome{nil, err} }, ctl: func(e *entry) {
			r, p := e.wake()
			if p != nil {
				ch <- outcome{notAwake(e.row, p), nil}
				return
			}
			run(r, refOf(e.row))
		}})
	}
	select {
	case o := <-ch:
		return o.rep, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-ex.life.Done():
		return nil, fmt.Errorf("query %q: %w", req.Name, ErrClosed)
	}
}

// notAwake is the reply to a query where the run's code can't be brought back.
func notAwake(row *journal.Run, p *Problem) *Reply {
	if p.Kind == kindUnread {
		return &Reply{Err: &ReplyError{Code: "error", Message: p.Text, Ref: refOf(row)}}
	}
	return &Reply{Err: &ReplyError{Code: "blocked", Message: fmt.Sprintf("run %v is blocked (%s): %s", refOf(row), p.Kind, p.Text), Ref: refOf(row), Problem: p}}
}

func (r *run) answerQuery(req *Request, ref Ref) (*Reply, error) {
	if no := r.ex.accepts(r.row, KindQuery, req.Name, ref); no != nil {
		return no, nil
	}
	h := r.queries[req.Name]
	if h == nil {
		return refuse(ErrNoHandler, ref, "run %v has no handler for the query %q (yet): its workflow sets one with Query.Handle", ref, req.Name), nil
	}
	var out json.RawMessage
	err := r.readOnly(func() (err error) { out, err = h(req.Payload); return err })
	if err != nil {
		if errors.Is(err, ErrBadInput) {
			return refuse(ErrBadInput, ref, "query %q of run %v: %v", req.Name, ref, err), nil
		}
		if errors.Is(err, ErrReadOnly) {
			return refuse(ErrReadOnly, ref, "query %q of run %v: %v", req.Name, ref, err), nil
		}
		return &Reply{Err: &ReplyError{Code: "failure", Message: err.Error(), Ref: ref, Failure: toError(err)}}, nil
	}
	return &Reply{Ref: ref, Payload: out}, nil
}
