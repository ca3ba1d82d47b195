package llmtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/llm"
)

// TestModel holds a model to what package llm promises. open gives a model
// that plays the script, by the provider's own protocol; [Serve] speaks two of
// them. Each promise is a subtest.
func TestModel(t *testing.T, open func(t *testing.T, s *Script) llm.Model) {
	for name, promise := range map[string]func(*testing.T, func(*testing.T, *Script) llm.Model){
		"Answers":        answers,
		"Tools":          tools,
		"BadArguments":   badArguments,
		"BadNames":       badNames,
		"Schema":         schema,
		"Media":          media,
		"OddMedia":       oddMedia,
		"Stops":          stops,
		"Errors":         failures,
		"BreaksOff":      breaksOff,
		"Cancelled":      cancelled,
		"RefusesInvalid": refusesInvalid,
		"InParallel":     inParallel,
		"OnePass":        onePass,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			promise(t, open)
		})
	}
}

// both calls and streams a request, which may not change, and wants the same.
func both(t *testing.T, m llm.Model, r *llm.Request) (*llm.Response, []llm.Delta) {
	t.Helper()
	before := fmt.Sprintf("%+v", dump(r))
	res, err := m.Call(t.Context(), r)
	if err != nil {
		t.Fatalf("call: %v", err)
	}
	var deltas []llm.Delta
	var last llm.Delta
	for d, err := range m.Stream(t.Context(), r) {
		if err != nil {
			t.Fatalf("stream: %v", err)
		}
		if last.Response != nil {
			t.Errorf("there is a delta after the response: %+v", d)
		}
		if last = d; d.Response == nil {
			deltas = append(deltas, d)
		}
	}
	if last.Response == nil {
		t.Fatal("the stream ended without an error and without the response")
	}
	if want, got := dump(res), dump(last.Response); want != got {
		t.Errorf("called and streamed, the answers differ:\n%s\n%s", want, got)
	}
	if after := fmt.Sprintf("%+v", dump(r)); before != after {
		t.Errorf("the request was changed:\n%s\n%s", before, after)
	}
	return res, deltas
}

func dump(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func ptr[T any](v T) *T { return &v }

func user(text string) *llm.Request { return &llm.Request{Messages: []llm.Message{llm.User(text)}} }

// transcript is a conversation in words.
func transcript(messages []llm.Message) string {
	var b strings.Builder
	for _, m := range messages {
		fmt.Fprintf(&b, "%s:", m.Role)
		for _, p := range m.Parts {
			switch {
			case p.Call != nil:
				fmt.Fprintf(&b, " call %s %s %s", p.Call.ID, p.Call.Name, p.Call.Args)
			case p.Result != nil:
				fmt.Fprintf(&b, " result %s %s %s", p.Result.ID, p.Result.Name, p.Result.Text())
			case p.Text != "":
				fmt.Fprintf(&b, " %s", p.Text)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func answers(t *testing.T, open func(*testing.T, *Script) llm.Model) {
	usage := llm.Usage{Input: 50, Output: 9, CacheRead: 30}
	s := New(Answer{Text: "The answer is 42, as ever.", Usage: usage})
	m := open(t, s)
	r := &llm.Request{
		System: "You answer.", Messages: []llm.Message{{Role: llm.RoleUser, Parts: []llm.Part{{Text: "What is "}, {Text: "the answer?"}}}},
		MaxTokens: 100, Temperature: ptr(0.5), TopP: ptr(0.9), Stop: []string{"END"}, User: "u1", Extra: json.RawMessage(`{"service_tier":"auto"}`),
	}
	res, deltas := both(t, m, r)
	if res.Message.Role != llm.RoleModel || res.Message.Text() != "The answer is 42, as ever." || res.Stop != llm.StopEnd || res.Usage != usage || res.ID == "" || res.Model == "" {
		t.Errorf("the answer is %s", dump(res))
	}
	text := ""
	for _, d := range deltas {
		text += d.Text
	}
	if text != res.Message.Text() || len(deltas) < 2 {
		t.Errorf("it came in %d pieces as %q", len(deltas), text)
	}
	for _, got := range s.Requests() {
		if got.System != r.System || got.Messages[0].Text() != "What is the answer?" {
			t.Errorf("what arrived is %s", dump(got))
		}
	}
}

func tools(t *testing.T, open func(*testing.T, *Script) llm.Model) {
	s := New(
		Answer{Reasoning: "I need both.", Text: "Let me look.", Calls: []llm.ToolCall{toolCall("read_file", `{"path":"a b"}`), toolCall("read_file", `{"path":"ä\"\u003c"}`), toolCall("now", ``)}},
		Call("now", `{}`),
		Say("Done."),
	)
	m := open(t, s)
	r := &llm.Request{
		System: "Use tools.", Messages: []llm.Message{llm.User("Go.")},
		Tools: []llm.Tool{
			{Name: "read_file", Description: "Reads a file.", Schema: json.RawMessage(`{"type":"object","properties":{"path":{"type":"string"}},"required":["path"],"additionalProperties":false}`)},
			{Name: "now"},
			{Name: "odd-one", Schema: json.RawMessage(`{"$schema":"x","required":null,"anyOf":[{"properties":{"a":{"type":"array"}}},{"properties":{"b":true}}]}`)},
		},
	}
	res, deltas := both(t, m, r)
	calls := res.Message.Calls()
	if len(calls) != 3 || res.Stop != llm.StopTools || res.Message.Text() != "Let me look." {
		t.Fatalf("the answer is %s", dump(res))
	}
	ids := map[string]bool{}
	for i, want := range []string{`{"path":"a b"}`, `{"path":"ä\"<"}`, `{}`} {
		var got, exp any
		if json.Unmarshal(calls[i].Args, &got) != nil || json.Unmarshal([]byte(want), &exp) != nil || !reflect.DeepEqual(got, exp) || calls[i].Bad != "" || calls[i].ID == "" || ids[calls[i].ID] {
			t.Errorf("call %d is %s, want %s", i, dump(calls[i]), want)
		}
		ids[calls[i].ID] = true
	}
	var begun []string
	thought := ""
	for _, d := range deltas {
		thought += d.Reasoning
		if d.Call != nil {
			begun = append(begun, d.Call.Name)
		}
	}
	if !slices.Equal(begun, []string{"read_file", "read_file", "now"}) || thought != "I need both." {
		t.Errorf("as it came, it thought %q and called %v", thought, begun)
	}
	r.Messages = append(r.Messages, res.Message, llm.Message{Role: llm.RoleTools, Parts: []llm.Part{
		{Result: &llm.ToolResult{ID: calls[0].ID, Name: "read_file", Parts: []llm.Part{{Text: "first"}}}},
		{Result: &llm.ToolResult{ID: calls[1].ID, Name: "read_file", Data: json.RawMessage(`{"n":2}`)}},
		{Result: &llm.ToolResult{ID: calls[2].ID, Name: "now", Parts: []llm.Part{{Text: "no clock"}}, Error: true}},
	}})
	r.Serial, r.Choice = true, "now"
	res, _ = both(t, m, r)
	call := res.Message.Calls()
	if len(call) != 1 || ids[call[0].ID] {
		t.Fatalf("the answer is %s", dump(res))
	}
	r.Messages = append(r.Messages, res.Message, llm.Message{Role: llm.RoleTools, Parts: []llm.Part{{Result: &llm.ToolResult{ID: call[0].ID, Name: "now"}}}}, llm.User("Hurry."))
	r.Choice = llm.ToolNone
	if res, _ = both(t, m, r); res.Message.Text() != "Done." || res.Stop != llm.StopEnd {
		t.Errorf("the answer is %s", dump(res))
	}
	r.Tools = nil // the conversation still has calls
	both(t, m, r)
	got := s.Requests()
	arrived := transcript(got[len(got)-1].Messages)
	for _, want := range []string{
		"user: Go.\nmodel: Let me look. call " + calls[0].ID + " read_file ", "tools: result " + calls[0].ID + " read_file first result " + calls[1].ID + ` read_file {"n":2} result ` + calls[2].ID + " now ",
		"no clock\nmodel: call " + call[0].ID + " now {}\ntools: result " + call[0].ID + " now", "\nuser: Hurry.\n",
	} {
		if !strings.Contains(arrived, want) {
			t.Errorf("what arrived lacks %q:\n%s", want, arrived)
		}
	}
}

func badArguments(t *testing.T, open func(*testing.T, *Script) llm.Model) {
	s := New(Calls("read_file", `{"path": "oops`, "read_file", `[1]`), Say("Sorry."))
	m := open(t, s)
	r := user("Go.")
	r.Tools = []llm.Tool{{Name: "read_file"}}
	var res *llm.Response
	for d, err := range m.Stream(t.Context(), r) {
		if err != nil {
			t.Fatal(err)
		}
		res = d.Response
	}
	calls := res.Message.Calls()
	if len(calls) != 2 || calls[0].Bad == "" || string(calls[0].Args) != `"{\"path\": \"oops"` || calls[1].Bad == "" || string(calls[1].Args) != `"[1]"` {
		t.Fatalf("the answer is %s", dump(res))
	}
	tools := llm.Message{Role: llm.RoleTools}
	for _, c := range calls {
		tools.Parts = append(tools.Parts, llm.Part{Result: &llm.ToolResult{ID: c.ID, Name: c.Name, Parts: []llm.Part{{Text: c.Bad}}, Error: true}})
	}
	r.Messages = append(r.Messages, res.Message, tools)
	if res, _ := both(t, m, r); res.Message.Text() != "Sorry." {
		t.Errorf("the answer is %s", dump(res))
	}
	got := s.Requests()
	for i, c := range got[len(got)-1].Messages[1].Calls() {
		// As it was written, or within an object where the protocol wants one.
		if c.Bad != "" && string(c.Args) != string(calls[i].Args) || c.Bad == "" && !strings.Contains(string(c.Args), string(calls[i].Args)) {
			t.Errorf("the model sees %s again, and wrote %s", c.Args, calls[i].Args)
		}
	}
}

// badNames: a model calls tools by names that no provider takes back, which is
// for whoever offers the tools to tell it.
func badNames(t *testing.T, open func(*testing.T, *Script) llm.Model) {
	names := []string{"functions.read_file", "read\nfile", strings.Repeat("n", 200), "é"}
	var script []string
	for _, name := range names {
		script = append(script, name, `{}`)
	}
	s := New(Calls(script...), Say("Sorry."))
	m := open(t, s)
	r := user("Go.")
	r.Tools = []llm.Tool{{Name: "read_file"}}
	res, _ := both(t, m, r)
	tools := llm.Message{Role: llm.RoleTools}
	for i, c := range res.Message.Calls() {
		if c.Name != names[i] {
			t.Errorf("the model called %q, and the answer has %q", names[i], c.Name)
		}
		tools.Parts = append(tools.Parts, llm.Part{Result: &llm.ToolResult{ID: c.ID, Name: c.Name, Parts: []llm.Part{{Text: "there is no such tool"}}, Error: true}})
	}
	r.Messages = append(r.Messages, res.Message, tools)
	if res, _ := both(t, m, r); res.Message.Text() != "Sorry." {
		t.Errorf("the answer is %s", dump(res))
	}
	r.Tools = nil // the conversation still has calls
	both(t, m, r)
}

func schema(t *testing.T, open func(*testing.T, *Script) llm.Model) {
	for name, schema := range map[string]string{
		"strict":   `{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}`,
		"optional": `{"type":"object","properties":{"n":{"type":"integer","minimum":1},"m":{"type":"string"}},"required":["n"]}`,
	} {
		s := New(Say(`{"n":1}`))
		r := user("How many?")
		r.Schema = &llm.Schema{Schema: json.RawMessage(schema)}
		res, _ := both(t, open(t, s), r)
		if res.Message.Text() != `{"n":1}` {
			t.Errorf("%s: the answer is %s", name, dump(res))
		}
		for _, got := range s.Requests() {
			if got.Schema == nil || !strings.Contains(string(got.Schema.Schema), `"n"`) {
				t.Errorf("%s: what arrived is %s", name, dump(got))
			}
		}
	}
}

func media(t *testing.T, open func(*testing.T, *Script) llm.Model) {
	s := New(Call("shoot", `{}`), Say("A cat."))
	m := open(t, s)
	png := &llm.Media{Type: "image/png", Data: []byte("not really a picture")}
	r := &llm.Request{Tools: []llm.Tool{{Name: "shoot"}}, Messages: []llm.Message{{Role: llm.RoleUser, Parts: []llm.Part{
		{Text: "What is that?"}, {Media: png}, {Media: &llm.Media{Type: "image/jpeg", URL: "https://example.com/x.jpg"}},
		{Media: &llm.Media{Type: "application/pdf", Data: []byte("%PDF-"), Name: "x.pdf"}}, {Media: &llm.Media{Type: "text/plain", Data: []byte("notes"), Name: "x.txt"}},
	}}}}
	res, _ := both(t, m, r)
	call := res.Message.Calls()[0]
	r.Messages = append(r.Messages, res.Message, llm.Message{Role: llm.RoleTools, Parts: []llm.Part{{Result: &llm.ToolResult{ID: call.ID, Name: call.Name, Parts: []llm.Part{{Text: "here"}, {Media: png}}}}}})
	if res, _ := both(t, m, r); res.Message.Text() != "A cat." {
		t.Errorf("the answer is %s", dump(res))
	}
	images := 0
	got := s.Requests()
	for _, msg := range got[len(got)-1].Messages {
		for _, p := range msg.Parts {
			if p.Result != nil {
				msg.Parts = append(msg.Parts, p.Result.Parts...)
			}
		}
		for _, p := range msg.Parts {
			if p.Media != nil && strings.HasPrefix(p.Media.Type, "image/") {
				images++
			}
		}
	}
	if images != 3 {
		t.Errorf("%d images arrived, want 3: %s", images, dump(got[len(got)-1]))
	}
	r = &llm.Request{Messages: []llm.Message{{Role: llm.RoleUser, Parts: []llm.Part{{Media: &llm.Media{Type: "video/mp4", Data: []byte("x")}}}}}}
	if _, err := m.Call(t.Context(), r); err != nil {
		wantClass(t, err, llm.Invalid)
		if !strings.Contains(err.Error(), "video/mp4") {
			t.Errorf("the refusal does not name what it refuses: %v", err)
		}
	}
}

// oddMedia: what a tool gave that no model can be shown is named to it, and is
// no reason for the conversation to end.
func oddMedia(t *testing.T, open func(*testing.T, *Script) llm.Model) {
	s := New(Call("read", `{}`), Say("Done."))
	m := open(t, s)
	r := user("Go.")
	r.Tools = []llm.Tool{{Name: "read"}}
	res, _ := both(t, m, r)
	c := res.Message.Calls()[0]
	r.Messages = append(r.Messages, res.Message, llm.Message{Role: llm.RoleTools, Parts: []llm.Part{{Result: &llm.ToolResult{ID: c.ID, Name: c.Name, Parts: []llm.Part{
		{Text: "two files"}, {Media: &llm.Media{Type: "application/zip", Data: []byte("PK"), Name: "a.zip"}}, {Media: &llm.Media{Type: "image/svg+xml", Data: []byte("<svg/>")}}, {Media: &llm.Media{Type: "video/mp4", URL: "https://example.com/v"}},
	}}}}})
	if res, _ = both(t, m, r); res.Message.Text() != "Done." {
		t.Errorf("the answer is %s", dump(res))
	}
	got := s.Requests()
	arrived := dump(got[len(got)-1].Messages)
	for _, want := range []string{"two files", "application/zip", "a.zip", "image/svg+xml", "https://example.com/v"} {
		if !strings.Contains(arrived, want) {
			t.Errorf("what arrived lacks %q:\n%s", want, arrived)
		}
	}
}

func stops(t *testing.T, open func(*testing.T, *Script) llm.Model) {
	for _, want := range []llm.StopReason{llm.StopLength, llm.StopFilter} {
		if res, _ := both(t, open(t, New(Answer{Text: "I ", Stop: want})), user("Go.")); res.Stop != want {
			t.Errorf("the answer is %s, want %s", dump(res), want)
		}
	}
}

// wantClass wants an error of a class, with the names of who failed.
func wantClass(t *testing.T, err error, want llm.Class) *llm.Error {
	t.Helper()
	var e *llm.Error
	if !errors.As(err, &e) {
		t.Fatalf("the error is %v, no *llm.Error", err)
	}
	if e.Class != want || e.Provider == "" || e.Model == "" {
		t.Errorf("the error is %q of class %s, want %s", e, e.Class, want)
	}
	return e
}

func failures(t *testing.T, open func(*testing.T, *Script) llm.Model) {
	for _, class := range []llm.Class{
		llm.Invalid, llm.TooLong, llm.Auth, llm.Permission, llm.NotFound, llm.Quota, llm.RateLimit, llm.Overloaded, llm.Server, llm.Network, llm.Malformed,
	} {
		s := New(Fail(class, 0))
		m := open(t, s)
		_, err := m.Call(t.Context(), user("Go."))
		wantClass(t, err, class)
		if n := len(s.Requests()); n != 1 {
			t.Errorf("%s: %d requests were sent, want one", class, n)
		}
		if class == llm.Malformed {
			continue // no stream that came to nothing tells why
		}
		err = nil
		for _, e := range m.Stream(t.Context(), user("Go.")) {
			if err != nil {
				t.Errorf("%s: the stream goes on after %v", class, err)
			}
			err = e
		}
		wantClass(t, err, class)
	}
	for _, d := range []time.Duration{1500 * time.Millisecond, 2 * time.Second, time.Hour} {
		_, err := open(t, New(Fail(llm.RateLimit, d))).Call(t.Context(), user("Go."))
		if e := wantClass(t, err, llm.RateLimit); e.RetryAfter != d {
			t.Errorf("RetryAfter is %v, want %v", e.RetryAfter, d)
		}
	}
}

// breaksOff has errors in the middle of streams.
func breaksOff(t *testing.T, open func(*testing.T, *Script) llm.Model) {
	for _, class := range []llm.Class{llm.Network, llm.Overloaded} {
		m := open(t, New(Answer{Text: "one two three", Error: &llm.Error{Class: class, Status: status[class], Message: "by the script"}}))
		text := ""
		var err error
		for d, e := range m.Stream(t.Context(), user("Go.")) {
			if text, err = text+d.Text, e; d.Response != nil {
				t.Errorf("%s: half an answer is given as a whole one: %s", class, dump(d.Response))
			}
		}
		wantClass(t, err, class)
		if text != "one two three" {
			t.Errorf("%s: %q came before", class, text)
		}
	}
}

func cancelled(t *testing.T, open func(*testing.T, *Script) llm.Model) {
	because := errors.New("because")
	for _, streamed := range []bool{false, true} {
		arrived := make(chan struct{})
		m := open(t, New(Answer{Func: func(ctx context.Context, _ *llm.Request) (*llm.Response, error) {
			close(arrived)
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}}))
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() {
			var err error
			if streamed {
				for _, err = range m.Stream(ctx, user("Go.")) {
				}
			} else {
				_, err = m.Call(ctx, user("Go."))
			}
			done <- err
		}()
		select {
		case <-arrived:
		case err := <-done:
			t.Fatalf("it ended before it was cancelled: %v", err)
		}
		cancel(because)
		select {
		case err := <-done:
			if !errors.Is(err, because) {
				t.Errorf("streamed %v: the error is %v, want the cause", streamed, err)
			}
		case <-time.After(patience):
			t.Fatalf("streamed %v: it does not end", streamed)
		}
	}
	// Cancelled after the first piece.
	m := open(t, New(Answer{Text: "one two three", Pace: time.Millisecond}))
	ctx, cancel := context.WithCancelCause(t.Context())
	var err error
	for d, e := range m.Stream(ctx, user("Go.")) {
		if err = e; d.Text != "" {
			cancel(because)
		}
	}
	cancel(nil)
	if err != nil && !errors.Is(err, because) {
		t.Errorf("the error is %v, want the cause", err)
	}
}

func refusesInvalid(t *testing.T, open func(*testing.T, *Script) llm.Model) {
	s := New(Say("x"))
	m := open(t, s)
	for name, r := range map[string]*llm.Request{
		"nothing":         {},
		"no result":       {Messages: []llm.Message{llm.User("x"), {Role: llm.RoleModel, Parts: []llm.Part{{Call: &llm.ToolCall{ID: "a", Name: "b"}}}}, llm.User("y")}},
		"bad name":        {Messages: []llm.Message{llm.User("x")}, Tools: []llm.Tool{{Name: "a.b"}}},
		"unknown choice":  {Messages: []llm.Message{llm.User("x")}, Choice: "a"},
		"no object":       {Messages: []llm.Message{llm.User("x")}, Schema: &llm.Schema{Schema: json.RawMessage(`[]`)}},
		"unknown effort":  {Messages: []llm.Message{llm.User("x")}, Effort: "huge"},
		"extra no object": {Messages: []llm.Message{llm.User("x")}, Extra: json.RawMessage(`1`)},
	} {
		_, err := m.Call(t.Context(), r)
		wantClass(t, err, llm.Invalid)
		for _, err = range m.Stream(t.Context(), r) {
		}
		wantClass(t, err, llm.Invalid)
		if n := len(s.Requests()); n != 0 {
			t.Errorf("%s: it was sent", name)
		}
	}
}

func inParallel(t *testing.T, open func(*testing.T, *Script) llm.Model) {
	m := open(t, NewScenes(Scene{User: "odd", Answers: []Answer{Say("1 1 1")}}, Scene{Answers: []Answer{Say("2 2 2")}}))
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			word, want := "even", "2 2 2"
			if i%2 == 1 {
				word, want = "odd", "1 1 1"
			}
			got := ""
			for d, err := range m.Stream(t.Context(), user(word)) {
				if err != nil {
					t.Error(err)
				}
				got += d.Text
			}
			if got != want {
				t.Errorf("%s: the answer is %q", word, got)
			}
		})
	}
	wg.Wait()
}

func onePass(t *testing.T, open func(*testing.T, *Script) llm.Model) {
	s := New(Say("one two three"))
	seq := open(t, s).Stream(t.Context(), user("Go."))
	if n := len(s.Requests()); n != 0 {
		t.Error("the request is sent before anybody ranges over the answer")
	}
	for range seq {
		break
	}
	var err error
	for _, err = range seq {
	}
	if err == nil {
		t.Error("the answer came twice")
	}
}
