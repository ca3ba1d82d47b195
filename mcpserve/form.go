package mcpserve

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// form is a question as the forms of the protocol can ask it: an object whose
// fields are plain values.
type form struct {
	schema *jsonschema.Schema
	wrap   bool     // the answer is the field "value"
	text   bool     // … as JSON, because no form can hold it
	nulls  []string // fields that the form leaves out and the answer needs
}

const maxContext = 4000 // characters of a question's context in a form

// formOf lays out the form for a question.
func (s *Server) formOf(q *durable.QuestionInfo) *form {
	schema := s.answerSchema(q)
	if isObject(schema) {
		if f := fieldsOf(schema); f != nil {
			return f
		}
	} else if p, _ := plain(schema); p != nil {
		return &form{wrap: true, schema: &jsonschema.Schema{Type: "object", Properties: map[string]*jsonschema.Schema{"value": p}, Required: []string{"value"}}}
	}
	return &form{wrap: true, text: true, schema: &jsonschema.Schema{
		Type:     "object",
		Required: []string{"value"},
		Properties: map[string]*jsonschema.Schema{"value": {
			Type: "string", Title: "Answer as JSON", Description: "JSON of this schema: " + string(mustJSON(schema)),
		}},
	}}
}

// fieldsOf makes a form of an object; nil if a field that has to be there is
// no plain value.
func fieldsOf(s *jsonschema.Schema) *form {
	f := &form{schema: &jsonschema.Schema{Type: "object", Properties: map[string]*jsonschema.Schema{}}}
	if len(s.Properties) == 0 || s.AllOf != nil || s.AnyOf != nil || s.OneOf != nil || s.Ref != "" {
		return nil
	}
	order := s.PropertyOrder
	if len(order) != len(s.Properties) {
		order = slices.Sorted(maps.Keys(s.Properties))
	}
	for _, name := range order {
		p := s.Properties[name]
		required := slices.Contains(s.Required, name)
		simple, null := plain(p)
		switch {
		case simple != nil:
			f.schema.Properties[name] = simple
			f.schema.PropertyOrder = append(f.schema.PropertyOrder, name)
			if required && !null {
				f.schema.Required = append(f.schema.Required, name)
			} else if required {
				f.nulls = append(f.nulls, name)
			}
		case !required:
		case null:
			f.nulls = append(f.nulls, name)
		default:
			return nil
		}
	}
	if len(f.schema.Properties) == 0 {
		return nil
	}
	return f
}

// plain restricts a schema to what the protocol allows in a form; nil if that
// says too little. null tells that the value may be null.
func plain(s *jsonschema.Schema) (p *jsonschema.Schema, null bool) {
	s, null = nullable(s)
	typ := s.Type
	for _, t := range s.Types {
		if t == "null" {
			null = true
		} else if typ == "" {
			typ = t
		} else {
			return nil, null // several types
		}
	}
	if typ == "" {
		return nil, null || takesNull(s)
	}
	p = &jsonschema.Schema{Type: typ, Title: s.Title, Description: s.Description, Default: s.Default}
	switch typ {
	case "boolean":
	case "integer", "number":
		if s.Enum != nil {
			return nil, null
		}
		p.Minimum, p.Maximum = s.Minimum, s.Maximum
	case "string":
		p.MinLength, p.MaxLength, p.Enum = s.MinLength, s.MaxLength, s.Enum
		switch s.Format {
		case "email", "uri", "date", "date-time":
			p.Format = s.Format
		}
	default:
		return nil, null
	}
	return p, null
}

// params is the form with its text.
func (f *form) params(message string) *mcp.ElicitParams {
	return &mcp.ElicitParams{Mode: "form", Message: message, RequestedSchema: f.schema}
}

// value makes the answer of what a person filled in.
func (f *form) value(content map[string]any) (json.RawMessage, error) {
	if content == nil {
		content = map[string]any{}
	}
	if !f.wrap {
		for _, name := range f.nulls {
			if _, ok := content[name]; !ok {
				content[name] = nil
			}
		}
		return json.Marshal(content)
	}
	v, ok := content["value"]
	if !ok {
		return nil, badArguments("value: missing")
	}
	if !f.text {
		return json.Marshal(v)
	}
	text, _ := v.(string)
	if !json.Valid([]byte(text)) {
		return nil, badArguments("value: not valid JSON")
	}
	return json.RawMessage(text), nil
}

// questionText is a question with what it is about.
func questionText(q *durable.QuestionInfo) string {
	if len(q.Context) == 0 || string(q.Context) == "null" {
		return q.Text
	}
	about := pretty(q.Context)
	if r := []rune(about); len(r) > maxContext {
		about = fmt.Sprintf("%s\n… (%d characters more)", string(r[:maxContext]), len(r)-maxContext)
	}
	return q.Text + "\n\n" + about
}
