// Package llmtest is for tests with models: a model that plays a script, a
// server that speaks the providers' protocols and holds each request to their
// rules, and the contract of providers as a kit.
//
// # A model with a script
//
//	m := llmtest.New(
//		llmtest.Call("read_file", `{"path":"story.md"}`),
//		llmtest.Say("A good story."),
//	)
//
// A script is a conversation: the first answer is for a request in which the
// model has not spoken yet, the second for one in which it has spoken once. So
// the same request has the same answer, whoever asks, as often as they ask, and
// after a restart too. Several conversations are scenes, told apart by words in
// the instruction or in the first message ([Scene]).
//
// A script in a file is YAML; see [Parse]:
//
//   - calls:
//   - read_file: {path: story.md}
//   - error: {class: rate_limit, retry_after: 2s}
//   - text: A good story.
//
// # Errors
//
//	a request that no provider would take    [*llm.Error] of class llm.Invalid; and [Script.Problems] has it
//	a request that the script has no answer for    the same
//	what the script says                     that [*llm.Error]
package llmtest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpagent/mcpagent/llm"
)

// Answer is what the model says in one turn. The zero value says nothing.
type Answer struct {
	// When is for answers that have no place in the order: they are given
	// whenever the message that is answered has these words.
	When string
	// Always gives the answer for this turn and all after it.
	Always bool

	Reasoning string
	Text      string
	Calls     []llm.ToolCall // Name and Args; an ID if it matters
	// Parts come after these, as they are.
	Parts []llm.Part

	// Error is what the call fails with; with Text, after that came. An answer
	// that fails is one attempt of the turn: the next one in the script is
	// that of the next attempt. At the end of a script it fails for ever.
	Error *llm.Error
	// Delay is how long the answer takes.
	Delay time.Duration
	// Pace is how long each piece of a stream takes.
	Pace time.Duration
	// Func, if there is one, makes the answer, and waits for what it likes.
	Func func(context.Context, *llm.Request) (*llm.Response, error)

	Stop  llm.StopReason // default: llm.StopTools with calls, or else llm.StopEnd
	Usage llm.Usage      // default: a quarter of the bytes
}

// Say is an answer of text.
func Say(text string) Answer { return Answer{Text: text} }

// Call is an answer that calls a tool. Arguments that are no JSON are what a
// model may write, too.
func Call(tool, args string) Answer { return Answer{Calls: []llm.ToolCall{toolCall(tool, args)}} }

// Calls is an answer that calls tools in parallel: names and arguments in turn.
func Calls(toolsAndArgs ...string) Answer {
	var a Answer
	for pair := range slices.Chunk(toolsAndArgs, 2) {
		if len(pair) != 2 {
			panic("llmtest.Calls: a tool without arguments")
		}
		a.Calls = append(a.Calls, toolCall(pair[0], pair[1]))
	}
	return a
}

func toolCall(tool, args string) llm.ToolCall {
	c := llm.ToolCall{Name: tool, Args: json.RawMessage(args)}
	var v map[string]any
	if err := json.Unmarshal([]byte(cmp.Or(args, "{}")), &v); err != nil {
		c.Args, _ = json.Marshal(args) // of a string
		c.Bad = "the arguments are no JSON object: " + err.Error()
	}
	return c
}

// Fail is an attempt that fails.
func Fail(class llm.Class, retryAfter time.Duration) Answer {
	return Answer{Error: &llm.Error{Class: class, Status: status[class], Message: "by the script", RetryAfter: retryAfter}}
}

var status = map[llm.Class]int{
	llm.Invalid: 400, llm.TooLong: 400, llm.Auth: 401, llm.Permission: 403, llm.NotFound: 404, llm.Quota: 429, llm.RateLimit: 429,
	llm.Overloaded: 503, llm.Server: 500, llm.Filter: 400,
}

// Scene is one conversation of a script.
type Scene struct {
	// System are words of the instruction that it is for. Empty: any.
	System string
	// User are words of the first message that it is for. Empty: any.
	User string
	// Answers are the model's, by turn.
	Answers []Answer
}

// Script is a provider, "script", whose models say what is written. It is safe
// for concurrent use.
type Script struct {
	scenes []Scene

	mu       sync.Mutex // guards what follows
	requests []*llm.Request
	problems []error
	attempts map[[32]byte]int // by request
}

// New makes a script of one conversation.
func New(answers ...Answer) *Script { return NewScenes(Scene{Answers: answers}) }

// NewScenes makes a script of several conversations. The first that fits is
// played.
func NewScenes(scenes ...Scene) *Script {
	return &Script{scenes: scenes, attempts: map[[32]byte]int{}}
}

// Provider is "script".
func (s *Script) Provider() string { return "script" }

// Model gives a model of any name; all of them play the same script.
func (s *Script) Model(name string) (llm.Model, error) {
	return &player{s, cmp.Or(name, "script")}, nil
}

// Requests are those that came so far, in order. Those that are a problem are
// not among them.
func (s *Script) Requests() []*llm.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Problems are the requests that no provider would have taken, and those that
// the script had no answer for. A test that gives the script to code which
// takes an error for an answer looks here.
func (s *Script) Problems() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.problems...)
}

func (s *Script) problem(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = append(s.problems, err)
}

// record keeps a copy of a request, and says which attempt it is.
func (s *Script) record(r *llm.Request) (attempt int) {
	copied := new(llm.Request)
	b, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(b, copied)
	}
	if err != nil {
		copied = r
	}
	key := sha256.Sum256(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, copied)
	s.attempts[key]++
	return s.attempts[key] - 1
}

// next finds the answer to a request.
func (s *Script) next(r *llm.Request) (*Answer, error) {
	if err := r.Validate(); err != nil {
		s.problem(err)
		return nil, err
	}
	attempt := s.record(r)
	last := r.Messages[len(r.Messages)-1]
	for _, scene := range s.scenes {
		if !strings.Contains(r.System, scene.System) || !strings.Contains(said(r.Messages[0]), scene.User) {
			continue
		}
		if a := scene.find(r, attempt); a != nil {
			return a, nil
		}
		break
	}
	err := &llm.Error{Class: llm.Invalid, Message: fmt.Sprintf("the script has no answer to %.200q, in turn %d", said(last), turns(r.Messages))}
	s.problem(err)
	return nil, err
}

// find is the answer of a scene.
func (c Scene) find(r *llm.Request, attempt int) *Answer {
	last := len(r.Messages) - 1
	if a := c.when(r.Messages[last]); a != nil {
		return a
	}
	// The turn is how often the model has spoken in the order of the script.
	turn := 0
	for i, m := range r.Messages {
		if m.Role == llm.RoleModel && i > 0 && c.when(r.Messages[i-1]) == nil {
			turn++
		}
	}
	var failures []*Answer
	for i := range c.Answers {
		a := &c.Answers[i]
		switch {
		case a.When != "":
		case a.Error != nil:
			failures = append(failures, a)
		case turn > 0 && !a.Always:
			turn--
			failures = nil
		case attempt < len(failures):
			return failures[attempt]
		default:
			return a
		}
	}
	if turn == 0 && len(failures) > 0 {
		return failures[min(attempt, len(failures)-1)]
	}
	return nil
}

func (c Scene) when(m llm.Message) *Answer {
	for i := range c.Answers {
		if a := &c.Answers[i]; a.When != "" && strings.Contains(said(m), a.When) {
			return a
		}
	}
	return nil
}

// said is all text of a message, also that of results.
func said(m llm.Message) string {
	var b strings.Builder
	b.WriteString(m.Text())
	for _, p := range m.Parts {
		if p.Result != nil {
			b.WriteString(p.Result.Text())
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func turns(messages []llm.Message) (n int) {
	for _, m := range messages {
		if m.Role == llm.RoleModel {
			n++
		}
	}
	return n
}

// response is an answer as a model gives it.
func (a *Answer) response(r *llm.Request, name string) *llm.Response {
	turn := turns(r.Messages)
	out := &llm.Response{Message: llm.Message{Role: llm.RoleModel}, Stop: a.Stop, Usage: a.Usage, Model: name, ID: fmt.Sprintf("answer_%d", turn)}
	parts := &out.Message.Parts
	if a.Reasoning != "" {
		*parts = append(*parts, llm.Part{Reasoning: &llm.Reasoning{Text: a.Reasoning}})
	}
	if a.Text != "" {
		*parts = append(*parts, llm.Part{Text: a.Text})
	}
	for i, c := range a.Calls {
		c.ID = cmp.Or(c.ID, fmt.Sprintf("call_%d_%d", turn, i))
		if len(c.Args) == 0 {
			c.Args = json.RawMessage("{}")
		}
		*parts = append(*parts, llm.Part{Call: &c})
	}
	*parts = append(*parts, a.Parts...)
	if out.Stop == "" {
		out.Stop = llm.StopEnd
		if len(out.Message.Calls()) > 0 {
			out.Stop = llm.StopTools
		}
	}
	if out.Usage == (llm.Usage{}) {
		in := len(r.System)
		for _, m := range r.Messages {
			in += len(said(m))
		}
		b, _ := json.Marshal(out.Message.Parts) // of data
		out.Usage = llm.Usage{Input: int64(in+3) / 4, Output: int64(len(b)+3) / 4}
	}
	return out
}

// player is a model.
type player struct {
	script *Script
	name   string
}

// Name is what the model was asked for by.
func (p *player) Name() string { return p.name }

// Call implements [llm.Model].
func (p *player) Call(ctx context.Context, r *llm.Request) (*llm.Response, error) {
	a, res, err := p.answer(ctx, r)
	if err != nil {
		return nil, err
	}
	if a.Error != nil {
		return nil, p.failed(a.Error)
	}
	return res, nil
}

// Stream implements [llm.Model].
func (p *player) Stream(ctx context.Context, r *llm.Request) iter.Seq2[llm.Delta, error] {
	used := false
	return func(yield func(llm.Delta, error) bool) {
		if used {
			yield(llm.Delta{}, fmt.Errorf("an answer is ranged over twice: it comes once"))
			return
		}
		used = true
		a, res, err := p.answer(ctx, r)
		if err != nil {
			yield(llm.Delta{}, err)
			return
		}
		for _, d := range pieces(res) {
			if err := wait(ctx, a.Pace); err != nil {
				yield(llm.Delta{}, err)
				return
			}
			if !yield(d, nil) {
				return
			}
		}
		if a.Error != nil {
			yield(llm.Delta{}, p.failed(a.Error))
			return
		}
		yield(llm.Delta{Response: res}, nil)
	}
}

// answer finds what to say, when it is time.
func (p *player) answer(ctx context.Context, r *llm.Request) (*Answer, *llm.Response, error) {
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	a, err := p.script.next(r)
	if err == nil {
		err = wait(ctx, a.Delay)
	}
	if err != nil {
		return nil, nil, p.failed(err)
	}
	if a.Func != nil {
		res, err := a.Func(ctx, r)
		return a, res, err
	}
	return a, a.response(r, p.name), nil
}

// failed is an error with the model's name.
func (p *player) failed(err error) error {
	var e *llm.Error
	if !errors.As(err, &e) {
		return err
	}
	named := *e
	named.Provider, named.Model = cmp.Or(e.Provider, "script"), cmp.Or(e.Model, p.name)
	return &named
}

func wait(ctx context.Context, d time.Duration) error {
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// pieces are those that an answer comes in: text word by word.
func pieces(r *llm.Response) []llm.Delta {
	var out []llm.Delta
	for _, p := range r.Message.Parts {
		switch {
		case p.Call != nil:
			out = append(out, llm.Delta{Call: &llm.ToolCall{ID: p.Call.ID, Name: p.Call.Name}})
		case p.Reasoning != nil:
			for _, w := range strings.SplitAfter(p.Reasoning.Text, " ") {
				out = append(out, llm.Delta{Reasoning: w})
			}
		case p.Text != "":
			for _, w := range strings.SplitAfter(p.Text, " ") {
				out = append(out, llm.Delta{Text: w})
			}
		}
	}
	return slices.DeleteFunc(out, func(d llm.Delta) bool { return d == llm.Delta{} })
}
