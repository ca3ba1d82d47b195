package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// boom is the error that programs raise.
var boom = durable.NewErrorType("BOOM")

// sentinels are the errors that programs tell apart, by the name that they
// have where they cross a border.
var sentinels = []struct {
	name string
	err  error
}{
	{"unknown", durable.ErrOutcomeUnknown}, {"canceled", context.Canceled}, {"deadline", context.DeadlineExceeded},
	{"timeout", durable.ErrTimeout}, {"expired", durable.ErrExpired}, {"finished", durable.ErrFinished},
	{"not_found", durable.ErrNotFound}, {"id_taken", durable.ErrIDTaken}, {"no_handler", durable.ErrNoHandler},
	{"rejected", durable.ErrRejected}, {"paused", durable.ErrPaused}, {"answered", durable.ErrAnswered}, {"closed", durable.ErrClosed},
}

// faultOf is an error of the engine as programs see it.
func faultOf(err error) *Fault {
	if err == nil {
		return nil
	}
	f := &Fault{real: err}
	var own *Fault
	var step *durable.StepError
	var run *durable.RunError
	var e *durable.Error
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &step):
		f.Attempts, e = step.Attempts, step.Err
	case errors.As(err, &run):
		f.State, e = string(run.State), run.Err
	default:
		errors.As(err, &e)
	}
	f.Kind = kindOf(e)
	if e == nil && run == nil {
		f.Kind = err.Error()
		for _, s := range sentinels {
			if errors.Is(err, s.err) {
				f.Kind = s.name
				break
			}
		}
	}
	return f
}

func kindOf(e *durable.Error) string {
	switch {
	case e == nil:
		return ""
	case e.Code != "":
		return e.Code
	}
	return e.Type
}

// world is what is outside of the engine: what steps did, and the time.
type world struct {
	p     *Program
	epoch time.Time
	defs  durable.Set

	mu      sync.Mutex // guards what follows
	life    int
	closing chan struct{} // closed when steps that do not listen have to end
	effects []string
	keys    map[string]string // effect key → whose
	bad     []string          // what must never be
}

func newWorld(p *Program) *world {
	w := &world{p: p, epoch: time.Now(), keys: map[string]string{}}
	w.revive()
	work := durable.NewStep("work", w.work, nil)
	w.defs = durable.Set{work}
	rt := &runtime{w: w, work: work, ask: durable.NewQuestion[int]("q"), log: durable.NewStream[string]("log"),
		query: durable.NewQuery[int, string]("dump")}
	accepts := []durable.Accepted{rt.ask, rt.log, rt.query}
	for i := range 2 {
		rt.updates = append(rt.updates, durable.NewUpdate[Update, int](fmt.Sprintf("u%d", i)))
		accepts = append(accepts, rt.updates[i])
	}
	rt.signals = map[string]*durable.Signal[int]{}
	for _, n := range signalNames {
		rt.signals[n] = durable.NewSignal[int](n)
		accepts = append(accepts, rt.signals[n])
	}
	rt.status = map[string]*durable.Status[string]{}
	for _, n := range []string{"x", "token"} {
		rt.status[n] = durable.NewStatus[string](n)
		accepts = append(accepts, rt.status[n])
	}
	for i, f := range p.Flows {
		wf := durable.NewWorkflow(fmt.Sprintf("f%d", i), func(ctx context.Context, in Input) (int, error) {
			info, _ := durable.InfoOf(ctx)
			ctx = context.WithValue(ctx, locksKey{}, &locks{all: map[int]*durable.Semaphore{}})
			out, err := runFlow(ctx, rt, f, info.WorkflowID, &in)
			if err == nil {
				return out, nil
			}
			return 0, err.real
		}, &durable.WorkflowOptions{Accepts: accepts, Timeout: f.Timeout})
		rt.flows = append(rt.flows, wf)
		w.defs = append(w.defs, wf)
	}
	return w
}

// Update is the input of an update.
type Update struct {
	N int `json:"n"`
}

func (w *world) since() int64 { return time.Since(w.epoch).Microseconds() }

// revive begins another life of the process.
func (w *world) revive() chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.life++
	w.closing = make(chan struct{})
	return w.closing
}

// stepIn is the input of a step.
type stepIn struct {
	ID   int
	Val  int
	Spec *StepSpec
}

// work is the one step of all programs: it does what its input says.
func (w *world) work(ctx context.Context, in stepIn) (int, error) {
	info, _ := durable.StepInfoOf(ctx)
	w.mu.Lock()
	w.effects = append(w.effects, fmt.Sprintf("%012d %s step#%d attempt %d", w.since(), info.WorkflowID, in.ID, info.Attempt))
	whose := info.RunID + " " + info.Call
	if had, ok := w.keys[info.Key]; ok && had != whose {
		w.bad = append(w.bad, fmt.Sprintf("effect key of %s is that of %s", whose, had))
	}
	w.keys[info.Key] = whose
	closing := w.closing
	w.mu.Unlock()
	s := in.Spec
	t := time.NewTimer(s.Takes)
	defer t.Stop()
	asked := ctx.Done()
	if s.Rude {
		asked = nil
	}
	select {
	case <-t.C:
	case <-closing:
		return 0, durable.ErrShutdown
	case <-asked:
		time.Sleep(s.Wind)
		return 0, ctx.Err()
	}
	err := boom.New("attempt %d", info.Attempt)
	switch s.Outcomes[min(info.Attempt, len(s.Outcomes))-1] {
	case "fail":
		return 0, err
	case "permanent":
		return 0, durable.Permanent(err)
	case "after":
		return 0, durable.RetryAfter(s.After, err)
	case "unknown":
		return 0, durable.OutcomeUnknown(err)
	case "panic":
		panic("a step of a program panics")
	}
	return in.Val, nil
}

// runtime is the api on the engine.
type runtime struct {
	w       *world
	work    *durable.Step[stepIn, int]
	ask     *durable.Question[int]
	log     *durable.Stream[string]
	query   *durable.Query[int, string]
	updates []*durable.Update[Update, int]
	signals map[string]*durable.Signal[int]
	status  map[string]*durable.Status[string]
	flows   []*durable.Workflow[Input, int]
}

func (rt *runtime) Now(ctx context.Context) int64 {
	return durable.Now(ctx).Sub(rt.w.epoch).Microseconds()
}

func (rt *runtime) Sleep(ctx context.Context, d time.Duration) *Fault {
	return faultOf(durable.Sleep(ctx, d))
}

func (rt *runtime) step(s *Stmt) *durable.Step[stepIn, int] {
	p := s.Step
	return rt.work.With(&durable.StepOptions{
		Timeout: p.Timeout, TotalTimeout: p.Total, AtMostOnce: p.Once, Abandon: p.Abandon,
		Retry: &durable.Retry{Initial: p.Initial, MaxAttempts: p.Attempts},
	})
}

func (rt *runtime) Do(ctx context.Context, s *Stmt) (int, *Fault) {
	v, err := rt.step(s).Do(ctx, stepIn{s.ID, s.Val, s.Step})
	return v, faultOf(err)
}

func (rt *runtime) Start(ctx context.Context, s *Stmt) future {
	return got[int]{rt.step(s).Start(ctx, stepIn{s.ID, s.Val, s.Step})}
}

// got is a future of the engine.
type got[T any] struct{ f *durable.Future[T] }

func (g got[T]) Get(ctx context.Context) (int, *Fault) {
	v, err := g.f.Get(ctx)
	n, _ := any(v).(int)
	return n, faultOf(err)
}

func (rt *runtime) options(s *Stmt, id string) *durable.ChildOptions {
	return &durable.ChildOptions{ID: id, ParentClose: durable.ParentClose(s.Policy)}
}

func (rt *runtime) Run(ctx context.Context, s *Stmt, id string) (int, *Fault) {
	// Not Workflow.Run: it takes no options.
	c, err := rt.flows[s.Flow].Child(ctx, Input{Val: s.Val, Wind: s.D.Microseconds()}, rt.options(s, id))
	if err != nil {
		return 0, faultOf(err)
	}
	v, err := c.Get(ctx)
	return v, faultOf(err)
}

func (rt *runtime) Child(ctx context.Context, s *Stmt, id string) (future, *Fault) {
	c, err := rt.flows[s.Flow].Child(ctx, Input{Val: s.Val, Wind: s.D.Microseconds()}, rt.options(s, id))
	if err != nil {
		return nil, faultOf(err)
	}
	if c.WorkflowID != id || c.RunID == "" {
		return nil, &Fault{Kind: fmt.Sprintf("child %s has the ids %q and %q", id, c.WorkflowID, c.RunID), real: durable.ErrNotFound}
	}
	return got[int]{&c.Future}, nil
}

func (rt *runtime) Group(ctx context.Context, limit int, cancelOnError bool, members []func(context.Context) *Fault) []*Fault {
	g, _ := durable.NewGroup(ctx, &durable.GroupOptions{CancelOnError: cancelOnError, Limit: limit})
	out := make([]*Fault, len(members))
	for i, m := range members {
		g.Go(func(ctx context.Context) error {
			if out[i] = m(ctx); out[i] != nil {
				return out[i]
			}
			return nil
		})
	}
	err := g.Wait()
	var want []error
	for _, f := range out {
		if f != nil {
			want = append(want, f)
		}
	}
	if got, ok := err.(interface{ Unwrap() []error }); err == nil && len(want) > 0 || ok && fmt.Sprint(got.Unwrap()) != fmt.Sprint(want) {
		return []*Fault{{Kind: fmt.Sprintf("Wait gave %v for %v", err, want), real: boom}}
	}
	return out
}

func (rt *runtime) Select(ctx context.Context, cases []pick) (int, *Fault) {
	var cs []durable.Case
	for _, c := range cases {
		switch c.kind {
		case "future":
			cs = append(cs, durable.Of(c.fut.(got[int]).f))
		case "signal":
			cs = append(cs, durable.Arrival(rt.signals[c.name]))
		default:
			cs = append(cs, durable.Elapsed(c.d))
		}
	}
	i, err := durable.Select(ctx, cs...)
	return i, faultOf(err)
}

func (rt *runtime) Await(ctx context.Context, d time.Duration, cond func() bool) *Fault {
	if d > 0 {
		return faultOf(durable.AwaitTimeout(ctx, d, cond))
	}
	return faultOf(durable.Await(ctx, cond))
}

func (rt *runtime) Receive(ctx context.Context, name string, d time.Duration) (int, *Fault) {
	if d > 0 {
		v, err := rt.signals[name].ReceiveTimeout(ctx, d)
		return v, faultOf(err)
	}
	v, err := rt.signals[name].Receive(ctx)
	return v, faultOf(err)
}

func (rt *runtime) Try(ctx context.Context, name string) (int, bool) {
	v, ok, err := rt.signals[name].TryReceive(ctx)
	return v, ok && err == nil
}

func (rt *runtime) Ask(ctx context.Context, d time.Duration) (int, *Fault) {
	a, err := rt.ask.Ask(ctx, "How many?", &durable.AskOptions{Expires: d})
	if err != nil {
		return 0, faultOf(err)
	}
	return a.Value, nil
}

func (rt *runtime) Callback(ctx context.Context, publish func(string)) (int, *Fault) {
	cb, err := durable.NewCallback[int](ctx)
	if err != nil {
		return 0, faultOf(err)
	}
	publish(cb.Token())
	v, err := cb.Wait(ctx)
	return v, faultOf(err)
}

func (rt *runtime) Cancelable(ctx context.Context) (context.Context, func()) {
	ctx, cancel := durable.WithCancel(ctx)
	return ctx, cancel
}

func (rt *runtime) Within(ctx context.Context, d time.Duration) (context.Context, func()) {
	ctx, cancel := durable.WithTimeout(ctx, d)
	return ctx, cancel
}

func (rt *runtime) Shield(ctx context.Context) context.Context { return durable.WithoutCancel(ctx) }

func (rt *runtime) Version(ctx context.Context, change string) int {
	return durable.Version(ctx, change, 3)
}

func (rt *runtime) UUID(ctx context.Context, name string) string { return durable.UUID(ctx, name) }

func (rt *runtime) Side(ctx context.Context, v int) int {
	out, err := durable.SideEffect(ctx, func() int { return v })
	if err != nil {
		return -1
	}
	return out
}

func (rt *runtime) Publish(ctx context.Context, name, v string) { rt.status[name].Set(ctx, v) }

func (rt *runtime) Append(ctx context.Context, line string) { _ = rt.log.Append(ctx, line) }

func (rt *runtime) Tell(ctx context.Context, to, name string, v int) *Fault {
	return faultOf(rt.signals[name].Send(ctx, durable.Address(to, ""), v, nil))
}

func (rt *runtime) Stop(ctx context.Context, to string) *Fault {
	return faultOf(durable.Address(to, "").Cancel(ctx, "stopped by a program"))
}

// Lock takes the lock of the run: one per number of places.
func (rt *runtime) Lock(ctx context.Context, places int, body func() *Fault) *Fault {
	l, _ := ctx.Value(locksKey{}).(*locks)
	sem := l.of(places)
	if err := sem.Acquire(ctx); err != nil {
		return faultOf(err)
	}
	err := body()
	sem.Release()
	return err
}

func (rt *runtime) HandleUpdate(ctx context.Context, name string, fn func(context.Context, int) (int, *Fault), validate func(int) bool) {
	l := ctx.Value(locksKey{})
	u := rt.updates[int(name[1]-'0')]
	err := u.Handle(ctx, func(ctx context.Context, in Update) (int, error) {
		v, f := fn(context.WithValue(ctx, locksKey{}, l), in.N)
		if f != nil {
			return 0, f.real
		}
		return v, nil
	}, func(in Update) error {
		if !validate(in.N) {
			return errors.New("it is odd")
		}
		return nil
	})
	if err != nil {
		panic(err)
	}
}

func (rt *runtime) HandleQuery(ctx context.Context, fn func() string) {
	if err := rt.query.Handle(ctx, func(int) (string, error) { return fn(), nil }); err != nil {
		panic(err)
	}
}

func (rt *runtime) Again(in *Input) *Fault {
	return &Fault{Kind: "continue", real: durable.ContinueAsNew(in)}
}

func (rt *runtime) Fail() *Fault { return &Fault{Kind: "BOOM", real: boom.New("on purpose")} }

// locks are the locks of one run in memory.
type locks struct{ all map[int]*durable.Semaphore }

type locksKey struct{}

func (l *locks) of(places int) *durable.Semaphore {
	if l.all[places] == nil {
		l.all[places] = durable.NewSemaphore(places)
	}
	return l.all[places]
}
