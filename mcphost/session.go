package mcphost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// session is one connection to a server. It ends once and does not come back;
// the link makes another one.
type session struct {
	l      *link
	d      *dialing // that it came from
	cs     *mcp.ClientSession
	proc   *process // nil: none of ours
	web    *roundTripper
	wire   context.Context // of everything on the connection
	end    context.CancelCauseFunc
	modern bool // revision 2026-07-28 or newer: the server never asks by itself

	next   chan *call     // to the spare goroutine
	down   chan struct{}  // closed when it can't be used any more
	ended  chan struct{}  // closed when nothing of it is left
	once   sync.Once      // of finish
	killed error          // what finish had to kill
	work   sync.WaitGroup // calls, and the end of the process; begun under mu while why is nil, or by the closing of the connection

	mu      sync.Mutex       // guards what follows
	why     error            // that it is down
	spare   bool             // a goroutine waits for the next call
	calls   map[string]*call // under way, by their tokens of progress
	alarm   *time.Timer      // calls ring; nil: there was no call yet
	rings   time.Time        // when it does; zero: not at all
	changed chan struct{}    // closed when a call ends, or waits, or goes on; nil: nobody waits for that
	tools   []*mcp.Tool      // listed, and not known to have changed
	listed  bool
}

func newSession(l *link, d *dialing) *session {
	return &session{
		l: l, d: d, wire: d.wire, end: d.end,
		next: make(chan *call), down: make(chan struct{}), ended: make(chan struct{}),
		calls: map[string]*call{},
	}
}

// transport starts or reaches the server.
func (s *session) transport(tag string) (mcp.Transport, error) {
	l := s.l
	switch {
	case l.s.Dial != nil:
		return l.s.Dial(s.wire)
	case l.s.URL != "":
		t, rt := l.overHTTP(s.wire)
		s.web = rt
		return t, nil
	}
	p, err := l.h.start(l.s, tag)
	if err != nil {
		return nil, err
	}
	s.proc = p
	if no := l.h.guard.missing(); no != nil {
		l.h.log.Warn("mcphost: what a server starts may outlive a kill of this process", "server", l.name, "error", no)
	}
	return &stdio{
		p: p, limit: l.h.maxMessage(), log: l.h.log, hide: l.hide,
		probe: min(5*time.Second, l.s.Timeouts.Connect/3), broken: s.lose,
		// The SDK closes a connection that it could not set up, and waits for
		// the end of what can be read: that of the process.
		closed: func() { s.work.Go(s.endProcess) },
	}, nil
}

// client makes the protocol's client side.
func (s *session) client() *mcp.Client {
	caps := &mcp.ClientCapabilities{
		Elicitation: &mcp.ElicitationCapabilities{Form: &mcp.FormElicitationCapabilities{}, URL: &mcp.URLElicitationCapabilities{}},
	}
	changed := func() {
		s.mu.Lock()
		s.tools, s.listed = nil, false
		s.mu.Unlock()
	}
	o := &mcp.ClientOptions{
		Capabilities:                caps,
		ElicitationHandler:          s.elicit,
		MultiRoundTrip:              &mcp.MultiRoundTripOptions{Disabled: true},
		ProgressNotificationHandler: s.progress,
		ToolListChangedHandler:      func(context.Context, *mcp.ToolListChangedRequest) { changed() },
	}
	return s.deprecated(o)
}

// isDown reports whether the connection can't be used any more.
func (s *session) isDown() bool {
	select {
	case <-s.down:
		return true
	default:
		return false
	}
}

// lose marks the connection as lost. The first reason counts.
func (s *session) lose(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why == nil {
		s.why = why
		close(s.down)
	}
}

// lost is why the connection is down.
func (s *session) lost() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// endProcess ends the server, if it is ours, and returns when nothing of it is
// left.
func (s *session) endProcess() {
	if s.proc != nil {
		s.proc.close(s.l.h, s.l.s.Timeouts.Close, s.d.hurry)
	}
}

// watch waits for the end of the connection and cleans up.
func (s *session) watch() {
	s.l.h.work.Go(func() {
		err := s.cs.Wait()
		switch {
		case s.proc != nil && s.proc.endsSoon():
			err = fmt.Errorf("the server ended: %s", exitStatus(s.proc.status))
		case err == nil || errors.Is(err, io.EOF):
			err = errors.New("the server closed the connection")
		}
		s.lose(err)
	})
	<-s.down
	s.finish()
}

// finish ends the connection and the server, within Timeouts.Close. It returns
// when nothing of them is left. The connection is down.
func (s *session) finish() {
	s.once.Do(func() {
		defer close(s.ended)
		s.mu.Lock()
		for _, c := range s.calls {
			c.end(s.why)
		}
		if s.alarm != nil {
			s.alarm.Stop()
		}
		s.mu.Unlock()
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			if s.cs != nil {
				_ = s.cs.Close()
			}
		}()
		s.endProcess()
		select {
		case <-closed:
		case <-s.d.hurry:
		case <-time.After(s.l.s.Timeouts.Close):
		}
		s.end(errClosed)
		<-closed
		s.work.Wait()
		if s.web != nil {
			s.web.base.CloseIdleConnections()
		}
		if s.proc != nil {
			s.killed = s.proc.err
		}
	})
}

// fail makes the error of a request, with what the connection knows.
func (s *session) fail(op string, err error) error {
	if s.isDown() {
		// What a request waited for too long is its own reason, whatever became of
		// the connection then.
		if why := s.lost(); why != nil && !errors.Is(err, why) && !errors.Is(err, durable.ErrTimeout) {
			err = why
		}
		if !errors.Is(err, durable.ErrTimeout) && !errors.Is(err, durable.ErrTooLarge) {
			err = kindOf(ErrUnavailable, "%w", err)
		}
	}
	return s.l.fail(op, s, err)
}
