package durable

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// Sleep waits for d of the run's time, which passes also while nobody
// executes it. It is never early; d <= 0 is free. In a run it holds nothing;
// elsewhere it is an ordinary wait.
func Sleep(ctx context.Context, d time.Duration) error {
	e, err := enter(ctx, "Sleep")
	if err != nil {
		return err
	}
	if e.run == nil {
		return plainSleep(ctx, e, d)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if d <= 0 {
		return nil
	}
	r := e.run
	// Round up: never early.
	us := (d - 1).Microseconds() + 1
	f := r.issue(ctx, callSpec{kind: kindTimer, name: "sleep", due: r.now + us})
	return r.await(ctx, f)
}

// SleepUntil is [Sleep] until a moment. One that has passed is free.
func SleepUntil(ctx context.Context, t time.Time) error {
	e, err := enter(ctx, "SleepUntil")
	if err != nil {
		return err
	}
	if e.run == nil {
		return plainSleep(ctx, e, time.Until(t))
	}
	return Sleep(ctx, t.Sub(microTime(e.run.now)))
}

// Now is the time in a run: that of the event being applied. It never goes
// back and stands still while code runs. Elsewhere it is time.Now.
func Now(ctx context.Context) time.Time {
	if r := peek(ctx, "Now"); r != nil {
		return microTime(r.now)
	}
	return time.Now()
}

// peek is enter for calls that only look, and so are allowed in queries.
func peek(ctx context.Context, call string) *run {
	if s, ok := ctx.Value(envKey{}).(*scope); ok && s.run.holder.Load() == getg() && s.run.reading {
		return s.run
	}
	return mustEnter(ctx, call).run
}

// stream is a named source of random numbers of a run.
type stream struct {
	r    *mathrand.ChaCha8
	life string // the run that it was made in
}

func (r *run) rand(name string) *mathrand.ChaCha8 {
	s := r.rands[name]
	life, secret := r.cfg.lifeAt(r.turns, r.row)
	if s == nil || s.life != life {
		seed := sha256.Sum256([]byte(r.row.Scope + "\x00rand\x00" + secret + "\x00" + name))
		if h := r.ex.host; h != nil {
			seed = h.seed(name)
		}
		s = &stream{mathrand.NewChaCha8(seed), life}
		r.rands[name] = s
	}
	return s.r
}

// Rand is a source of random numbers that replay repeats. Each name is a
// stream of its own: a new use under a new name does not shift the others.
// Outside a run it is truly random. It is not for secrets.
func Rand(ctx context.Context, name string) *mathrand.Rand {
	if e := mustEnter(ctx, "Rand"); e.run != nil {
		return mathrand.New(e.run.rand(name))
	}
	var seed [32]byte
	_, _ = rand.Read(seed[:])
	return mathrand.New(mathrand.NewChaCha8(seed))
}

// UUID is a random UUID (version 4) from the run's stream of that name, see
// [Rand].
func UUID(ctx context.Context, name string) string {
	var b [16]byte
	if e := mustEnter(ctx, "UUID"); e.run != nil {
		src := e.run.rand("uuid/" + name)
		binary.LittleEndian.PutUint64(b[:8], src.Uint64())
		binary.LittleEndian.PutUint64(b[8:], src.Uint64())
	} else {
		_, _ = rand.Read(b[:])
	}
	return formatUUID(b)
}

func formatUUID(b [16]byte) string {
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	out := make([]byte, 0, 36)
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			out = append(out, '-')
		}
		out = hex.AppendEncode(out, []byte{c})
	}
	return string(out)
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return formatUUID(b)
}

// Version marks a change of a workflow's code: it returns max in runs that get
// here for the first time, and −1 in runs that were here before the change
// was deployed. The answer stays the same for the life of the run. Runs in
// the workflow; elsewhere it is max.
func Version(ctx context.Context, change string, max int) int {
	e := mustEnter(ctx, "Version")
	r := e.run
	if r == nil {
		return max
	}
	if v, ok := r.marks[change]; ok {
		if v > max {
			r.stop("mismatch", fmt.Sprintf("the run recorded version %d of change %q, the code knows up to %d: deploy code that is not older", v, change, max))
		}
		return v
	}
	if v, ok := r.asked[change]; ok {
		return v
	}
	if r.replaying {
		r.asked[change] = -1
		return -1
	}
	if c := r.cluster(); c != nil {
		v := c.Version(change, max)
		if v < 0 {
			r.asked[change] = v
			return v
		}
		max = v // an older worker's may be on record
	}
	r.marks[change] = max
	r.turn.entry.Marks = append(r.turn.entry.Marks, &journal.Mark{ID: change, Version: max})
	return max
}

// Await waits until cond is true. cond looks at variables of the workflow; it
// is evaluated after each event, must be quick, and changes nothing. Runs in
// the workflow.
func Await(ctx context.Context, cond func() bool) error {
	r, err := inRun(ctx, "Await")
	if err != nil {
		return err
	}
	cond = r.guard(cond)
	r.parkFor("condition", "", func() bool { return ctx.Err() != nil || cond() })
	if err := ctx.Err(); err != nil && !cond() {
		return err
	}
	return nil
}

// AwaitTimeout is [Await] for at most d; then the error is [ErrTimeout].
func AwaitTimeout(ctx context.Context, d time.Duration, cond func() bool) error {
	r, err := inRun(ctx, "AwaitTimeout")
	if err != nil {
		return err
	}
	cond = r.guard(cond)
	if cond() {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if d <= 0 {
		return ErrTimeout
	}
	f := r.issue(ctx, callSpec{kind: kindTimer, name: "await", due: r.now + d.Microseconds()})
	r.parkFor("condition", "", func() bool { return f.done || ctx.Err() != nil || cond() })
	r.giveUp(f)
	switch {
	case cond():
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("the condition did not come true within %v: %w", d, ErrTimeout)
}

// guard keeps a condition, which the run's loop evaluates, from taking the
// process down.
func (r *run) guard(cond func() bool) func() bool {
	return func() (ok bool) {
		holder, reading := r.holder.Swap(getg()), r.reading
		r.reading = true
		defer func() {
			r.reading = reading
			r.holder.Store(holder)
			if p := recover(); p != nil {
				r.broke("panic", fmt.Sprintf("the condition of an Await panicked: %v; the run goes on after a fixed version is deployed\n%s", p, debug.Stack()))
			}
		}()
		return cond()
	}
}

// Logger gives the run's logger: lines are written once the turn that caused
// them is on disk, and not again in a replay. In a step it logs at once, with
// the call's ids. Elsewhere it is slog.Default.
func Logger(ctx context.Context) *slog.Logger {
	if a, ok := ctx.Value(envKey{}).(*attempt); ok {
		l := slog.Default()
		if a.ent != nil {
			l = a.ent.ex.log
		}
		if a.ent != nil && a.ent.ex.tracer != nil {
			l = slog.New(placed{l.Handler(), a})
		}
		return l.With("workflow_id", a.info.WorkflowID, "run_id", a.info.RunID, "step", a.info.Step, "call", a.info.Call, "attempt", a.info.Attempt)
	}
	if r := peek(ctx, "Logger"); r != nil {
		h := r.ex.log.Handler()
		return slog.New(runHandler{h, r}).With("workflow", r.def.name, "workflow_id", r.row.WorkflowID, "run_id", r.row.RunID)
	}
	return slog.Default()
}

// runHandler holds lines back until their turn is committed.
type runHandler struct {
	slog.Handler
	r *run
}

func (h runHandler) Handle(_ context.Context, rec slog.Record) error {
	if h.r.holder.Load() == getg() && !h.r.unwinding.Load() && !h.r.reading {
		rec = rec.Clone()
		rec.Time = microTime(h.r.now)
		h.r.logLater(h.Handler, rec)
	}
	return nil
}

func (h runHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return runHandler{h.Handler.WithAttrs(a), h.r}
}
func (h runHandler) WithGroup(n string) slog.Handler { return runHandler{h.Handler.WithGroup(n), h.r} }

// placed gives log lines of a step its context, for the span in it.
type placed struct {
	slog.Handler
	ctx context.Context
}

func (h placed) Handle(ctx context.Context, rec slog.Record) error {
	if ctx.Value(envKey{}) == nil {
		ctx = h.ctx
	}
	return h.Handler.Handle(ctx, rec)
}

func (h placed) WithAttrs(a []slog.Attr) slog.Handler { return placed{h.Handler.WithAttrs(a), h.ctx} }
func (h placed) WithGroup(n string) slog.Handler      { return placed{h.Handler.WithGroup(n), h.ctx} }

// RunInfo is what a workflow may know about its run.
type RunInfo struct {
	WorkflowID, RunID, Workflow string
	Chain                       string // run id of the first run of the chain
	Owner                       string
	Parent                      *Ref
	Started                     time.Time
	Continued                   int  // how often the chain was continued as new
	Turns                       int  // committed so far; a measure of the history
	Replaying                   bool // for telemetry only: code that decides by it breaks
}

// InfoOf tells a workflow about its run, or a step about the run that called
// it; false elsewhere.
func InfoOf(ctx context.Context) (RunInfo, bool) {
	if a, ok := ctx.Value(envKey{}).(*attempt); ok {
		if a.ent == nil {
			return RunInfo{}, false
		}
		return RunInfo{WorkflowID: a.info.WorkflowID, RunID: a.info.RunID, Workflow: a.info.Workflow, Owner: a.info.Owner}, true
	}
	r := peek(ctx, "InfoOf")
	if r == nil {
		return RunInfo{}, false
	}
	runID, _ := r.cfg.lifeAt(r.turns, r.row)
	i := RunInfo{
		WorkflowID: r.row.WorkflowID, RunID: runID, Workflow: r.row.Name, Chain: r.row.Chain, Owner: r.row.Owner,
		Started: microTime(r.row.Created), Continued: r.cfg.Counter, Turns: r.turns, Replaying: r.replaying,
	}
	if r.cfg.Parent != nil {
		i.Parent = r.cfg.Parent
	}
	return i, true
}
