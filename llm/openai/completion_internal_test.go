package openai

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpagent/mcpagent/internal/plainjson"
)

// FuzzCompletion: what reads itself is read as by encoding/json.
func FuzzCompletion(f *testing.F) {
	for _, s := range []string{
		`{"id":"c","object":"x","created":1,"model":"m","choices":[{"index":0,"finish_reason":null,"logprobs":null,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"sum","arguments":"{\"a\":1}"}}]}}],"usage":{"prompt_tokens":1,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":4}}}`,
		`{"choices":[{"delta":{"content":"a\n","reasoning":"r","reasoning_content":"s","refusal":"t","tool_calls":null}}],"usage":null,"error":{"message":"m"}}`,
		`{"choices":[{"delta":{"tool_calls":[{"index":1,"function":{"arguments":{"a":1}}},{"index":2,"extra_content":{"a":1},"custom":3}]}}]}`,
		"{ \"id\" : \"a b\" ,\n\t\"x\" : [ 1 , tru ], \"y\": \"\\\" \" }\n", `{"x":1 2}`, `{"x" "y"}`, `{"x":@}`, "{\"x\":\"\n\"}", "{\"x\":1\x00}", `{"x":"`,
		`{"ID":"c","choices":[]}`, `{"id":1}`, `{"choices":[null]}`, `null`, `[]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		plain, ok := plainjson.Plain(b)
		if !ok {
			return
		}
		var got, want completion
		if p := plainjson.NewParser(plain); !got.ReadJSON(p) || !p.End() {
			return
		}
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatalf("%q is read, and not by encoding/json: %v", b, err)
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(piece{})); d != "" {
			t.Errorf("%q: %s", b, d)
		}
	})
}
