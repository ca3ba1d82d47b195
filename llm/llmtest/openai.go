package llmtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mcpagent/mcpagent/llm"
)

// What follows holds the body of a request to the rules of OpenAI's Chat
// Completions, as the API does, and some of them more strictly.

type chatRequest struct {
	Model          string          `json:"model"`
	Messages       []chatMessage   `json:"messages"`
	Tools          []chatTool      `json:"tools"`
	ToolChoice     json.RawMessage `json:"tool_choice"`
	Parallel       *bool           `json:"parallel_tool_calls"`
	MaxTokens      *int64          `json:"max_tokens"`
	MaxCompletion  *int64          `json:"max_completion_tokens"`
	Temperature    *float64        `json:"temperature"`
	TopP           *float64        `json:"top_p"`
	Stop           chatStops       `json:"stop"`
	Effort         string          `json:"reasoning_effort"`
	Stream         bool            `json:"stream"`
	StreamOptions  json.RawMessage `json:"stream_options"`
	ResponseFormat *struct {
		Type       string `json:"type"`
		JSONSchema struct {
			Name   string          `json:"name"`
			Strict bool            `json:"strict"`
			Schema json.RawMessage `json:"schema"`
		} `json:"json_schema"`
	} `json:"response_format"`
}

// chatStops are texts, or one of them.
type chatStops []string

// UnmarshalJSON implements [json.Unmarshaler].
func (l *chatStops) UnmarshalJSON(b []byte) error {
	if b[0] == '"' {
		b = slices.Concat([]byte("["), b, []byte("]"))
	}
	return json.Unmarshal(b, (*[]string)(l))
}

type chatMessage struct {
	Role       string          `json:"role"`
	Content    json.RawMessage `json:"content"`
	ToolCallID string          `json:"tool_call_id"`
	ToolCalls  []chatCall      `json:"tool_calls"`
	Reasoning  string          `json:"reasoning_content"`
}

type chatCall struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

type chatTool struct {
	Type     string `json:"type"`
	Function struct {
		Name       string          `json:"name"`
		Parameters json.RawMessage `json:"parameters"`
	} `json:"function"`
}

type chatPart struct {
	Type     string `json:"type"`
	Text     string `json:"text"`
	ImageURL struct {
		URL string `json:"url"`
	} `json:"image_url"`
	File struct {
		Data string `json:"file_data"`
		Name string `json:"filename"`
	} `json:"file"`
	Audio struct {
		Data   string `json:"data"`
		Format string `json:"format"`
	} `json:"input_audio"`
}

// ValidateOpenAI finds what OpenAI would refuse in the body of a request for a
// chat completion.
func ValidateOpenAI(body []byte) error {
	_, err := readOpenAI(body)
	return err
}

func readOpenAI(body []byte) (*chatRequest, error) {
	r := new(chatRequest)
	if err := json.Unmarshal(body, r); err != nil {
		return nil, fmt.Errorf("the body: %w", err)
	}
	return r, errors.Join(r.parameters(), r.conversation())
}

func (r *chatRequest) parameters() error {
	names := map[string]bool{}
	for i, t := range r.Tools {
		switch f := t.Function; {
		case t.Type != "function":
			return fmt.Errorf("tools[%d] is of type %q", i, t.Type)
		case !llm.ToolName(f.Name):
			return fmt.Errorf("tools[%d] has the name %q", i, f.Name)
		case names[f.Name]:
			return fmt.Errorf("tools[%d] is a second %s", i, f.Name)
		default:
			if err := toolSchema(f.Parameters); err != nil {
				return fmt.Errorf("tools[%d], %s: %w", i, f.Name, err)
			}
			names[f.Name] = true
		}
	}
	if len(r.Tools) > 128 {
		return fmt.Errorf("%d tools, 128 are allowed", len(r.Tools))
	}
	if len(r.Tools) == 0 && (r.ToolChoice != nil || r.Parallel != nil) {
		return errors.New("tool_choice or parallel_tool_calls, and no tools")
	}
	if r.ToolChoice != nil {
		var mode string
		var named struct {
			Type     string `json:"type"`
			Function struct {
				Name string `json:"name"`
			} `json:"function"`
		}
		switch {
		case json.Unmarshal(r.ToolChoice, &mode) == nil:
			if !slices.Contains([]string{"none", "auto", "required"}, mode) {
				return fmt.Errorf("tool_choice is %q", mode)
			}
		case json.Unmarshal(r.ToolChoice, &named) != nil || named.Type != "function" || !names[named.Function.Name]:
			return fmt.Errorf("tool_choice is %s", r.ToolChoice)
		}
	}
	if f := r.ResponseFormat; f != nil {
		if f.Type != "json_schema" || !llm.ToolName(f.JSONSchema.Name) {
			return fmt.Errorf("response_format is of type %q with the name %q", f.Type, f.JSONSchema.Name)
		}
		if err := answerSchema(f.JSONSchema.Schema, f.JSONSchema.Strict, f.JSONSchema.Strict); err != nil {
			return fmt.Errorf("response_format: %w", err)
		}
	}
	switch {
	case r.Model == "":
		return errors.New("no model")
	case r.MaxTokens != nil && r.MaxCompletion != nil:
		return errors.New("max_tokens and max_completion_tokens")
	case r.MaxTokens != nil && *r.MaxTokens < 1 || r.MaxCompletion != nil && *r.MaxCompletion < 1:
		return errors.New("max_tokens below 1")
	case r.Temperature != nil && (*r.Temperature < 0 || *r.Temperature > 2):
		return fmt.Errorf("temperature is %v", *r.Temperature)
	case r.TopP != nil && (*r.TopP < 0 || *r.TopP > 1):
		return fmt.Errorf("top_p is %v", *r.TopP)
	case len(r.Stop) > 4:
		return fmt.Errorf("%d stops, 4 are allowed", len(r.Stop))
	case r.StreamOptions != nil && !r.Stream:
		return errors.New("stream_options, and no stream")
	case !slices.Contains([]string{"", "none", "minimal", "low", "medium", "high", "xhigh", "max"}, r.Effort):
		return fmt.Errorf("reasoning_effort is %q", r.Effort)
	}
	return nil
}

// usage tells whether a stream is to end with it.
func (r *chatRequest) usage() bool {
	var o struct {
		Include bool `json:"include_usage"`
	}
	return json.Unmarshal(r.StreamOptions, &o) == nil && o.Include
}

func (r *chatRequest) conversation() error {
	if len(r.Messages) == 0 {
		return errors.New("no messages")
	}
	ids := map[string]bool{}
	var open []string // calls without their result
	for i, m := range r.Messages {
		at := fmt.Sprintf("messages[%d]", i)
		if len(open) > 0 && m.Role != "tool" {
			return fmt.Errorf("%s: an assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id': %v", at, open)
		}
		parts, err := m.parts()
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		switch m.Role {
		case "system", "developer":
			if i > 0 {
				return fmt.Errorf("%s: the instruction is not the first", at)
			}
		case "user":
			if len(parts) == 0 {
				return fmt.Errorf("%s: a user who says nothing", at)
			}
		case "assistant":
			if i == 0 || m.Content == nil && len(m.ToolCalls) == 0 {
				return fmt.Errorf("%s: an assistant without content and calls, or first", at)
			}
			for _, c := range m.ToolCalls {
				if c.ID == "" || len(c.ID) > 40 || ids[c.ID] || c.Type != "function" || !llm.ToolName(c.Function.Name) {
					return fmt.Errorf("%s: call %q of %q %q", at, c.ID, c.Type, c.Function.Name)
				}
				ids[c.ID] = true
				open = append(open, c.ID)
			}
		case "tool":
			at := slices.Index(open, m.ToolCallID)
			if at < 0 {
				return fmt.Errorf("messages[%d]: a result for %q, which is no open call: messages with role 'tool' must be a response to a preceding message with 'tool_calls'", i, m.ToolCallID)
			}
			open = slices.Delete(open, at, at+1)
			if len(parts) != 1 || parts[0].Type != "text" {
				return fmt.Errorf("messages[%d]: a result that is not one text", i)
			}
		default:
			return fmt.Errorf("%s: the role %q", at, m.Role)
		}
	}
	if len(open) > 0 {
		return fmt.Errorf("the calls %v have no result", open)
	}
	if last := r.Messages[len(r.Messages)-1].Role; last == "assistant" || last == "system" || last == "developer" {
		return fmt.Errorf("the last message is of role %q", last)
	}
	return nil
}

// parts are the content, a string as one text.
func (m chatMessage) parts() ([]chatPart, error) {
	var text string
	if m.Content == nil {
		return nil, nil
	}
	if json.Unmarshal(m.Content, &text) == nil {
		if text == "" && m.Role == "user" {
			return nil, nil
		}
		return []chatPart{{Type: "text", Text: text}}, nil
	}
	var parts []chatPart
	if err := json.Unmarshal(m.Content, &parts); err != nil {
		return nil, fmt.Errorf("the content: %w", err)
	}
	for i, p := range parts {
		ok := false
		switch p.Type {
		case "text":
			ok = p.Text != ""
		case "image_url":
			ok = strings.HasPrefix(p.ImageURL.URL, "data:image/") || strings.HasPrefix(p.ImageURL.URL, "http")
		case "file":
			ok = strings.HasPrefix(p.File.Data, "data:application/pdf;base64,") && p.File.Name != ""
		case "input_audio":
			ok = p.Audio.Data != "" && (p.Audio.Format == "wav" || p.Audio.Format == "mp3")
		}
		if !ok || p.Type != "text" && m.Role != "user" {
			return nil, fmt.Errorf("content[%d] of a %s is a %q that is none", i, m.Role, p.Type)
		}
	}
	return parts, nil
}

// request is what arrived, in this project's form.
func (r *chatRequest) request() *llm.Request {
	out := &llm.Request{}
	names := map[string]string{}
	for _, m := range r.Messages {
		parts, _ := m.parts() // they are validated
		var own []llm.Part
		for _, p := range parts {
			if p.Type == "text" {
				own = append(own, llm.Part{Text: p.Text})
			} else {
				kind := map[string]string{"image_url": "image/*", "file": "application/pdf", "input_audio": "audio/" + p.Audio.Format}[p.Type]
				own = append(own, llm.Part{Media: &llm.Media{Type: kind, URL: "sent"}})
			}
		}
		switch m.Role {
		case "system", "developer":
			out.System = llm.Message{Parts: own}.Text()
		case "user":
			out.Messages = append(out.Messages, llm.Message{Role: llm.RoleUser, Parts: own})
		case "assistant":
			own = slices.DeleteFunc(own, func(p llm.Part) bool { return p == llm.Part{} })
			for _, c := range m.ToolCalls {
				names[c.ID] = c.Function.Name
				call := toolCall(c.Function.Name, c.Function.Arguments)
				call.ID = c.ID
				own = append(own, llm.Part{Call: &call})
			}
			out.Messages = append(out.Messages, llm.Message{Role: llm.RoleModel, Parts: own})
		case "tool":
			p := llm.Part{Result: &llm.ToolResult{ID: m.ToolCallID, Name: names[m.ToolCallID], Parts: own}}
			out.Messages = results(out.Messages, p)
		}
	}
	for _, t := range r.Tools {
		out.Tools = append(out.Tools, llm.Tool{Name: t.Function.Name, Schema: t.Function.Parameters})
	}
	if f := r.ResponseFormat; f != nil {
		out.Schema = &llm.Schema{Name: f.JSONSchema.Name, Schema: f.JSONSchema.Schema}
	}
	return out
}

// results adds a result, in the order of the calls.
func results(messages []llm.Message, p llm.Part) []llm.Message {
	last := &messages[len(messages)-1]
	if last.Role != llm.RoleTools {
		return append(messages, llm.Message{Role: llm.RoleTools, Parts: []llm.Part{p}})
	}
	last.Parts = append(last.Parts, p)
	return messages
}

// toolSchema holds a schema of arguments to what all providers demand.
func toolSchema(b json.RawMessage) error {
	var s map[string]json.RawMessage
	if err := json.Unmarshal(b, &s); err != nil || s == nil {
		return fmt.Errorf("the schema is no object: %s", b)
	}
	if string(s["type"]) != `"object"` || !strings.HasPrefix(string(s["properties"]), "{") {
		return fmt.Errorf("the schema must be of type object with properties: %s", b)
	}
	for _, key := range []string{"oneOf", "anyOf", "allOf", "enum", "not"} {
		if _, there := s[key]; there {
			return fmt.Errorf("the schema has %s on top", key)
		}
	}
	return nil
}

// answerSchema holds the schema of an answer to what providers demand that
// bind the model by it.
func answerSchema(b json.RawMessage, closed, required bool) error {
	var s struct {
		Type       json.RawMessage            `json:"type"`
		Properties map[string]json.RawMessage `json:"properties"`
		Required   []string                   `json:"required"`
		Additional json.RawMessage            `json:"additionalProperties"`
		Items      json.RawMessage            `json:"items"`
		AnyOf      []json.RawMessage          `json:"anyOf"`
		Defs       map[string]json.RawMessage `json:"$defs"`
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("the schema: %w", err)
	}
	if strings.Contains(string(s.Type), "object") && closed {
		if string(s.Additional) != "false" {
			return fmt.Errorf("additionalProperties must be false: %s", b)
		}
		for name := range s.Properties {
			if required && !slices.Contains(s.Required, name) {
				return fmt.Errorf("%s is not required: %s", name, b)
			}
		}
	}
	for _, m := range []map[string]json.RawMessage{s.Properties, s.Defs} {
		for _, sub := range m {
			if err := answerSchema(sub, closed, required); err != nil {
				return err
			}
		}
	}
	if s.Items != nil {
		s.AnyOf = append(s.AnyOf, s.Items)
	}
	for _, sub := range s.AnyOf {
		if err := answerSchema(sub, closed, required); err != nil {
			return err
		}
	}
	return nil
}
