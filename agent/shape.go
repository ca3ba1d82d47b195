package agent

import (
	"encoding/json"
	"slices"

	"github.com/mcpagent/mcpagent/internal/plainjson"
)

// shape is a schema that says nothing but types and names, as those of Go
// structs do. Whether arguments fit is seen in one pass then; those that don't,
// or are written in an unusual way, are for the validator, which knows why.
type shape struct {
	types    []string // any of them
	props    map[string]*shape
	required []string
	closed   bool // no other properties
	items    *shape
}

// shapeOf is the shape of a schema; nil if it says more than that.
func shapeOf(schema json.RawMessage) *shape {
	var words map[string]json.RawMessage
	if json.Unmarshal(schema, &words) != nil {
		return nil
	}
	s := &shape{}
	for word, v := range words {
		ok := true
		switch word {
		case "title", "description":
		case "type":
			var one string
			if json.Unmarshal(v, &one) == nil {
				s.types = []string{one}
			} else {
				ok = json.Unmarshal(v, &s.types) == nil
			}
		case "required":
			ok = json.Unmarshal(v, &s.required) == nil
		case "properties":
			var props map[string]json.RawMessage
			ok = json.Unmarshal(v, &props) == nil
			s.props = map[string]*shape{}
			for name, p := range props {
				s.props[name] = shapeOf(p)
				ok = ok && s.props[name] != nil
			}
		case "items":
			s.items = shapeOf(v)
			ok = s.items != nil
		case "additionalProperties":
			s.closed = string(v) == "false" || string(v) == `{"not":{}}`
			ok = s.closed
		default:
			ok = false
		}
		if !ok {
			return nil
		}
	}
	if s.types == nil {
		return nil
	}
	return s
}

// fits reports whether JSON is sure to be of the shape. A nil shape is sure of
// nothing.
func (s *shape) fits(b []byte) bool {
	p := plainjson.NewParser(b)
	return s != nil && s.read(p) && p.End()
}

func (s *shape) read(p *plainjson.Parser) bool {
	switch p.Next() {
	case '{':
		had := 0
		return s.takes("object") && p.Object(func(key []byte) bool {
			prop := s.props[string(key)]
			if prop == nil {
				return !s.closed && p.Foreign(key)
			}
			if slices.Contains(s.required, string(key)) {
				had++
			}
			return prop.read(p)
		}) && had == len(s.required)
	case '[':
		return s.takes("array") && s.items != nil && p.Array(func() bool { return s.items.read(p) })
	case '"':
		_, ok := p.Value()
		return ok && s.takes("string")
	case 't', 'f':
		var on bool
		return s.takes("boolean") && p.Bool(&on)
	case 'n':
		return s.takes("null") && p.Null()
	}
	var n int64
	return (s.takes("integer") || s.takes("number")) && p.Int64(&n)
}

func (s *shape) takes(kind string) bool { return slices.Contains(s.types, kind) }
