package mcphost

import (
	"fmt"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// deadlines are when a call has had its time. Those of all calls of a
// connection have one timer, which is set to the first of them and left there
// when that call ends: most calls end long before, and set none.
type deadlines struct {
	idle time.Time // without a sign of life; zero: it waits for an answer of ours
	last time.Time // whatever signs there are
}

// wind gives a call all of its time, from now on. s.mu is held.
func (c *call) wind() {
	t, now := c.s.l.s.Timeouts, time.Now()
	c.until = deadlines{idle: now.Add(t.Idle), last: now.Add(t.Request)}
	c.s.wake(c.until.idle) // it is never the later one
}

// wake sees to it that ring is called then, or before. s.mu is held.
func (s *session) wake(at time.Time) {
	if s.why != nil || !s.rings.IsZero() && !at.Before(s.rings) {
		return
	}
	s.rings = at
	if s.alarm == nil {
		s.alarm = time.AfterFunc(time.Until(at), s.ring)
		return
	}
	s.alarm.Reset(time.Until(at))
}

// ring ends the calls that have had their time.
func (s *session) ring() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rings = time.Time{}
	t, now := s.l.s.Timeouts, time.Now()
	for _, c := range s.calls {
		at, err := c.until.idle, fmt.Errorf("%w: no sign of life for %v (timeouts.idle)", durable.ErrTimeout, t.Idle)
		if c.until.last.Before(at) {
			at, err = c.until.last, fmt.Errorf("%w: no result within %v (timeouts.request)", durable.ErrTimeout, t.Request)
		}
		switch {
		case at.IsZero():
		case now.Before(at):
			s.wake(at)
		default:
			c.end(err)
		}
	}
}
