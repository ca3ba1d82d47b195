package journal

import (
	"encoding/json"
	"strings"
	"testing"
)

// JSON is that of package json, but for what that escapes for HTML.
func TestJSONHasNoEscapesForHTML(t *testing.T) {
	t.Parallel()
	for v, want := range map[any]string{
		"plain":                   `"plain"`,
		"<a>&\u2028\\u003c\n":     `"<a>&\u2028\\u003c\n"`,
		[2]string{"<", ">"}:       `["<",">"]`,
		strings.Repeat("x", 1000): `"` + strings.Repeat("x", 1000) + `"`,
	} {
		if b, err := JSON(v); string(b) != want || err != nil {
			t.Errorf("%v is %s, %v; want %s", v, b, err, want)
		}
	}
	if b, err := JSON(map[string]any{"b": json.RawMessage(`{"y" : "<"}`), "a": json.RawMessage(`"\u003c"`)}); string(b) != `{"a":"\u003c","b":{"y":"<"}}` || err != nil {
		t.Errorf("raw JSON became %s, %v", b, err)
	}
	for _, v := range []any{func() {}, []any{"<", func() {}}} {
		if b, err := JSON(v); err == nil {
			t.Errorf("%T became %s", v, b)
		}
	}
}
