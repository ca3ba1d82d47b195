package agent

import (
	"bytes"
	"encoding/json"

	"github.com/mcpagent/mcpagent/internal/plainjson"
	"github.com/mcpagent/mcpagent/llm"
)

// What crosses in every turn writes and reads itself: a turn is two steps, two
// messages, three links and four events, and encoding/json took longer for
// them than all else. The bytes are the same, see [plainjson]; what is rare in
// a message is left to encoding/json here too.

// said is an answer of a model as it crosses out of its step.
type said llm.Response

// spoken is a message as it is lent.
type spoken llm.Message

// milestone is an event as it is recorded.
type milestone Event

// WriteJSON implements [plainjson.Value].
func (in callIn) WriteJSON(w *plainjson.Writer) {
	w.Text("{")
	w.Field("model", in.Model)
	w.Key("frame")
	w.String(in.Frame)
	w.Key("talk")
	w.String(in.Talk)
	w.Key("agent")
	w.String(in.Agent)
	w.Key("turn")
	w.Int(int64(in.Turn))
	w.Key("id")
	w.String(in.ID)
	w.Text("}")
}

// ReadJSON implements [plainjson.Readable].
func (in *callIn) ReadJSON(p *plainjson.Parser) bool {
	return p.Object(func(key []byte) bool {
		switch string(key) {
		case "model":
			return p.String(&in.Model)
		case "frame":
			return p.String(&in.Frame)
		case "talk":
			return p.String(&in.Talk)
		case "agent":
			return p.String(&in.Agent)
		case "turn":
			return p.Int(&in.Turn)
		case "id":
			return p.String(&in.ID)
		}
		return false
	})
}

// WriteJSON implements [plainjson.Value].
func (in funcIn) WriteJSON(w *plainjson.Writer) {
	w.Text("{")
	writeCall(w, &in.ToolCall)
	w.Field("lent", in.Lent)
	w.Text("}")
}

// ReadJSON implements [plainjson.Readable].
func (in *funcIn) ReadJSON(p *plainjson.Parser) bool {
	return p.Object(func(key []byte) bool {
		if string(key) == "lent" {
			return p.String(&in.Lent)
		}
		return readCall(p, &in.ToolCall, key)
	})
}

// WriteJSON implements [plainjson.Value].
func (c called) WriteJSON(w *plainjson.Writer) {
	w.Text("{")
	if c.Result != nil {
		w.Key("result")
		writeResult(w, c.Result)
	}
	w.Field("unfit", c.Unfit)
	w.Text("}")
}

// ReadJSON implements [plainjson.Readable].
func (c *called) ReadJSON(p *plainjson.Parser) bool {
	return p.Object(func(key []byte) bool {
		switch string(key) {
		case "result":
			c.Result = &llm.ToolResult{}
			return readResult(p, c.Result)
		case "unfit":
			return p.String(&c.Unfit)
		}
		return false
	})
}

// WriteJSON implements [plainjson.Value].
func (s said) WriteJSON(w *plainjson.Writer) {
	w.Text("{")
	w.Key("message")
	writeMessage(w, &s.Message)
	w.Key("stop")
	w.String(string(s.Stop))
	w.Key("usage")
	w.Text("{")
	w.Key("input")
	w.Int(s.Usage.Input)
	w.Key("output")
	w.Int(s.Usage.Output)
	w.Number("cache_read", s.Usage.CacheRead)
	w.Number("cache_write", s.Usage.CacheWrite)
	w.Number("reasoning", s.Usage.Reasoning)
	w.Text("}")
	w.Field("model", s.Model)
	w.Field("id", s.ID)
	w.Text("}")
}

// ReadJSON implements [plainjson.Readable].
func (s *said) ReadJSON(p *plainjson.Parser) bool {
	return p.Object(func(key []byte) bool {
		switch string(key) {
		case "message":
			return readMessage(p, &s.Message)
		case "stop":
			return p.Word((*string)(&s.Stop), string(llm.StopEnd), string(llm.StopTools), string(llm.StopLength))
		case "usage":
			return p.Object(func(key []byte) bool {
				switch string(key) {
				case "input":
					return p.Int64(&s.Usage.Input)
				case "output":
					return p.Int64(&s.Usage.Output)
				case "cache_read":
					return p.Int64(&s.Usage.CacheRead)
				case "cache_write":
					return p.Int64(&s.Usage.CacheWrite)
				case "reasoning":
					return p.Int64(&s.Usage.Reasoning)
				}
				return false
			})
		case "model":
			return p.String(&s.Model)
		case "id":
			return p.String(&s.ID)
		}
		return false
	})
}

// WriteJSON implements [plainjson.Value].
func (m *spoken) WriteJSON(w *plainjson.Writer) { writeMessage(w, (*llm.Message)(m)) }

// WriteJSON implements [plainjson.Value].
func (k link) WriteJSON(w *plainjson.Writer) {
	w.Text("{")
	w.Field("prev", k.Prev)
	w.Key("new")
	if k.New == nil {
		w.Text("null}")
		return
	}
	w.Text("[")
	for _, sum := range k.New {
		w.Comma()
		w.String(sum)
	}
	w.Text("]}")
}

// WriteJSON implements [plainjson.Value].
func (ev *milestone) WriteJSON(w *plainjson.Writer) {
	w.Text("{")
	w.Key("kind")
	w.String(string(ev.Kind))
	w.Key("agent")
	w.String(ev.Agent)
	w.Number("turn", int64(ev.Turn))
	w.Field("talk", ev.Talk)
	w.Number("attempt", int64(ev.Attempt))
	if !ev.Time.IsZero() {
		w.Key("time")
		w.Any(ev.Time)
	}
	w.Field("text", ev.Text)
	w.Field("reasoning", ev.Think)
	if ev.Call != nil {
		w.Key("call")
		w.Text("{")
		writeCall(w, ev.Call)
		w.Text("}")
	}
	w.Flag("error", ev.Error)
	w.Number("tokens", ev.Tokens)
	w.Field("stop", ev.Stop)
	if ev.Result != nil {
		w.Key("done")
		w.Any(ev.Result)
	}
	w.Text("}")
}

// readInput reads an input as it is stored.
func readInput(p *plainjson.Parser, in *Input) bool {
	return p.Object(func(key []byte) bool {
		switch string(key) {
		case "messages":
			return p.Array(func() bool {
				in.Messages = append(in.Messages, llm.Message{})
				return readMessage(p, &in.Messages[len(in.Messages)-1])
			})
		case "schema":
			return p.Any(&in.Schema)
		}
		return false
	})
}

func writeMessage(w *plainjson.Writer, m *llm.Message) {
	w.Text("{")
	w.Key("role")
	w.String(string(m.Role))
	w.Key("parts")
	writeParts(w, m.Parts)
	w.Text("}")
}

func readMessage(p *plainjson.Parser, m *llm.Message) bool {
	return p.Object(func(key []byte) bool {
		switch string(key) {
		case "role":
			return p.Word((*string)(&m.Role), string(llm.RoleModel), string(llm.RoleTools), string(llm.RoleUser))
		case "parts":
			return readParts(p, &m.Parts)
		}
		return false
	})
}

func writeParts(w *plainjson.Writer, parts []llm.Part) {
	if parts == nil {
		w.Text("null")
		return
	}
	w.Text("[")
	for i := range parts {
		w.Comma()
		part := &parts[i]
		w.Text("{")
		w.Field("text", part.Text)
		if part.Media != nil {
			w.Key("media")
			w.Any(part.Media)
		}
		if part.Call != nil {
			w.Key("call")
			w.Text("{")
			writeCall(w, part.Call)
			w.Text("}")
		}
		if part.Result != nil {
			w.Key("result")
			writeResult(w, part.Result)
		}
		if part.Reasoning != nil {
			w.Key("reasoning")
			w.Any(part.Reasoning)
		}
		if part.Raw != nil {
			w.Key("raw")
			w.Any(part.Raw)
		}
		w.Text("}")
	}
	w.Text("]")
}

func readParts(p *plainjson.Parser, parts *[]llm.Part) bool {
	return p.Array(func() bool {
		*parts = append(*parts, llm.Part{})
		part := &(*parts)[len(*parts)-1]
		return p.Object(func(key []byte) bool {
			switch string(key) {
			case "text":
				return p.String(&part.Text)
			case "media":
				return p.Any(&part.Media)
			case "call":
				part.Call = &llm.ToolCall{}
				return p.Object(func(key []byte) bool { return readCall(p, part.Call, key) })
			case "result":
				part.Result = &llm.ToolResult{}
				return readResult(p, part.Result)
			case "reasoning":
				return p.Any(&part.Reasoning)
			case "raw":
				return p.Any(&part.Raw)
			}
			return false
		})
	})
}

// writeCall writes the members of a call.
func writeCall(w *plainjson.Writer, c *llm.ToolCall) {
	w.Key("id")
	w.String(c.ID)
	w.Key("name")
	w.String(c.Name)
	writeRaw(w, "args", c.Args)
	w.Field("bad", c.Bad)
}

// readCall reads a member of a call.
func readCall(p *plainjson.Parser, c *llm.ToolCall, key []byte) bool {
	switch string(key) {
	case "id":
		return p.String(&c.ID)
	case "name":
		return p.String(&c.Name)
	case "args":
		return readRaw(p, &c.Args)
	case "bad":
		return p.String(&c.Bad)
	}
	return false
}

func writeResult(w *plainjson.Writer, r *llm.ToolResult) {
	w.Text("{")
	w.Key("id")
	w.String(r.ID)
	w.Key("name")
	w.String(r.Name)
	if len(r.Parts) > 0 {
		w.Key("parts")
		writeParts(w, r.Parts)
	}
	writeRaw(w, "data", r.Data)
	w.Flag("error", r.Error)
	w.Text("}")
}

func readResult(p *plainjson.Parser, r *llm.ToolResult) bool {
	return p.Object(func(key []byte) bool {
		switch string(key) {
		case "id":
			return p.String(&r.ID)
		case "name":
			return p.String(&r.Name)
		case "parts":
			return readParts(p, &r.Parts)
		case "data":
			return readRaw(p, &r.Data)
		case "error":
			return p.Bool(&r.Error)
		}
		return false
	})
}

func writeRaw(w *plainjson.Writer, name string, raw json.RawMessage) {
	if len(raw) > 0 {
		w.Key(name)
		w.Raw(raw)
	}
}

// readRaw reads JSON into memory of its own: what is read is the journal's.
func readRaw(p *plainjson.Parser, to *json.RawMessage) bool {
	ok := p.Raw(to)
	*to = bytes.Clone(*to)
	return ok
}
