package main

import (
	"fmt"
	"slices"
)

// The steps of the model, and what the end of a process does to them.

// dispatch sends the next attempt, now or when its time has come.
func (c *mcall) dispatch() {
	m := c.r.m
	if c.stop {
		c.notSent()
		return
	}
	if c.due > m.now {
		c.timer = m.at(c.due, c.dispatch)
		return
	}
	c.due = 0
	c.attempt++
	c.active, c.sent, c.sentAt = true, true, m.now
	s := c.stmt.Step
	m.effects = append(m.effects, fmt.Sprintf("%012d %s step#%d attempt %d", m.now, c.r.id, c.stmt.ID, c.attempt))
	limit := micro(s.Timeout)
	if limit == 0 {
		limit = 600e6
	}
	if s.Total > 0 {
		limit = max(1, min(limit, micro(s.Total)-(m.now-c.made)))
	}
	what := s.Outcomes[min(c.attempt, len(s.Outcomes))-1]
	c.ends = []*event{
		m.at(m.now+micro(s.Takes), func() { c.attemptOver(what) }),
		m.at(m.now+limit, func() { c.attemptOver("timeout") }),
	}
}

// askToStop ends the context of the attempt at work.
func (c *mcall) askToStop() {
	s := c.stmt.Step
	m := c.r.m
	if c.sentAt == m.now {
		m.ambiguous("step#%d is sent and asked to stop at %d", c.stmt.ID, m.now)
	}
	if s.Rude {
		return
	}
	c.ends[0].stop()
	c.ends[0] = m.at(m.now+micro(s.Wind), func() { c.attemptOver("canceled") })
}

func (c *mcall) endAttempt() {
	if c.active && c.sentAt == c.r.m.now {
		c.r.m.ambiguous("step#%d is sent and called off at %d", c.stmt.ID, c.sentAt)
	}
	for _, e := range c.ends {
		e.stop()
	}
	c.ends, c.active = nil, false
}

// attemptOver judges an attempt.
func (c *mcall) attemptOver(what string) {
	c.endAttempt()
	if c.given || c.over || c.r.done() {
		return
	}
	s, m := c.stmt.Step, c.r.m
	f := &Fault{Kind: "BOOM", Attempts: c.attempt}
	delay := c.interval()
	final := c.stop || s.Once || s.Attempts > 0 && c.attempt >= s.Attempts
	switch what {
	case "ok":
		c.outcome(c.stmt.Val, nil)
		return
	case "permanent":
		final = true
	case "after":
		if s.After > 0 {
			delay = micro(s.After)
		}
	case "timeout", "panic", "canceled":
		f.Kind = what
	}
	if s.Once && (what == "timeout" || what == "panic" || what == "unknown") {
		f.Kind = "unknown"
	}
	if s.Total > 0 && m.now+delay-c.made >= micro(s.Total) {
		final = true
	}
	if final {
		c.outcome(0, f)
		return
	}
	c.failure, c.due = f, m.now+delay
	c.dispatch()
}

// interval is the wait after the attempt that was made last.
func (c *mcall) interval() int64 {
	first := micro(c.stmt.Step.Initial)
	d := first
	for i := 1; i < c.attempt; i++ {
		d = min(2*d, 100*first)
	}
	return d
}

// fall is the end of the process: all that was at work is lost. Of a clean end
// the attempts do not count.
func (m *model) fall(clean bool) {
	m.down = true
	for _, r := range m.runs {
		if r.done() {
			continue
		}
		for _, waiting := range r.handling {
			for _, w := range waiting {
				w("closed")
			}
		}
		for id := range r.handling {
			r.handling[id] = nil
		}
		for _, c := range r.calls {
			if c.kind != "step" || c.over {
				continue
			}
			if !c.active {
				c.timer.stop() // is set anew when the process is back
				continue
			}
			if s := c.stmt.Step; s.Rude && clean {
				for _, e := range c.ends {
					if !e.off && e.at <= m.now+grace.Microseconds() {
						m.ambiguous("%s step#%d may end while the process does", r.id, c.stmt.ID)
					}
				}
			}
			c.endAttempt()
			switch {
			case c.stmt.Step.Once:
			case clean:
				c.attempt--
				c.sent = false
				c.failure = &Fault{Kind: "shutdown"}
				c.due = m.now + micro(c.stmt.Step.Wind)
			default:
				c.failure = &Fault{Kind: "lost"}
				c.lost = true
			}
		}
	}
}

// rise is the start of the next process.
func (m *model) rise() {
	m.down = false
	for _, r := range m.runs {
		if r.done() {
			continue
		}
		if r.deadline > 0 && r.deadline <= m.now {
			r.end("timed_out", &Fault{Kind: "timeout"})
			continue
		}
		// An attempt that was lost is made again after the usual interval.
		open := slices.Clone(r.calls)
		for _, c := range open {
			if c.lost {
				c.due = m.now + c.interval()
			}
		}
		// What was held for a time that has passed goes first.
		r.flush()
		for _, c := range open {
			if c.kind != "step" || c.over || c.given || c.done || r.done() {
				continue
			}
			s := c.stmt.Step
			wasLost := c.lost
			c.lost = false
			switch {
			case s.Once && c.sent:
				c.outcome(0, &Fault{Kind: "unknown", Attempts: 1})
			case s.Attempts > 0 && c.attempt >= s.Attempts && wasLost:
				c.outcome(0, &Fault{Kind: "lost", Attempts: c.attempt})
			case s.Total > 0 && max(c.due, m.now) >= c.made+micro(s.Total) && c.attempt > 0:
				c.outcome(0, &Fault{Kind: "timeout", Attempts: c.attempt})
			default:
				c.dispatch()
			}
		}
	}
	if len(m.soon) > 0 && len(m.overdue) > 0 {
		m.ambiguous("much to do at %d", m.now)
	}
	m.settle()
	late := m.overdue
	m.overdue = nil
	for i, e := range late {
		if e.off {
			continue
		}
		e.fn()
		if len(m.soon) > 0 && i < len(late)-1 {
			// What follows from one that is overdue comes before or after the
			// next one.
			m.ambiguous("overdue at %d", m.now)
		}
		m.settle()
	}
	m.last = m.now
}
