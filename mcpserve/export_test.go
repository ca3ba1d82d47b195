package mcpserve

import (
	"encoding/json"
	"reflect"
)

// ReadState decodes a requestState and writes it again.
func ReadState(text string) (string, error) {
	s, err := decodeState(text)
	if err != nil {
		return "", err
	}
	return s.encode(), nil
}

// ReadArguments decodes the arguments of a tool whose value is a T.
func ReadArguments[T any](raw json.RawMessage, wrap string, own ...string) (map[string]string, json.RawMessage, error) {
	s, err := schemaOf(reflect.TypeFor[T]())
	if err != nil {
		return nil, nil, err
	}
	var props []property
	for _, name := range own {
		props = append(props, property{name, "…"})
	}
	p, err := newParams(s, wrap, "value", props...)
	if err != nil {
		return nil, nil, err
	}
	return p.read(raw)
}

// SchemaOf is the JSON Schema of T as tools show it.
func SchemaOf[T any]() (string, error) {
	s, err := schemaOf(reflect.TypeFor[T]())
	if err != nil {
		return "", err
	}
	return string(mustJSON(s)), nil
}

// Expand makes a workflow id.
func Expand(template string, input json.RawMessage) (string, error) {
	t, err := parseTemplate(template, nil)
	if err != nil {
		return "", err
	}
	return t.expand(input)
}
