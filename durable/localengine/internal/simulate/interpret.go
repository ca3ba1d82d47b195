package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Fault is an error as programs see it, the same whoever made it.
type Fault struct {
	Kind     string // of what went wrong
	State    string // of a run, if it is one's end
	Attempts int    // of a step
	real     error  // what the engine gave
}

func (f *Fault) String() string {
	if f == nil {
		return "ok"
	}
	s := f.Kind
	if f.State != "" {
		s = f.State + "(" + s + ")"
	}
	if f.Attempts > 0 {
		s += fmt.Sprintf("×%d", f.Attempts)
	}
	return s
}

func (f *Fault) Error() string { return f.String() }

// across is the fault after it has left a run.
func (f *Fault) across() string {
	if f == nil {
		return ""
	}
	if f.Kind == "" {
		return "durable.RunError"
	}
	return f.Kind
}

// api is what a workflow can do: on the engine, and in the model.
type api interface {
	Now(ctx context.Context) int64 // microseconds since the program began
	Sleep(ctx context.Context, d time.Duration) *Fault
	Do(ctx context.Context, s *Stmt) (int, *Fault)
	Start(ctx context.Context, s *Stmt) future
	Run(ctx context.Context, s *Stmt, id string) (int, *Fault)
	Child(ctx context.Context, s *Stmt, id string) (future, *Fault)
	Group(ctx context.Context, limit int, cancelOnError bool, members []func(context.Context) *Fault) []*Fault
	Select(ctx context.Context, cases []pick) (int, *Fault)
	Await(ctx context.Context, d time.Duration, cond func() bool) *Fault
	Receive(ctx context.Context, name string, d time.Duration) (int, *Fault)
	Try(ctx context.Context, name string) (int, bool)
	Ask(ctx context.Context, d time.Duration) (int, *Fault)
	Callback(ctx context.Context, publish func(token string)) (int, *Fault)
	Cancelable(ctx context.Context) (context.Context, func())
	Within(ctx context.Context, d time.Duration) (context.Context, func())
	Shield(ctx context.Context) context.Context
	Version(ctx context.Context, change string) int
	UUID(ctx context.Context, name string) string
	Side(ctx context.Context, v int) int
	Publish(ctx context.Context, name, v string)
	Append(ctx context.Context, line string)
	Tell(ctx context.Context, to, name string, v int) *Fault
	Stop(ctx context.Context, to string) *Fault
	Lock(ctx context.Context, places int, body func() *Fault) *Fault
	HandleUpdate(ctx context.Context, name string, fn func(ctx context.Context, id int) (int, *Fault), validate func(in int) bool)
	HandleQuery(ctx context.Context, fn func() string)
	Again(in *Input) *Fault
	Fail() *Fault
}

// future is a call under way.
type future interface {
	Get(ctx context.Context) (int, *Fault)
}

// pick is a case of a select.
type pick struct {
	kind string
	fut  future
	name string
	d    time.Duration
}

// Input is what a run is started with.
type Input struct {
	N    int      `json:"n"` // how often it was continued
	Val  int      `json:"v"`
	Vars []int    `json:"vars,omitempty"`
	Log  []string `json:"log,omitempty"`
	Wind int64    `json:"wind,omitempty"` // microseconds, beside the flow's own
}

// body is a run of a flow: what the variables of a workflow's code are.
type body struct {
	api
	flow  *Flow
	id    string // workflow id
	in    *Input
	vars  [variables]int
	log   []string
	child string
	uuids map[string]bool
}

// errReturn ends a body early, without an error.
var errReturn = &Fault{Kind: "return"}

// frame is where a coroutine stands.
type frame struct {
	path   string
	ctx    context.Context
	slots  [slots]future
	cancel func() // of the innermost scope
}

// runFlow is the code of a workflow.
func runFlow(ctx context.Context, a api, f *Flow, id string, in *Input) (int, *Fault) {
	b := &body{api: a, flow: f, id: id, in: in, log: append([]string(nil), in.Log...), uuids: map[string]bool{}}
	copy(b.vars[:], in.Vars)
	b.vars[0] += in.Val
	for i, h := range f.Updates {
		n := 0
		a.HandleUpdate(ctx, fmt.Sprintf("u%d", i), func(ctx context.Context, in int) (int, *Fault) {
			n++
			fr := &frame{path: fmt.Sprintf("u%d.%d", i, n), ctx: ctx}
			b.note(fr, "in", fmt.Sprint(in))
			b.vars[h.Var] += in
			err := b.all(fr, h.Body)
			if err == errReturn {
				err = nil
			}
			return b.vars[h.Var], err
		}, func(in int) bool { return !h.Even || in%2 == 0 })
	}
	a.HandleQuery(ctx, func() string { return b.dump() })
	fr := &frame{path: "m", ctx: ctx}
	b.note(fr, "begin", fmt.Sprint(in.N, b.vars))
	err := b.all(fr, f.Body)
	if err == errReturn {
		err = nil
	}
	if ctx.Err() != nil && (err == nil || err.Kind != "continue") {
		// Cleaning up takes each run its own time, so that runs which are
		// cancelled together do not end together.
		b.note(fr, "clean up", a.Sleep(a.Shield(ctx), f.Wind+time.Duration(in.Wind)*time.Microsecond).String())
	}
	b.note(fr, "end", err.String())
	return b.vars[0], err
}

func (b *body) dump() string {
	out := fmt.Sprint(b.vars)
	for _, l := range b.log {
		out += "\n" + l
	}
	return out
}

func (b *body) note(fr *frame, what, outcome string) {
	line := fmt.Sprintf("%s %s: %s @%d", fr.path, what, outcome, b.Now(fr.ctx))
	b.log = append(b.log, line)
	b.Append(fr.ctx, line)
}

// all goes through statements until one ends the body.
func (b *body) all(fr *frame, list []*Stmt) *Fault {
	for _, s := range list {
		out, err := b.one(fr, s)
		switch {
		case err == errReturn, err != nil && err.Kind == "continue":
			return err
		case err != nil:
			out = err.String()
		}
		b.note(fr, fmt.Sprintf("%s#%d", s.Op, s.ID), out)
		if err != nil && (s.Must || s.Op == OpFail) {
			return err
		}
	}
	return nil
}

// one carries out a statement and says what came of it.
func (b *body) one(fr *frame, s *Stmt) (string, *Fault) {
	ctx := fr.ctx
	add := func(v int, err *Fault) (string, *Fault) {
		if err != nil {
			return "", err
		}
		b.vars[s.Var] += v
		return fmt.Sprint(v), nil
	}
	inside := func(ctx context.Context, cancel func()) *Fault {
		sub := *fr
		sub.ctx = ctx
		if cancel != nil {
			sub.cancel = cancel
		}
		err := b.all(&sub, s.Body)
		fr.slots = sub.slots
		return err
	}
	switch s.Op {
	case OpStep:
		if s.Slot >= 0 {
			fr.slots[s.Slot] = b.Start(ctx, s)
			return "started", nil
		}
		return add(b.Do(ctx, s))
	case OpChild:
		id := fmt.Sprintf("%s.%d", b.id, s.ID)
		b.child = id
		if s.Slot >= 0 {
			f, err := b.Child(ctx, s, id)
			if err != nil {
				return "", err
			}
			fr.slots[s.Slot] = f
			return "started", nil
		}
		return add(b.Run(ctx, s, id))
	case OpGet:
		f := fr.slots[s.Slot]
		if f == nil {
			return "nothing there", nil
		}
		return add(f.Get(ctx))
	case OpSleep:
		return "slept", b.Sleep(ctx, s.D)
	case OpGroup:
		members := make([]func(context.Context) *Fault, len(s.Members))
		for i, m := range s.Members {
			members[i] = func(ctx context.Context) *Fault {
				sub := &frame{path: fmt.Sprintf("%s/%d.%d", fr.path, s.ID, i), ctx: ctx, cancel: fr.cancel}
				err := b.all(sub, m)
				if err == errReturn || err != nil && err.Kind == "continue" {
					err = nil
				}
				return err
			}
		}
		out, first := "", (*Fault)(nil)
		for _, err := range b.Group(ctx, s.Val, s.Policy != "", members) {
			out += err.String() + " "
			if first == nil {
				first = err
			}
		}
		return out, first
	case OpSelect:
		var cases []pick
		for _, c := range s.Cases {
			p := pick{kind: c.Kind, name: c.Name, d: c.D}
			if c.Kind == "future" {
				if p.fut = fr.slots[c.Slot]; p.fut == nil {
					continue
				}
			}
			cases = append(cases, p)
		}
		if len(cases) == 0 {
			return "nothing there", nil
		}
		i, err := b.Select(ctx, cases)
		if err == nil && cases[i].kind == "signal" {
			v, ok := b.Try(ctx, cases[i].name)
			return fmt.Sprint("case ", i, " ", v, ok), nil
		}
		return fmt.Sprint("case ", i), err
	case OpAwait:
		return "true", b.Await(ctx, s.D, func() bool { return b.vars[s.Var] >= s.Val })
	case OpReceive:
		return add(b.Receive(ctx, s.Name, s.D))
	case OpTry:
		v, ok := b.Try(ctx, s.Name)
		if !ok {
			return "none", nil
		}
		return add(v, nil)
	case OpAdd:
		return add(s.Val, nil)
	case OpAsk:
		return add(b.Ask(ctx, s.D))
	case OpCallback:
		return add(b.Callback(ctx, func(token string) { b.Publish(ctx, "token", token) }))
	case OpWithin:
		ctx, cancel := b.Within(ctx, s.D)
		err := inside(ctx, nil)
		cancel()
		return "left", err
	case OpScope:
		ctx, cancel := b.Cancelable(ctx)
		err := inside(ctx, cancel)
		cancel()
		return "left", err
	case OpCancel:
		if fr.cancel == nil {
			return "no scope", nil
		}
		fr.cancel()
		return "done", nil
	case OpShield:
		return "left", inside(b.Shield(ctx), nil)
	case OpVersion:
		return fmt.Sprint(b.Version(ctx, fmt.Sprint("change", s.Val))), nil
	case OpUUID:
		id := b.UUID(ctx, s.Name)
		if b.uuids[id] {
			return "a UUID came twice", nil
		}
		b.uuids[id] = true
		return "a new one", nil
	case OpSide:
		return add(b.Side(ctx, s.Val), nil)
	case OpStatus:
		b.Publish(ctx, "x", fmt.Sprint(b.vars[s.Var]))
		return "published", nil
	case OpTell:
		return "told", b.Tell(ctx, b.whom(s.Name), signalNames[s.Var%len(signalNames)], s.Val)
	case OpStop:
		return "asked", b.Stop(ctx, b.whom(s.Name))
	case OpLock:
		var inner *Fault
		if err := b.Lock(ctx, max(s.Val, 1), func() *Fault { inner = inside(ctx, nil); return nil }); err != nil {
			return "", err
		}
		return "unlocked", inner
	case OpWhileLess:
		for i := 0; i < 3 && b.vars[s.Var] < s.Val; i++ {
			if err := inside(ctx, nil); err != nil {
				return "", err
			}
		}
		return "left", nil
	case OpFail:
		return "", b.Fail()
	case OpContinue:
		if fr.path != "m" || b.in.N >= s.Val {
			return "no more", nil
		}
		b.note(fr, "continue", "")
		return "", b.Again(&Input{N: b.in.N + 1, Vars: slices.Clone(b.vars[:]), Log: slices.Clone(b.log), Wind: b.in.Wind})
	case OpReturn:
		return "", errReturn
	}
	return "", &Fault{Kind: "no such statement: " + string(s.Op), real: errors.New("no such statement")}
}

// whom is the workflow id that a word means.
func (b *body) whom(name string) string {
	switch name {
	case "self":
		return b.id
	case "parent":
		for i := len(b.id) - 1; i > 0; i-- {
			if b.id[i] == '.' {
				return b.id[:i]
			}
		}
	case "child":
		if b.child != "" {
			return b.child
		}
	}
	return "nobody"
}
