package openai

import (
	"cmp"
	"encoding/json"

	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/internal/wire"
)

// read takes from the body of an error what it says. Endpoints have several
// forms for it.
func read(e *llm.Error, body []byte) string {
	text := string(body)
	var said struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
	}
	var inner struct {
		Code    any    `json:"code"`
		Type    string `json:"type"`
		Message string `json:"message"`
	}
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
	}
	e.Code = inner.Type
	switch code := inner.Code.(type) {
	case string:
		e.Code = cmp.Or(code, e.Code)
	case float64: // of a router, which tells the status of whom it asked
		if e.Status == 0 && code >= 400 && code < 600 {
			e.Class = wire.Class(int(code))
		}
	}
	e.Class = class(e.Class, e.Code, inner.Type, text)
	return text
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
	switch {
	case kind == "insufficient_quota":
		return llm.Quota
	case (c == llm.Invalid || c == llm.Server) && wire.TooLong(text):
		return llm.TooLong
	case c == llm.Server && kind == "invalid_request_error":
		return llm.Invalid
	}
	return c
}
