package mcphost

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// link is a server with its connection, which is made when it is needed and
// again when it was lost.
type link struct {
	h       *Host
	name    string
	s       *Server
	invalid error // of its configuration
	hide    *hider

	mu      sync.Mutex // guards what follows
	cur     *session   // the newest connection; nil: none yet
	dialing *dialing   // nil: nobody connects
	fails   int        // in a row
	retry   time.Time  // before it, a listing does not try an optional server again
	last    error      // of the newest attempt to connect
	serial  int        // of its processes
	closed  bool
}

// dialing is an attempt to connect, for all who want it.
type dialing struct {
	done  chan struct{}
	wire  context.Context // of the connection; ends with it
	end   context.CancelCauseFunc
	hurry chan struct{} // closed when there is no time to end politely
	once  sync.Once
	s     *session
	err   error
}

// rush leaves no time to end politely.
func (d *dialing) rush() { d.once.Do(func() { close(d.hurry) }) }

func newLink(h *Host, name string, s *Server, invalid error) *link {
	s.Timeouts = s.Timeouts.filled()
	return &link{h: h, name: name, s: s, invalid: invalid, hide: newHider(s)}
}

// fail makes the error of a server.
func (l *link) fail(op string, s *session, err error) error {
	e := &Error{Server: l.name, Op: op, Err: l.hide.err(err)}
	if s != nil && s.proc != nil {
		e.Stderr = l.hide.text(s.proc.stderr.String())
	}
	return e
}

// session gives a connection that lives, as far as is known.
func (l *link) session(ctx context.Context) (*session, error) {
	if l.invalid != nil {
		return nil, durable.Permanent(l.fail("connect", nil, kindOf(ErrUnavailable, "%w", l.invalid)))
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, l.fail("connect", nil, kindOf(ErrUnavailable, "%w", errClosed))
	}
	if s := l.cur; s != nil && !s.isDown() {
		l.mu.Unlock()
		return s, nil
	}
	d := l.dialing
	if d == nil {
		d = &dialing{done: make(chan struct{}), hurry: make(chan struct{})}
		d.wire, d.end = context.WithCancelCause(l.h.life)
		l.dialing = d
		old := l.cur
		l.serial++
		tag := fmt.Sprintf("%s-%s-%d", l.h.tag, fileName(l.name), l.serial)
		l.h.work.Go(func() { l.dial(d, old, tag) })
	}
	l.mu.Unlock()
	select {
	case <-d.done:
		return d.s, d.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// dial makes a connection, after the old one has ended.
func (l *link) dial(d *dialing, old *session, tag string) {
	if old != nil {
		<-old.ended
	}
	s, err := l.connect(d, tag)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dialing, d.s, d.err = nil, s, err
	l.last = err
	if err == nil {
		l.cur, l.fails, l.retry = s, 0, time.Time{}
	} else {
		l.fails++
		l.retry = time.Now().Add(min(time.Second<<min(l.fails-1, 5), 30*time.Second))
	}
	close(d.done)
}

// resting gives the error of the newest attempt to connect, if another one is
// not worth it yet.
func (l *link) resting() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last != nil && l.dialing == nil && time.Now().Before(l.retry) {
		return l.last
	}
	return nil
}

// connect starts the server, if it is one to start, and introduces itself.
func (l *link) connect(d *dialing, tag string) (*session, error) {
	s := newSession(l, d)
	deadline := time.AfterFunc(l.s.Timeouts.Connect, func() {
		d.end(fmt.Errorf("%w: no connection within %v (timeouts.connect)", durable.ErrTimeout, l.s.Timeouts.Connect))
	})
	defer deadline.Stop()
	give := func(err error) (*session, error) {
		if cause := context.Cause(d.wire); cause != nil && !errors.Is(err, cause) {
			err = cause
		} else if said(err) == nil && s.proc != nil && s.proc.endsSoon() {
			err = fmt.Errorf("it ended at once: %s", exitStatus(s.proc.status))
		}
		s.lose(err)
		s.finish()
		err = kindOf(ErrUnavailable, "%w", err)
		if s.killed != nil {
			err = fmt.Errorf("%w; %w", err, s.killed)
		}
		return nil, l.fail("connect", s, err)
	}
	t, err := s.transport(tag)
	if err != nil {
		return give(err)
	}
	o := &mcp.ClientSessionOptions{ProtocolVersion: l.s.Pin}
	pipes, _ := t.(*stdio)
	if s.cs, err = s.client().Connect(d.wire, t, o); err != nil && pipes != nil && d.wire.Err() == nil && pipes.again() {
		s.cs, err = s.client().Connect(d.wire, t, o)
	}
	if err != nil {
		return give(err)
	}
	if pipes != nil {
		pipes.set.Store(true)
	}
	revision := s.cs.InitializeResult().ProtocolVersion
	if pin := l.s.Pin; pin != "" && revision != pin {
		return give(fmt.Errorf("it speaks revision %s, and %s is demanded (pin)", revision, pin))
	}
	s.modern = revision >= "2026-07-28"
	if !deadline.Stop() {
		return give(context.Cause(d.wire))
	}
	l.h.work.Go(s.watch)
	return s, nil
}

// close ends the connection for good. The error tells what had to be killed.
func (l *link) close(ctx context.Context) error {
	l.mu.Lock()
	l.closed = true
	d, s := l.dialing, l.cur
	l.mu.Unlock()
	if d != nil {
		d.end(errClosed)
		defer context.AfterFunc(ctx, d.rush)()
		<-d.done
		if d.s == nil {
			return nil // what it had to kill is in its error
		}
		s = d.s
	}
	if s == nil {
		return nil
	}
	defer context.AfterFunc(ctx, s.d.rush)()
	s.lose(errClosed)
	s.finish()
	if s.killed != nil {
		return l.fail("close", s, s.killed)
	}
	return nil
}
