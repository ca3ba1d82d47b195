package journal

import "github.com/mcpagent/mcpagent/internal/plainjson"

// WriteJSON implements [plainjson.Value]. A test holds it against encoding/json.
func (e *Entry) WriteJSON(w *plainjson.Writer) {
	w.Text("{")
	w.Key("v")
	w.Int(int64(e.V))
	w.Key("at")
	w.Int(e.At)
	list(w, "ev", e.Events, (*Event).writeJSON)
	list(w, "calls", e.Calls, (*Call).writeJSON)
	list(w, "closed", e.Closed, func(id string, w *plainjson.Writer) { w.String(id) })
	list(w, "stops", e.Stops, func(id string, w *plainjson.Writer) { w.String(id) })
	list(w, "marks", e.Marks, func(m *Mark, w *plainjson.Writer) { w.Any(m) })
	list(w, "replies", e.Replies, func(r *Reply, w *plainjson.Writer) { w.Any(r) })
	list(w, "notes", e.Notes, (*Note).writeJSON)
	list(w, "waits", e.Waits, func(x Wait, w *plainjson.Writer) { w.Any(x) })
	if e.End != nil {
		w.Key("end")
		w.Any(e.End)
	}
	w.Text("}")
}

// list is a member with elements, which is left out if there are none.
func list[T any](w *plainjson.Writer, name string, all []T, one func(T, *plainjson.Writer)) {
	if len(all) == 0 {
		return
	}
	w.Key(name)
	w.Text("[")
	for _, x := range all {
		w.Comma()
		one(x, w)
	}
	w.Text("]")
}

func (ev *Event) writeJSON(w *plainjson.Writer) {
	w.Text("{")
	w.Key("k")
	w.String(ev.Kind)
	w.Number("ref", ev.Ref)
	w.Number("idx", int64(ev.Index))
	w.Number("at", ev.At)
	w.Field("call", ev.Call)
	w.Field("id", ev.ID)
	w.Field("name", ev.Name)
	w.Field("by", ev.By)
	w.Field("trace", ev.Trace)
	w.Number("n", int64(ev.Attempt))
	ev.Failure.field("fail", w)
	ev.Span.field(w)
	w.Text("}")
}

func (c *Call) writeJSON(w *plainjson.Writer) {
	w.Text("{")
	w.Key("id")
	w.String(c.ID)
	w.Key("k")
	w.String(c.Kind)
	w.Field("name", c.Name)
	w.Field("d", c.Digest)
	w.Number("due", c.Due)
	w.Field("key", c.Key)
	if len(c.Options) > 0 {
		w.Key("o")
		w.B = append(w.B, c.Options...)
	}
	if len(c.Headers) > 0 {
		w.Key("h")
		w.B = append(w.B, c.Headers...)
	}
	c.Refused.field("no", w)
	c.Span.field(w)
	w.Text("}")
}

func (n *Note) writeJSON(w *plainjson.Writer) {
	w.Text("{")
	w.Key("k")
	w.String(n.Kind)
	w.Field("call", n.Call)
	w.Number("n", int64(n.Attempt))
	w.Number("due", n.Due)
	w.Field("by", n.By)
	w.Field("text", n.Text)
	n.Failure.field("fail", w)
	if len(n.Details) > 0 {
		w.Key("details")
		w.Raw(n.Details)
	}
	w.Text("}")
}

// field is a member with a failure, which is left out if there is none.
func (f *Failure) field(name string, w *plainjson.Writer) {
	if f != nil {
		w.Key(name)
		w.Any(f)
	}
}

func (s *span) field(w *plainjson.Writer) {
	if s == nil {
		return
	}
	w.Key("p")
	w.Text("[")
	w.Int(int64(s[0]))
	w.Text(",")
	w.Int(int64(s[1]))
	w.Text("]")
}
