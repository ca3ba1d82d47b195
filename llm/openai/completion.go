package openai

import (
	"encoding/json"

	"github.com/mcpagent/mcpagent/internal/plainjson"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/internal/wire"
)

// completion is a whole answer, or a piece of one.
type completion struct {
	ID      string          `json:"id"`
	Model   string          `json:"model"`
	Choices []alternative   `json:"choices"`
	Usage   usage           `json:"usage"`
	Error   json.RawMessage `json:"error"` // in spite of the status
}

// Failed reports whether it is nothing but an error.
func (c *completion) Failed() bool { return len(c.Choices) == 0 && c.failed() }

func (c *completion) failed() bool { return len(c.Error) > 0 && string(c.Error) != "null" }

type alternative struct {
	Index        int    `json:"index"`
	FinishReason string `json:"finish_reason"`
	Message      spoken `json:"message"`
	Delta        spoken `json:"delta"`
}

// spoken is what a model says, or the next piece of it.
type spoken struct {
	Content          words   `json:"content"`
	Refusal          string  `json:"refusal"`
	ReasoningContent string  `json:"reasoning_content"` // endpoints have two names for it
	Reasoning        string  `json:"reasoning"`
	ToolCalls        []piece `json:"tool_calls"`
}

// words are a text, which some endpoints send in parts.
type words string

// UnmarshalJSON implements [json.Unmarshaler]. What is neither is left out.
func (w *words) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, (*string)(w)) == nil {
		return nil
	}
	var parts []json.RawMessage
	_ = json.Unmarshal(b, &parts) // as far as it goes
	for _, p := range parts {
		var part struct{ Type, Text string }
		if json.Unmarshal(p, &part) == nil && part.Type == "text" {
			*w += words(part.Text)
		}
	}
	return nil
}

type usage struct {
	Input   int64 `json:"prompt_tokens"`
	Output  int64 `json:"completion_tokens"`
	Details struct {
		Cached int64 `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
	OutputDetails struct {
		Reasoning int64 `json:"reasoning_tokens"`
	} `json:"completion_tokens_details"`
}

func (u *usage) usage() llm.Usage {
	return llm.Usage{Input: u.Input, Output: u.Output, CacheRead: u.Details.Cached, Reasoning: u.OutputDetails.Reasoning}
}

// ReadJSON implements [plainjson.Readable]: a stream has one for each word.
func (c *completion) ReadJSON(p *plainjson.Parser) bool {
	return p.Object(func(key []byte) bool {
		switch string(key) {
		case "id":
			return p.String(&c.ID)
		case "model":
			return p.String(&c.Model)
		case "choices":
			return p.Array(func() bool {
				c.Choices = append(c.Choices, alternative{})
				return c.Choices[len(c.Choices)-1].readJSON(p)
			})
		case "usage":
			return p.Null() || c.Usage.readJSON(p)
		case "error":
			return p.Raw(&c.Error)
		}
		return p.Foreign(key)
	})
}

func (a *alternative) readJSON(p *plainjson.Parser) bool {
	return p.Object(func(key []byte) bool {
		switch string(key) {
		case "index":
			return p.Int(&a.Index)
		case "finish_reason":
			return p.String(&a.FinishReason)
		case "message":
			return p.Null() || a.Message.readJSON(p)
		case "delta":
			return p.Null() || a.Delta.readJSON(p)
		}
		return p.Foreign(key)
	})
}

func (s *spoken) readJSON(p *plainjson.Parser) bool {
	return p.Object(func(key []byte) bool {
		switch string(key) {
		case "content":
			return p.String((*string)(&s.Content))
		case "refusal":
			return p.String(&s.Refusal)
		case "reasoning_content":
			return p.String(&s.ReasoningContent)
		case "reasoning":
			return p.String(&s.Reasoning)
		case "tool_calls":
			return p.Array(func() bool {
				s.ToolCalls = append(s.ToolCalls, piece{})
				raw, ok := p.Value()
				return ok && plainjson.Unmarshal(raw, &s.ToolCalls[len(s.ToolCalls)-1]) == nil
			})
		}
		return p.Foreign(key)
	})
}

func (u *usage) readJSON(p *plainjson.Parser) bool {
	return p.Object(func(key []byte) bool {
		switch string(key) {
		case "prompt_tokens":
			return p.Int64(&u.Input)
		case "completion_tokens":
			return p.Int64(&u.Output)
		case "prompt_tokens_details":
			return p.Any(&u.Details)
		case "completion_tokens_details":
			return p.Any(&u.OutputDetails)
		}
		return p.Foreign(key)
	})
}

// piece is a call, or a piece of one.
type piece struct {
	index          int
	id, name, args string
	extra          map[string]json.RawMessage // what the protocol does not have
}

// ReadJSON implements [plainjson.Readable], for a piece with what the protocol
// has.
func (t *piece) ReadJSON(p *plainjson.Parser) bool {
	return p.Object(func(key []byte) bool {
		switch string(key) {
		case "index":
			return p.Int(&t.index)
		case "id":
			return p.String(&t.id)
		case "type":
			var kind string
			return p.String(&kind)
		case "function":
			return p.Object(func(key []byte) bool {
				switch string(key) {
				case "name":
					return p.String(&t.name)
				case "arguments":
					return p.String(&t.args)
				}
				return p.Foreign(key)
			})
		}
		return false
	})
}

// UnmarshalJSON implements [json.Unmarshaler]. What is of another type than it
// should be is left out, except for arguments that are JSON themselves.
func (t *piece) UnmarshalJSON(b []byte) error {
	var known struct {
		Index    int    `json:"index"`
		ID       string `json:"id"`
		Function struct {
			Name      string          `json:"name"`
			Arguments json.RawMessage `json:"arguments"`
		} `json:"function"`
	}
	_ = json.Unmarshal(b, &known) // as far as it goes
	*t = piece{index: known.Index, id: known.ID, name: known.Function.Name, extra: wire.Others(b, "index", "id", "function", "type", "custom")}
	if args := known.Function.Arguments; string(args) != "null" && json.Unmarshal(args, &t.args) != nil {
		t.args = string(args)
	}
	return nil
}
