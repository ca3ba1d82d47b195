package mcpserve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// maxID bounds the ids that templates make of input.
const maxID = 500

// template makes a workflow id from fields of an input.
type template struct {
	text   string
	parts  []string   // literal text before each field, and after the last one
	fields [][]string // paths
}

// parseTemplate parses "invoice-{invoice_id}"; nil for the empty text. Fields
// that the schema of the input can't have are refused.
func parseTemplate(text string, in *jsonschema.Schema) (*template, error) {
	if text == "" {
		return nil, nil
	}
	t := &template{text: text}
	for rest := text; ; {
		before, after, ok := strings.Cut(rest, "{")
		t.parts = append(t.parts, before)
		if strings.Contains(before, "}") {
			return nil, fmt.Errorf("Tool.ID %q has a } without {", text)
		}
		if !ok {
			break
		}
		name, after, ok := strings.Cut(after, "}")
		if !ok || name == "" || strings.Contains(name, "{") {
			return nil, fmt.Errorf("Tool.ID %q: write a field of the input as {name} or {name.of.it}", text)
		}
		path := strings.Split(name, ".")
		if in != nil && len(in.Properties) > 0 && in.Properties[path[0]] == nil {
			return nil, fmt.Errorf("Tool.ID %q: the input has no field %q; name one of its JSON fields", text, path[0])
		}
		t.fields = append(t.fields, path)
		rest = after
	}
	if len(t.fields) == 0 {
		return nil, fmt.Errorf("Tool.ID %q names no field of the input, so that all runs would be one; write {name}", text)
	}
	return t, nil
}

// expand makes the id. A field that is missing, empty or no plain value is the
// caller's mistake.
func (t *template) expand(input json.RawMessage) (string, error) {
	var in any
	dec := json.NewDecoder(bytes.NewReader(input))
	dec.UseNumber()
	if err := dec.Decode(&in); err != nil {
		return "", badArguments("not valid JSON: %v", err)
	}
	var b strings.Builder
	for i, path := range t.fields {
		b.WriteString(t.parts[i])
		v := in
		for _, name := range path {
			m, _ := v.(map[string]any)
			v = m[name]
		}
		var s string
		switch v := v.(type) {
		case string:
			s = strings.TrimSpace(v)
		case json.Number:
			s = v.String()
		case nil:
		default:
			return "", badArguments("%s: a string or a number is needed, to name the run %q", strings.Join(path, "."), t.text)
		}
		if s == "" {
			return "", badArguments("%s: missing or empty; it is needed to name the run %q", strings.Join(path, "."), t.text)
		}
		b.WriteString(s)
	}
	b.WriteString(t.parts[len(t.parts)-1])
	if b.Len() > maxID {
		return "", badArguments("the run's id %q would have %d characters, the limit is %d", t.text, b.Len(), maxID)
	}
	return b.String(), nil
}
