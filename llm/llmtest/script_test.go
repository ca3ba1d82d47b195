package llmtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

// ask sends a conversation, and gives it back with the answer and the results
// that the tools gave.
func ask(t *testing.T, s *llmtest.Script, r *llm.Request, results ...string) (*llm.Response, error) {
	t.Helper()
	m, err := s.Model("")
	if err != nil {
		t.Fatal(err)
	}
	res, err := m.Call(t.Context(), r)
	if err != nil {
		return nil, err
	}
	r.Messages = append(r.Messages, res.Message)
	if calls := res.Message.Calls(); len(calls) > 0 {
		tools := llm.Message{Role: llm.RoleTools}
		for i, c := range calls {
			tools.Parts = append(tools.Parts, llm.Part{Result: &llm.ToolResult{ID: c.ID, Name: c.Name, Parts: []llm.Part{{Text: results[i]}}}})
		}
		r.Messages = append(r.Messages, tools)
	}
	return res, nil
}

const story = `
- system: You proofread
  answers:
    - text: No typos.
- answers:
    - reasoning: I need the text.
      text: Let me look.
      calls:
        - read_file: {path: story.md, lines: [1, 2]}
        - read_file: "{oops"
    - when: no such file
      text: It is not there.
    - error: {class: rate_limit, message: slow down, retry_after: 2s}
    - error: overloaded
    - json: {grade: 4}
      usage: {input: 20, output: 7, cache_read: 12}
    - text: As I said.
      always: true
`

func TestScriptOfAFile(t *testing.T) {
	t.Parallel()
	s, err := llmtest.Parse("story.yaml", []byte(story))
	if err != nil {
		t.Fatal(err)
	}
	r := &llm.Request{Messages: []llm.Message{llm.User("Grade it.")}}
	res, err := ask(t, s, r, "a story", "bad arguments")
	if err != nil {
		t.Fatal(err)
	}
	want := []llm.Part{
		{Reasoning: &llm.Reasoning{Text: "I need the text."}},
		{Text: "Let me look."},
		{Call: &llm.ToolCall{ID: "call_0_0", Name: "read_file", Args: json.RawMessage(`{"lines":[1,2],"path":"story.md"}`)}},
		{Call: &llm.ToolCall{ID: "call_0_1", Name: "read_file", Args: json.RawMessage(`"{oops"`), Bad: "the arguments are no JSON object: invalid character 'o' looking for beginning of object key string"}},
	}
	if d := cmp.Diff(want, res.Message.Parts); d != "" || res.Stop != llm.StopTools {
		t.Errorf("%s: -want +got\n%s", res.Stop, d)
	}
	for _, want := range []string{
		"script:script: rate limit (429): slow down; try again in 2s",
		"script:script: overloaded (503): by the script",
	} {
		if _, err := ask(t, s, r); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	graded := *r
	for range 2 { // asked again, it says the same
		again := graded
		if res, err = ask(t, s, &again); err != nil || res.Message.Text() != `{"grade":4}` || res.Usage != (llm.Usage{Input: 20, Output: 7, CacheRead: 12}) {
			t.Errorf("got %+v, %v", res, err)
		}
		r = &again
	}
	for range 3 {
		r.Messages = append(r.Messages, llm.User("Really?"))
		if res, err = ask(t, s, r); err != nil || res.Message.Text() != "As I said." {
			t.Errorf("got %+v, %v", res, err)
		}
	}
	r.Messages = append(r.Messages, llm.User("Open x: no such file"))
	if res, err = ask(t, s, r); err != nil || res.Message.Text() != "It is not there." {
		t.Errorf("got %+v, %v", res, err)
	}
	if res, err = ask(t, s, &llm.Request{System: "You proofread stories.", Messages: []llm.Message{llm.User("x")}}); err != nil || res.Message.Text() != "No typos." {
		t.Errorf("got %+v, %v", res, err)
	}
	if err := s.Problems(); err != nil {
		t.Error(err)
	}
}

func TestScriptOutOfOrder(t *testing.T) {
	t.Parallel()
	s := llmtest.New(llmtest.Call("read", `{}`), llmtest.Answer{When: "error", Calls: []llm.ToolCall{{Name: "read"}}}, llmtest.Say("Done."))
	r := &llm.Request{Messages: []llm.Message{llm.User("Go.")}}
	for _, result := range []string{"error", "error", "ok"} {
		if _, err := ask(t, s, r, result); err != nil {
			t.Fatal(err)
		}
	}
	if res, err := ask(t, s, r); err != nil || res.Message.Text() != "Done." {
		t.Fatalf("got %+v, %v", res, err)
	}
	r.Messages = append(r.Messages, llm.User("And now?"))
	if _, err := ask(t, s, r); err == nil || !strings.Contains(err.Error(), `the script has no answer to "And now?", in turn 4`) || s.Problems() == nil {
		t.Errorf("got %v, %v", err, s.Problems())
	}
}

func TestScriptIsValidated(t *testing.T) {
	t.Parallel()
	s := llmtest.New(llmtest.Say("x"))
	_, err := ask(t, s, &llm.Request{})
	var e *llm.Error
	if !errors.As(err, &e) || e.Class != llm.Invalid || s.Problems() == nil {
		t.Errorf("got %v", err)
	}
}

// TestScriptInParallel has many agents on one script.
func TestScriptInParallel(t *testing.T) {
	t.Parallel()
	s := llmtest.NewScenes(llmtest.Scene{User: "odd", Answers: []llmtest.Answer{llmtest.Say("1"), llmtest.Say("3")}}, llmtest.Scene{Answers: []llmtest.Answer{llmtest.Say("2"), llmtest.Say("4")}})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			user, want := fmt.Sprintf("even %d", i), []string{"2", "4"}
			if i%2 == 1 {
				user, want = fmt.Sprintf("odd %d", i), []string{"1", "3"}
			}
			r := &llm.Request{Messages: []llm.Message{llm.User(user)}}
			for _, w := range want {
				if res, err := ask(t, s, r); err != nil || res.Message.Text() != w {
					t.Errorf("%s: %v, %v", user, res, err)
				}
				r.Messages = append(r.Messages, llm.User("more"))
			}
		})
	}
	wg.Wait()
	if n := len(s.Requests()); n != 100 {
		t.Errorf("%d requests are recorded, want 100", n)
	}
}

func TestScriptTakesItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := llmtest.New(llmtest.Answer{Text: "one two three", Delay: time.Second, Pace: time.Minute})
		m, _ := s.Model("")
		r := &llm.Request{Messages: []llm.Message{llm.User("x")}}
		begun := time.Now()
		var at []string
		for d, err := range m.Stream(t.Context(), r) {
			if err != nil {
				t.Fatal(err)
			}
			at = append(at, fmt.Sprintf("%s %v", d.Text, time.Since(begun)))
		}
		want := []string{"one  1m1s", "two  2m1s", "three 3m1s", " 3m1s"}
		if d := cmp.Diff(want, at); d != "" {
			t.Errorf("-want +got\n%s", d)
		}
		because := errors.New("because")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, because)
		defer cancel()
		if _, err := m.Call(ctx, r); err != because {
			t.Errorf("got %v", err)
		}
	})
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                               "the script is empty",
		"- txt: x":                       `[1:3] unknown field "txt"`,
		"- text: x\n- {}":                "answer 2: it says nothing",
		"- calls: [{a: {}, b: {}}]":      "answer 1: call 1 has 2 names",
		"- error: late":                  `the error has the class "late"`,
		"- system: x":                    "item 1 has words of a scene, and no answers",
		"- {text: x, json: 1}":           "text and json",
		"- {text: x, answers: [{}]}":     "scene 1 says something itself",
		"- answers: [{text: x}, {}]":     "scene 1, answer 2: it says nothing",
		"- text: [":                      "[1:",
		"- {text: x, delay: soon}":       "soon",
		"- error: {class: x, wait: now}": "wait",
	} {
		if _, err := llmtest.Parse("s.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "s.yaml: ") {
			t.Errorf("%q\ngot  %v\nwant %s", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(story)
	f.Add("- text: x\n  calls: [{a: null}, {b: x}]")
	f.Add("- error: {class: quota}")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := llmtest.Parse("s.yaml", []byte(text))
		if (s == nil) == (err == nil) {
			t.Fatalf("a script %v and the error %v", s, err)
		}
		if err != nil {
			return
		}
		m, _ := s.Model("")
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // no delay
		_, _ = m.Call(ctx, &llm.Request{Messages: []llm.Message{llm.User("x")}})
	})
}

// The error of an answer's function came from the server without the header
// that says when to ask again, and with its status written into it.
func TestTheServerFailsAsAFunctionSays(t *testing.T) {
	t.Parallel()
	said := &llm.Error{Class: llm.RateLimit, Message: "slow down", RetryAfter: 3 * time.Second}
	s := llmtest.New(llmtest.Answer{Func: func(context.Context, *llm.Request) (*llm.Response, error) { return nil, said }})
	srv := llmtest.Serve(t, s)
	res, err := http.Post(srv.URL+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"x"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Error(err)
	}
	if after := res.Header.Get("Retry-After"); res.StatusCode != http.StatusTooManyRequests || after != "3" || said.Status != 0 {
		t.Errorf("status %d, Retry-After %q, %+v", res.StatusCode, after, said)
	}
}
