package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/mcpagent/mcpagent/internal/plainjson"
	"github.com/mcpagent/mcpagent/llm"
)

// errHalf is that of an answer that broke off.
var errHalf = errors.New("the answer ended before it was whole")

// maxSaid is what is read of an error's body: enough to show, and to find in it
// what is a secret.
const maxSaid = 256 << 10

// A Caller is a model of a provider, whose name errors have and whose secrets
// they don't.
type Caller struct {
	Provider, Model string
	At              *Endpoint
}

// Refuse is the error of what a provider has no place for.
func (c Caller) Refuse(format string, args ...any) error {
	return c.Error(llm.Invalid, fmt.Sprintf(format, args...))
}

// Error is one that nobody sent.
func (c Caller) Error(class llm.Class, message string) *llm.Error {
	return &llm.Error{Provider: c.Provider, Model: c.Model, Class: class, Message: Words(message, c.At.secrets...)}
}

// Malformed is the error of an answer that makes no sense.
func (c Caller) Malformed(what, body string) error {
	e := c.Error(llm.Malformed, what+": "+body)
	e.Status = http.StatusOK
	return e
}

// Validate is [llm.Request.Validate], with the names of who refuses.
func (c Caller) Validate(r *llm.Request) error {
	err := r.Validate()
	var e *llm.Error
	if errors.As(err, &e) {
		e.Provider, e.Model = c.Provider, c.Model
	}
	return err
}

// Body is a request as it is sent, which query writes: with the members of
// Request.Extra, which may not be those that reading the answer depends on.
func (c Caller) Body(extra json.RawMessage, query func(w *plainjson.Writer), taken ...string) ([]byte, error) {
	b, err := plainjson.Marshal(writes(query))
	var refused *llm.Error
	switch {
	case errors.As(err, &refused):
		return nil, err
	case err != nil:
		return nil, c.Refuse("it can't be written as JSON: %v", err)
	case len(extra) == 0:
		return b, nil
	}
	fields, err := parse(extra)
	if err != nil {
		return nil, c.Refuse("what is extra: %v", err)
	}
	for _, key := range taken {
		if fields.index(key) >= 0 {
			return nil, c.Refuse("extra has %q, which is not for it to say", key)
		}
	}
	return Joined(b, extra)
}

// writes is a value by what it writes.
type writes func(w *plainjson.Writer)

// WriteJSON implements [plainjson.Value].
func (f writes) WriteJSON(w *plainjson.Writer) { f(w) }

// failure makes the error of a call that failed. ctx is that of the request,
// raw what the provider answered, if it did, and told an error within the
// answer.
func (c Caller) failure(ctx context.Context, raw *http.Response, err error, told []byte) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	e := &llm.Error{Provider: c.Provider, Model: c.Model, Class: llm.Network}
	var header http.Header
	if raw != nil {
		header = raw.Header
		if e.RequestID = header.Get("X-Request-Id"); e.RequestID == "" {
			e.RequestID = header.Get("Request-Id")
		}
	}
	said := func(body []byte) {
		body = body[:min(len(body), maxSaid)]
		text := strings.TrimSpace(string(body))
		if json.Valid(body) {
			text = c.At.Read(e, body)
		} else if strings.HasPrefix(text, "<") {
			text = http.StatusText(e.Status) // a page for browsers
		}
		e.Message, e.Code = Words(text, c.At.secrets...), Words(e.Code, c.At.secrets...)
		switch e.Class {
		case llm.RateLimit, llm.Overloaded, llm.Server:
			e.RetryAfter = RetryAfter(header, text)
		}
	}
	var located *url.Error
	switch {
	case raw != nil && raw.StatusCode >= 300:
		e.Status, e.Class = raw.StatusCode, Class(raw.StatusCode)
		if to, err := raw.Location(); err == nil {
			e.Class = llm.Invalid
			e.Message = Words(fmt.Sprintf("the endpoint sends its callers to %s, which was not followed: write %s.base_url anew if that is right", to.Redacted(), c.Provider), c.At.secrets...)
			break
		}
		body, _ := io.ReadAll(io.LimitReader(raw.Body, maxSaid)) // what was read of it says enough
		said(body)
	case told != nil:
		e.Class = llm.Server
		said(told)
	case errors.Is(err, errHalf):
		e.Message, e.Err = err.Error(), err
	case raw != nil && (noAnswer(err) || errors.Is(err, ErrTooLarge)):
		e.Class, e.Status = llm.Malformed, raw.StatusCode
		e.Message, e.Err = Words("what came is no answer: "+err.Error(), c.At.secrets...), c.discreet(err)
	case errors.As(err, &located): // it names the URL, which may have a credential
		e.Message, e.Err = Words(located.Err.Error(), c.At.secrets...), c.discreet(located.Err)
	default:
		e.Message, e.Err = Words(err.Error(), c.At.secrets...), c.discreet(err)
	}
	e.RequestID = Words(e.RequestID, c.At.secrets...)
	return e
}

// discreet is an error whose text shows no secret. What it is stays.
func (c Caller) discreet(err error) error {
	if text := Words(err.Error(), c.At.secrets...); text != strings.TrimSpace(err.Error()) {
		return &discreetError{text, err}
	}
	return err
}

// discreetError does not give what it came from, which would show its text.
type discreetError struct {
	text string
	err  error
}

func (e *discreetError) Error() string { return e.text }

func (e *discreetError) Is(target error) bool { return errors.Is(e.err, target) }

// noAnswer tells an error of reading what came from one of getting it.
func noAnswer(err error) bool {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	return errors.As(err, &syntax) || errors.As(err, &kind)
}

// TooLong tells that words of a provider say that a conversation is too long,
// for those that have no code for it.
func TooLong(text string) bool {
	text = strings.ToLower(text)
	for _, words := range []string{"context length", "context window", "context size", "maximum context", "n_ctx", "too many tokens", "prompt is too long"} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}
