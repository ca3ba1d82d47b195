package main

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// generator makes programs. The same seed makes the same program.
type generator struct {
	*rand.Rand
	p        *Program
	id       int
	flow     int // being made
	depth    int
	budget   int // statements still to make
	inScope  bool
	inGroup  bool
	children []string // workflow ids that there may be
}

// generate makes program number n of a seed.
func generate(seed, n uint64) *Program {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, n)), p: &Program{}}
	flows := 1 + g.IntN(3)
	for range flows {
		g.p.Flows = append(g.p.Flows, &Flow{})
	}
	// From the last, so that those who call others know what there is.
	for i := flows - 1; i >= 0; i-- {
		g.flow = i
		f := g.p.Flows[i]
		f.Wind = g.dur(1, 30)
		if g.one(12) {
			f.Timeout = g.dur(500, 4000)
		}
		for range g.IntN(3) {
			g.budget = 3
			f.Updates = append(f.Updates, &Handler{Var: g.IntN(variables), Even: g.one(2), Body: g.body(1 + g.IntN(2))})
		}
		g.budget = 4 + g.IntN(14)
		f.Body = g.body(2 + g.IntN(6))
		if g.one(4) {
			s := g.stmt(OpContinue)
			s.Val = 1 + g.IntN(2)
			f.Body = append(f.Body, s)
		}
		if i > 0 {
			f.Body = append([]*Stmt{g.sleep()}, f.Body...)
		}
	}
	g.script()
	return g.p
}

func (g *generator) one(n int) bool { return g.IntN(n) == 0 }

// dur is a duration between lo and hi milliseconds that no other is.
func (g *generator) dur(lo, hi int) time.Duration {
	return time.Duration(lo)*time.Millisecond + time.Duration(g.IntN((hi-lo)*1000))*time.Microsecond
}

func (g *generator) stmt(op Op) *Stmt {
	g.id++
	return &Stmt{ID: g.id, Op: op, Slot: -1, Var: g.IntN(variables), Must: g.one(4)}
}

func (g *generator) sleep() *Stmt {
	s := g.stmt(OpSleep)
	s.D = g.dur(1, 400)
	return s
}

func (g *generator) body(n int) []*Stmt {
	var out []*Stmt
	for range n {
		if g.budget <= 0 {
			break
		}
		g.budget--
		out = append(out, g.some()...)
	}
	return out
}

func (g *generator) inner() []*Stmt {
	g.depth++
	defer func() { g.depth-- }()
	return g.body(1 + g.IntN(3))
}

// some makes a statement, with what it needs around it.
func (g *generator) some() []*Stmt {
	alone := func(s *Stmt) []*Stmt { return []*Stmt{s} }
	k := g.IntN(100)
	if g.depth >= 3 && k >= 60 {
		k = g.IntN(60)
	}
	switch {
	case k < 14:
		return alone(g.step(-1))
	case k < 19:
		slot := g.IntN(slots)
		s, get := g.step(slot), g.stmt(OpGet)
		get.Slot = slot
		if g.one(3) {
			return []*Stmt{s}
		}
		return append(append([]*Stmt{s}, g.body(g.IntN(2))...), get)
	case k < 26:
		return alone(g.sleep())
	case k < 33:
		s := g.stmt(OpReceive)
		s.Name = signalNames[g.IntN(2)]
		if g.one(2) {
			s.D = g.dur(20, 900)
		}
		return alone(s)
	case k < 35:
		s := g.stmt(OpTry)
		s.Name = signalNames[g.IntN(2)]
		return alone(s)
	case k < 38:
		s := g.stmt(OpAwait)
		s.Val = g.IntN(12)
		if g.one(2) {
			s.D = g.dur(20, 900)
		}
		return alone(s)
	case k < 41:
		s := g.stmt(OpAdd)
		s.Val = 1 + g.IntN(5)
		return alone(s)
	case k < 44:
		s := g.stmt(OpAsk)
		if g.one(2) {
			s.D = g.dur(20, 900)
		}
		return alone(s)
	case k < 46:
		return alone(g.stmt(OpCallback))
	case k < 48:
		s := g.stmt(OpGet)
		s.Slot = g.IntN(slots)
		return alone(s)
	case k < 52:
		s := g.stmt([]Op{OpVersion, OpUUID, OpSide, OpStatus}[g.IntN(4)])
		s.Val, s.Name = g.IntN(4), fmt.Sprint("stream", g.IntN(2))
		return alone(s)
	case k < 54:
		if !g.inScope {
			return alone(g.sleep())
		}
		return []*Stmt{g.sleep(), g.stmt(OpCancel)}
	case k < 56:
		s := g.stmt(OpTell)
		s.Name = []string{"parent", "child", "self", "nobody"}[g.IntN(4)]
		s.Val = 1 + g.IntN(5)
		return []*Stmt{g.sleep(), s, g.sleep()}
	case k < 57:
		s := g.stmt(OpStop)
		s.Name = []string{"child", "nobody"}[g.IntN(2)]
		return []*Stmt{g.sleep(), s, g.sleep()}
	case k < 58:
		return alone(g.stmt(OpFail))
	case k < 59:
		s := g.stmt(OpContinue)
		s.Val = 1 + g.IntN(2)
		return alone(s)
	case k < 60:
		return alone(g.stmt(OpReturn))
	case k < 68:
		return g.child()
	case k < 76:
		s := g.stmt(OpGroup)
		if g.one(3) {
			s.Policy = "cancel on error"
		}
		if g.one(3) {
			s.Val = 1 + g.IntN(2)
		}
		was := g.inGroup
		g.inGroup = true
		for range 1 + g.IntN(3) {
			s.Members = append(s.Members, g.inner())
		}
		g.inGroup = was
		return alone(s)
	case k < 83:
		return g.choose()
	case k < 88:
		s := g.stmt(OpWithin)
		s.D = g.dur(5, 700)
		s.Body = g.inner()
		if g.one(2) {
			// A step that takes longer.
			late := g.step(-1)
			late.Step.Takes = s.D + g.dur(50, 900)
			late.Step.Abandon, late.Step.Rude = g.one(2), g.one(2)
			s.Body = append(s.Body, late)
		}
		return alone(s)
	case k < 92:
		s := g.stmt(OpScope)
		was := g.inScope
		g.inScope = true
		s.Body = g.inner()
		if g.one(2) {
			s.Body = append(s.Body, g.sleep(), g.stmt(OpCancel))
			s.Body = append(s.Body, g.body(1)...)
		}
		g.inScope = was
		return alone(s)
	case k < 94:
		s := g.stmt(OpShield)
		s.Body = g.inner()
		return alone(s)
	case k < 97:
		s := g.stmt(OpLock)
		s.Val = 1 + g.IntN(2)
		s.Body = g.inner()
		return alone(s)
	default:
		s := g.stmt(OpWhileLess)
		s.Val = 2 + g.IntN(8)
		s.Body = append(g.inner(), g.sleep())
		return alone(s)
	}
}

// step makes a step; each of its times is its own.
func (g *generator) step(slot int) *Stmt {
	s := g.stmt(OpStep)
	s.Slot, s.Val = slot, 1+g.IntN(4)
	p := &StepSpec{Takes: g.dur(1, 300), Wind: g.dur(1, 35), Initial: g.dur(5, 200)}
	for range g.IntN(3) {
		p.Outcomes = append(p.Outcomes, []string{"fail", "fail", "after", "panic", "unknown"}[g.IntN(5)])
	}
	p.Outcomes = append(p.Outcomes, []string{"ok", "ok", "ok", "ok", "permanent", "fail"}[g.IntN(6)])
	p.After = g.dur(5, 600)
	if g.one(2) {
		p.Attempts = 1 + g.IntN(3)
	}
	if g.one(5) {
		p.Timeout = g.dur(5, 300)
	}
	if g.one(8) {
		p.Total = g.dur(50, 900)
	}
	p.Rude = g.one(5)
	if g.one(6) {
		p.Once, p.Attempts = true, 0
	}
	p.Abandon = g.one(10)
	s.Step = p
	return s
}

// child starts a child run. Nothing else happens at that moment.
func (g *generator) child() []*Stmt {
	if g.flow+1 >= len(g.p.Flows) {
		return []*Stmt{g.step(-1)}
	}
	s := g.stmt(OpChild)
	s.Flow = g.flow + 1 + g.IntN(len(g.p.Flows)-g.flow-1)
	s.Policy = []string{"", "", "terminate", "abandon"}[g.IntN(4)]
	s.D, s.Val = g.dur(1, 30), g.IntN(4)
	g.children = append(g.children, fmt.Sprintf(".%d", s.ID))
	if g.one(2) {
		return []*Stmt{g.sleep(), s}
	}
	s.Slot = g.IntN(slots)
	out := []*Stmt{g.sleep(), s, g.sleep()}
	if g.one(2) {
		get := g.stmt(OpGet)
		get.Slot = s.Slot
		out = append(append(out, g.body(1)...), get)
	}
	return out
}

// choose makes a select, often over a step started for it.
func (g *generator) choose() []*Stmt {
	s := g.stmt(OpSelect)
	var out []*Stmt
	for range 1 + g.IntN(3) {
		switch g.IntN(3) {
		case 0:
			slot := g.IntN(slots)
			if g.one(2) {
				out = append(out, g.step(slot))
			}
			s.Cases = append(s.Cases, Case{Kind: "future", Slot: slot})
		case 1:
			s.Cases = append(s.Cases, Case{Kind: "signal", Name: signalNames[g.IntN(2)]})
		default:
			s.Cases = append(s.Cases, Case{Kind: "timer", D: g.dur(5, 600)})
		}
	}
	return append(out, s)
}

// script makes what clients do.
func (g *generator) script() {
	at := g.dur(1, 20)
	add := func(a *Action) {
		a.At = at
		g.p.Script = append(g.p.Script, a)
		at += g.dur(1, 500)
	}
	start := func(to string) {
		a := &Action{Do: DoStart, To: to, Val: g.IntN(2)}
		if g.one(6) {
			a.D = g.dur(20, 900)
		}
		if g.one(10) {
			a.Limit = g.dur(300, 3000)
		}
		a.Reuse = []string{"", "", "allow", "failed"}[g.IntN(4)]
		if g.one(5) {
			a.Also, a.ID = signalNames[g.IntN(2)], fmt.Sprint("also", g.IntN(2))
		}
		add(a)
	}
	start("a")
	targets := []string{"a"}
	if g.one(3) {
		start("b")
		targets = append(targets, "b")
	}
	for _, c := range g.children {
		targets = append(targets, "a"+c)
	}
	calm := g.one(3) // the process stays
	for range 2 + g.IntN(14) {
		to := targets[0]
		if g.one(3) {
			to = targets[g.IntN(len(targets))]
		}
		switch k := g.IntN(60); {
		case k < 18:
			a := &Action{Do: DoSignal, To: to, Name: signalNames[g.IntN(2)], Val: 1 + g.IntN(5), ID: fmt.Sprint("id", at)}
			if g.one(4) {
				a.ID = fmt.Sprint("id", g.IntN(2))
			}
			add(a)
		case k < 27:
			a := &Action{Do: DoUpdate, To: to, Name: fmt.Sprint("u", g.IntN(2)), Val: g.IntN(6), ID: fmt.Sprint("id", at)}
			if g.one(3) {
				a.ID = fmt.Sprint("up", g.IntN(2))
			}
			add(a)
		case k < 30:
			add(&Action{Do: DoQuery, To: to})
		case k < 33:
			add(&Action{Do: DoPause, To: to})
			if g.one(2) {
				add(&Action{Do: DoSignal, To: to, Name: signalNames[g.IntN(2)], Val: 7, ID: fmt.Sprint("id", at)})
			}
			if !g.one(4) {
				add(&Action{Do: DoResume, To: to})
			}
		case k < 35:
			add(&Action{Do: DoResume, To: to})
		case k < 39:
			add(&Action{Do: DoCancel, To: to})
		case k < 40:
			add(&Action{Do: DoTerminate, To: to})
		case k < 44:
			add(&Action{Do: DoAnswer, To: to, Val: 1 + g.IntN(5)})
		case k < 47:
			add(&Action{Do: []Do{DoComplete, DoComplete, DoFailCall}[g.IntN(3)], To: to, Val: 1 + g.IntN(5)})
		case k < 49:
			add(&Action{Do: DoDescribe, To: to})
		case k < 51:
			start(to)
		default:
			if calm {
				add(&Action{Do: DoQuery, To: to})
				continue
			}
			// Steps end before the process comes back.
			add(&Action{Do: []Do{DoRestart, DoDie}[g.IntN(2)], D: g.dur(40, 900)})
			at += g.p.Script[len(g.p.Script)-1].D
		}
	}
	g.p.End = at + g.dur(1000, 4000)
}
