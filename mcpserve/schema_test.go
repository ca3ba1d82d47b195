package mcpserve_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/mcpserve"
)

type (
	shape struct {
		Name  string          `json:"name" jsonschema:"who it is"`
		Any   any             `json:"any,omitempty"`
		Raw   json.RawMessage `json:"raw,omitempty"`
		Bytes []byte          `json:"bytes,omitempty"`
		When  time.Time       `json:"when,omitzero"`
		Word  word            `json:"word,omitzero"`
		Own   ownJSON         `json:"own,omitzero"`
		Deep  struct {
			N *int `json:"n,omitempty"`
		} `json:"deep,omitzero"`
	}
	word    struct{ s string }
	ownJSON struct{ X int }
)

func (w word) MarshalText() ([]byte, error)     { return []byte(w.s), nil }
func (o ownJSON) MarshalJSON() ([]byte, error)  { return []byte("7"), nil }
func (o *ownJSON) UnmarshalJSON(b []byte) error { return nil }

func TestSchemaOf(t *testing.T) {
	t.Parallel()
	got, err := mcpserve.SchemaOf[shape]()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"type":"object","required":["name"],"properties":{
		"name":{"type":"string","description":"who it is"},"any":{"description":"any JSON value"},"raw":{"description":"any JSON value"},"own":{"description":"any JSON value"},
		"bytes":{"type":"string"},"when":{"type":"string"},"word":{"type":"string"},
		"deep":{"type":"object","properties":{"n":{"anyOf":[{"type":"integer"},{"type":"null"}]}}}}}`
	if !sameJSON(got, want) {
		t.Errorf("schema = %s, want %s", got, want)
	}
	type node struct {
		Next []*struct{ Node any }
	}
	if _, err := mcpserve.SchemaOf[node](); err != nil {
		t.Error(err)
	}
	if _, err := mcpserve.SchemaOf[chan int](); err == nil {
		t.Error("a channel has a schema")
	}
}

func TestReadArguments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in, wrap string
		value    string
		id       string
		err      string
	}{
		{in: `{"sku":"a","amount":1,"more":{"x":[1]},"workflow_id":"w"}`, value: `{"amount":1,"more":{"x":[1]},"sku":"a"}`, id: "w"},
		{in: `{"line":{"sku":"a","amount":1.50}}`, wrap: "line", value: `{"sku":"a","amount":1.50}`},
		{in: `{"sku":"a"}`, err: "amount"},
		{in: `{"line":{"sku":"a","amount":0},"workflow_id":null}`, wrap: "line", value: `{"sku":"a","amount":0}`},
		{in: `{"line":null,"workflow_id":null}`, wrap: "line", err: "line"},
		{in: `{"line":{"sku":"a"}}`, wrap: "line", err: "amount"},
		{in: `{}`, wrap: "line", err: "line"},
		{in: ``, wrap: "line", err: "line"},
		{in: `null`, err: "sku"},
		{in: `[]`, err: "not an object"},
		{in: `{"sku":"a","amount":1,"workflow_id":3}`, err: "workflow_id"},
		{in: `{"sku":"a","amount":1`, err: "JSON"},
	} {
		own, value, err := mcpserve.ReadArguments[Line](json.RawMessage(c.in), c.wrap, "workflow_id")
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want one about %s", c.in, err, c.err)
			}
			continue
		}
		if err != nil || string(value) != c.value || own["workflow_id"] != c.id {
			t.Errorf("%s = %v, %s, %v; want %s", c.in, own, value, err, c.value)
		}
	}
	// A field of ours that the type has too wraps the type.
	type clash struct {
		WorkflowID string `json:"workflow_id"`
	}
	own, value, err := mcpserve.ReadArguments[clash](json.RawMessage(`{"workflow_id":"ours","value":{"workflow_id":"theirs"}}`), "", "workflow_id")
	if err != nil || own["workflow_id"] != "ours" || string(value) != `{"workflow_id":"theirs"}` {
		t.Errorf("clash = %v, %s, %v", own, value, err)
	}
}

func TestTemplate(t *testing.T) {
	t.Parallel()
	const in = `{"id":"A 1","n":12345678901234567890,"deep":{"x":"y"},"empty":" ","list":[1]}`
	for template, want := range map[string]string{
		"i-{id}":            "i-A 1",
		"{n}/{deep.x}":      "12345678901234567890/y",
		"{missing}":         "error missing: missing or empty",
		"{empty}":           "error empty: missing or empty",
		"{list}":            "error list: a string or a number",
		"{deep.x.z}":        "error deep.x.z: missing",
		"plain":             "error names no field",
		"{id":               "error write a field",
		"id}":               "error has a } without {",
		"{id}" + long("x"):  "error characters, the limit",
		"{}":                "error write a field",
		"{id}-{deep.x}-end": "A 1-y-end",
	} {
		got, err := mcpserve.Expand(template, json.RawMessage(in))
		if w, bad := strings.CutPrefix(want, "error "); bad {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s = %q, %v; want an error with %q", template, got, err, w)
			}
		} else if got != want || err != nil {
			t.Errorf("%s = %q, %v; want %q", template, got, err, want)
		}
	}
}

func long(s string) string { return strings.Repeat(s, 600) }

func FuzzReadState(f *testing.F) {
	f.Add("q1.eyJ3IjoidyIsInIiOiJyIiwicSI6InEiLCJhIjp7IndvcmtmbG93X2lkIjoidyIsInJ1bl9pZCI6InIifSwiZCI6ImQifQ")
	f.Add("q1.")
	f.Add("q1.e30")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		again, err := mcpserve.ReadState(s)
		if err != nil {
			return
		}
		if twice, err := mcpserve.ReadState(again); err != nil || twice != again {
			t.Errorf("%q = %q, again %q, %v", s, again, twice, err)
		}
	})
}

func FuzzReadArguments(f *testing.F) {
	f.Add([]byte(`{"invoice_id":"x","lines":[{"sku":"a","amount":1}],"workflow_id":"w"}`), "")
	f.Add([]byte(`{"invoice":{"invoice_id":"x"}}`), "invoice")
	f.Add([]byte(`null`), "a")
	f.Fuzz(func(t *testing.T, raw []byte, wrap string) {
		if wrap == "workflow_id" {
			return
		}
		_, value, err := mcpserve.ReadArguments[Invoice](raw, wrap, "workflow_id")
		if err != nil {
			return
		}
		var inv Invoice
		if err := json.Unmarshal(value, &inv); err != nil && !strings.Contains(err.Error(), "Invoice") {
			t.Errorf("%s was read as %s: %v", raw, value, err)
		}
	})
}
