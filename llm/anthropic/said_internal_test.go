package anthropic

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpagent/mcpagent/internal/plainjson"
)

// FuzzSaid: whatever is read of an answer is read as by encoding/json.
func FuzzSaid(f *testing.F) {
	for _, s := range []string{
		`{"id":"m","type":"message","role":"assistant","model":"c","content":[{"type":"text","text":"a"},{"type":"tool_use","id":"t","name":"n","input":{"a":[1]}}],"stop_reason":"tool_use","stop_sequence":null,"stop_details":null,"usage":{"input_tokens":1,"cache_creation_input_tokens":0,"cache_read_input_tokens":null,"output_tokens":3,"output_tokens_details":{"thinking_tokens":2},"service_tier":"standard","cache_creation":{"a":1}}}`,
		"{ \"content\" : [ { \"a\" : 1 } , null ] ,\n\"stop_reason\":\"other\" }", `{"content":null,"usage":null,"stop_details":{"explanation":"x"},"stop_reason":null}`,
		`{"content":[tru]}`, `{"usage":{"input_tokens":"1"}}`, `{"Content":[]}`, `{"content":{}}`, `null`, `{"x":@}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		plain, ok := plainjson.Plain(b)
		if !ok {
			return
		}
		var got, want said
		if p := plainjson.NewParser(plain); !got.ReadJSON(p) || !p.End() {
			return
		}
		if !json.Valid(b) {
			t.Fatalf("%q is read, and is no JSON", b)
		}
		if err := json.Unmarshal(plain, &want); err != nil {
			t.Fatalf("%q is read, and not by encoding/json: %v", b, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q: %s", b, d)
		}
	})
}
