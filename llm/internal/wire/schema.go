package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/mcpagent/mcpagent/internal/plainjson"
)

// An object is JSON whose keys keep their order: models answer in the order of
// the properties.
type object []field

type field struct {
	key   string
	value json.RawMessage
}

func parse(b []byte) (object, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("no object: %.40q", b)
	}
	var o object
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		o = o.set(key.(string), value)
	}
	_, err := d.Token()
	return o, err
}

func (o object) index(key string) int {
	return slices.IndexFunc(o, func(f field) bool { return f.key == key })
}

func (o object) get(key string) json.RawMessage {
	if i := o.index(key); i >= 0 {
		return o[i].value
	}
	return nil
}

func (o object) set(key string, value json.RawMessage) object {
	if i := o.index(key); i >= 0 {
		o[i].value = value
		return o
	}
	return append(o, field{key, value})
}

func (o object) without(keys ...string) object {
	return slices.DeleteFunc(o, func(f field) bool { return slices.Contains(keys, f.key) })
}

func (o object) json() json.RawMessage {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, f := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		key, _ := json.Marshal(f.key) // of a string
		b.Write(key)
		b.WriteByte(':')
		b.Write(f.value)
	}
	b.WriteByte('}')
	return b.Bytes()
}

func isObject(b json.RawMessage) bool {
	b = bytes.TrimSpace(b)
	return len(b) > 0 && b[0] == '{'
}

// maxDepth of a schema that is looked into. What lies below stays as it is.
const maxDepth = 32

// ToolSchema is a schema of arguments as OpenAI and Anthropic take it: an
// object with properties, without alternatives on top, arrays with items, no
// null where a list belongs. It may allow more than the schema it was made of,
// never less: who executes the tool validates with that one.
func ToolSchema(schema json.RawMessage) (json.RawMessage, error) {
	if len(bytes.TrimSpace(schema)) == 0 {
		return json.RawMessage(`{"type":"object","properties":{}}`), nil
	}
	o, err := parse(schema)
	if err != nil {
		return nil, err
	}
	o = o.deref()
	for _, key := range []string{"anyOf", "oneOf", "allOf"} {
		if branches := o.get(key); branches != nil {
			if o, err = o.without(key).join(branches, key == "allOf"); err != nil {
				return nil, err
			}
		}
	}
	o = o.without("not", "enum", "const", "if", "then", "else", "$schema", "$id")
	if string(o.get("type")) != `"object"` {
		o = append(object{{"type", json.RawMessage(`"object"`)}}, o.without("type")...)
	}
	if !isObject(o.get("properties")) {
		o = o.without("properties").set("properties", json.RawMessage("{}"))
	}
	return tidy(o, 0), nil
}

// deref puts a definition of the schema in the place of a reference on top. One
// that leads nowhere, or has no end, says nothing.
func (o object) deref() object {
	for range maxDepth {
		var ref string
		if json.Unmarshal(o.get("$ref"), &ref) != nil {
			break
		}
		o = o.without("$ref")
		list, name, _ := strings.Cut(strings.TrimPrefix(ref, "#/"), "/")
		defs, err := parse(o.get(list))
		if err != nil {
			break
		}
		target, err := parse(defs.get(name))
		if err != nil {
			break
		}
		for _, f := range target {
			o = o.set(f.key, f.value)
		}
	}
	return o.without("$ref")
}

// join adds the properties of alternatives to an object. What all of them
// require is required.
func (o object) join(branches json.RawMessage, all bool) (object, error) {
	var list []json.RawMessage
	if json.Unmarshal(branches, &list) != nil {
		return o, nil
	}
	props, _ := parse(o.get("properties"))
	var required []string
	_ = json.Unmarshal(o.get("required"), &required) // anything else requires nothing
	var common []string
	first := true
	for _, raw := range list {
		b, err := parse(raw)
		if err != nil {
			common, first = nil, false
			continue
		}
		own, _ := parse(b.get("properties"))
		for _, p := range own {
			if props.index(p.key) < 0 {
				props = append(props, p)
			}
		}
		var needs []string
		_ = json.Unmarshal(b.get("required"), &needs)
		switch {
		case all:
			common = append(common, needs...)
		case first:
			common = needs
		default:
			common = slices.DeleteFunc(common, func(s string) bool { return !slices.Contains(needs, s) })
		}
		first = false
	}
	for _, s := range common {
		if !slices.Contains(required, s) {
			required = append(required, s)
		}
	}
	o = o.set("properties", props.json())
	if required = slices.DeleteFunc(required, func(s string) bool { return props.index(s) < 0 }); len(required) > 0 {
		b, err := json.Marshal(required)
		if err != nil {
			return nil, err
		}
		o = o.set("required", b)
	}
	return o, nil
}

// tidy mends what schemas of the wild have wrong.
func tidy(o object, depth int) json.RawMessage {
	if depth > maxDepth {
		return o.json()
	}
	o = slices.DeleteFunc(o, func(f field) bool {
		return string(f.value) == "null" && f.key != "default" && f.key != "const" || f.misfit()
	})
	if string(o.get("type")) == `"array"` && o.get("items") == nil && o.get("prefixItems") == nil {
		o = o.set("items", json.RawMessage("{}"))
	}
	return each(o, func(sub json.RawMessage) json.RawMessage {
		switch string(bytes.TrimSpace(sub)) {
		case "true":
			return json.RawMessage("{}")
		case "false":
			return json.RawMessage(`{"not":{}}`)
		}
		s, err := parse(sub)
		if err != nil {
			return sub
		}
		return tidy(s, depth+1)
	})
}

// misfit reports whether a word of JSON Schema has a value that it can't have, as
// in earlier versions of it. Without the word the schema allows more.
func (f field) misfit() bool {
	var to any
	switch f.key {
	case "required":
		to = &[]string{}
	case "enum", "anyOf", "oneOf", "allOf", "prefixItems":
		to = &[]json.RawMessage{}
	case "properties", "$defs", "definitions", "patternProperties", "dependentSchemas":
		return !isObject(f.value)
	case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
		"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties":
		to = new(float64)
	case "$ref", "title", "description", "pattern", "format":
		to = new(string)
	default:
		return false
	}
	return json.Unmarshal(f.value, to) != nil
}

// each replaces the schemas right within one.
func each(o object, f func(json.RawMessage) json.RawMessage) json.RawMessage {
	for i := range o {
		switch o[i].key {
		case "properties", "$defs", "definitions", "patternProperties", "dependentSchemas":
			if m, err := parse(o[i].value); err == nil {
				for j := range m {
					m[j].value = f(m[j].value)
				}
				o[i].value = m.json()
			}
		case "items", "contains", "propertyNames":
			o[i].value = f(o[i].value)
		case "additionalProperties":
			if isObject(o[i].value) {
				o[i].value = f(o[i].value)
			}
		case "anyOf", "oneOf", "allOf", "prefixItems":
			var list []json.RawMessage
			if json.Unmarshal(o[i].value, &list) != nil {
				continue
			}
			for j := range list {
				list[j] = f(list[j])
			}
			if b, err := json.Marshal(list); err == nil {
				o[i].value = b
			}
		}
	}
	return o.json()
}

// Rules are those of a provider that holds a model to a schema while it
// writes.
type Rules struct {
	Known    []string // the words of JSON Schema that it knows
	Dropped  []string // those that may be left out, since who reads the answer holds it to them
	Optional bool     // properties need not be required
}

// Strict is a schema of an answer for such a provider, and whether that can
// be. Objects that don't say whether more is allowed are closed, which takes
// nothing away from who reads the answer.
func Strict(schema json.RawMessage, r Rules) (json.RawMessage, bool) {
	o, err := parse(schema)
	if err != nil || string(o.get("type")) != `"object"` || o.get("anyOf") != nil {
		return schema, false
	}
	ok := true
	out := r.strict(o.without("$schema", "$id"), 0, &ok)
	if !ok {
		return schema, false
	}
	return out, true
}

func (r Rules) strict(o object, depth int, ok *bool) json.RawMessage {
	if depth > 10 {
		*ok = false
	}
	if !*ok {
		return nil
	}
	o = o.without(r.Dropped...)
	for _, f := range o {
		if !slices.Contains(r.Known, f.key) {
			*ok = false
			return nil
		}
	}
	if o.get("type") == nil && o.get("$ref") == nil && o.get("anyOf") == nil && o.get("enum") == nil && o.get("const") == nil {
		*ok = false
		return nil
	}
	if bytes.Contains(o.get("type"), []byte(`"object"`)) {
		if o = r.closed(o); o == nil {
			*ok = false
			return nil
		}
	}
	return each(o, func(sub json.RawMessage) json.RawMessage {
		s, err := parse(sub)
		if err != nil {
			*ok = false
			return nil
		}
		return r.strict(s, depth+1, ok)
	})
}

// closed is an object that has its own properties only; nil if it is meant to
// have others.
func (r Rules) closed(o object) object {
	props, err := parse(o.get("properties"))
	if o.get("properties") != nil && err != nil {
		return nil
	}
	var required []string
	if o.get("required") != nil && json.Unmarshal(o.get("required"), &required) != nil {
		return nil
	}
	for _, p := range props {
		if !r.Optional && !slices.Contains(required, p.key) {
			return nil
		}
	}
	switch string(Compact(o.get("additionalProperties"))) {
	case "", "false", `{"not":{}}`: // jsonschema-go has the last
	default:
		return nil
	}
	if len(props) == 0 && o.get("additionalProperties") == nil {
		return nil // any object
	}
	o = o.set("additionalProperties", json.RawMessage("false"))
	if o.get("required") == nil && !r.Optional {
		o = o.set("required", json.RawMessage("[]"))
	}
	return o
}

// Compact is JSON without spaces. What is no JSON stays as it is.
func Compact(b json.RawMessage) json.RawMessage {
	var out bytes.Buffer
	if json.Compact(&out, b) != nil {
		return b
	}
	return out.Bytes()
}

// Cache keeps what was made of schemas: the same tools are sent with each
// request. It is safe for concurrent use.
type Cache struct {
	mu   sync.Mutex
	made map[cacheKey]Made
}

type cacheKey struct{ kind, schema string }

// Made is what came of a schema. It has no spaces.
type Made struct {
	Schema json.RawMessage
	Strict bool
	Err    error
}

// Of gives what f makes of a schema. The kind tells apart what is made of one
// schema in two ways.
func (c *Cache) Of(kind string, schema json.RawMessage, f func(json.RawMessage) Made) Made {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.made[cacheKey{kind, string(schema)}] // without a copy
	if !ok {
		if m = f(schema); c.made == nil || len(c.made) >= 1000 {
			c.made = map[cacheKey]Made{}
		}
		m.Schema = Compact(m.Schema)
		c.made[cacheKey{kind, string(schema)}] = m
	}
	return m
}

// Tool is [ToolSchema], kept.
func (c *Cache) Tool(schema json.RawMessage) Made {
	return c.Of("tool:", schema, func(s json.RawMessage) (m Made) {
		m.Schema, m.Err = ToolSchema(s)
		return m
	})
}

// Answer is [Strict], kept.
func (c *Cache) Answer(schema json.RawMessage, r Rules) (json.RawMessage, bool) {
	m := c.Of("answer:", schema, func(s json.RawMessage) Made {
		out, ok := Strict(s, r)
		return Made{Schema: out, Strict: ok}
	})
	return m.Schema, m.Strict
}

// With is a JSON object with some members changed, in the order that it has.
func With(b json.RawMessage, changed map[string]any) json.RawMessage {
	if len(changed) == 0 {
		return b
	}
	o, err := parse(b)
	if err != nil {
		return b
	}
	for _, key := range slices.Sorted(maps.Keys(changed)) {
		if value, err := plainjson.Marshal(changed[key]); err == nil {
			o = o.set(key, value)
		}
	}
	return o.json()
}

// Others are the members of a JSON object that are not among those known; nil:
// there are none. It is quick where there are none.
func Others(b json.RawMessage, known ...string) map[string]json.RawMessage {
	depth, only := 0, true
	for i := 0; i < len(b) && only; i++ {
		switch b[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			from := i + 1
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if depth == 1 && i < len(b) && followed(b[i+1:]) {
				only = slices.Contains(known, string(b[from:i]))
			}
		}
	}
	if only {
		return nil
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(b, &all) != nil {
		return nil
	}
	for _, name := range known {
		delete(all, name)
	}
	return all
}

// followed reports whether what comes next is the value of a member.
func followed(b []byte) bool {
	b = bytes.TrimLeft(b, " \t\r\n")
	return len(b) > 0 && b[0] == ':'
}

// Joined is a JSON object with the members of another one, which win.
func Joined(b, more json.RawMessage) (json.RawMessage, error) {
	add, err := parse(more)
	if err != nil || len(add) == 0 {
		return b, err
	}
	o, err := parse(b)
	for _, f := range add {
		o = o.set(f.key, f.value)
	}
	return o.json(), err
}
