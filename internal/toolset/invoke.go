package toolset

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
)

// Options say more about a call. The zero value is fine.
type Options struct {
	// Wait is how long a server's question to a person stays open; then the
	// server hears that nobody answered. 0: 7 days.
	Wait time.Duration
	// Audience is who is meant by a server's questions. Empty: anybody.
	Audience string
	// Recorded says that the arguments come from something that is recorded, as
	// an answer of a model is: long ones are lent, see [Lend].
	Recorded bool
}

// maxArgs is how long the arguments are that cross as they are.
const maxArgs = 512

// Lend takes long arguments out of a call, so that what is in a model's answer
// already is not recorded a second time, and gives their digest; empty where
// they stay. Runs in the workflow.
func Lend(ctx context.Context, c *llm.ToolCall) (digest string, err error) {
	if len(c.Args) <= maxArgs {
		return "", nil
	}
	if digest, err = durable.LendBlob(ctx, c.Args); err == nil {
		c.Args = nil
	}
	return digest, err
}

// Borrow puts the arguments back that Lend took out. Runs in the step.
func Borrow(ctx context.Context, c *llm.ToolCall, digest string) (err error) {
	if digest == "" {
		return nil
	}
	if c.Args, err = durable.GetBlob(ctx, digest); err != nil {
		return fmt.Errorf("read the arguments of the call: %w", err)
	}
	return nil
}

const (
	defaultWait = 7 * 24 * time.Hour
	// maxRounds is how often a server may ask in one call.
	maxRounds = 25
	// maxBusy is how often it may say that it is busy, in a row.
	maxBusy = 6
	// maxAfter is the longest that it may want to be left alone; then the
	// model hears of it.
	maxAfter = time.Hour
	// margin is what a step may take beyond the call: to start the server
	// again, and to hear of its end.
	margin = 2 * time.Minute
)

// Invoke calls a listed tool: at most once, unless its hints allow more. What
// the server wants to know from a person becomes a [durable.Question] of the
// run; the answer may come weeks later and from any process.
//
// Whatever happens to the call is its result, also that nobody knows what
// happened. An error is none of the call's: ctx ended, or the engine can't go
// on. Runs in the workflow.
func Invoke(ctx context.Context, l Listed, c llm.ToolCall, o *Options) (*llm.ToolResult, error) {
	if o == nil {
		o = &Options{}
	}
	if c.Bad != "" {
		return Failed(c, "the arguments are not valid JSON: %s; call the tool again with a JSON object", c.Bad), nil
	}
	in := CallIn{Server: l.Server, Tool: l.Original, Method: l.Method, Call: c, Repeat: l.Repeatable(), Wait: o.Wait}
	if in.Wait == 0 {
		in.Wait = defaultWait
	}
	if o.Recorded {
		var err error
		if in.Lent, err = Lend(ctx, &in.Call); err != nil {
			return nil, err
		}
	}
	step := Call.With(callOptions(&l))
	busy := 0
	for rounds := 0; ; rounds++ {
		out, err := step.Do(ctx, in)
		switch {
		case err != nil:
			return failure(ctx, &l, c, err)
		case out.Result != nil:
			return out.Result, nil
		case rounds == maxRounds:
			drop(ctx, step, in, out)
			return Failed(c, "the server %q asked for input %d times without coming to a result", l.Server, rounds), nil
		}
		in.State = out.State
		if len(out.Needs) == 0 {
			if busy++; busy > maxBusy || out.After > maxAfter {
				return Failed(c, "the server %q is busy; try again later", l.Server), nil
			}
			if err := durable.Sleep(ctx, max(out.After, time.Second<<(busy-1))); err != nil {
				return nil, err
			}
			continue
		}
		busy = 0
		answers, err := ask(ctx, &l, out.Needs, o, in.Wait)
		if err != nil {
			drop(ctx, step, in, out)
			return nil, err
		}
		if in.Responses == nil {
			in.Responses = map[string]InputResponse{}
		}
		for i, n := range out.Needs {
			in.Responses[n.Key] = answers[i]
		}
	}
}

func callOptions(l *Listed) *durable.StepOptions {
	o := &durable.StepOptions{}
	if l.Timeout > 0 {
		o.Timeout = l.Timeout + margin
	}
	if !l.Repeatable() {
		o.AtMostOnce, o.Retry = true, &durable.Retry{MaxAttempts: 1}
	}
	return o
}

// drop tells a server that waits in a live call that no answer will come.
func drop(ctx context.Context, step *durable.Step[CallIn, CallOut], in CallIn, out CallOut) {
	if !out.Held {
		return
	}
	in.State, in.Responses, in.Repeat = out.State, map[string]InputResponse{}, false
	for _, n := range out.Needs {
		in.Responses[n.Key] = InputResponse{Action: Cancel}
	}
	// What comes of it interests nobody any more.
	_, _ = step.Do(durable.WithoutCancel(ctx), in)
}

// ask puts a server's questions to people, all at once.
func ask(ctx context.Context, l *Listed, needs []InputRequest, o *Options, wait time.Duration) ([]InputResponse, error) {
	return durable.Map(ctx, needs, func(ctx context.Context, n InputRequest) (InputResponse, error) {
		return n.ask(ctx, l, o, wait)
	}, nil)
}

// about is what a person is told beside the server's words.
type about struct {
	Server string `json:"server"`
	Tool   string `json:"tool"`
	URL    string `json:"url,omitempty"`
}

func (n *InputRequest) ask(ctx context.Context, l *Listed, o *Options, wait time.Duration) (InputResponse, error) {
	cancel := InputResponse{Action: Cancel}
	info, err := json.Marshal(about{l.Server, l.Original, n.URL})
	if err != nil {
		return cancel, err
	}
	text := n.Message
	if n.Note != "" {
		text = n.Note + "\n\n" + text
	}
	a, err := Elicitation.Ask(ctx, text, &durable.AskOptions{
		Kind: "elicitation", Expires: wait, Audience: o.Audience, Digest: n.Digest(l.Server, l.Original),
		Schema: n.answerSchema(), Context: info,
	})
	switch {
	case errors.Is(err, durable.ErrExpired), errors.Is(err, durable.ErrNoEngine):
		return cancel, nil // nobody answered, or nobody can
	case err != nil:
		return cancel, err
	}
	return n.response(a.Value), nil
}

// Digest binds an answer to what was asked.
func (n *InputRequest) Digest(server, tool string) string {
	h := sha256.New()
	for _, s := range []string{server, tool, n.Kind, n.Message, string(n.Schema), n.URL} {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// consent is the schema of an answer that has no content.
var consent = json.RawMessage(`{"type":"object","properties":{"action":{"type":"string","enum":["accept","decline","cancel"]}},"required":["action"]}`)

// answerSchema is what an answer looks like. A form is asked as the server
// wrote it, so that whoever shows questions can show its fields.
func (n *InputRequest) answerSchema() json.RawMessage {
	switch fields := n.fields(); {
	case len(fields) == 0:
		return consent
	case n.wrapped(fields):
		return fmt.Appendf(nil, `{"type":"object","properties":{"action":{"type":"string","enum":["accept","decline","cancel"]},"content":%s},"required":["action"]}`, n.Schema)
	}
	return n.Schema
}

// fields are the names of a form's fields.
func (n *InputRequest) fields() []string {
	if n.Kind != Form {
		return nil
	}
	var s struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if json.Unmarshal(n.Schema, &s) != nil {
		return nil
	}
	names := make([]string, 0, len(s.Properties))
	for name := range s.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// wrapped reports whether a form has fields that an InputResponse has too.
func (n *InputRequest) wrapped(fields []string) bool {
	return slices.Contains(fields, "action")
}

// response reads an answer: an [InputResponse], or a form's content.
func (n *InputRequest) response(raw json.RawMessage) InputResponse {
	var keys map[string]json.RawMessage
	if json.Unmarshal(raw, &keys) == nil {
		var r InputResponse
		_, said := keys["action"]
		_, content := keys["content"]
		if alone := len(keys) == 1 || len(keys) == 2 && content; said && alone && json.Unmarshal(raw, &r) == nil {
			switch r.Action {
			case Accept, Decline, Cancel:
				return r
			}
		}
	}
	return InputResponse{Action: Accept, Content: raw}
}

// failure is the result of a call that failed, or an error that is none of
// the call's.
func failure(ctx context.Context, l *Listed, c llm.ToolCall, err error) (*llm.ToolResult, error) {
	if ctx.Err() != nil {
		return nil, Ended(ctx, err)
	}
	var failed *durable.StepError
	switch {
	case !errors.As(err, &failed),
		errors.Is(err, durable.ErrNotDefined), errors.Is(err, durable.ErrShutdown), errors.Is(err, durable.ErrClosed),
		errors.Is(err, durable.ErrUnavailable):
		return nil, err
	case errors.Is(err, durable.ErrOutcomeUnknown):
		return Failed(c, "outcome unknown: the call of %q was sent and no result came back (%s). It may have taken effect: verify before repeating it.", c.Name, reason(failed)), nil
	}
	return Failed(c, "the call of %q failed: %s", c.Name, reason(failed)), nil
}

// Ended is the error of a call that failed: where ctx has ended, it is that too,
// for a run that was cancelled did not fail of what came of its calls then.
func Ended(ctx context.Context, err error) error {
	e := ctx.Err()
	if e == nil || errors.Is(err, e) {
		return err
	}
	return fmt.Errorf("%w: %w", e, err)
}

// reason is what the server's host said, without what the engine put around it.
func reason(e *durable.StepError) string {
	cause := e.Err
	if cause == nil {
		return e.Error()
	}
	for cause.Code == "unknown" && cause.Cause != nil {
		cause = cause.Cause
	}
	return strings.TrimSpace(cause.Message)
}
