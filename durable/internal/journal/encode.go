package journal

import "strconv"

// appendJSON is [JSON] of an entry for what is in every one, events and
// calls, four times as fast; the rest is left to it. A test holds the two
// against each other.
func (e *Entry) appendJSON(b []byte) ([]byte, error) {
	b = append(b, `{"v":`...)
	b = strconv.AppendInt(b, int64(e.V), 10)
	b = append(b, `,"at":`...)
	b = strconv.AppendInt(b, e.At, 10)
	if len(e.Events) > 0 {
		b = append(b, `,"ev":[`...)
		for i, ev := range e.Events {
			if i > 0 {
				b = append(b, ',')
			}
			var err error
			if b, err = ev.appendJSON(b); err != nil {
				return nil, err
			}
		}
		b = append(b, ']')
	}
	if len(e.Calls) > 0 {
		b = append(b, `,"calls":[`...)
		for i, c := range e.Calls {
			if i > 0 {
				b = append(b, ',')
			}
			var err error
			if b, err = c.appendJSON(b); err != nil {
				return nil, err
			}
		}
		b = append(b, ']')
	}
	if e.Closed == nil && e.Stops == nil && e.Marks == nil && e.Replies == nil && e.Notes == nil && e.Waits == nil && e.End == nil {
		return append(b, '}'), nil
	}
	type plain Entry
	rest := plain(*e)
	rest.V, rest.At, rest.Events, rest.Calls = 0, 0, nil, nil
	more, err := JSON(rest)
	if err != nil {
		return nil, err
	}
	return append(b, more[len(`{"v":0,"at":0`):]...), nil
}

func (ev *Event) appendJSON(b []byte) ([]byte, error) {
	b = append(b, `{"k":`...)
	b = appendString(b, ev.Kind)
	b = appendInt(b, "ref", ev.Ref)
	b = appendInt(b, "idx", int64(ev.Index))
	b = appendInt(b, "at", ev.At)
	b = appendField(b, "call", ev.Call)
	b = appendField(b, "id", ev.ID)
	b = appendField(b, "name", ev.Name)
	b = appendField(b, "by", ev.By)
	b = appendField(b, "trace", ev.Trace)
	b = appendInt(b, "n", int64(ev.Attempt))
	if ev.Failure != nil {
		f, err := JSON(ev.Failure)
		if err != nil {
			return nil, err
		}
		b = append(append(b, `,"fail":`...), f...)
	}
	return append(ev.Span.appendTo(b), '}'), nil
}

func (c *Call) appendJSON(b []byte) ([]byte, error) {
	b = append(b, `{"id":`...)
	b = appendString(b, c.ID)
	b = append(b, `,"k":`...)
	b = appendString(b, c.Kind)
	b = appendField(b, "name", c.Name)
	b = appendField(b, "d", c.Digest)
	b = appendInt(b, "due", c.Due)
	b = appendField(b, "key", c.Key)
	if len(c.Options) > 0 {
		b = append(append(b, `,"o":`...), c.Options...)
	}
	if len(c.Headers) > 0 {
		b = append(append(b, `,"h":`...), c.Headers...)
	}
	if c.Refused != nil {
		f, err := JSON(c.Refused)
		if err != nil {
			return nil, err
		}
		b = append(append(b, `,"no":`...), f...)
	}
	return append(c.Span.appendTo(b), '}'), nil
}

func (s *span) appendTo(b []byte) []byte {
	if s == nil {
		return b
	}
	b = append(b, `,"p":[`...)
	b = strconv.AppendInt(b, int64(s[0]), 10)
	b = append(b, ',')
	b = strconv.AppendInt(b, int64(s[1]), 10)
	return append(b, ']')
}

func appendField(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(append(append(b, `,"`...), name...), `":`...)
	return appendString(b, value)
}

func appendInt(b []byte, name string, n int64) []byte {
	if n == 0 {
		return b
	}
	b = append(append(append(b, `,"`...), name...), `":`...)
	return strconv.AppendInt(b, n, 10)
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			q, err := JSON(s)
			if err != nil {
				return append(b, `""`...) // a string always can
			}
			return append(b, q...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
