package wire

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/mcpagent/mcpagent/llm"
)

// Stream is an answer as it comes: events that a server sends.
type Stream struct {
	// Kind and Data are those of the event; Data is good until the next one.
	Kind string
	Data []byte

	c     Caller
	ctx   context.Context
	res   *http.Response
	lines *bufio.Scanner
	begun bool
	whole io.Reader // an answer that is no stream
}

// Listen sends a request whose answer is a stream, which has to be closed.
func (c Caller) Listen(ctx context.Context, body []byte) (*Stream, error) {
	res, err := c.post(ctx, body, "text/event-stream")
	if err != nil {
		return nil, err
	}
	s := &Stream{c: c, ctx: ctx, res: res}
	events := io.Reader(res.Body)
	if !strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		peeked := bufio.NewReader(res.Body)
		if c := first(peeked); c == '{' || c == '[' || c == '<' {
			s.whole = peeked
		}
		events = peeked
	}
	s.lines = bufio.NewScanner(events)
	s.lines.Buffer(nil, maxAnswer)
	return s, nil
}

// first is the first byte that is no space, which it leaves there; 0: there is
// none soon.
func first(r *bufio.Reader) byte {
	for n := 1; n <= r.Size(); n++ {
		b, err := r.Peek(n)
		if err != nil {
			return 0
		}
		if c := b[n-1]; c > ' ' {
			return c
		}
	}
	return 0
}

// Whole decodes the answer of a server that does not stream, where it gave a
// whole one, and hands out what response makes of it as if it had come in
// pieces; false: it streams.
func (s *Stream) Whole(answer any, response func(raw []byte) (*llm.Response, error), yield func(llm.Delta) bool) (bool, error) {
	if s.whole == nil {
		return false, nil
	}
	raw, err := io.ReadAll(s.whole)
	if err := s.c.read(s.ctx, s.res, raw, err, answer); err != nil {
		return true, err
	}
	res, err := response(raw)
	if err == nil {
		hand(res, yield)
	}
	return true, err
}

// hand hands out an answer in pieces, and then the whole.
func hand(res *llm.Response, yield func(llm.Delta) bool) {
	for _, p := range res.Message.Parts {
		d := llm.Delta{Text: p.Text}
		if p.Reasoning != nil {
			d.Reasoning = p.Reasoning.Text
		}
		if p.Call != nil {
			d.Call = &llm.ToolCall{ID: p.Call.ID, Name: p.Call.Name}
		}
		if d != (llm.Delta{}) && !yield(d) {
			return
		}
	}
	yield(llm.Delta{Response: res})
}

// Next reads an event; false: there is none any more. One that breaks off is
// none.
func (s *Stream) Next() bool {
	s.Kind, s.Data = "", s.Data[:0]
	for s.lines.Scan() {
		line := s.lines.Bytes()
		if !s.begun {
			s.begun, line = true, bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		if len(line) == 0 {
			if len(s.Data) > 0 {
				return true
			}
			s.Kind = ""
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":")) // a comment has no name
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "event":
			s.Kind = string(value)
		case "data":
			if len(s.Data) > 0 {
				s.Data = append(s.Data, '\n')
			}
			s.Data = append(s.Data, value...)
		}
	}
	return false
}

// Decode reads the event's data.
func (s *Stream) Decode(v any) error {
	if err := decode(s.Data, v); err != nil {
		return s.c.failure(s.ctx, s.res, err, nil)
	}
	return nil
}

// Told is the failure of which the event tells.
func (s *Stream) Told() error { return s.c.failure(s.ctx, s.res, nil, s.Data) }

// End is why there are no more events, where that is a failure: a stream that
// is not whole ended too early.
func (s *Stream) End(whole bool) error {
	switch err := s.lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return s.c.failure(s.ctx, s.res, ErrTooLarge, nil)
	case err != nil:
		return s.c.failure(s.ctx, s.res, err, nil)
	case s.ctx.Err() != nil:
		return context.Cause(s.ctx)
	case !whole:
		return s.c.failure(s.ctx, s.res, errHalf, nil)
	}
	return nil
}

// Close ends the request.
func (s *Stream) Close() { _ = s.res.Body.Close() }
