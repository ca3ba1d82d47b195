package llm_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/llm"
)

func call(id, name string) llm.Part { return llm.Part{Call: &llm.ToolCall{ID: id, Name: name}} }

func result(id, name string) llm.Part {
	return llm.Part{Result: &llm.ToolResult{ID: id, Name: name, Parts: []llm.Part{{Text: "x"}}}}
}

func model(parts ...llm.Part) llm.Message { return llm.Message{Role: llm.RoleModel, Parts: parts} }
func tools(parts ...llm.Part) llm.Message { return llm.Message{Role: llm.RoleTools, Parts: parts} }

func TestValidate(t *testing.T) {
	t.Parallel()
	hello := llm.User("Hello")
	good := &llm.Request{
		Messages: []llm.Message{
			hello, model(llm.Part{Reasoning: &llm.Reasoning{}, Raw: &llm.Raw{Provider: "p", Data: json.RawMessage(`{}`)}}, call("a", "t"), call("b", "t")),
			tools(result("a", "t"), result("b", "t")), llm.User("And?"), model(), hello, model(llm.Part{Text: "x"}), hello,
		},
		Tools: []llm.Tool{{Name: "t"}, {Name: "u", Schema: json.RawMessage(` {"type":"object"}`)}}, Choice: "u",
		Schema: &llm.Schema{Schema: json.RawMessage(`{}`)}, Effort: "low", Extra: json.RawMessage(`{}`),
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	conversation := func(m ...llm.Message) llm.Request { return llm.Request{Messages: m} }
	with := func(r llm.Request) llm.Request {
		r.Messages = []llm.Message{hello}
		return r
	}
	for want, r := range map[string]llm.Request{
		"there are no messages":                                                  {},
		"message 1 is of a user, as the one before it":                           conversation(hello, hello),
		"message 0 says nothing":                                                 conversation(llm.User("")),
		"message 0 is of the model, which nobody asked":                          conversation(model()),
		"message 2 is of the model, which nobody asked":                          conversation(hello, model(), model()),
		"the last message is the model's own":                                    conversation(hello, model()),
		"the last message has call a (t) without a result":                       conversation(hello, model(call("a", "t"))),
		`message 2 is of role "user", but call a (t) has no result`:              conversation(hello, model(call("a", "t")), hello),
		"message 2: call b (t) has no result":                                    conversation(hello, model(call("a", "t"), call("b", "t")), tools(result("a", "t"))),
		"message 2: result 0 is for b (t), and the call is a (t)":                conversation(hello, model(call("a", "t"), call("b", "t")), tools(result("b", "t"), result("a", "t"))),
		"message 2: result 0 is for a (u), and the call is a (t)":                conversation(hello, model(call("a", "t")), tools(result("a", "u"))),
		"message 2: a result for a too many":                                     conversation(hello, model(call("a", "t")), tools(result("a", "t"), result("a", "t"))),
		"message 1: results, and the message before it calls no tool":            conversation(hello, tools(result("a", "t"))),
		`message 3 has a call with the ID "a" of another`:                        conversation(hello, model(call("a", "t")), tools(result("a", "t")), model(call("a", "t"))),
		`message 1 has a call with the ID "a" of another`:                        conversation(hello, model(call("a", "t"), call("a", "t"))),
		"message 1, part 0: the call of t has no ID":                             conversation(hello, model(call("", "t"))),
		"message 0, part 0: a call by a user":                                    conversation(llm.Message{Role: llm.RoleUser, Parts: []llm.Part{call("a", "t")}}),
		"message 0, part 0: reasoning of a user":                                 conversation(llm.Message{Role: llm.RoleUser, Parts: []llm.Part{{Reasoning: &llm.Reasoning{}}}}),
		"message 0, part 0: more than one thing":                                 conversation(llm.Message{Role: llm.RoleUser, Parts: []llm.Part{{Text: "x", Media: &llm.Media{}}}}),
		"message 0, part 0: results are in messages of role":                     conversation(llm.Message{Role: llm.RoleUser, Parts: []llm.Part{result("a", "t")}}),
		"message 0, part 0: image/png \"\" without content":                      conversation(llm.Message{Role: llm.RoleUser, Parts: []llm.Part{{Media: &llm.Media{Type: "image/png"}}}}),
		`message 0 has the role "system"`:                                        conversation(llm.Message{Role: "system"}),
		`tool 0 has the name "a.b"`:                                              with(llm.Request{Tools: []llm.Tool{{Name: "a.b"}}}),
		"there are two tools with the name a":                                    with(llm.Request{Tools: []llm.Tool{{Name: "a"}, {Name: "a"}}}),
		"the schema of tool a is no object":                                      with(llm.Request{Tools: []llm.Tool{{Name: "a", Schema: json.RawMessage(`[]`)}}}),
		"the schema of tool a is no JSON":                                        with(llm.Request{Tools: []llm.Tool{{Name: "a", Schema: json.RawMessage(`{`)}}}),
		"the choice is to call a tool, and there is none":                        with(llm.Request{Choice: llm.ToolRequired}),
		`the choice is tool "a", which is not there`:                             with(llm.Request{Choice: "a"}),
		"the schema of the answer is missing":                                    with(llm.Request{Schema: &llm.Schema{}}),
		`the schema of the answer has the name "a b"`:                            with(llm.Request{Schema: &llm.Schema{Name: "a b"}}),
		"MaxTokens is -1":                                                        with(llm.Request{MaxTokens: -1}),
		`the effort is "huge"`:                                                   with(llm.Request{Effort: "huge"}),
		"what is extra is no object":                                             with(llm.Request{Extra: json.RawMessage(`1`)}),
		"message 1, part 0: the arguments of call a are no JSON":                 conversation(hello, model(llm.Part{Call: &llm.ToolCall{ID: "a", Name: "t", Args: json.RawMessage("{")}})),
		"message 2, part 0: the data of result a are no JSON":                    conversation(hello, model(call("a", "t")), tools(llm.Part{Result: &llm.ToolResult{ID: "a", Name: "t", Data: json.RawMessage("{")}})),
		"message 2, part 0: part 0 of result a is neither text nor media":        conversation(hello, model(call("a", "t")), tools(llm.Part{Result: &llm.ToolResult{ID: "a", Name: "t", Parts: []llm.Part{call("b", "t")}}})),
		"message 2, part 0: results are in messages of role \"tools\", and noth": conversation(hello, model(call("a", "t")), tools(llm.Part{Text: "x"})),
	} {
		err := r.Validate()
		var e *llm.Error
		if !errors.As(err, &e) || e.Class != llm.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

func TestErrorSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]llm.Error{
		"openai:m: auth (401 invalid_api_key): no such key; mend openai.api_key": {Class: llm.Auth, Status: 401, Code: "invalid_api_key", Message: "no such key"},
		"openai:m: network: connection refused":                                  {Class: llm.Network, Err: errors.New("connection refused")},
		"openai:m: too long (400): 9000 tokens; shorten the conversation":        {Class: llm.TooLong, Status: 400, Message: "9000 tokens"},
	} {
		e.Provider, e.Model = "openai", "m"
		if got := e.Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
