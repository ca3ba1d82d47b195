package temporalengine

import (
	"cmp"
	"errors"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mcpagent/mcpagent/durable"
)

// queries sets the handlers of what the workflow may be asked.
func (d *drive) queries() error {
	if err := d.answers(doName, d.operate); err != nil {
		return err
	}
	for _, name := range d.h.host.Queries(d.run.Row().Name) {
		if err := d.answers(name, func(p *commonpb.Payload) (converter.RawValue, error) { return d.asked(name, p) }); err != nil {
			return err
		}
	}
	return nil
}

// answers sets the handler of a query.
func (d *drive) answers(name string, fn func(*commonpb.Payload) (converter.RawValue, error)) error {
	return workflow.SetQueryHandler(d.ctx, name, func(in converter.RawValue) (converter.RawValue, error) {
		if d.h.closed.Load() {
			return converter.RawValue{}, errors.New(evicted)
		}
		d.enter()
		defer d.leave()
		d.replayed()
		return fn(in.Payload())
	})
}

// operate answers our own query.
func (d *drive) operate(p *commonpb.Payload) (converter.RawValue, error) {
	req := &durable.Request{}
	if err := d.h.open(p, req); err != nil {
		return converter.RawValue{}, err
	}
	return d.answer(req.Op, req.Name, d.run.Do(req))
}

// asked answers one of the workflow's.
func (d *drive) asked(name string, p *commonpb.Payload) (converter.RawValue, error) {
	none := converter.RawValue{}
	plain, err := d.h.plain(p)
	if err != nil {
		return none, err
	}
	rep := d.run.Do(&durable.Request{Op: durable.OpQuery, Name: name, Payload: plain})
	if rep.Err != nil {
		return none, errors.New(rep.Err.Message)
	}
	out, err := d.h.sealed(rep.Payload)
	if err == nil {
		err = d.h.tooLarge("the answer of query", name, d.ref, out.Payload())
	}
	return out, err
}

// answer is a reply on the wire, or the refusal of one that is too large.
func (d *drive) answer(op durable.Op, name string, rep *durable.Reply) (converter.RawValue, error) {
	if rep.Run != nil {
		d.queues(rep.Run.Waiting)
	}
	p, err := d.h.ours(rep)
	if err == nil {
		if no := d.h.tooLarge("the answer of "+string(op), name, d.ref, p); no != nil {
			p, err = d.h.ours(durable.ErrorReply(d.ref, no))
		}
	}
	return converter.NewRawValue(p), err
}

// queues says of steps that the run waits for where they are to be executed.
func (d *drive) queues(waits []durable.Wait) {
	for i := range waits {
		w := &waits[i]
		c := d.byID[w.Call]
		switch {
		case c == nil || w.Kind != "step":
		case c.delay != nil:
			w.Text = fmt.Sprintf("for a worker on task queue %q that defines step %s: the one that took it does not", cmp.Or(c.Step.Queue, d.h.queue), w.Name)
		case c.Step.Queue != "":
			w.Text = fmt.Sprintf("for step %s to end, on task queue %q", w.Name, c.Step.Queue)
		}
	}
}

// updates sets the handler of our own update. It comes after the first turn:
// as long as no handler is set the SDK keeps updates that came with the start.
func (d *drive) updates() error {
	return workflow.SetUpdateHandlerWithOptions(d.ctx, doName, func(ctx workflow.Context, in converter.RawValue) (converter.RawValue, error) {
		req := &durable.Request{}
		if err := d.opened(in.Payload(), req); err != nil {
			return converter.RawValue{}, err
		}
		rep, err := d.ask(ctx, &asked{request: req})
		if err != nil {
			return converter.RawValue{}, err
		}
		stored, err := d.h.host.Seal(jsonOf(rep))
		return d.raw(stored, nil), err
	}, workflow.UpdateHandlerOptions{})
}

// ask gives the run something that it answers, and waits for that.
func (d *drive) ask(ctx workflow.Context, a *asked) (*durable.Reply, error) {
	d.in.items = append(d.in.items, item{asked: a})
	err := workflow.Await(lasting{ctx}, func() bool { return a.reply != nil })
	return a.reply, err
}

// replyError carries a Reply's error over the wire.
func replyError(rep *durable.Reply) error {
	return temporal.NewApplicationErrorWithOptions(rep.Err.Message, replyType, temporal.ApplicationErrorOptions{
		NonRetryable: true, Details: []any{converter.NewRawValue(plainJSON(rep))},
	})
}

const replyType = "durable.Reply"

// handle sets the handler of one of the workflow's updates.
func (d *drive) handle(name string) {
	err := workflow.SetUpdateHandlerWithOptions(d.ctx, name, func(ctx workflow.Context, in converter.RawValue) (converter.RawValue, error) {
		ev, err := d.updateEvent(ctx, name, in)
		if err != nil {
			return converter.RawValue{}, err
		}
		rep, err := d.ask(ctx, &asked{event: ev})
		if err != nil {
			return converter.RawValue{}, err
		}
		if rep.Err != nil {
			return converter.RawValue{}, replyError(rep)
		}
		stored, err := d.h.host.Seal(rep.Payload)
		if err != nil {
			return converter.RawValue{}, err
		}
		if err := d.room(len(stored)); err != nil {
			return converter.RawValue{}, err
		}
		out := d.raw(stored, nil)
		if no := d.large("answer/"+ev.ID, "the answer of update", name, out.Payload()); no != nil {
			return converter.RawValue{}, replyError(durable.ErrorReply(d.ref, no))
		}
		return out, nil
	}, workflow.UpdateHandlerOptions{
		UnfinishedPolicy: workflow.HandlerUnfinishedPolicyAbandon, // the run sees to it
		Validator: func(ctx workflow.Context, in converter.RawValue) error {
			ev, err := d.updateEvent(ctx, name, in)
			if err != nil {
				return err
			}
			d.enter()
			defer d.leave()
			if no := d.run.MayUpdate(ev.ID, name, ev.Payload); no != nil {
				return replyError(no)
			}
			return nil
		},
	})
	if err != nil {
		panic(problem(&durable.Problem{Kind: "panic", Text: fmt.Sprintf("set the handler of update %q: %v", name, err)}))
	}
}

func (d *drive) updateEvent(ctx workflow.Context, name string, in converter.RawValue) (*durable.StoredEvent, error) {
	stored, err := d.stored(in.Payload())
	if err != nil {
		return nil, err
	}
	var m signalMeta
	metaOf(in.Payload(), &m)
	return &durable.StoredEvent{Kind: "asked", ID: workflow.GetCurrentUpdateInfo(ctx).ID, Name: name, By: m.By, Trace: m.Trace, Payload: stored}, nil
}
