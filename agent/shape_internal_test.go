package agent

import (
	"encoding/json"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
)

type shaped struct {
	Name  string   `json:"name" jsonschema:"what it is"`
	N     int      `json:"n,omitempty"`
	F     *float64 `json:"f,omitempty"`
	On    bool     `json:"on,omitempty"`
	List  []string `json:"list,omitempty"`
	Inner struct {
		A int `json:"a"`
	} `json:"inner"`
}

func shapedSchema(t testing.TB) (json.RawMessage, *jsonschema.Resolved) {
	t.Helper()
	s, err := jsonschema.For[shaped](nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	resolved, err := resolve(raw)
	if err != nil {
		t.Fatal(err)
	}
	return raw, resolved
}

// TestShape: what a struct's schema says is a shape, and usual arguments are
// seen to fit without the validator.
func TestShape(t *testing.T) {
	t.Parallel()
	raw, _ := shapedSchema(t)
	s := shapeOf(raw)
	for _, b := range []string{`{"name":"x","inner":{"a":1}}`, `{"name":"x\n","n":-3,"f":null,"on":true,"list":["a"],"inner":{"a":1}}`, `{"inner":{"a":1},"name":"","f":2,"list":null}`} {
		if !s.fits([]byte(b)) {
			t.Errorf("%s is not seen to be of the shape %s", b, raw)
		}
	}
	for _, b := range []string{
		`{"type":"object","properties":{"a":{"type":"string","enum":["x"]}}}`, `{"type":"object","minProperties":1}`, `{"type":"object","properties":{"a":true}}`, `{}`, `true`,
		`{"type":"object","additionalProperties":{"type":"string"}}`, `{"type":"array","items":{"minimum":1}}`,
	} {
		if shapeOf(json.RawMessage(b)) != nil {
			t.Errorf("%s says more than a shape", b)
		}
	}
}

// FuzzShape: what fits a shape fits the schema.
func FuzzShape(f *testing.F) {
	raw, resolved := shapedSchema(f)
	s := shapeOf(raw)
	for _, b := range []string{
		`{"name":"x","n":1,"f":2,"on":true,"list":["a"],"inner":{"a":1}}`, `{"name":1,"inner":{"a":1}}`, `{"name":"x"}`, `{"name":"x","inner":{}}`, `{"name":"x","inner":{"a":1},"more":1}`,
		`{"name":"x","inner":{"a":1.5}}`, `{"name":"x","inner":{"a":1},"inner":{"a":1}}`, `{"name":null,"inner":{"a":1}}`, `{"name":"x","inner":{"a":1},"list":[1]}`, `[]`, `null`, ``,
	} {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v any
		if json.Unmarshal(b, &v) != nil || !s.fits(b) {
			return
		}
		if err := resolved.Validate(v); err != nil {
			t.Errorf("%s is seen to fit: %v", b, err)
		}
	})
}
