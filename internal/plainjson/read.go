package plainjson

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Readable is a value that reads itself in the form that [Writer] writes. It
// reports whether it could; then the rest is for encoding/json.
type Readable interface{ ReadJSON(p *Parser) bool }

// Unmarshal is [json.Unmarshal]. What a value does not know that reads itself
// (other spellings, spaces, members of a later version) it leaves to that.
func Unmarshal[T any](b []byte, to *T) error {
	if v, ok := any(to).(Readable); ok {
		if p := (&Parser{b: b}); v.ReadJSON(p) && p.End() {
			return nil
		}
		var zero T
		*to = zero
	}
	return json.Unmarshal(b, to)
}

// Plain is JSON without the spaces around its tokens, for a [Parser]. It may
// share memory with b. False: that is for encoding/json.
func Plain(b []byte) ([]byte, bool) {
	var out []byte // what came before from, once there was a space
	from := 0
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			if i = quoted(b, i); i >= len(b) {
				return nil, false
			}
		case c <= ' ':
			if out == nil {
				out = make([]byte, 0, len(b))
			}
			out = append(out, b[from:i]...)
			for from = i; from < len(b) && b[from] <= ' '; from++ {
				if c := b[from]; c != ' ' && c != '\n' && c != '\t' && c != '\r' {
					return nil, false
				}
			}
			if len(out) > 0 && from < len(b) && !bracket(out[len(out)-1]) && !bracket(b[from]) {
				return nil, false // it stood between two tokens
			}
			i = from - 1
		}
	}
	if out == nil {
		return b, true
	}
	return append(out, b[from:]...), true
}

// quoted is where the string that begins at i ends; len(b) or more: it does not.
func quoted(b []byte, i int) int {
	for i++; i < len(b) && b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i
}

// bracket reports whether a byte outside of strings is a token.
func bracket(c byte) bool {
	return c == '{' || c == '}' || c == '[' || c == ']' || c == ',' || c == ':'
}

// Parser reads JSON without spaces. Its methods report whether they found what
// they are for.
type Parser struct {
	b []byte
	i int
}

// NewParser reads b.
func NewParser(b []byte) *Parser { return &Parser{b: b} }

// End reports whether all is read.
func (p *Parser) End() bool { return p.i == len(p.b) }

// Next is the byte that comes next; 0 at the end.
func (p *Parser) Next() byte {
	if p.i == len(p.b) {
		return 0
	}
	return p.b[p.i]
}

// take moves past c, if it is next.
func (p *Parser) take(c byte) bool {
	if p.Next() == c && p.i < len(p.b) {
		p.i++
		return true
	}
	return false
}

// Object reads one, and has field read the value of each member. One with many
// members, and one with a member twice are for encoding/json.
func (p *Parser) Object(field func(key []byte) bool) bool {
	if !p.take('{') {
		return false
	}
	if p.take('}') {
		return true
	}
	var had [16][]byte
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

// Array reads one, and has element read each. Null has none; an empty one is
// for encoding/json.
func (p *Parser) Array(element func() bool) bool {
	if !p.take('[') {
		return p.Null()
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

// plain reads a string without escapes.
func (p *Parser) plain() ([]byte, bool) {
	if p.Next() != '"' {
		return nil, false
	}
	ascii := true
	for i := p.i + 1; i < len(p.b); i++ {
		switch c := p.b[i]; {
		case c == '"':
			s := p.b[p.i+1 : i]
			if !ascii && !utf8.Valid(s) {
				return nil, false
			}
			p.i = i + 1
			return s, true
		case c < ' ' || c == '\\':
			return nil, false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, false
}

// String reads a string. Null leaves it as it is.
func (p *Parser) String(to *string) bool {
	if s, ok := p.plain(); ok {
		*to = string(s)
		return true
	}
	if p.Next() == '"' {
		return p.escaped(to)
	}
	return p.Null()
}

// escaped reads a string with escapes. Halves of characters, and what is no
// UTF-8, are for encoding/json.
func (p *Parser) escaped(to *string) bool {
	out := make([]byte, 0, 256)
	for i := p.i + 1; i < len(p.b); i++ {
		switch c := p.b[i]; {
		case c == '"':
			if !utf8.Valid(out) {
				return false
			}
			*to = string(out)
			p.i = i + 1
			return true
		case c < ' ':
			return false
		case c != '\\':
			out = append(out, c)
		case i+1 == len(p.b):
			return false
		default:
			i++
			if p.b[i] == 'u' {
				if i+5 > len(p.b) {
					return false
				}
				r, err := strconv.ParseUint(string(p.b[i+1:i+5]), 16, 16)
				if err != nil || utf16.IsSurrogate(rune(r)) {
					return p.Any(to)
				}
				out = utf8.AppendRune(out, rune(r))
				i += 4
				continue
			}
			k := strings.IndexByte(`"\/bfnrt`, p.b[i])
			if k < 0 {
				return false
			}
			out = append(out, "\"\\/\b\f\n\r\t"[k])
		}
	}
	return false
}

// Null moves past null, if it is next.
func (p *Parser) Null() bool {
	ok := bytes.HasPrefix(p.b[p.i:], []byte("null"))
	if ok {
		p.i += len("null")
	}
	return ok
}

// Foreign moves past the value of a member that nobody knows. One whose name
// could be a known one in another spelling is for encoding/json.
func (p *Parser) Foreign(key []byte) bool {
	for _, c := range key {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	raw, ok := p.Value()
	return ok && valid(raw)
}

// valid is [json.Valid], which takes longer for what is short.
func valid(raw []byte) bool {
	switch string(raw) {
	case "null", "true", "false", "{}", "[]":
		return true
	}
	p := Parser{b: raw}
	if _, ok := p.plain(); ok && p.End() {
		return true
	}
	return json.Valid(raw)
}

// Word is String for one that is likely among some.
func (p *Parser) Word(to *string, words ...string) bool {
	s, ok := p.plain()
	if !ok {
		return false
	}
	for _, k := range words {
		if k == string(s) {
			*to = k
			return true
		}
	}
	*to = string(s)
	return true
}

// Int64 reads an integer.
func (p *Parser) Int64(to *int64) bool {
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

// Int reads an integer.
func (p *Parser) Int(to *int) bool {
	var n int64
	ok := p.Int64(&n)
	*to = int(n)
	return ok && int64(*to) == n
}

// Bool reads true or false.
func (p *Parser) Bool(to *bool) bool {
	*to = bytes.HasPrefix(p.b[p.i:], []byte("true"))
	if *to {
		p.i += len("true")
		return true
	}
	if bytes.HasPrefix(p.b[p.i:], []byte("false")) {
		p.i += len("false")
		return true
	}
	return false
}

// Raw reads any value as it is. It shares memory with what is read.
func (p *Parser) Raw(to *json.RawMessage) bool {
	raw, ok := p.Value()
	*to = raw[:len(raw):len(raw)]
	return ok && valid(raw)
}

// Any leaves a value to encoding/json.
func (p *Parser) Any(to any) bool {
	raw, ok := p.Value()
	return ok && json.Unmarshal(raw, to) == nil
}

// Value finds where the next value ends. Whether it is one is for whoever
// reads it, except that brackets match and strings end.
func (p *Parser) Value() ([]byte, bool) {
	from, depth := p.i, 0
	if from < len(p.b) && p.b[from] <= ' ' {
		return nil, false
	}
	for ; p.i < len(p.b); p.i++ {
		switch c := p.b[p.i]; c {
		case '"':
			if p.i = quoted(p.b, p.i); p.i >= len(p.b) {
				return nil, false
			}
		case '{', '[':
			depth++
		case '}', ']', ',':
			if depth == 0 {
				return p.b[from:p.i], p.i > from && p.b[p.i-1] > ' '
			}
			if c != ',' {
				depth--
			}
		}
	}
	return nil, false
}
