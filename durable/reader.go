package durable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// reader carries out the operations that need nothing but the store.
type reader struct {
	st    journal.Store
	defs  *Definitions
	codec Codec
	// watch returns a function that blocks until something about the run may
	// have changed since watch was called; with end only what result tells of.
	watch func(rid int64, end bool) func(ctx context.Context) error
}

// NewReader serves the reading operations over a store that another process
// writes to. watch returns a function that blocks until the store may have
// changed since watch was called; it may return early. Other operations are
// refused. For the engines of this module.
func NewReader(st journal.Store, defs *Definitions, o *Options, watch func() func(ctx context.Context) error) Backend {
	if o == nil {
		o = &Options{}
	}
	return &reader{st: st, defs: defs, codec: o.Codec, watch: func(int64, bool) func(context.Context) error { return watch() }}
}

// Close implements [Backend]. The store stays open.
func (rd *reader) Close(context.Context) error { return nil }

// Do implements [Backend].
func (rd *reader) Do(ctx context.Context, req *Request) (*Reply, error) {
	switch req.Op {
	case opResult:
		return rd.result(ctx, req)
	case opDescribe:
		return rd.describe(req), nil
	case opList:
		return rd.list(req), nil
	case opHistory:
		return rd.history(req), nil
	case opStream:
		return rd.stream(ctx, req)
	case opQuestions:
		return rd.questions(req), nil
	case opSchedules:
		return rd.schedules(req), nil
	case opExport:
		return rd.export(req), nil
	case opGetBlob:
		return rd.blob(req.Name), nil
	}
	return refuse(ErrUnsupported, req.Ref, "%s: this engine only reads; use the process that owns the file", req.Op), nil
}

func unseal(c Codec, p journal.Payload) (json.RawMessage, error) {
	if p == nil || c == nil {
		return json.RawMessage(p), nil
	}
	return c.Decode(p)
}

// show is unseal for people: what can't be decoded says so.
func (rd *reader) show(p journal.Payload) json.RawMessage {
	if p == nil {
		return nil
	}
	b, err := unseal(rd.codec, p)
	if err != nil || !json.Valid(b) {
		return jsonOf(fmt.Sprintf("(%d bytes that this codec cannot decode)", len(p)))
	}
	return b
}

func (rd *reader) showJSON(v json.RawMessage) json.RawMessage {
	b, err := openJSON(rd.codec, v)
	if err != nil || b != nil && !json.Valid(b) {
		return jsonOf(fmt.Sprintf("(%d bytes that this codec cannot decode)", len(v)))
	}
	return b
}

// problemOf reads what blocks a run; its Kind is empty if nothing does.
func problemOf(row *journal.Run) (p Problem) {
	if len(row.Problem) > 0 {
		_ = json.Unmarshal(row.Problem, &p)
	}
	return p
}

func blockedError(row *journal.Run) *BlockedError {
	return &BlockedError{WorkflowID: row.WorkflowID, RunID: row.RunID, Problem: problemOf(row)}
}

// find finds a run that the actor may see.
func (rd *reader) find(req *Request) (*journal.Run, *Reply) {
	return findRun(rd.st, req.Ref, req.Actor)
}

func findRun(st journal.Store, ref Ref, actor Actor) (*journal.Run, *Reply) {
	row, err := st.Find(ref.WorkflowID, ref.RunID)
	if errors.Is(err, journal.ErrNotFound) || err == nil && actor.Owner != "" && row.Owner != actor.Owner {
		return nil, refuse(ErrNotFound, ref, "run %v: not found; list the runs to see which there are", ref)
	}
	if err != nil {
		return nil, &Reply{Err: &ReplyError{Code: "error", Message: fmt.Sprintf("run %v: %v", ref, err), Ref: ref}}
	}
	return row, nil
}

func storeFailed(ref Ref, err error) *Reply {
	return &Reply{Err: &ReplyError{Code: "error", Message: fmt.Sprintf("read the store: %v", err), Ref: ref}}
}

func refOf(row *journal.Run) Ref { return Ref{row.WorkflowID, row.RunID} }

func (rd *reader) description(row *journal.Run) *Description {
	d := &Description{
		WorkflowID: row.WorkflowID, RunID: row.RunID, Workflow: row.Name, State: State(row.State), Owner: row.Owner,
		Memo: rd.showJSON(row.Memo), Created: microTime(row.Created), Changed: microTime(row.Changed), Closed: microTime(row.Closed),
		Deadline: microTime(row.Deadline), Chain: row.Chain, Next: row.Next, Turns: row.Turns,
		Result: rd.show(row.Result), Failure: fromFailure(row.Failure),
	}
	unmarshal := func(raw json.RawMessage, v any) {
		if len(raw) > 0 {
			_ = json.Unmarshal(raw, v)
		}
	}
	unmarshal(row.Tags, &d.Tags)
	unmarshal(row.Problem, &d.Problem)
	unmarshal(row.Paused, &d.Paused)
	unmarshal(row.Status, &d.Status)
	for k, v := range d.Status {
		d.Status[k] = rd.showJSON(v)
	}
	if d.State == Running && d.Paused != nil {
		d.State = Paused
	}
	d.Parent = configOf(row).Parent
	return d
}

func (rd *reader) describe(req *Request) *Reply {
	row, no := rd.find(req)
	if no != nil {
		return no
	}
	d := rd.description(row)
	asks, err := rd.st.Asks(row.RID, false)
	if err != nil {
		return storeFailed(req.Ref, err)
	}
	open := map[string]*journal.Ask{}
	for _, a := range asks {
		if a.State == "open" {
			open[a.Call] = a
			d.Questions = append(d.Questions, rd.question(a, row))
		}
	}
	if !d.State.Done() {
		calls, _, waits, err := openCalls(rd.st, row)
		if err != nil {
			return storeFailed(req.Ref, err)
		}
		for _, c := range calls {
			w := Wait{Call: c.call.ID, Kind: c.call.Kind, Name: c.call.Name, Since: microTime(c.at), Due: microTime(c.due), Attempt: c.attempt, Failure: fromFailure(c.failure)}
			switch {
			case c.over:
				w.Text = fmt.Sprintf("for its turn: the outcome of %s %s is there", c.call.Kind, c.call.Name)
			case c.call.Kind == kindQuestion && open[c.call.ID] != nil:
				w.Text = fmt.Sprintf("for a person: %s", openText(rd.codec, open[c.call.ID].Text))
			case c.call.Kind == kindStep && rd.defs != nil && rd.defs.steps[c.call.Name] == nil:
				w.Text = fmt.Sprintf("for step %s, which this program does not define: deploy one that does", c.call.Name)
			case c.call.Kind == kindStep && c.due > 0:
				w.Text = fmt.Sprintf("for attempt %d of step %s at %s", c.attempt+1, c.call.Name, w.Due.Format(time.RFC3339))
			case c.call.Kind == kindStep:
				w.Text = fmt.Sprintf("for step %s to end", c.call.Name)
			case c.call.Kind == kindTimer:
				w.Text = fmt.Sprintf("for %s until %s", c.call.Name, w.Due.Format(time.RFC3339))
			case c.call.Kind == kindChild:
				w.Text = fmt.Sprintf("for the child workflow %s", c.call.Name)
			default:
				w.Text = "for " + c.call.Kind
			}
			d.Waiting = append(d.Waiting, w)
		}
		for _, w := range waits {
			d.Waiting = append(d.Waiting, Wait{Kind: w.Kind, Name: w.Name, Since: d.Changed, Text: waitText(w)})
		}
		if len(d.Waiting) == 0 && d.Problem == nil {
			d.Waiting = append(d.Waiting, Wait{Kind: "turn", Text: "for its turn", Since: d.Changed})
		}
	}
	return &Reply{Ref: refOf(row), Run: d}
}

func waitText(w journal.Wait) string {
	switch w.Kind {
	case "signal":
		return fmt.Sprintf("for the signal %q", w.Name)
	case "condition":
		return "for a condition of its own (Await)"
	case "select":
		return "for the first of several things (Select)"
	case "lock":
		return "for a lock that another coroutine of the run holds"
	case "updates":
		return "for its update handlers to end"
	}
	return "for " + w.Kind
}

func (rd *reader) list(req *Request) *Reply {
	f := req.Filter
	jf := &journal.Filter{
		Workflow: f.Workflow, WorkflowID: f.WorkflowID, Tags: f.Tags,
		CreatedAfter: micros(f.CreatedAfter), CreatedBefore: micros(f.CreatedBefore), Limit: f.Limit,
	}
	if jf.Limit <= 0 {
		jf.Limit = 100
	}
	want := jf.Limit
	var running, paused bool
	for _, s := range f.States {
		switch s {
		case Running:
			running = true
		case Paused:
			paused = true
		default:
			jf.States = append(jf.States, string(s))
		}
	}
	if running || paused {
		jf.States = append(jf.States, string(Running))
	}
	if req.Actor.Owner != "" {
		jf.Owner = &req.Actor.Owner
	}
	if f.Cursor != "" {
		n, err := strconv.ParseInt(f.Cursor, 10, 64)
		if err != nil || n <= 0 {
			return refuse(ErrBadInput, Ref{}, "list: %q is not a cursor: pass on Page.Next as it came", f.Cursor)
		}
		jf.Before = n
	}
	page := &Page{Runs: []*Description{}}
	// One more than is wanted tells whether there is a next page.
	jf.Limit = want + 1
	for {
		rows, err := rd.st.List(jf)
		if err != nil {
			return storeFailed(Ref{}, err)
		}
		for _, row := range rows {
			before := jf.Before
			jf.Before = row.RID
			if State(row.State) == Running && running != paused && (len(row.Paused) > 0) != paused {
				continue
			}
			if len(page.Runs) == want {
				page.Next = strconv.FormatInt(before, 10)
				return &Reply{Page: page}
			}
			page.Runs = append(page.Runs, rd.description(row))
		}
		if len(rows) < jf.Limit {
			return &Reply{Page: page}
		}
	}
}

func (rd *reader) result(ctx context.Context, req *Request) (*Reply, error) {
	row, no := rd.find(req)
	if no != nil {
		return no, nil
	}
	for {
		wait := rd.watch(row.RID, true)
		var err error
		if row, err = rd.st.Run(row.RID); err != nil {
			return storeFailed(req.Ref, err), nil
		}
		ref := refOf(row)
		switch s := State(row.State); {
		case s == Continued:
			next, err := rd.st.Find(row.WorkflowID, row.Next)
			if err != nil {
				return storeFailed(req.Ref, err), nil
			}
			row = next
			continue
		case s == Completed:
			out, err := unseal(rd.codec, row.Result)
			if err != nil {
				return storeFailed(ref, err), nil
			}
			return &Reply{Ref: ref, Payload: out}, nil
		case s.Done():
			e := &RunError{WorkflowID: row.WorkflowID, RunID: row.RunID, State: s, Err: fromFailure(row.Failure)}
			return &Reply{Err: &ReplyError{Code: "ended", Message: e.Error(), Ref: ref, State: s, Failure: e.Err}}, nil
		case len(row.Problem) > 0:
			e := blockedError(row)
			return &Reply{Err: &ReplyError{Code: "blocked", Message: e.Error(), Ref: ref, State: s, Problem: &e.Problem}}, nil
		}
		if err := wait(ctx); err != nil {
			return nil, err
		}
	}
}

func (rd *reader) question(a *journal.Ask, row *journal.Run) *QuestionInfo {
	q := &QuestionInfo{
		ID: a.ID, Name: a.Name, Kind: a.Kind, Text: openText(rd.codec, a.Text), Schema: a.Schema, Context: rd.showJSON(a.Context), Digest: a.Digest,
		Audience: a.Audience, Owner: a.Owner, Created: microTime(a.Created), Expires: microTime(a.Expires), State: a.State,
		Answer: rd.show(a.Answer), By: a.By, Note: a.Note, Answered: microTime(a.Answered),
	}
	if row != nil {
		q.WorkflowID, q.RunID, q.Workflow = row.WorkflowID, row.RunID, row.Name
	}
	return q
}

func (rd *reader) questions(req *Request) *Reply {
	f := req.Asks
	var only *journal.Run
	var rid int64
	if f.WorkflowID != "" || f.RunID != "" {
		row, no := findRun(rd.st, Ref{f.WorkflowID, f.RunID}, req.Actor)
		if no != nil {
			return no
		}
		only, rid = row, row.RID
	} else if f.All {
		return refuse(ErrBadInput, Ref{}, "questions: All needs a WorkflowID")
	}
	asks, err := rd.st.Asks(rid, !f.All)
	if err != nil {
		return storeFailed(req.Ref, err)
	}
	rows := map[int64]*journal.Run{}
	rep := &Reply{Questions: []*QuestionInfo{}}
	for _, a := range asks {
		if f.Name != "" && a.Name != f.Name || req.Actor.Owner != "" && a.Owner != req.Actor.Owner {
			continue
		}
		row := only
		if row == nil {
			if row = rows[a.RID]; row == nil {
				if row, err = rd.st.Run(a.RID); err != nil {
					continue // pruned meanwhile
				}
				rows[a.RID] = row
			}
		}
		rep.Questions = append(rep.Questions, rd.question(a, row))
	}
	return rep
}

func (rd *reader) stream(ctx context.Context, req *Request) (*Reply, error) {
	row, no := rd.find(req)
	if no != nil {
		return no, nil
	}
	for {
		wait := rd.watch(row.RID, false)
		now, err := rd.st.Run(row.RID)
		if err != nil {
			return storeFailed(req.Ref, err), nil
		}
		items, err := rd.st.Items(row.RID, req.Name, max(req.From, 0), 1000)
		if err != nil {
			return storeFailed(req.Ref, err), nil
		}
		rep := &Reply{Ref: refOf(row)}
		for _, it := range items {
			v, err := unseal(rd.codec, it.Data)
			if err != nil {
				return storeFailed(req.Ref, err), nil
			}
			rep.Entries = append(rep.Entries, Entry[json.RawMessage]{Offset: it.Offset, At: microTime(it.At), Value: v})
		}
		switch {
		case len(items) > 0:
			return rep, nil
		case State(now.State) == Continued:
			// The stream goes on in the run that continues this one, with the
			// offsets that follow.
			if row, err = rd.st.Find(row.WorkflowID, now.Next); err != nil {
				return storeFailed(req.Ref, err), nil
			}
			continue
		case State(now.State).Done():
			rep.End = true
			return rep, nil
		}
		if err := wait(ctx); err != nil {
			return nil, err
		}
	}
}

func (rd *reader) blob(digest string) *Reply {
	b, err := rd.st.Blob(digest)
	if errors.Is(err, journal.ErrNotFound) {
		return refuse(ErrNotFound, Ref{}, "blob %s: not found; it lives as long as the run that stored it", digest)
	}
	if err != nil {
		return storeFailed(Ref{}, err)
	}
	data, err := unseal(rd.codec, b.Data)
	if err != nil {
		return storeFailed(Ref{}, err)
	}
	return &Reply{Name: digest, Data: data}
}

func (rd *reader) history(req *Request) *Reply {
	row, no := rd.find(req)
	if no != nil {
		return no
	}
	rows, err := rd.st.Rows(row.Last, 0)
	if err != nil {
		return storeFailed(req.Ref, err)
	}
	rep := &Reply{Ref: refOf(row), Records: []*Record{}}
	held := map[int64][]*journal.Event{}
	for _, r := range rows {
		e, err := journal.Decode(r)
		if err != nil {
			return storeFailed(req.Ref, err)
		}
		rep.Records = append(rep.Records, rd.record(r, e, held))
	}
	return rep
}

func (rd *reader) record(r *journal.Row, e *journal.Entry, held map[int64][]*journal.Event) *Record {
	rec := &Record{Seq: r.ID, Kind: r.Kind, At: microTime(e.At), Closed: e.Closed, Stops: e.Stops}
	if r.Kind == journal.KindEvent {
		held[r.ID] = e.Events
	}
	for _, ev := range e.Events {
		if full := held[ev.Ref]; ev.Ref != 0 && ev.Index < len(full) {
			ev = full[ev.Index]
		}
		rec.Events = append(rec.Events, Event{
			Kind: ev.Kind, At: microTime(ev.At), Call: ev.Call, ID: ev.ID, Name: ev.Name, By: ev.By,
			Payload: rd.show(ev.Payload), Failure: fromFailure(ev.Failure), Attempt: ev.Attempt,
		})
	}
	for _, c := range e.Calls {
		rec.Calls = append(rec.Calls, Call{ID: c.ID, Kind: c.Kind, Name: c.Name, Input: rd.show(c.Payload), Digest: c.Digest, Due: microTime(c.Due), Options: c.Options, Refused: fromFailure(c.Refused)})
	}
	for _, n := range e.Notes {
		rec.Notes = append(rec.Notes, Note{Kind: n.Kind, Call: n.Call, Attempt: n.Attempt, Due: microTime(n.Due), By: n.By, Text: n.Text, Failure: fromFailure(n.Failure)})
	}
	if e.End != nil {
		rec.End = &Outcome{State: State(e.End.State), Payload: rd.show(e.End.Payload), Failure: fromFailure(e.End.Failure)}
	}
	return rec
}
