package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// grace is how long steps that do not listen go on after the process has been
// asked to end; a down time is longer.
const grace = 5 * time.Millisecond

// predict is what the contract says about a program; unclear if it leaves the
// outcome open.
func predict(p *Program) (transcript, unclear string) {
	m := newModel(p)
	m.log = make([]string, len(p.Script))
	for i, a := range p.Script {
		m.until(max(a.At.Microseconds(), m.now))
		m.last = m.now
		m.act(i, a)
		m.settle()
		if m.unclear != "" {
			break
		}
	}
	m.until(p.End.Microseconds())
	for _, r := range m.runs {
		for _, c := range r.cos {
			c.stop()
		}
	}
	return m.transcript(), m.unclear
}

// said notes what a client got.
func (m *model) said(i int, format string, args ...any) {
	m.log[i] = fmt.Sprintf(format, args...)
}

func (m *model) act(i int, a *Action) {
	r := m.newest[a.To]
	gone := func() bool {
		switch {
		case r == nil:
			m.said(i, "not_found")
		case r.done():
			m.said(i, "finished")
		default:
			return false
		}
		return true
	}
	switch a.Do {
	case DoStart:
		m.said(i, "%s", m.start(a))
	case DoSignal:
		m.said(i, "%s", m.signal(a.To, a.Name, a.Val, a.ID))
	case DoUpdate:
		m.update(i, a, r)
	case DoQuery:
		switch {
		case r == nil:
			m.said(i, "not_found")
		case r.query == nil:
			m.said(i, "no_handler")
		default:
			m.said(i, "%s", firstLine(r.query()))
		}
	case DoPause:
		if !gone() {
			r.paused = true
			m.said(i, "ok")
		}
	case DoResume:
		if !gone() {
			if r.paused {
				r.paused = false
				r.flush()
			}
			m.said(i, "ok")
		}
	case DoCancel:
		if !gone() {
			m.said(i, "%s", r.cancel())
		}
	case DoTerminate:
		if !gone() {
			r.end("terminated", &Fault{Kind: "terminated"})
			m.said(i, "ok")
		}
	case DoAnswer:
		if r == nil {
			m.said(i, "not_found")
			return
		}
		for _, c := range r.calls {
			if c.kind == "ask" && !c.over && !c.given {
				c.outcome(a.Val, nil)
				m.said(i, "ok")
				return
			}
		}
		m.said(i, "none open")
	case DoComplete, DoFailCall:
		switch {
		case r == nil:
			m.said(i, "not_found")
		case r.token == nil:
			m.said(i, "no token")
		case r.token.r.done():
			m.said(i, "finished")
		case r.token.over || r.token.given:
			m.said(i, "answered")
		default:
			var f *Fault
			if a.Do == DoFailCall {
				f = &Fault{Kind: "BOOM"}
			}
			r.token.outcome(a.Val, f)
			m.said(i, "ok")
		}
	case DoDescribe:
		if r == nil {
			m.said(i, "not_found")
			return
		}
		m.said(i, "%s %s", r.shown(), r.status["x"])
	case DoRestart, DoDie:
		m.fall(a.Do == DoRestart)
		m.until(m.now + a.D.Microseconds())
		m.rise()
		m.said(i, "ok")
	}
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

func (r *mrun) shown() string {
	if r.state == "running" && r.paused {
		return "paused"
	}
	return r.state
}

// start starts a run, or finds it.
func (m *model) start(a *Action) string {
	if r := m.newest[a.To]; r != nil {
		if !r.done() || a.Reuse == "" || a.Reuse == "failed" && r.state == "completed" {
			if r.first.Val != a.Val || r.parent != nil || r.first.Wind != 0 || r.flow != 0 {
				return "id_taken"
			}
			if a.Also != "" {
				if !r.done() {
					if out := m.signal(a.To, a.Also, a.Val, a.ID); out != "ok" {
						return out
					}
				} else if !r.seen[a.ID] && !r.hasPend[a.ID] {
					return "finished"
				}
			}
			return "existing"
		}
	}
	r := m.begin(0, a.To, &Input{Val: a.Val})
	if t := m.p.Flows[0].Timeout; t > 0 {
		r.deadline = m.now + micro(a.D) + micro(t)
	}
	if a.Limit > 0 {
		r.deadline = m.now + micro(a.D) + micro(a.Limit)
	}
	r.watchDeadline()
	if a.D > 0 {
		r.startAt = m.now + micro(a.D)
		m.at(r.startAt, r.flush)
	}
	r.pend = []func(){r.startEvent()}
	if a.Also != "" {
		r.pend = append(r.pend, r.signaled(a.Also, a.Val, a.ID))
	}
	m.soon = append(m.soon, r.flush)
	return "new"
}

// signal puts a signal into a mailbox.
func (m *model) signal(to, name string, val int, id string) string {
	r := m.newest[to]
	switch {
	case r == nil:
		return "not_found"
	case r.done() && id != "" && (r.seen[id] || r.hasPend[id]):
		return "ok" // it was taken while it could be
	case r.done():
		return "finished"
	}
	r.give(r.signaled(name, val, id))
	return "ok"
}

func (r *mrun) signaled(name string, val int, id string) func() {
	if id != "" {
		r.hasPend[id] = true
	}
	return func() {
		if id != "" {
			if r.seen[id] {
				return
			}
			r.seen[id] = true
		}
		r.outcomes++
		r.mail[name] = append(r.mail[name], letter{val, r.outcomes, id})
	}
}

// update sends an update; its answer may come later.
func (m *model) update(i int, a *Action, r *mrun) {
	answer := func(out string) { m.said(i, "%s @%d", out, m.now) }
	switch {
	case r == nil:
		answer("not_found")
		return
	case r.done():
		if had, ok := r.replies[a.ID]; ok {
			answer(had)
		} else {
			answer("finished")
		}
		return
	case r.paused:
		answer("paused")
		return
	case r.held():
		answer("no_handler")
		return
	}
	if had, ok := r.replies[a.ID]; ok {
		answer(had)
		return
	}
	if waiting, ok := r.handling[a.ID]; ok {
		r.handling[a.ID] = append(waiting, answer)
		return
	}
	h, ok := r.updates[a.Name]
	if !ok {
		answer("no_handler")
		return
	}
	if !h.validate(a.Val) {
		answer("rejected")
		return
	}
	r.handling[a.ID] = []func(string){answer}
	r.turn(func() {
		r.spawn(func() {
			v, err := h.fn(r.root.ctx(), a.Val)
			out := fmt.Sprint(v)
			if err != nil {
				out = err.across()
			}
			waiting := r.handling[a.ID]
			delete(r.handling, a.ID)
			r.replies[a.ID] = out
			for _, w := range waiting {
				r.answers = append(r.answers, func() { w(out) })
			}
		})
	})
}

// transcript is all that can be seen of what happened.
func (m *model) transcript() string {
	t := &transcript{actions: m.log, effects: m.effects}
	byID := map[string]int{}
	for _, r := range m.runs {
		byID[r.id]++
		v := view{id: r.id, n: byID[r.id], state: r.shown(), status: r.status["x"]}
		switch {
		case r.state == "completed":
			v.end = fmt.Sprint(r.value)
		case r.fault != nil:
			v.end = r.fault.Kind
		}
		for _, c := range r.calls {
			if c.kind == "ask" && !c.over {
				v.questions++
			}
		}
		if m.newest[r.id] == r {
			if r.query != nil {
				v.dump = r.query()
			}
			v.stream = slices.Clone(*r.stream)
		}
		t.runs = append(t.runs, v)
	}
	return t.String()
}

var _ api = (*mapi)(nil)
