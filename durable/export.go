package durable

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// An exported history is a JSON document with one record of the run on each
// line. It does not follow the journal's own format, which may change.
const (
	exportFormat  = "durable history"
	exportVersion = 1
	// exportSecret stands for the secret of the run's callbacks.
	exportSecret = "exported"
)

// ErrHistory is what Replay says of data that is no exported history, or a
// damaged one, or a newer version's.
var ErrHistory = errors.New("it is not a history that can be read")

// exported is the document.
type exported struct {
	Format  string            `json:"format"`
	Version int               `json:"version"`
	Run     exportedRun       `json:"run"`
	Blobs   map[string][]byte `json:"blobs,omitempty"` // by digest
	Rows    []exportedRow     `json:"rows"`
}

type exportedRun struct {
	WorkflowID string     `json:"workflow_id"`
	RunID      string     `json:"run_id"`
	Chain      string     `json:"chain"`
	Workflow   string     `json:"workflow"`
	Owner      string     `json:"owner,omitempty"`
	State      State      `json:"state"`
	Created    time.Time  `json:"created"`
	Scope      string     `json:"scope"`
	Config     *runConfig `json:"config"`
}

type exportedRow struct {
	ID      int64           `json:"id"`
	Kind    string          `json:"kind"`
	At      int64           `json:"at"`
	Events  []exportedEvent `json:"events,omitempty"`
	Calls   []exportedCall  `json:"calls,omitempty"`
	Closed  []string        `json:"closed,omitempty"`
	Stops   []string        `json:"stops,omitempty"`
	Marks   []journal.Mark  `json:"marks,omitempty"`
	Replies []exportedReply `json:"replies,omitempty"`
	Notes   []journal.Note  `json:"notes,omitempty"`
	Waits   []journal.Wait  `json:"waits,omitempty"`
	End     *exportedEnd    `json:"end,omitempty"`
}

type exportedEvent struct {
	journal.Event
	exportedValue
}

type exportedCall struct {
	journal.Call
	exportedValue
}

type exportedReply struct {
	journal.Reply
	exportedValue
}

type exportedEnd struct {
	journal.End
	exportedValue
}

// exportedValue is a payload in plain: as JSON where that keeps each byte.
type exportedValue struct {
	Value json.RawMessage `json:"value,omitempty"`
	Bytes []byte          `json:"bytes,omitempty"`
}

func showValue(p []byte) (v exportedValue) {
	var b bytes.Buffer
	switch {
	case p == nil:
	case json.Compact(&b, p) == nil && bytes.Equal(b.Bytes(), p):
		v.Value = p
	default:
		v.Bytes = p
	}
	return v
}

func (v exportedValue) payload() journal.Payload {
	if v.Value != nil {
		return journal.Payload(v.Value)
	}
	return v.Bytes
}

// Export gives the complete history of this run, not of its chain, as a JSON
// document that [Replay] reads, today and in later versions. The run may be
// unfinished.
//
// The document holds all that went through the run in plain, also where the
// engine has a [Codec], with the blobs that are mentioned and the seed of its
// random streams: whoever reads it can tell what [Rand] and [UUID] gave and
// will give in this run. Tokens of callbacks are replaced by others that open
// nothing. Look at what it says before it becomes test data.
func (r *Run) Export(ctx context.Context) ([]byte, error) {
	rep, err := r.e.do(ctx, &Request{Op: opExport, Ref: r.ref()})
	if err != nil {
		return nil, err
	}
	return rep.Data, nil
}

func (rd *reader) export(req *Request) *Reply {
	row, no := rd.find(req)
	if no != nil {
		return no
	}
	doc, err := rd.exported(row)
	if err != nil {
		return &Reply{Err: &ReplyError{Code: "error", Message: fmt.Sprintf("export run %v: %v", refOf(row), err), Ref: refOf(row)}}
	}
	return &Reply{Ref: refOf(row), Data: doc}
}

var digests = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

func (rd *reader) exported(row *journal.Run) ([]byte, error) {
	rows, err := rd.st.Rows(row.Last, 0)
	if err != nil {
		return nil, err
	}
	cfg := configOf(row)
	doc := &exported{Format: exportFormat, Version: exportVersion, Run: exportedRun{
		WorkflowID: row.WorkflowID, RunID: row.RunID, Chain: row.Chain, Workflow: row.Name, Owner: row.Owner,
		State: State(row.State), Created: microTime(row.Created), Scope: row.Scope, Config: cfg,
	}}
	// The seed of the random streams goes along, the secret of callbacks not.
	secret := cfg.Secret
	cfg.Rand, cfg.Secret = cfg.seed(), exportSecret
	var hide []string // pairs, for the replacer
	entries := make([]*journal.Entry, len(rows))
	for i, jr := range rows {
		if entries[i], err = journal.Decode(jr); err != nil {
			return nil, err
		}
		for _, c := range entries[i].Calls {
			if c.Kind == kindCallback {
				hide = append(hide, callbackSecret(secret, c.ID), callbackSecret(exportSecret, c.ID))
			}
		}
	}
	value := func(p journal.Payload) (exportedValue, error) {
		b, err := unseal(rd.codec, p)
		if err != nil {
			return exportedValue{}, fmt.Errorf("the codec cannot decode a recorded value: %w", err)
		}
		for i := 0; i < len(hide); i += 2 {
			b = bytes.ReplaceAll(b, []byte(hide[i]), []byte(hide[i+1]))
		}
		for _, d := range digests.FindAll(b, -1) {
			if blob, err := rd.st.Blob(string(d)); err == nil {
				plain, err := unseal(rd.codec, blob.Data)
				if err != nil {
					return exportedValue{}, fmt.Errorf("the codec cannot decode a blob: %w", err)
				}
				if doc.Blobs == nil {
					doc.Blobs = map[string][]byte{}
				}
				doc.Blobs[string(d)] = plain
			}
		}
		return showValue(b), nil
	}
	for i := range cfg.Carried {
		v, err := value(cfg.Carried[i].Payload)
		if err != nil {
			return nil, err
		}
		cfg.Carried[i].Payload = v.payload()
	}
	for i := range cfg.Replies {
		v, err := value(cfg.Replies[i].Payload)
		if err != nil {
			return nil, err
		}
		cfg.Replies[i].Payload = v.payload()
	}
	for i, jr := range rows {
		x, err := rd.exportedRow(jr, entries[i], value)
		if err != nil {
			return nil, err
		}
		doc.Rows = append(doc.Rows, x)
	}
	out, err := doc.encode()
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(hide); i += 2 {
		out = bytes.ReplaceAll(out, []byte(hide[i]), []byte(hide[i+1]))
	}
	return out, nil
}

func (rd *reader) exportedRow(jr *journal.Row, e *journal.Entry, value func(journal.Payload) (exportedValue, error)) (x exportedRow, err error) {
	x = exportedRow{ID: jr.ID, Kind: jr.Kind, At: e.At, Closed: e.Closed, Stops: e.Stops, Waits: e.Waits}
	for _, ev := range e.Events {
		o := exportedEvent{Event: *ev}
		if o.exportedValue, err = value(ev.Payload); err != nil {
			return x, err
		}
		o.Span = nil
		x.Events = append(x.Events, o)
	}
	for _, c := range e.Calls {
		o := exportedCall{Call: *c}
		if o.exportedValue, err = value(c.Payload); err != nil {
			return x, err
		}
		if p := o.payload(); p != nil && c.Digest != "" {
			o.Digest = digest(p) // another one where it held the token of a callback
		}
		o.Span = nil
		x.Calls = append(x.Calls, o)
	}
	for _, r := range e.Replies {
		o := exportedReply{Reply: *r}
		if o.exportedValue, err = value(r.Payload); err != nil {
			return x, err
		}
		o.Span = nil
		x.Replies = append(x.Replies, o)
	}
	for _, m := range e.Marks {
		x.Marks = append(x.Marks, *m)
	}
	for _, n := range e.Notes {
		o := *n
		if o.Details, err = openJSON(rd.codec, n.Details); err != nil {
			o.Details = nil // of a heartbeat, best effort
		}
		x.Notes = append(x.Notes, o)
	}
	if e.End != nil {
		o := exportedEnd{End: *e.End}
		if o.exportedValue, err = value(e.End.Payload); err != nil {
			return x, err
		}
		o.Span = nil
		x.End = &o
	}
	return x, nil
}

// encode writes the document, a row on each line.
func (d *exported) encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	put := func(what string, v any) error {
		b.WriteString(what)
		err := enc.Encode(v) // ends the line
		return err
	}
	err := errors.Join(
		put("{\n\"format\": ", d.Format),
		put(",\"version\": ", d.Version),
		put(",\"run\": ", d.Run))
	if len(d.Blobs) > 0 {
		err = errors.Join(err, put(",\"blobs\": ", d.Blobs))
	}
	b.WriteString(",\"rows\": [\n")
	for i, r := range d.Rows {
		sep := ""
		if i > 0 {
			sep = ","
		}
		err = errors.Join(err, put(sep, r))
	}
	b.WriteString("]\n}\n")
	return b.Bytes(), err
}

// readExport reads a document back, as a run and the rows of its journal.
func readExport(data []byte) (*journal.Run, []*journal.Row, map[string][]byte, error) {
	bad := func(format string, args ...any) (*journal.Run, []*journal.Row, map[string][]byte, error) {
		return nil, nil, nil, fmt.Errorf("%w: %w", ErrHistory, fmt.Errorf(format, args...))
	}
	var doc exported
	if err := json.Unmarshal(data, &doc); err != nil {
		return bad("%w", err)
	}
	switch {
	case doc.Format != exportFormat:
		return bad("its format is %q, not %q: make it with Run.Export", doc.Format, exportFormat)
	case doc.Version < 1 || doc.Version > exportVersion:
		return bad("it has version %d; this program reads up to %d: use a newer one", doc.Version, exportVersion)
	case doc.Run.Config == nil || doc.Run.Workflow == "":
		return bad("it does not say what run it is of")
	}
	row := &journal.Run{
		WorkflowID: doc.Run.WorkflowID, RunID: doc.Run.RunID, Chain: doc.Run.Chain, Name: doc.Run.Workflow, Owner: doc.Run.Owner,
		State: string(doc.Run.State), Created: micros(doc.Run.Created), Scope: doc.Run.Scope, Config: jsonOf(doc.Run.Config),
	}
	var rows []*journal.Row
	for _, x := range doc.Rows {
		if x.ID <= row.Last {
			return bad("row %d follows row %d", x.ID, row.Last)
		}
		jr, err := journal.Encode(0, x.Kind, x.entry())
		if err == nil {
			jr.ID, jr.Prev = x.ID, row.Last
			_, err = journal.Decode(jr)
		}
		if err != nil {
			return bad("row %d: %w", x.ID, err)
		}
		rows = append(rows, jr)
		row.Last = x.ID
	}
	return row, rows, doc.Blobs, nil
}

func (x *exportedRow) entry() *journal.Entry {
	e := &journal.Entry{At: x.At, Closed: x.Closed, Stops: x.Stops, Waits: x.Waits}
	for i := range x.Events {
		ev := &x.Events[i].Event
		ev.Payload = x.Events[i].payload()
		e.Events = append(e.Events, ev)
	}
	for i := range x.Calls {
		c := &x.Calls[i].Call
		c.Payload = x.Calls[i].payload()
		e.Calls = append(e.Calls, c)
	}
	for i := range x.Replies {
		r := &x.Replies[i].Reply
		r.Payload = x.Replies[i].payload()
		e.Replies = append(e.Replies, r)
	}
	for i := range x.Marks {
		e.Marks = append(e.Marks, &x.Marks[i])
	}
	for i := range x.Notes {
		e.Notes = append(e.Notes, &x.Notes[i])
	}
	if x.End != nil {
		e.End = &x.End.End
		e.End.Payload = x.End.payload()
	}
	return e
}
