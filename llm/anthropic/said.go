package anthropic

import (
	"encoding/json"

	"github.com/mcpagent/mcpagent/internal/plainjson"
)

// said is an answer, or the beginning of one.
type said struct {
	Type        string            `json:"type"`
	ID          string            `json:"id"`
	Model       string            `json:"model"`
	Content     []json.RawMessage `json:"content"`
	StopReason  string            `json:"stop_reason"`
	StopDetails stopDetails       `json:"stop_details"`
	Usage       usage             `json:"usage"`
}

// Failed reports whether it is an error.
func (s *said) Failed() bool { return s.Type == "error" }

type stopDetails struct {
	Explanation string `json:"explanation"`
}

// usage are tokens. Events tell totals, of what they tell.
type usage struct {
	Input      *int64 `json:"input_tokens"`
	CacheWrite *int64 `json:"cache_creation_input_tokens"`
	CacheRead  *int64 `json:"cache_read_input_tokens"`
	Output     *int64 `json:"output_tokens"`
	Details    *struct {
		Thinking int64 `json:"thinking_tokens"`
	} `json:"output_tokens_details"`
}

// ReadJSON implements [plainjson.Readable].
func (s *said) ReadJSON(p *plainjson.Parser) bool {
	return p.Object(func(key []byte) bool {
		switch string(key) {
		case "type":
			return p.Word(&s.Type, "message") || p.Null()
		case "id":
			return p.String(&s.ID)
		case "model":
			return p.String(&s.Model)
		case "content":
			return p.Array(func() bool {
				s.Content = append(s.Content, nil)
				return p.Raw(&s.Content[len(s.Content)-1])
			})
		case "stop_reason":
			return p.Word(&s.StopReason, "end_turn", "tool_use", "max_tokens") || p.Null()
		case "stop_details":
			return p.Null() || p.Any(&s.StopDetails)
		case "usage":
			return p.Null() || s.Usage.readJSON(p)
		}
		return p.Foreign(key)
	})
}

func (u *usage) readJSON(p *plainjson.Parser) bool {
	count := func(to **int64) bool {
		if p.Null() {
			return true
		}
		*to = new(int64)
		return p.Int64(*to)
	}
	return p.Object(func(key []byte) bool {
		switch string(key) {
		case "input_tokens":
			return count(&u.Input)
		case "cache_creation_input_tokens":
			return count(&u.CacheWrite)
		case "cache_read_input_tokens":
			return count(&u.CacheRead)
		case "output_tokens":
			return count(&u.Output)
		case "output_tokens_details":
			return p.Any(&u.Details)
		}
		return p.Foreign(key)
	})
}
