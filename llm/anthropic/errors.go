package anthropic

import (
	"encoding/json"
	"strings"

	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/internal/wire"
)

// classes are those of the API's types of errors.
var classes = map[string]llm.Class{
	"invalid_request_error": llm.Invalid,
	"authentication_error":  llm.Auth,
	"billing_error":         llm.Quota,
	"permission_error":      llm.Permission,
	"not_found_error":       llm.NotFound,
	"request_too_large":     llm.TooLong,
	"rate_limit_error":      llm.RateLimit,
	"timeout_error":         llm.Server,
	"api_error":             llm.Server,
	"overloaded_error":      llm.Overloaded,
}

// read takes from the body of an error what it says.
func read(e *llm.Error, body []byte) string {
	var said struct {
		Error struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"error"`
		RequestID string `json:"request_id"`
	}
	if json.Unmarshal(body, &said) != nil || said.Error.Message == "" && said.Error.Type == "" {
		return string(body)
	}
	e.Code = said.Error.Type
	if e.RequestID == "" {
		e.RequestID = said.RequestID
	}
	if c, ok := classes[e.Code]; ok {
		e.Class = c
	}
	if text := said.Error.Message; e.Class == llm.Invalid {
		switch {
		case wire.TooLong(text):
			e.Class = llm.TooLong
		case strings.Contains(text, "credit balance"):
			e.Class = llm.Quota
		}
	}
	return said.Error.Message
}
