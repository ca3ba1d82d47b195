package llmtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mcpagent/mcpagent/llm"
)

// What follows holds the body of a request to the rules of Anthropic's
// Messages API, as the API does, and some of them more strictly.

type messagesRequest struct {
	Model       string                    `json:"model"`
	MaxTokens   int64                     `json:"max_tokens"`
	System      claudeBlocks[claudeBlock] `json:"system"`
	Messages    []claudeTurn              `json:"messages"`
	Tools       []claudeTool              `json:"tools"`
	Stream      bool                      `json:"stream"`
	Temperature *float64                  `json:"temperature"`
	TopP        *float64                  `json:"top_p"`
	ToolChoice  *struct {
		Type string `json:"type"`
		Name string `json:"name"`
	} `json:"tool_choice"`
	Thinking *struct {
		Type   string `json:"type"`
		Budget int64  `json:"budget_tokens"`
	} `json:"thinking"`
	OutputConfig *struct {
		Effort string `json:"effort"`
		Format *struct {
			Type   string          `json:"type"`
			Schema json.RawMessage `json:"schema"`
		} `json:"format"`
	} `json:"output_config"`
}

type claudeTurn struct {
	Role    string                        `json:"role"`
	Content claudeBlocks[json.RawMessage] `json:"content"`
}

type claudeTool struct {
	Name   string          `json:"name"`
	Schema json.RawMessage `json:"input_schema"`
	Cache  json.RawMessage `json:"cache_control"`
}

type claudeBlock struct {
	Type      string                    `json:"type"`
	Text      string                    `json:"text"`
	ID        string                    `json:"id"`
	Name      string                    `json:"name"`
	Input     json.RawMessage           `json:"input"`
	ToolUseID string                    `json:"tool_use_id"`
	IsError   bool                      `json:"is_error"`
	Content   claudeBlocks[claudeBlock] `json:"content"`
	Thinking  *string                   `json:"thinking"`
	Signature string                    `json:"signature"`
	Data      string                    `json:"data"`
	Cache     json.RawMessage           `json:"cache_control"`
	Source    struct {
		Type      string `json:"type"`
		MediaType string `json:"media_type"`
		Data      string `json:"data"`
		URL       string `json:"url"`
	} `json:"source"`
}

// claudeBlocks are blocks, or a string in the place of one with text.
type claudeBlocks[T any] []T

// UnmarshalJSON implements [json.Unmarshaler].
func (l *claudeBlocks[T]) UnmarshalJSON(b []byte) error {
	if b[0] == '"' {
		b = slices.Concat([]byte(`[{"type":"text","text":`), b, []byte(`}]`))
	}
	return json.Unmarshal(b, (*[]T)(l))
}

// ValidateAnthropic finds what Anthropic would refuse in the body of a request
// for a message.
func ValidateAnthropic(body []byte) error {
	_, err := readAnthropic(body)
	return err
}

func readAnthropic(body []byte) (*messagesRequest, error) {
	r := new(messagesRequest)
	if err := json.Unmarshal(body, r); err != nil {
		return nil, fmt.Errorf("the body: %w", err)
	}
	return r, errors.Join(r.parameters(), r.conversation())
}

func (r *messagesRequest) parameters() error {
	names := map[string]bool{}
	for i, t := range r.Tools {
		if !llm.ToolName(t.Name) || names[t.Name] {
			return fmt.Errorf("tools.%d: the name %q, or a second one of it", i, t.Name)
		}
		names[t.Name] = true
		if err := toolSchema(t.Schema); err != nil {
			return fmt.Errorf("tools.%d, %s: %w", i, t.Name, err)
		}
	}
	thinks := r.Thinking != nil && r.Thinking.Type != "disabled"
	if c := r.ToolChoice; c != nil {
		switch {
		case len(r.Tools) == 0:
			return errors.New("tool_choice may only be specified while providing tools")
		case !slices.Contains([]string{"auto", "any", "tool", "none"}, c.Type), c.Type == "tool" && !names[c.Name]:
			return fmt.Errorf("tool_choice is %s %s", c.Type, c.Name)
		case thinks && (c.Type == "any" || c.Type == "tool"):
			return errors.New("thinking may not be enabled when tool_choice forces tool use")
		}
	}
	if t := r.Thinking; t != nil {
		switch {
		case !slices.Contains([]string{"enabled", "disabled", "adaptive"}, t.Type):
			return fmt.Errorf("thinking is %q", t.Type)
		case t.Type == "enabled" && (t.Budget < 1024 || t.Budget >= r.MaxTokens):
			return fmt.Errorf("a budget of %d for thinking, and max_tokens of %d", t.Budget, r.MaxTokens)
		}
	}
	if c := r.OutputConfig; c != nil {
		if !slices.Contains([]string{"", "low", "medium", "high", "xhigh", "max"}, c.Effort) {
			return fmt.Errorf("output_config.effort is %q", c.Effort)
		}
		if c.Format != nil {
			if c.Format.Type != "json_schema" {
				return fmt.Errorf("output_config.format is of type %q", c.Format.Type)
			}
			if err := answerSchema(c.Format.Schema, true, false); err != nil {
				return fmt.Errorf("output_config.format: %w", err)
			}
		}
	}
	breakpoints := 0
	for _, t := range r.Tools {
		if t.Cache != nil {
			breakpoints++
		}
	}
	for i, b := range r.System {
		if b.Type != "text" || strings.TrimSpace(b.Text) == "" {
			return fmt.Errorf("system.%d is no text", i)
		}
		if b.Cache != nil {
			breakpoints++
		}
	}
	for _, m := range r.Messages {
		for _, raw := range m.Content {
			var b claudeBlock
			if json.Unmarshal(raw, &b) == nil && b.Cache != nil {
				breakpoints++
			}
		}
	}
	switch {
	case r.Model == "":
		return errors.New("model: Field required")
	case r.MaxTokens < 1:
		return errors.New("max_tokens: Field required")
	case r.Temperature != nil && (*r.Temperature < 0 || *r.Temperature > 1):
		return fmt.Errorf("temperature is %v", *r.Temperature)
	case r.Temperature != nil && *r.Temperature != 1 && thinks:
		return errors.New("temperature may only be set to 1 when thinking is enabled")
	case r.TopP != nil && (*r.TopP < 0 || *r.TopP > 1):
		return fmt.Errorf("top_p is %v", *r.TopP)
	case breakpoints > 4:
		return fmt.Errorf("%d blocks with cache_control, 4 are allowed", breakpoints)
	}
	return nil
}

func (r *messagesRequest) conversation() error {
	if len(r.Messages) == 0 {
		return errors.New("messages: at least one message is required")
	}
	ids := map[string]bool{}
	var open []string
	for i, m := range r.Messages {
		at := fmt.Sprintf("messages.%d", i)
		if want := []string{"user", "assistant"}[i%2]; m.Role != want {
			return fmt.Errorf("%s: the role %q: roles must alternate, and a user begins", at, m.Role)
		}
		if len(m.Content) == 0 {
			return fmt.Errorf("%s: content must be non-empty", at)
		}
		var calls []string
		early := true // only results so far
		for j, raw := range m.Content {
			at := fmt.Sprintf("%s.content.%d", at, j)
			var b claudeBlock
			if err := json.Unmarshal(raw, &b); err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
			if err := b.validate(m.Role); err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
			switch b.Type {
			case "tool_use":
				if ids[b.ID] {
					return fmt.Errorf("%s: `tool_use` ids must be unique: %s", at, b.ID)
				}
				ids[b.ID] = true
				calls = append(calls, b.ID)
			case "tool_result":
				k := slices.Index(open, b.ToolUseID)
				if k < 0 {
					return fmt.Errorf("%s: unexpected `tool_use_id` found in `tool_result` blocks: %s", at, b.ToolUseID)
				}
				if !early {
					return fmt.Errorf("%s: a result after something else", at)
				}
				open = slices.Delete(open, k, k+1)
			default:
				early = false
			}
		}
		if len(open) > 0 {
			return fmt.Errorf("%s: `tool_use` ids were found without `tool_result` blocks immediately after: %v", at, open)
		}
		open = calls
	}
	switch {
	case len(open) > 0:
		return fmt.Errorf("the calls %v have no result", open)
	case len(ids) > 0 && len(r.Tools) == 0:
		return errors.New("requests which include `tool_use` or `tool_result` blocks must define tools")
	case len(r.Messages)%2 == 0:
		return errors.New("the last message is of the assistant: prefill is not supported")
	}
	return nil
}

func (b claudeBlock) validate(role string) error {
	ok, of := false, "user"
	switch b.Type {
	case "text":
		ok, of = strings.TrimSpace(b.Text) != "", role
	case "image":
		ok = b.Source.Type == "url" && b.Source.URL != "" || b.Source.Type == "base64" && b.Source.Data != "" && strings.HasPrefix(b.Source.MediaType, "image/")
	case "document":
		ok = b.Source.Type == "url" && b.Source.URL != "" ||
			b.Source.Type == "base64" && b.Source.Data != "" && b.Source.MediaType == "application/pdf" ||
			b.Source.Type == "text" && b.Source.Data != "" && b.Source.MediaType == "text/plain"
	case "tool_use":
		ok, of = b.ID != "" && llm.ToolName(b.ID) && llm.ToolName(b.Name) && strings.HasPrefix(string(b.Input), "{"), "assistant"
	case "tool_result":
		ok = true
		for _, c := range b.Content {
			if c.validate("user") != nil || c.Type == "tool_result" || b.IsError && c.Type != "text" {
				ok = false
			}
		}
	case "thinking":
		ok, of = b.Thinking != nil && b.Signature != "" && b.Cache == nil, "assistant"
	case "redacted_thinking":
		ok, of = b.Data != "" && b.Cache == nil, "assistant"
	}
	if !ok || of != role {
		return fmt.Errorf("a %q of a %s that is none", b.Type, role)
	}
	return nil
}

// request is what arrived, in this project's form.
func (r *messagesRequest) request() *llm.Request {
	out := &llm.Request{}
	for _, b := range r.System {
		out.System += b.Text
	}
	names := map[string]string{}
	for _, m := range r.Messages {
		var own []llm.Part
		for _, raw := range m.Content {
			var b claudeBlock
			_ = json.Unmarshal(raw, &b) // it is validated
			switch b.Type {
			case "tool_use":
				names[b.ID] = b.Name
				own = append(own, llm.Part{Call: &llm.ToolCall{ID: b.ID, Name: b.Name, Args: b.Input}})
			case "tool_result":
				res := &llm.ToolResult{ID: b.ToolUseID, Name: names[b.ToolUseID], Error: b.IsError}
				for _, c := range b.Content {
					res.Parts = append(res.Parts, c.part()...)
				}
				out.Messages = results(out.Messages, llm.Part{Result: res})
			default:
				own = append(own, b.part()...)
			}
		}
		role := llm.RoleUser
		if m.Role == "assistant" {
			role = llm.RoleModel
		}
		if len(own) > 0 || role == llm.RoleModel {
			out.Messages = append(out.Messages, llm.Message{Role: role, Parts: own})
		}
	}
	for _, t := range r.Tools {
		out.Tools = append(out.Tools, llm.Tool{Name: t.Name, Schema: t.Schema})
	}
	if c := r.OutputConfig; c != nil && c.Format != nil {
		out.Schema = &llm.Schema{Schema: c.Format.Schema}
	}
	return out
}

func (b claudeBlock) part() []llm.Part {
	switch b.Type {
	case "text":
		return []llm.Part{{Text: b.Text}}
	case "image":
		return []llm.Part{{Media: &llm.Media{Type: "image/*", URL: "sent"}}}
	case "document":
		return []llm.Part{{Media: &llm.Media{Type: "application/pdf", URL: "sent"}}}
	case "thinking":
		return []llm.Part{{Reasoning: &llm.Reasoning{Text: *b.Thinking}}}
	}
	return nil
}
