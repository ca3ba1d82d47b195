package wire_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/llm/internal/wire"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

// TestToolSchema has schemas of the wild.
func TestToolSchema(t *testing.T) {
	t.Parallel()
	for from, want := range map[string]string{
		``:   `{"type":"object","properties":{}}`,
		`{}`: `{"type":"object","properties":{}}`,
		`{"properties":{"z":{"type":"string"},"a":{"type":"string"}},"type":"object"}`:                                                                 `{"properties":{"z":{"type":"string"},"a":{"type":"string"}},"type":"object"}`, // the order stays
		`{"type":"object","properties":null,"required":null,"$schema":"x"}`:                                                                            `{"type":"object","properties":{}}`,
		`{"type":"object","properties":{"l":{"type":"array"},"any":true,"no":false}}`:                                                                  `{"type":"object","properties":{"l":{"type":"array","items":{}},"any":{},"no":{"not":{}}}}`,
		`{"anyOf":[{"properties":{"a":{},"b":{}},"required":["a","b"]},{"properties":{"b":{"x":1},"c":{}},"required":["b"]}]}`:                         `{"type":"object","properties":{"a":{},"b":{},"c":{}},"required":["b"]}`,
		`{"type":"object","properties":{"a":{}},"required":["a"],"allOf":[{"properties":{"b":{}},"required":["b"]},{"if":{}}]}`:                        `{"type":"object","properties":{"a":{},"b":{}},"required":["a","b"]}`,
		`{"$ref":"#/$defs/A","$defs":{"A":{"type":"object","properties":{"a":{"$ref":"#/$defs/B"}}},"B":{"type":"array","prefixItems":[{},{}]}}}`:      `{"$defs":{"A":{"type":"object","properties":{"a":{"$ref":"#/$defs/B"}}},"B":{"type":"array","prefixItems":[{},{}]}},"type":"object","properties":{"a":{"$ref":"#/$defs/B"}}}`,
		`{"type":"object","properties":{"deep":{"type":"object","properties":{"x":{"anyOf":[{"type":"array"},{"type":"null"}]}}}},"oneOf":"nonsense"}`: `{"type":"object","properties":{"deep":{"type":"object","properties":{"x":{"anyOf":[{"type":"array","items":{}},{"type":"null"}]}}}}}`,
		`{"$ref":"#/$defs/A","properties":{"a":{}}}`:                                                                                                   `{"type":"object","properties":{"a":{}}}`,
		`{"$ref":"#/$defs/A","$defs":{"A":{"$ref":"#/$defs/A"}}}`:                                                                                      `{"type":"object","$defs":{"A":{"$ref":"#/$defs/A"}},"properties":{}}`,
		`{"$ref":"#"}`: `{"type":"object","properties":{}}`,
		`{"type":"object","required":"a","properties":{"a":{"type":"number","minimum":1,"exclusiveMinimum":true,"required":true,"enum":"x","description":1,"properties":[]}}}`: `{"type":"object","properties":{"a":{"type":"number","minimum":1}}}`,
	} {
		got, err := wire.ToolSchema(json.RawMessage(from))
		if err != nil || string(got) != want {
			t.Errorf("%s\ngot  %s, %v\nwant %s", from, got, err, want)
		}
	}
	for from, want := range map[string]string{
		`[]`: "no object",
	} {
		if got, err := wire.ToolSchema(json.RawMessage(from)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot %s, %v\nwant %s", from, got, err, want)
		}
	}
}

func TestStrict(t *testing.T) {
	t.Parallel()
	all := wire.Rules{Known: []string{"type", "properties", "required", "additionalProperties", "items", "anyOf", "$defs", "$ref", "enum"}}
	some := wire.Rules{Known: all.Known, Dropped: []string{"minimum"}, Optional: true}
	for _, c := range []struct {
		rules      wire.Rules
		from, want string // "": it can't be
	}{
		{all, `{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}`, `{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}`},
		{all, `{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":{"not":{}}}`, `{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}`},
		{all, `{"type":"object","properties":{"a":{"type":["array","null"],"items":{"type":"object","properties":{"b":{"enum":[1]}},"required":["b"]}}},"required":["a"]}`, `{"type":"object","properties":{"a":{"type":["array","null"],"items":{"type":"object","properties":{"b":{"enum":[1]}},"required":["b"],"additionalProperties":false}}},"required":["a"],"additionalProperties":false}`},
		{all, `{"type":"object","properties":{"a":{"type":"string"}}}`, ``},
		{all, `{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":true}`, ``},
		{all, `{"type":"object","properties":{"a":{"type":"string","pattern":"x"}},"required":["a"]}`, ``},
		{all, `{"type":"object","properties":{"a":{}},"required":["a"]}`, ``},
		{all, `{"type":"object","properties":{"a":true},"required":["a"]}`, ``},
		{all, `{"type":"object"}`, ``},
		{all, `{"type":"array","items":{}}`, ``},
		{some, `{"type":"object","properties":{"a":{"type":"integer","minimum":1}}}`, `{"type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":false}`},
		{some, `{"type":"object","properties":{"m":{"type":"object","additionalProperties":{"type":"string"}}}}`, ``},
	} {
		got, ok := wire.Strict(json.RawMessage(c.from), c.rules)
		if want := c.want; want == "" && (ok || string(got) != c.from) || want != "" && (!ok || string(got) != want) {
			t.Errorf("%s\ngot  %s, %v\nwant %s", c.from, got, ok, want)
		}
	}
}

// FuzzToolSchema wants what providers take, whatever the schema is.
func FuzzToolSchema(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"anyOf":[{"properties":{"a":true}}],"required":["a",1]}`, `{"$ref":"#/$defs/A","$defs":{"A":{"type":["object"]}}}`,
		`{"type":"object","properties":{"a":{"type":"array","items":false}},"allOf":[1,{"allOf":[]}]}`, `{"properties":{"a":1,"a":{"not":null}}}`,
	} {
		f.Add(s)
	}
	rules := wire.Rules{Known: []string{"type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf"}}
	f.Fuzz(func(t *testing.T, s string) {
		if !json.Valid([]byte(s)) {
			return
		}
		got, err := wire.ToolSchema(json.RawMessage(s))
		if err == nil {
			body := `{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"t","parameters":` + string(got) + `}}]}`
			if err := llmtest.ValidateOpenAI([]byte(body)); err != nil {
				t.Errorf("%s\nbecame %s\n%v", s, got, err)
			}
		}
		if got, ok := wire.Strict(json.RawMessage(s), rules); ok {
			body := `{"model":"m","messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema","json_schema":{"name":"t","strict":true,"schema":` + string(got) + `}}}`
			if err := llmtest.ValidateOpenAI([]byte(body)); err != nil {
				t.Errorf("%s\nbecame %s\n%v", s, got, err)
			}
		}
	})
}

func TestOthers(t *testing.T) {
	t.Parallel()
	for b, want := range map[string]string{
		`{}`:                              `null`,
		`{"id":"x","function":{"new":1}}`: `null`,
		`{ "id" : "new\":1", "function":[{"new":1}]}`: `null`,
		`{"id":"x","new":{"id":1}}`:                   `{"new":{"id":1}}`,
		`{"new" :1,"\u0069d":2}`:                      `{"new":1}`,
		`[1]`:                                         `null`,
		`"id"`:                                        `null`,
	} {
		got, err := json.Marshal(wire.Others(json.RawMessage(b), "id", "function"))
		if err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v, want %s", b, got, err, want)
		}
	}
}
