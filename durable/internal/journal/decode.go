package journal

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// readJSON is json.Unmarshal of an entry in the form that appendJSON writes,
// six times as fast. What it does not know (escapes, other spellings, spaces)
// it leaves to json.Unmarshal, and says so: a test holds the two against each
// other.
func (e *Entry) readJSON(b []byte) bool {
	p := parser{b: b}
	ok := p.object(func(key []byte) bool {
		switch string(key) {
		case "v":
			return p.int(&e.V)
		case "at":
			return p.int64(&e.At)
		case "ev":
			return p.array(func() bool {
				ev := &Event{}
				e.Events = append(e.Events, ev)
				return p.event(ev)
			})
		case "calls":
			return p.array(func() bool {
				c := &Call{}
				e.Calls = append(e.Calls, c)
				return p.call(c)
			})
		case "closed":
			return p.array(func() bool {
				e.Closed = append(e.Closed, "")
				return p.string(&e.Closed[len(e.Closed)-1])
			})
		case "stops":
			return p.any(&e.Stops)
		case "marks":
			return p.any(&e.Marks)
		case "replies":
			return p.any(&e.Replies)
		case "notes":
			return p.any(&e.Notes)
		case "waits":
			return p.any(&e.Waits)
		case "end":
			return p.any(&e.End)
		}
		return false
	})
	return ok && p.i == len(b)
}

func (p *parser) event(ev *Event) bool {
	return p.object(func(key []byte) bool {
		switch string(key) {
		case "k":
			return p.word(&ev.Kind)
		case "ref":
			return p.int64(&ev.Ref)
		case "idx":
			return p.int(&ev.Index)
		case "at":
			return p.int64(&ev.At)
		case "call":
			return p.string(&ev.Call)
		case "id":
			return p.string(&ev.ID)
		case "name":
			return p.string(&ev.Name)
		case "by":
			return p.string(&ev.By)
		case "trace":
			return p.string(&ev.Trace)
		case "n":
			return p.int(&ev.Attempt)
		case "fail":
			return p.any(&ev.Failure)
		case "p":
			return p.span(&ev.Span)
		}
		return false
	})
}

func (p *parser) call(c *Call) bool {
	return p.object(func(key []byte) bool {
		switch string(key) {
		case "id":
			return p.string(&c.ID)
		case "k":
			return p.word(&c.Kind)
		case "name":
			return p.string(&c.Name)
		case "d":
			return p.string(&c.Digest)
		case "due":
			return p.int64(&c.Due)
		case "key":
			return p.string(&c.Key)
		case "o":
			raw, ok := p.value()
			c.Options = raw[:len(raw):len(raw)]
			return ok && json.Valid(raw)
		case "h":
			return p.any(&c.Headers)
		case "no":
			return p.any(&c.Refused)
		case "p":
			return p.span(&c.Span)
		}
		return false
	})
}

// parser reads JSON without spaces from b[i:]. Its methods report whether they
// found what they are for.
type parser struct {
	b []byte
	i int
}

// take moves past c, if it is next.
func (p *parser) take(c byte) bool {
	if p.i < len(p.b) && p.b[p.i] == c {
		p.i++
		return true
	}
	return false
}

func (p *parser) object(field func(key []byte) bool) bool {
	if !p.take('{') {
		return false
	}
	var had [16][]byte // a key twice is for json.Unmarshal
	for n := 0; ; n++ {
		key, ok := p.plain()
		if !ok || n == len(had) || !p.take(':') {
			return false
		}
		for _, h := range had[:n] {
			if bytes.Equal(h, key) {
				return false
			}
		}
		if !field(key) {
			return false
		}
		if p.take('}') {
			return true
		}
		if !p.take(',') {
			return false
		}
		had[n] = key
	}
}

func (p *parser) array(element func() bool) bool {
	if !p.take('[') {
		return false
	}
	for {
		if !element() {
			return false
		}
		if p.take(']') {
			return true
		}
		if !p.take(',') {
			return false
		}
	}
}

// plain reads a string of printable ASCII without escapes.
func (p *parser) plain() ([]byte, bool) {
	if p.i >= len(p.b) || p.b[p.i] != '"' {
		return nil, false
	}
	for i := p.i + 1; i < len(p.b); i++ {
		switch c := p.b[i]; {
		case c == '"':
			s := p.b[p.i+1 : i]
			p.i = i + 1
			return s, true
		case c < 0x20 || c >= 0x7f || c == '\\':
			return nil, false
		}
	}
	return nil, false
}

func (p *parser) string(to *string) bool {
	s, ok := p.plain()
	if ok {
		*to = string(s)
		return true
	}
	return p.any(to)
}

// word is string for one that is likely among the kinds.
func (p *parser) word(to *string) bool {
	s, ok := p.plain()
	if !ok {
		return false
	}
	for _, k := range kinds {
		if k == string(s) {
			*to = k
			return true
		}
	}
	*to = string(s)
	return true
}

var kinds = [...]string{Done, Step, Fired, Timer, Signaled, Started, SideEffect, Child, Running, Asked, Question, Canceled, Message, Callback, Stop}

func (p *parser) int64(to *int64) bool {
	from := p.i
	p.take('-')
	for p.i < len(p.b) && '0' <= p.b[p.i] && p.b[p.i] <= '9' {
		p.i++
	}
	s := p.b[from:p.i]
	if len(s) == 0 || len(s) > 1 && s[0] == '0' || len(s) > 1 && s[0] == '-' && s[1] == '0' || len(s) > 18 {
		return false
	}
	n, err := strconv.ParseInt(string(s), 10, 64)
	*to = n
	return err == nil
}

func (p *parser) int(to *int) bool {
	var n int64
	ok := p.int64(&n)
	*to = int(n)
	return ok && int64(*to) == n
}

func (p *parser) span(to **span) bool {
	s := &span{}
	*to = s
	return p.take('[') && p.int(&s[0]) && p.take(',') && p.int(&s[1]) && p.take(']')
}

// any leaves a value to json.Unmarshal.
func (p *parser) any(to any) bool {
	raw, ok := p.value()
	return ok && json.Unmarshal(raw, to) == nil
}

// value finds where the next value ends. Whether it is one is for whoever
// reads it, except that brackets match and strings end.
func (p *parser) value() ([]byte, bool) {
	from, depth := p.i, 0
	if from < len(p.b) && p.b[from] <= ' ' {
		return nil, false
	}
	for ; p.i < len(p.b); p.i++ {
		switch c := p.b[p.i]; c {
		case '"':
			for p.i++; p.i < len(p.b) && p.b[p.i] != '"'; p.i++ {
				if p.b[p.i] == '\\' {
					p.i++
				}
			}
			if p.i >= len(p.b) {
				return nil, false
			}
		case '{', '[':
			depth++
		case '}', ']', ',':
			if depth == 0 {
				return p.b[from:p.i], p.i > from
			}
			if c != ',' {
				depth--
			}
		}
	}
	return nil, false
}
