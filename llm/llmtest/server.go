package llmtest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/llm"
)

// Server is a script behind HTTP: it speaks OpenAI's Chat Completions below
// /v1 and Anthropic's Messages, whole and as streams, and fails as they fail.
// Each request is held to the provider's rules, and what breaks one is refused
// and fails the test. Thoughts that went out have to come back unchanged.
type Server struct {
	*httptest.Server
	script *Script

	mu       sync.Mutex        // guards what follows
	thoughts map[string]string // that went out with a call, by its ID
	problems []error
}

// Serve starts a server that plays a script until the test ends.
func Serve(t testing.TB, s *Script) *Server {
	t.Helper()
	out := &Server{script: s, thoughts: map[string]string{}}
	out.Server = httptest.NewServer(out)
	t.Cleanup(func() {
		out.Close()
		if err := out.Problems(); err != nil {
			t.Errorf("requests that the provider would have refused: %v", err)
		}
	})
	return out
}

// Problems are the requests that broke a provider's rules.
func (s *Server) Problems() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.problems...)
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client went away
	}
	var d dialect
	var req *llm.Request
	var stream bool
	var name string
	switch {
	case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/v1/chat/completions"):
		in, bad := readOpenAI(body)
		d = openaiDialect{in.usage()}
		w.Header().Set("X-Request-Id", requestID)
		if err = bad; err == nil {
			req, stream, name = in.request(), in.Stream, in.Model
		}
	case r.Method == http.MethodPost && r.URL.Path == "/v1/messages":
		d = anthropicDialect{}
		w.Header().Set("Request-Id", requestID)
		in, bad := readAnthropic(body)
		if bad == nil && (r.Header.Get("X-Api-Key") == "" || r.Header.Get("Anthropic-Version") == "") {
			bad = errors.New("x-api-key and anthropic-version: headers are required")
		}
		if bad == nil {
			bad = s.unchanged(in)
		}
		if err = bad; err == nil {
			req, stream, name = in.request(), in.Stream, in.Model
		}
	default:
		http.NotFound(w, r)
		return
	}
	if err != nil {
		s.mu.Lock()
		s.problems = append(s.problems, fmt.Errorf("%w\n%s", err, body))
		s.mu.Unlock()
		d.refuse(w, &llm.Error{Class: llm.Invalid, Status: 400, Message: err.Error()})
		return
	}
	m := &player{s.script, name}
	a, res, err := m.answer(r.Context(), req)
	if err != nil {
		e := llm.Error{Class: llm.Server, Message: err.Error()}
		if said := (*llm.Error)(nil); errors.As(err, &said) {
			e = *said
		}
		e.Status = cmp.Or(e.Status, status[e.Class], 500)
		fail(w, d, &e)
		return
	}
	if a.Error != nil && !(stream && len(res.Message.Parts) > 0) {
		fail(w, d, a.Error)
		return
	}
	s.remember(res)
	if !stream {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(d.whole(res)) // the client may be gone
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for event := range d.events(res, a.Error) {
		if wait(r.Context(), a.Pace) != nil {
			return
		}
		if _, err := io.WriteString(w, event); err != nil {
			return
		}
		w.(http.Flusher).Flush()
	}
	if a.Error != nil && a.Error.Class == llm.Network {
		panic(http.ErrAbortHandler) // the connection breaks
	}
}

// fail is how a provider fails before it says anything.
func fail(w http.ResponseWriter, d dialect, e *llm.Error) {
	switch e.Class {
	case llm.Network:
		panic(http.ErrAbortHandler) // the connection breaks
	case llm.Malformed:
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"this": is no JSON`)
		return
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.FormatFloat(e.RetryAfter.Seconds(), 'f', -1, 64))
	}
	d.refuse(w, e)
}

// unchanged holds the thoughts of a request against those that went out.
func (s *Server) unchanged(r *messagesRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, m := range r.Messages {
		thought := ""
		for _, raw := range m.Content {
			var b claudeBlock
			_ = json.Unmarshal(raw, &b) // it is validated
			switch b.Type {
			case "thinking":
				thought += *b.Thinking + "|" + b.Signature
			case "tool_use":
				if sent, ours := s.thoughts[b.ID]; ours && sent != thought {
					return fmt.Errorf("messages.%d: the thoughts before call %s are %q, and were %q: `thinking` blocks cannot be modified", i, b.ID, thought, sent)
				}
			}
		}
	}
	return nil
}

func (s *Server) remember(res *llm.Response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	thought := ""
	for _, p := range res.Message.Parts {
		if p.Reasoning != nil {
			thought += p.Reasoning.Text + "|" + signature(p.Reasoning.Text)
		}
		if p.Call != nil {
			s.thoughts[p.Call.ID] = thought
		}
	}
}

// requestID is that of every request.
const requestID = "req_script"

func signature(text string) string { return fmt.Sprintf("c2ln%d", len(text)) }

// dialect is how one protocol says things.
type dialect interface {
	refuse(w http.ResponseWriter, e *llm.Error)
	whole(res *llm.Response) any
	// events are those of a stream; with an error, it breaks off.
	events(res *llm.Response, e *llm.Error) func(yield func(string) bool)
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(cmp.Or(status, 500))
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}

type object = map[string]any

func event(name string, data any) string {
	b, _ := json.Marshal(data) // of data
	if name != "" {
		return "event: " + name + "\ndata: " + string(b) + "\n\n"
	}
	return "data: " + string(b) + "\n\n"
}

// openaiDialect is OpenAI's.
type openaiDialect struct {
	usageInStream bool // the request wants it
}

func (openaiDialect) error(e *llm.Error) object {
	code := map[llm.Class]string{
		llm.TooLong: "context_length_exceeded", llm.Quota: "insufficient_quota", llm.RateLimit: "rate_limit_exceeded", llm.Filter: "content_filter",
		llm.Auth: "invalid_api_key", llm.NotFound: "model_not_found", llm.Overloaded: "overloaded",
	}[e.Class]
	kind := map[llm.Class]string{llm.Quota: "insufficient_quota", llm.RateLimit: "requests", llm.Server: "server_error", llm.Overloaded: "server_error"}[e.Class]
	body := object{"message": e.Message, "type": cmp.Or(kind, "invalid_request_error"), "param": nil, "code": nil}
	if code = cmp.Or(e.Code, code); code != "" {
		body["code"] = code
	}
	return object{"error": body}
}

func (d openaiDialect) refuse(w http.ResponseWriter, e *llm.Error) { write(w, e.Status, d.error(e)) }

func (openaiDialect) finish(res *llm.Response) string {
	return cmp.Or(map[llm.StopReason]string{llm.StopEnd: "stop", llm.StopText: "stop", llm.StopTools: "tool_calls", llm.StopLength: "length", llm.StopFilter: "content_filter"}[res.Stop], string(res.Stop))
}

func (openaiDialect) usage(u llm.Usage) object {
	return object{
		"prompt_tokens": u.Input, "completion_tokens": u.Output, "total_tokens": u.Input + u.Output,
		"prompt_tokens_details": object{"cached_tokens": u.CacheRead}, "completion_tokens_details": object{"reasoning_tokens": u.Reasoning},
	}
}

func (d openaiDialect) whole(res *llm.Response) any {
	msg := object{"role": "assistant", "content": nil, "refusal": nil}
	var calls []any
	for _, p := range res.Message.Parts {
		switch {
		case p.Call != nil:
			calls = append(calls, object{"id": p.Call.ID, "type": "function", "function": object{"name": p.Call.Name, "arguments": arguments(p.Call)}})
		case p.Reasoning != nil:
			msg["reasoning_content"] = p.Reasoning.Text
		case p.Text != "":
			msg["content"] = res.Message.Text()
		}
	}
	if calls != nil {
		msg["tool_calls"] = calls
	}
	return object{
		"id": res.ID, "object": "chat.completion", "model": res.Model, "created": 1,
		"choices": []any{object{"index": 0, "message": msg, "logprobs": nil, "finish_reason": d.finish(res)}}, "usage": d.usage(res.Usage),
	}
}

// arguments are those of a call, as the model wrote them.
func arguments(c *llm.ToolCall) string {
	var text string
	if c.Bad != "" && json.Unmarshal(c.Args, &text) == nil {
		return text
	}
	return string(c.Args)
}

func (d openaiDialect) events(res *llm.Response, e *llm.Error) func(yield func(string) bool) {
	chunk := func(delta object, finish any) string {
		return event("", object{"id": res.ID, "object": "chat.completion.chunk", "model": res.Model, "created": 1, "choices": []any{object{"index": 0, "delta": delta, "finish_reason": finish}}})
	}
	return func(yield func(string) bool) {
		more := yield(chunk(object{"role": "assistant", "content": ""}, nil))
		calls := res.Message.Calls()
		n := 0
		for _, p := range pieces(res) {
			switch {
			case !more:
				return
			case p.Call != nil:
				args := []rune(arguments(calls[n]))
				more = yield(chunk(object{"tool_calls": []any{object{"index": n, "id": p.Call.ID, "type": "function", "function": object{"name": p.Call.Name, "arguments": ""}}}}, nil)) &&
					yield(chunk(object{"tool_calls": []any{object{"index": n, "function": object{"arguments": string(args[:len(args)/2])}}}}, nil)) &&
					yield(chunk(object{"tool_calls": []any{object{"index": n, "function": object{"arguments": string(args[len(args)/2:])}}}}, nil))
				n++
			case p.Reasoning != "":
				more = yield(chunk(object{"reasoning_content": p.Reasoning}, nil))
			default:
				more = yield(chunk(object{"content": p.Text}, nil))
			}
		}
		switch {
		case !more:
		case e != nil:
			if e.Class != llm.Network {
				yield(event("", d.error(e)))
			}
		default:
			usage := event("", object{"id": res.ID, "object": "chat.completion.chunk", "model": res.Model, "created": 1, "choices": []any{}, "usage": d.usage(res.Usage)})
			_ = yield(chunk(object{}, d.finish(res))) && (!d.usageInStream || yield(usage)) && yield("data: [DONE]\n\n")
		}
	}
}

type anthropicDialect struct{}

func (anthropicDialect) error(e *llm.Error) object {
	kind := map[llm.Class]string{
		llm.Invalid: "invalid_request_error", llm.TooLong: "request_too_large", llm.Auth: "authentication_error", llm.Permission: "permission_error", llm.NotFound: "not_found_error",
		llm.Quota: "billing_error", llm.RateLimit: "rate_limit_error", llm.Overloaded: "overloaded_error", llm.Server: "api_error", llm.Filter: "invalid_request_error",
	}[e.Class]
	return object{"type": "error", "error": object{"type": cmp.Or(e.Code, kind), "message": e.Message}, "request_id": requestID}
}

// refuse takes Anthropic's own status, unless the script has another than most.
func (d anthropicDialect) refuse(w http.ResponseWriter, e *llm.Error) {
	code := e.Status
	if code == status[e.Class] {
		code = cmp.Or(map[llm.Class]int{llm.TooLong: 413, llm.Quota: 402, llm.Overloaded: 529}[e.Class], code)
	}
	write(w, code, d.error(e))
}

func (anthropicDialect) stop(res *llm.Response) string {
	return cmp.Or(map[llm.StopReason]string{llm.StopEnd: "end_turn", llm.StopText: "stop_sequence", llm.StopTools: "tool_use", llm.StopLength: "max_tokens", llm.StopFilter: "refusal"}[res.Stop], string(res.Stop))
}

func (anthropicDialect) usage(u llm.Usage) object {
	return object{
		"input_tokens": u.Input - u.CacheRead - u.CacheWrite, "cache_read_input_tokens": u.CacheRead, "cache_creation_input_tokens": u.CacheWrite,
		"output_tokens": u.Output, "output_tokens_details": object{"thinking_tokens": u.Reasoning}, "server_tool_use": nil,
	}
}

// message is one with what all of them have.
func (d anthropicDialect) message(res *llm.Response) object {
	u := d.usage(res.Usage)
	u["cache_creation"] = object{"ephemeral_5m_input_tokens": res.Usage.CacheWrite, "ephemeral_1h_input_tokens": 0}
	u["inference_geo"], u["service_tier"], u["speed"] = nil, "standard", nil
	return object{
		"id": res.ID, "type": "message", "role": "assistant", "model": res.Model, "content": []any{}, "container": nil, "diagnostics": nil,
		"stop_reason": nil, "stop_sequence": nil, "stop_details": nil, "usage": u,
	}
}

func (anthropicDialect) block(p llm.Part) object {
	switch {
	case p.Call != nil:
		var input any = json.RawMessage(p.Call.Args)
		if p.Call.Bad != "" {
			input = object{}
		}
		return object{"type": "tool_use", "id": p.Call.ID, "name": p.Call.Name, "input": input, "caller": object{"type": "direct"}}
	case p.Reasoning != nil:
		return object{"type": "thinking", "thinking": p.Reasoning.Text, "signature": signature(p.Reasoning.Text)}
	}
	return object{"type": "text", "text": p.Text, "citations": nil}
}

func (d anthropicDialect) whole(res *llm.Response) any {
	content := []any{}
	for _, p := range res.Message.Parts {
		content = append(content, d.block(p))
	}
	msg := d.message(res)
	msg["content"], msg["stop_reason"] = content, d.stop(res)
	return msg
}

func (d anthropicDialect) events(res *llm.Response, e *llm.Error) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		more := true
		say := func(name string, data object) {
			if more {
				data["type"] = name
				more = yield(event(name, data))
			}
		}
		begun := d.message(res)
		begun["usage"].(object)["output_tokens"] = 1
		say("message_start", object{"message": begun})
		say("ping", object{})
		for i, p := range res.Message.Parts {
			b := maps.Clone(d.block(p))
			delta := func(kind string, fields object) bool {
				fields["type"] = kind
				say("content_block_delta", object{"index": i, "delta": fields})
				return more
			}
			switch {
			case p.Call != nil:
				b["input"] = object{}
				say("content_block_start", object{"index": i, "content_block": b})
				args := []rune(arguments(p.Call))
				for piece := range slices.Chunk(args, len(args)/2+1) {
					delta("input_json_delta", object{"partial_json": string(piece)})
				}
			case p.Reasoning != nil:
				b["thinking"], b["signature"] = "", ""
				say("content_block_start", object{"index": i, "content_block": b})
				for word := range strings.SplitAfterSeq(p.Reasoning.Text, " ") {
					if !delta("thinking_delta", object{"thinking": word}) {
						return
					}
				}
				delta("signature_delta", object{"signature": signature(p.Reasoning.Text)})
			default:
				b["text"] = ""
				say("content_block_start", object{"index": i, "content_block": b})
				for word := range strings.SplitAfterSeq(p.Text, " ") {
					if !delta("text_delta", object{"text": word}) {
						return
					}
				}
			}
			if e == nil {
				say("content_block_stop", object{"index": i})
			}
		}
		switch {
		case e == nil:
			say("message_delta", object{"delta": object{"stop_reason": d.stop(res), "stop_sequence": nil, "stop_details": nil, "container": nil}, "usage": d.usage(res.Usage)})
			say("message_stop", object{})
		case e.Class != llm.Network:
			say("error", d.error(e))
		}
	}
}

// patience bounds what a test of the kit waits for.
const patience = 30 * time.Second
