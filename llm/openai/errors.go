package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/openai/openai-go/v3/packages/ssestream"

	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/internal/wire"
)

var errHalf = errors.New("the answer ended before it was whole")

// failure makes the error of a call that failed. ctx is that of the request,
// raw what the endpoint answered, if it did.
func (m *model) failure(ctx context.Context, raw *http.Response, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	e := &llm.Error{Provider: m.Provider.name, Model: m.name, Class: llm.Network}
	var header http.Header
	if raw != nil {
		header = raw.Header
		e.RequestID = header.Get("X-Request-Id")
	}
	var streamed *ssestream.StreamError
	var located *url.Error
	switch {
	case raw != nil && raw.StatusCode >= 300:
		e.Status = raw.StatusCode
		e.Class = wire.Class(raw.StatusCode)
		var body []byte
		if raw.Body != nil {
			body, _ = io.ReadAll(raw.Body) // what was read of it says enough
		}
		m.read(e, header, body)
	case errors.As(err, &streamed):
		e.Class = llm.Server
		m.read(e, header, streamed.Event.Data)
	case raw != nil && (isJSON(err) || errors.Is(err, wire.ErrTooLarge)):
		e.Class, e.Status = llm.Malformed, raw.StatusCode
		e.Message, e.Err = m.words("what came is no answer: "+err.Error()), err
	case errors.As(err, &located): // it names the URL, which may have a credential
		e.Message, e.Err = m.words(located.Err.Error()), located.Err
	default:
		e.Message, e.Err = m.words(err.Error()), err
	}
	return e
}

func isJSON(err error) bool {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	text := err.Error()
	return errors.As(err, &syntax) || errors.As(err, &kind) || strings.Contains(text, "response json") || strings.Contains(text, "expected destination type")
}

func (m *model) words(text string) string { return wire.Words(text, m.settings.secrets...) }

func (m *model) malformed(what, body string) error {
	return &llm.Error{Provider: m.Provider.name, Model: m.name, Class: llm.Malformed, Status: http.StatusOK, Message: m.words(what + ": " + body)}
}

// read takes from the body of an error what it says.
func (m *model) read(e *llm.Error, h http.Header, body []byte) {
	var said struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
	}
	var inner struct {
		Code    any    `json:"code"`
		Type    string `json:"type"`
		Message string `json:"message"`
		Param   string `json:"param"`
	}
	text := strings.TrimSpace(string(body))
	if json.Unmarshal(body, &said) == nil {
		switch {
		case json.Unmarshal(said.Error, &inner) == nil && inner.Message != "":
			text = inner.Message
		case json.Unmarshal(said.Error, &text) == nil: // {"error": "words"}
		case said.Message != "":
			text = said.Message
		case len(said.Detail) > 0:
			text = string(said.Detail)
		}
	} else if bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")) {
		text = http.StatusText(e.Status) // a page for browsers
	}
	e.Message = m.words(text)
	e.Code = inner.Type
	if code, ok := inner.Code.(string); ok && code != "" {
		e.Code = code
	}
	e.Class = class(e.Class, e.Code, inner.Type, strings.ToLower(text))
	if e.Class == llm.RateLimit || e.Class == llm.Overloaded || e.Class == llm.Server {
		e.RetryAfter = wire.RetryAfter(h, text)
	}
}

// class refines what the status says by what the endpoint says.
func class(c llm.Class, code, kind, text string) llm.Class {
	switch code {
	case "context_length_exceeded", "string_above_max_length", "request_too_large":
		return llm.TooLong
	case "content_filter", "content_policy_violation":
		return llm.Filter
	case "insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_user_quota":
		return llm.Quota
	case "rate_limit_exceeded", "rate_limit_error", "tokens", "requests":
		return llm.RateLimit
	case "model_not_found":
		return llm.NotFound
	case "invalid_api_key":
		return llm.Auth
	case "overloaded", "overloaded_error", "engine_overloaded", "slow_down":
		return llm.Overloaded
	}
	if kind == "insufficient_quota" {
		return llm.Quota
	}
	if c == llm.Invalid || c == llm.Server {
		for _, words := range []string{"context length", "context window", "context size", "maximum context", "n_ctx", "too many tokens", "prompt is too long"} {
			if strings.Contains(text, words) {
				return llm.TooLong
			}
		}
	}
	if c == llm.Server && kind == "invalid_request_error" {
		return llm.Invalid
	}
	return c
}
