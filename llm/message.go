package llm

import (
	"encoding/json"
	"strings"
)

// Role is who says something.
type Role string

// The roles. What stands above the conversation is [Request].System.
const (
	RoleUser  Role = "user"
	RoleModel Role = "model"
	RoleTools Role = "tools" // results, and nothing else
)

// Message is what one side says.
type Message struct {
	Role  Role   `json:"role"`
	Parts []Part `json:"parts"`
}

// User is a message of text to a model.
func User(text string) Message { return Message{RoleUser, []Part{{Text: text}}} }

// Text is all text of the message, without its reasoning.
func (m Message) Text() string {
	if len(m.Parts) == 1 {
		return m.Parts[0].Text
	}
	var b strings.Builder
	for _, p := range m.Parts {
		b.WriteString(p.Text)
	}
	return b.String()
}

// Calls are the tools that the message calls, in order.
func (m Message) Calls() []*ToolCall { return m.appendCalls(nil) }

func (m Message) appendCalls(out []*ToolCall) []*ToolCall {
	for _, p := range m.Parts {
		if p.Call != nil {
			out = append(out, p.Call)
		}
	}
	return out
}

// Part is a piece of a message: exactly one of the fields is set, and Raw
// beside it where a provider wants to see its own form again.
type Part struct {
	Text      string      `json:"text,omitempty"`
	Media     *Media      `json:"media,omitempty"`
	Call      *ToolCall   `json:"call,omitempty"`
	Result    *ToolResult `json:"result,omitempty"`
	Reasoning *Reasoning  `json:"reasoning,omitempty"`
	// Raw is the part as its provider sent it, with what has no place here
	// (signatures, citations). It goes back unchanged to the same provider, and
	// nowhere else.
	Raw *Raw `json:"raw,omitempty"`
}

// Raw is a provider's own form of something.
type Raw struct {
	Provider string          `json:"provider"`
	Data     json.RawMessage `json:"data"`
}

// Media is an image, a document or a sound: its content, or where it is.
type Media struct {
	Type string `json:"type"`           // MIME type; image/*, audio/*, application/pdf, text/*
	Data []byte `json:"data,omitempty"` // the content
	URL  string `json:"url,omitempty"`  // or where the provider finds it
	Name string `json:"name,omitempty"` // of the file
}

// Reasoning is what a model thought before it answered, as far as its provider
// shows it.
type Reasoning struct {
	Text string `json:"text,omitempty"`
}

// ToolCall is a model's wish to call a tool.
type ToolCall struct {
	ID   string `json:"id"` // unique in the conversation
	Name string `json:"name"`
	// Args are the arguments. A model may write what is no JSON: then it is a
	// JSON string with what it wrote, and Bad says what is wrong.
	Args json.RawMessage `json:"args,omitempty"`
	Bad  string          `json:"bad,omitempty"`
}

// ToolResult is what came of a [ToolCall].
type ToolResult struct {
	ID    string `json:"id"` // of the call
	Name  string `json:"name"`
	Parts []Part `json:"parts,omitempty"` // text and media
	// Data is the structured result. The model sees the Parts, or this where
	// there are none.
	Data  json.RawMessage `json:"data,omitempty"`
	Error bool            `json:"error,omitempty"` // it failed, and Parts say how
}

// Text is all text of the result, or its Data where it has none.
func (r *ToolResult) Text() string {
	s := Message{Parts: r.Parts}.Text()
	if s == "" && len(r.Parts) == 0 {
		return string(r.Data)
	}
	return s
}
