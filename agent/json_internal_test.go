package agent

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpagent/mcpagent/internal/plainjson"
	"github.com/mcpagent/mcpagent/llm"
)

// samples are values of each type that writes itself, with and without each of
// its members.
func samples() []plainjson.Value {
	odd := "a\"b\\c<d>&é\u2028\x00\xff\n"
	parts := []llm.Part{
		{}, {Text: odd}, {Media: &llm.Media{Type: "image/png", Data: []byte{1, 2}, Name: odd}}, {Reasoning: &llm.Reasoning{Text: odd}, Raw: &llm.Raw{Provider: "p", Data: json.RawMessage(`{"a" : "<"}`)}},
		{Call: &llm.ToolCall{ID: "c", Name: "sum", Args: json.RawMessage(` {"a" : [1, "<\u003c"]}`)}}, {Call: &llm.ToolCall{ID: "d", Bad: odd, Args: json.RawMessage(`"x"`)}},
		{Result: &llm.ToolResult{ID: "c", Name: "sum", Data: json.RawMessage(`7`)}}, {Result: &llm.ToolResult{ID: "d", Error: true, Parts: []llm.Part{{Text: "no"}, {Media: &llm.Media{Type: "t", URL: "u"}}}}},
	}
	response := llm.Response{Message: llm.Message{Role: llm.RoleModel, Parts: parts}, Stop: llm.StopTools, Usage: llm.Usage{Input: 1, Output: 2, CacheRead: 3, CacheWrite: 4, Reasoning: 5}, Model: "m", ID: odd}
	result := Result{Message: response.Message, Stop: llm.StopEnd, Turns: 3}
	return []plainjson.Value{
		callIn{}, callIn{"m", "f", "t", odd, 7, "i"},
		funcIn{}, funcIn{llm.ToolCall{ID: "c", Name: "n", Bad: odd}, "l"}, funcIn{ToolCall: *parts[4].Call},
		called{}, called{Unfit: odd}, called{Result: parts[6].Result, Cost: &result}, called{Result: parts[7].Result},
		said{}, said(response), said{Message: llm.Message{Parts: []llm.Part{}}, Stop: "other"},
		(*spoken)(&response.Message), &spoken{}, &spoken{Role: llm.RoleUser, Parts: []llm.Part{}},
		link{}, link{"p", []string{}}, link{"", []string{"a", "b"}},
		&milestone{}, &milestone{EventResult, odd, 3, "t", 2, time.Unix(1, 5).UTC(), odd, odd, &llm.ToolCall{ID: "c", Name: "n"}, true, 9, "s", &result},
	}
}

// plain is a value by its members alone, as encoding/json sees it.
func plain(v any) any {
	switch v := v.(type) {
	case callIn:
		type plain callIn
		return plain(v)
	case funcIn:
		type plain funcIn
		return plain(v)
	case called:
		type plain called
		return plain(v)
	case said:
		return llm.Response(v)
	case *spoken:
		return (*llm.Message)(v)
	case link:
		type plain link
		return plain(v)
	case *milestone:
		return (*Event)(v)
	}
	panic(v)
}

func TestValuesWriteThemselves(t *testing.T) {
	t.Parallel()
	for _, v := range samples() {
		got, err := plainjson.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		want, err := plainjson.Marshal(plain(v))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%T:\n got %s\nwant %s", v, got, want)
		}
		if html, err := json.Marshal(plain(v)); err != nil || string(plainjson.HTML(got)) != string(html) {
			t.Errorf("%T for HTML:\n got %s\nwant %s, %v", v, plainjson.HTML(got), html, err)
		}
		to := reflect.New(reflect.TypeOf(v))
		if r, ok := to.Interface().(plainjson.Readable); ok && !bytes.Contains(got, []byte(`[]`)) && !bytes.Contains(got, []byte(`null`)) {
			p := plainjson.NewParser(got)
			if !r.ReadJSON(p) || !p.End() {
				t.Errorf("%T leaves to encoding/json: %s", v, got)
			}
		}
	}
}

// FuzzValues: what is read is read as by encoding/json, also what somebody
// else wrote.
func FuzzValues(f *testing.F) {
	for _, v := range samples() {
		b, err := plainjson.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, s := range []string{`{"messages":[{"role":"user","parts":[{"text":"a"}]}],"schema":{"schema":{}}}`, `{"message":"a"}`, `"a"`, `{"messages":null}`, `{"messages":[{"role":"user","parts":[{"text":"a"}]}],"message":"b"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		readAlike[callIn](t, b)
		readAlike[funcIn](t, b)
		readAlike[called](t, b)
		readAlike[said](t, b)
		var got, want Input
		err, werr := json.Unmarshal(b, &got), want.readOther(b)
		if d := cmp.Diff(want, got); (err == nil) != (werr == nil) || err == nil && d != "" {
			t.Errorf("%q: %v, %v, %s", b, err, werr, d)
		}
	})
}

func readAlike[T any](t *testing.T, b []byte) {
	t.Helper()
	var got, want T
	err, werr := plainjson.Unmarshal(b, &got), json.Unmarshal(b, &want)
	if (err == nil) != (werr == nil) {
		t.Fatalf("%T %q: %v, encoding/json: %v", got, b, err, werr)
	}
	if d := cmp.Diff(want, got); err == nil && d != "" {
		t.Errorf("%T %q: %s", got, b, d)
	}
}
