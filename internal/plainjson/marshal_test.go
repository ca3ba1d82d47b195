package plainjson_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/internal/plainjson"
)

// Marshal is that of package json, but for what that escapes for HTML.
func TestMarshalHasNoEscapesForHTML(t *testing.T) {
	t.Parallel()
	for v, want := range map[any]string{
		"plain":                   `"plain"`,
		"<a>&\u2028\\u003c\n":     `"<a>&\u2028\\u003c\n"`,
		[2]string{"<", ">"}:       `["<",">"]`,
		strings.Repeat("x", 1000): `"` + strings.Repeat("x", 1000) + `"`,
	} {
		if b, err := plainjson.Marshal(v); string(b) != want || err != nil {
			t.Errorf("%v is %s, %v; want %s", v, b, err, want)
		}
	}
	if b, err := plainjson.Marshal(map[string]any{"b": json.RawMessage(`{"y" : "<"}`), "a": json.RawMessage(`"\u003c"`)}); string(b) != `{"a":"\u003c","b":{"y":"<"}}` || err != nil {
		t.Errorf("raw JSON became %s, %v", b, err)
	}
	for _, v := range []any{func() {}, []any{"<", func() {}}} {
		if b, err := plainjson.Marshal(v); err == nil {
			t.Errorf("%T became %s", v, b)
		}
	}
}
