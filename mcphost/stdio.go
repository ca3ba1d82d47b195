package mcphost

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// stdio is the transport to a server that runs as a process: a message a line.
// What a server writes there that is no message (banners, logs) is dropped; a
// message above the limit ends the connection, since nobody can tell whose
// answer it was.
type stdio struct {
	p     *process
	limit int
	log   *slog.Logger
	hide  *hider
	probe time.Duration // how long an answer to server/discover may take
	// broken is told of a failure after which the connection can't go on.
	broken func(error)
	// closed is told of the Close that ends the server's input.
	closed func()

	in   *bufio.Reader // of what the server writes
	part []byte        // of a line; Read's own
	// late says that server/discover had no answer in time. A server that was
	// not up yet answers it when it is, and may refuse the initialize that has
	// followed: then it is asked again, on the same pipes.
	late atomic.Bool
	set  atomic.Bool // the connection is set up
}

// Connect implements [mcp.Transport].
func (t *stdio) Connect(context.Context) (mcp.Connection, error) {
	if t.in == nil {
		t.in = bufio.NewReaderSize(t.p.stdout, 64<<10)
	}
	return &stdioConn{t: t, first: !t.late.Load(), turn: make(chan struct{}, 1)}, nil
}

// again reports whether another connection may succeed where one could not be
// set up, and makes ready for it.
func (t *stdio) again() bool {
	if !t.late.Load() || t.p.over() {
		return false
	}
	t.p.unread = make(chan struct{})
	t.readOn()
	return true
}

// readOn takes back the deadline of reading.
func (t *stdio) readOn() {
	_ = t.p.stdout.SetReadDeadline(time.Time{})
	if t.p.over() {
		_ = t.p.stdout.SetReadDeadline(time.Now().Add(drainTime))
	}
}

type stdioConn struct {
	t       *stdio
	first   bool              // nothing was asked before
	queue   []jsonrpc.Message // read, and not given yet; Read's own
	turn    chan struct{}     // held by who writes
	closing atomic.Bool
	stray   int // lines that were dropped; Read's own

	probing atomic.Pointer[jsonrpc.ID] // of server/discover, while it has no answer
	refused atomic.Pointer[jsonrpc.ID] // the same, when it will have none
}

// SessionID implements [mcp.Connection]. There are no sessions here.
func (*stdioConn) SessionID() string { return "" }

// Read implements [mcp.Connection]. It is called by one goroutine.
func (c *stdioConn) Read(ctx context.Context) (jsonrpc.Message, error) {
	for {
		if len(c.queue) > 0 {
			m := c.queue[0]
			c.queue = c.queue[1:]
			return m, nil
		}
		line, err := c.line()
		if err != nil {
			if id := c.refused.Swap(nil); id != nil && errors.Is(err, os.ErrDeadlineExceeded) {
				// The server does not know the question, and does not say so.
				if c.t.readOn(); c.closing.Load() { // its deadline was this one
					_ = c.t.p.stdout.SetReadDeadline(time.Now())
				}
				return &jsonrpc.Response{ID: *id, Error: &jsonrpc.Error{Code: jsonrpc.CodeMethodNotFound, Message: "no answer"}}, nil
			}
			close(c.t.p.unread)
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, os.ErrClosed):
				err = io.EOF
			case !errors.Is(err, io.EOF):
				c.t.broken(err)
			}
			return nil, err
		}
		if !c.closing.Load() {
			c.parse(ctx, line)
		}
	}
}

// parse puts the messages of a line into the queue.
func (c *stdioConn) parse(ctx context.Context, line []byte) {
	drop := func(err error) {
		if c.stray++; c.stray <= 20 {
			c.t.log.DebugContext(ctx, "mcphost: a line on standard output is no message", "line", clip(c.t.hide.text(string(line)), 200), "error", err)
		}
	}
	line = bytes.TrimSpace(line)
	switch {
	case len(line) == 0:
	case line[0] == '{':
		m, err := jsonrpc.DecodeMessage(line)
		if err != nil {
			drop(err)
			return
		}
		if r, ok := m.(*jsonrpc.Response); ok {
			if id := c.probing.Load(); id != nil && *id == r.ID {
				c.probing.Store(nil)
			}
		}
		c.queue = append(c.queue, m)
	case line[0] == '[':
		// A batch, of revision 2025-03-26. Its members are answered one by one.
		var all []json.RawMessage
		if err := json.Unmarshal(line, &all); err != nil {
			drop(err)
			return
		}
		for _, raw := range all {
			if m, err := jsonrpc.DecodeMessage(raw); err == nil {
				c.queue = append(c.queue, m)
			} else {
				drop(err)
			}
		}
	default:
		drop(nil)
	}
}

// line reads one line, of its own memory.
func (c *stdioConn) line() ([]byte, error) {
	line := c.t.part
	c.t.part = nil
	for {
		b, err := c.t.in.ReadSlice('\n')
		if len(line)+len(b) > c.t.limit {
			return nil, fmt.Errorf("a message of more than %d bytes: %w", c.t.limit, durable.ErrTooLarge)
		}
		line = append(line, b...)
		switch {
		case err == nil:
			return line, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(bytes.TrimSpace(line)) > 0:
			return line, nil
		default:
			c.t.part = line // the reading may go on
			return nil, err
		}
	}
}

// Write implements [mcp.Connection].
func (c *stdioConn) Write(ctx context.Context, m jsonrpc.Message) error {
	b, err := jsonrpc.EncodeMessage(m)
	if err != nil {
		return err
	}
	b = append(b, '\n')
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if c.closing.Load() {
		return io.ErrClosedPipe
	}
	if req, ok := m.(*jsonrpc.Request); ok && req.Method == "server/discover" {
		c.discover(req.ID)
	}
	// A server that does not read makes the pipe full: then the write ends with
	// its context.
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { _ = c.t.p.stdin.SetWriteDeadline(time.Now()) })
		defer func() {
			if !stop() {
				_ = c.t.p.stdin.SetWriteDeadline(time.Time{})
			}
		}()
	}
	j := journeyOf(ctx)
	if j != nil {
		j.left.Store(true)
	}
	n, err := c.t.p.stdin.Write(b)
	if err == nil {
		return nil
	}
	if n == 0 && j != nil {
		j.left.Store(false)
	}
	if n > 0 || ctx.Err() == nil {
		// Nothing can follow half a message, nor be written to a broken pipe.
		c.t.broken(fmt.Errorf("write to the server: %w", err))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// discover waits for the answer to server/discover for a while. Servers of the
// older revisions should refuse it; some say nothing.
func (c *stdioConn) discover(id jsonrpc.ID) {
	c.probing.Store(&id)
	time.AfterFunc(c.t.probe, func() {
		if p := c.probing.Swap(nil); p != nil {
			c.t.late.Store(true)
			c.refused.Store(p)
			_ = c.t.p.stdout.SetReadDeadline(time.Now())
		}
	})
}

// Close implements [mcp.Connection]: it ends the server's input, unless there
// may be another connection. What ends the server is [process.close].
func (c *stdioConn) Close() error {
	if c.closing.CompareAndSwap(false, true) {
		if c.first && c.t.late.Load() && !c.t.set.Load() {
			return c.t.p.stdout.SetReadDeadline(time.Now())
		}
		_ = c.t.p.stdin.Close()
		c.t.closed()
	}
	return nil
}

// clip shortens a text for people.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return string(bytes.ToValidUTF8([]byte(s[:n]), nil)) + "…"
}
