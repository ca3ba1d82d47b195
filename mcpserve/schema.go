package mcpserve

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// schemaOf makes the JSON Schema of a Go type as encoding/json writes it.
// Objects stay open: a field that the type does not know is no mistake of the
// caller, and the engine keeps it in the recorded input.
func schemaOf(t reflect.Type) (*jsonschema.Schema, error) {
	if t == nil {
		return &jsonschema.Schema{}, nil
	}
	if s, ok := own(t); ok {
		return s, nil
	}
	special := map[reflect.Type]*jsonschema.Schema{}
	opaque(t, special, map[reflect.Type]bool{})
	s, err := jsonschema.ForType(t, &jsonschema.ForOptions{TypeSchemas: special})
	if err != nil {
		return nil, err
	}
	loosen(s)
	return s, nil
}

// own is the schema that a type has of itself: by a method JSONSchema.
func own(t reflect.Type) (*jsonschema.Schema, bool) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	d, ok := reflect.New(t).Interface().(interface{ JSONSchema() json.RawMessage })
	if !ok {
		return nil, false
	}
	s := &jsonschema.Schema{}
	if err := json.Unmarshal(d.JSONSchema(), s); err != nil {
		return nil, false
	}
	return s, true
}

// loose is schemaOf for results: a type that has no schema is any value.
func loose(t reflect.Type) *jsonschema.Schema {
	s, err := schemaOf(t)
	if err != nil {
		return &jsonschema.Schema{}
	}
	return s
}

// opaque finds the types whose JSON the reflection of their fields would get
// wrong, because they write it themselves.
func opaque(t reflect.Type, special map[reflect.Type]*jsonschema.Schema, seen map[reflect.Type]bool) {
	if seen[t] {
		return
	}
	seen[t] = true
	if s, ok := own(t); ok && t.Kind() != reflect.Pointer {
		special[t] = s
		return
	}
	switch {
	case t.Kind() == reflect.Pointer:
	case t.PkgPath() == "time" || t.PkgPath() == "math/big" || t.PkgPath() == "log/slog":
		return // known to jsonschema
	case t == reflect.TypeFor[json.RawMessage]():
		special[t] = &jsonschema.Schema{}
		return
	case t == reflect.TypeFor[json.Number]():
		special[t] = &jsonschema.Schema{Type: "number"}
		return
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		special[t] = &jsonschema.Schema{Type: "string"} // base64
		return
	case t.Kind() == reflect.Interface:
		return
	case implements[json.Marshaler](t) || implements[json.Unmarshaler](t):
		special[t] = &jsonschema.Schema{}
		return
	case implements[encoding.TextMarshaler](t) || implements[encoding.TextUnmarshaler](t):
		special[t] = &jsonschema.Schema{Type: "string"}
		return
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		opaque(t.Elem(), special, seen)
	case reflect.Struct:
		for i := range t.NumField() {
			opaque(t.Field(i).Type, special, seen)
		}
	}
}

func implements[I any](t reflect.Type) bool {
	i := reflect.TypeFor[I]()
	return t.Implements(i) || reflect.PointerTo(t).Implements(i)
}

// loosen lets objects have further fields, and writes what any value and null
// are in the way that the most clients understand.
func loosen(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	if s.Properties != nil || s.AdditionalProperties != nil && s.AdditionalProperties.Not != nil {
		s.AdditionalProperties = nil
	}
	for _, p := range s.Properties {
		loosen(p)
	}
	loosen(s.Items)
	loosen(s.AdditionalProperties)
	switch {
	case isAny(s) && s.Description == "":
		s.Description = "any JSON value" // the empty schema would be written as true
	case len(s.Types) == 2 && s.Types[0] == "null":
		inner := *s
		inner.Type, inner.Types = s.Types[1], nil
		inner.Title, inner.Description = "", ""
		*s = jsonschema.Schema{Title: s.Title, Description: s.Description, AnyOf: []*jsonschema.Schema{&inner, {Type: "null"}}}
	}
}

// isAny reports whether the schema admits every value.
func isAny(s *jsonschema.Schema) bool {
	return s.Type == "" && s.Types == nil && s.Enum == nil && s.Const == nil && s.Ref == "" && s.Not == nil &&
		s.AnyOf == nil && s.OneOf == nil && s.AllOf == nil && s.Properties == nil && s.Required == nil
}

// nullable takes null out of a schema; false if it was not in.
func nullable(s *jsonschema.Schema) (*jsonschema.Schema, bool) {
	if len(s.AnyOf) == 2 && isAny(&jsonschema.Schema{Type: s.Type, Types: s.Types, Properties: s.Properties, AllOf: s.AllOf, OneOf: s.OneOf}) {
		for i, branch := range s.AnyOf {
			if branch.Type == "null" {
				inner := *s.AnyOf[1-i]
				inner.Title, inner.Description = s.Title, s.Description
				return &inner, true
			}
		}
	}
	return s, false
}

// isObject reports whether every value that the schema admits is an object.
func isObject(s *jsonschema.Schema) bool { return s.Type == "object" }

// takesNull reports whether the value may be left out: null says as much.
func takesNull(s *jsonschema.Schema) bool {
	_, null := nullable(s)
	return null || s.Type == "null" || slices.Contains(s.Types, "null") || isAny(s)
}

// property is an argument of our own, beside those of the user's type.
type property struct {
	name, about string
}

// params is how one Go value travels as the arguments of a tool: as the
// arguments themselves, or as one of them, beside arguments of our own.
type params struct {
	schema   *jsonschema.Schema // of the arguments: an object
	resolved *jsonschema.Resolved
	value    *jsonschema.Schema // of the value
	own      []property
	wrap     string // the argument that holds the value; empty: the arguments are the value
	none     bool   // there is no value
}

// newParams lays out the arguments for a value. It is wrapped into one
// argument if that has a name, or if the value is not an object or has a field
// of the name of one of ours; spare is the name of the argument then.
func newParams(value *jsonschema.Schema, wrap, spare string, own ...property) (*params, error) {
	p := &params{value: value, own: own, wrap: wrap}
	if value == nil {
		p.none, p.wrap = true, ""
	} else if p.wrap == "" {
		clash := slices.ContainsFunc(own, func(o property) bool { return value.Properties[o.name] != nil })
		if !isObject(value) || clash {
			p.wrap = spare
		}
	}
	s := &jsonschema.Schema{Type: "object", Properties: map[string]*jsonschema.Schema{}}
	switch {
	case p.none:
	case p.wrap == "":
		s = value.CloneSchemas()
		s.ID, s.Schema = "", ""
		if s.Properties == nil {
			s.Properties = map[string]*jsonschema.Schema{}
		}
	default:
		for _, o := range own {
			if o.name == p.wrap {
				return nil, fmt.Errorf("the argument %q is taken; set Tool.Arg to another name", p.wrap)
			}
		}
		s.Properties[p.wrap] = value.CloneSchemas()
		s.PropertyOrder = []string{p.wrap}
		if !takesNull(value) {
			s.Required = []string{p.wrap}
		}
	}
	for _, o := range own {
		s.Properties[o.name] = &jsonschema.Schema{Type: "string", Description: o.about}
		s.PropertyOrder = append(s.PropertyOrder, o.name)
	}
	if len(s.PropertyOrder) != len(s.Properties) {
		s.PropertyOrder = nil // a schema of the user's own
	}
	var err error
	p.schema = s
	p.resolved, err = s.Resolve(nil)
	return p, err
}

// read validates arguments and takes them apart. The value's bytes are the
// caller's: fields that the schema does not know are kept.
func (p *params) read(raw json.RawMessage) (own map[string]string, value json.RawMessage, err error) {
	optional := make([]string, len(p.own))
	for i, o := range p.own {
		optional[i] = o.name
	}
	raw = withoutNulls(raw, optional)
	if err := check(p.resolved, &raw); err != nil {
		return nil, nil, err
	}
	if len(p.own) == 0 && p.wrap == "" {
		if p.none {
			return nil, nil, nil
		}
		return nil, raw, nil
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, nil, badArguments("%v", err)
	}
	own = map[string]string{}
	for _, o := range p.own {
		var s string
		if v, ok := all[o.name]; ok {
			if err := json.Unmarshal(v, &s); err != nil {
				return nil, nil, badArguments("%s: %v", o.name, err)
			}
			delete(all, o.name)
		}
		own[o.name] = s
	}
	switch {
	case p.none:
		return own, nil, known(all, p.schema)
	case p.wrap != "":
		if value = all[p.wrap]; value == nil {
			value = json.RawMessage("null")
		}
		return own, value, known(all, p.schema)
	}
	value, err = json.Marshal(all)
	return own, value, err
}

// known refuses arguments that a tool does not have where some of them say
// which run is meant: a misspelled id must not leave the choice to us.
func known(all map[string]json.RawMessage, in *jsonschema.Schema) error {
	if in.Properties["run_id"] == nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if in.Properties[name] == nil {
			return badArguments("there is no argument %q; there are %s", name, quoted(slices.Sorted(maps.Keys(in.Properties))))
		}
	}
	return nil
}

// check validates the arguments of a call. Absent ones are an empty object.
func check(r *jsonschema.Resolved, raw *json.RawMessage) error {
	if t := bytes.TrimSpace(*raw); len(t) == 0 || string(t) == "null" {
		*raw = json.RawMessage("{}")
	}
	var v any
	if err := json.Unmarshal(*raw, &v); err != nil {
		return badArguments("not valid JSON: %v", err)
	}
	if _, ok := v.(map[string]any); !ok {
		return badArguments("the arguments are not an object")
	}
	if err := r.Validate(v); err != nil {
		return badArguments("%s", misfit(err))
	}
	return nil
}

var validating = regexp.MustCompile(`^validating (\S+): `)

// misfit is what a validation says, with the place in place of the way there:
// "lines[].amount: …".
func misfit(err error) string {
	text, at := err.Error(), ""
	for m := validating.FindStringSubmatch(text); m != nil; m = validating.FindStringSubmatch(text) {
		text, at = text[len(m[0]):], strings.TrimPrefix(m[1], "root")
	}
	text = strings.ReplaceAll(text, "<invalid reflect.Value>", "null")
	if at = strings.NewReplacer("/properties/", ".", "/items", "[]").Replace(at); at != "" {
		text = strings.TrimPrefix(at, ".") + ": " + text
	}
	return text
}

// withoutNulls leaves out arguments that are null, which is how many clients
// write that they give none.
func withoutNulls(raw json.RawMessage, optional []string) json.RawMessage {
	var all map[string]json.RawMessage
	if !bytes.Contains(raw, []byte("null")) || json.Unmarshal(raw, &all) != nil {
		return raw
	}
	before := len(all)
	for _, name := range optional {
		if string(all[name]) == "null" {
			delete(all, name)
		}
	}
	if len(all) == before {
		return raw
	}
	return mustJSON(all)
}

func badArguments(format string, args ...any) error {
	return &toolError{Type: "bad_arguments", Message: fmt.Sprintf(format, args...)}
}

// resultShape is how a value travels as structured content, which is an object
// in every revision of the protocol: as itself, or as {"result": value}.
type resultShape struct {
	schema *jsonschema.Schema
	wrap   bool
	typ    reflect.Type
}

// text is what a value says of itself, by a method Text of its type.
func (r resultShape) text(v json.RawMessage) (string, bool) {
	if r.typ == nil {
		return "", false
	}
	t := r.typ
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	p := reflect.New(t)
	d, ok := p.Interface().(interface{ Text() string })
	if !ok || json.Unmarshal(v, d) != nil {
		return "", false
	}
	return d.Text(), true
}

func newResultShape(t reflect.Type) resultShape {
	s := loose(t)
	if isObject(s) {
		return resultShape{schema: s, typ: t}
	}
	return resultShape{wrap: true, typ: t, schema: &jsonschema.Schema{
		Type: "object", Properties: map[string]*jsonschema.Schema{"result": s}, Required: []string{"result"},
	}}
}

func (r resultShape) of(v json.RawMessage) json.RawMessage {
	if len(v) == 0 {
		v = json.RawMessage("null")
	}
	if !r.wrap {
		if v := bytes.TrimSpace(v); len(v) > 0 && v[0] == '{' {
			return v
		}
	}
	return mustJSON(map[string]json.RawMessage{"result": v})
}

// either is the output schema of a tool whose structured content has one of
// several shapes; all of them are objects, and any of them can be an error.
func either(schemas ...*jsonschema.Schema) *jsonschema.Schema {
	return &jsonschema.Schema{Type: "object", AnyOf: append(schemas, loose(reflect.TypeFor[toolError]()))}
}

// canonical writes JSON in the one way in which equal values are equal bytes:
// clients that repeat a call may write their arguments in another order, and
// the engine compares inputs to tell whether they are the same start.
func canonical(raw json.RawMessage) json.RawMessage {
	var v any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return raw
	}
	return mustJSON(v)
}
