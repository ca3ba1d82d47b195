package durabletest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// T is what the clients of a scenario work with. Its engine may be a client
// of another process.
type T struct {
	*Env
	// Engine is the engine as the clients have it. [T.Restart], [T.Deploy] and
	// [T.Kill] replace it.
	Engine *durable.Engine

	ctx    context.Context
	host   host
	play   *Play
	place  string
	lacks  map[Ability]string
	unlike []string // what it lacks, and the scenario asked for: its log is another one
	bubble string   // empty: real time
	side   sync.WaitGroup

	mu       sync.Mutex // guards what follows
	failures []string
	log      string
	versions int
}

// Context is the context of the scenario's clients. It ends when the scenario
// takes too long.
func (t *T) Context() context.Context { return t.ctx }

// Errorf notes that the engine did something wrong.
func (t *T) Errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures = append(t.failures, t.where()+fmt.Sprintf(format, args...))
}

// Fatalf is Errorf, and ends the scenario.
func (t *T) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	runtime.Goexit()
}

// where is the line of the scenario that is being played.
func (t *T) where() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		switch file := filepath.Base(f.File); file {
		case "drive.go", "contract.go", "panic.go":
		default:
			if strings.HasSuffix(file, ".go") && !strings.Contains(f.Function, "runtime.") {
				return fmt.Sprintf("%s:%d: ", file, f.Line)
			}
		}
		if !more {
			return ""
		}
	}
}

// Failed reports whether the engine did something wrong so far.
func (t *T) Failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.failures) > 0
}

// Pass lets hours go by, or what is left of the scenario's time.
func (t *T) Pass(hours float64) {
	timer := time.NewTimer(t.Hours(hours))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.ctx.Done():
	}
}

// Settle waits until everything that can happen now has happened. An hour is
// long enough for that, and this takes less.
func (t *T) Settle() {
	if t.bubble == "" {
		time.Sleep(t.Hours(0.5))
		return
	}
	time.Sleep(time.Microsecond) // whatever holds events up
	synctest.Wait()
}

// Until waits for a condition that something else will bring about.
func (t *T) Until(what string, cond func() bool) {
	for !cond() {
		if t.ctx.Err() != nil {
			t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(t.Hours(1. / 60))
	}
}

// Go plays one more client, beside the others. The scenario waits for it.
func (t *T) Go(fn func()) { t.side.Go(func() { t.run(fn) }) }

func (t *T) open(version int) {
	e, err := t.host.open(t.ctx, t.play, version)
	if err != nil {
		t.Fatalf("open the engine: %v", err)
	}
	t.Engine = e
}

// Restart ends the program as a good process ends, and starts it again.
func (t *T) Restart() { t.Deploy(t.versions) }

// Deploy ends the program and starts another version of it: 0 is [Play.Defs],
// 1 the first of [Play.Later].
func (t *T) Deploy(version int) {
	if err := t.host.close(); err != nil {
		t.Errorf("close the engine: %v", err)
	}
	t.versions = version
	t.open(version)
}

// Down ends the program; nobody executes until [T.Up].
func (t *T) Down() {
	if err := t.host.close(); err != nil {
		t.Errorf("close the engine: %v", err)
	}
}

// Up starts the program again after [T.Down].
func (t *T) Up() { t.open(t.versions) }

// Kill ends the program as a power cut does, and starts it again.
func (t *T) Kill() {
	if err := t.host.kill(); err != nil {
		t.Fatalf("kill the engine: %v", err)
	}
	t.open(t.versions)
}

// Can reports whether the engine has an ability that a scenario needs only in
// part.
func (t *T) Can(a Ability) bool {
	why := t.lacks[a]
	if why != "" {
		t.unlike = append(t.unlike, string(a)+": "+why)
	}
	return why == ""
}

// Of is a run as the engine that is open now knows it.
func (t *T) Of(r *durable.Run) *durable.Run { return t.Engine.Run(r.WorkflowID, r.RunID) }

// Describe describes a run.
func (t *T) Describe(r *durable.Run) *durable.Description {
	return try(t.Of(r).Describe(t.ctx)).or(t, "describe the run")
}

// History is a run's record.
func (t *T) History(r *durable.Run) []*durable.Record {
	return try(t.Of(r).History(t.ctx)).or(t, "read the history")
}

// Waits waits until a run waits for something of a kind, and says for what.
func (t *T) Waits(r *durable.Run, kind string) (w durable.Wait) {
	t.Until(fmt.Sprintf("run %s waits for a %s", r.WorkflowID, kind), func() bool {
		d := t.Describe(r)
		for _, w = range d.Waiting {
			if w.Kind == kind {
				return true
			}
		}
		if d.State.Done() {
			t.Fatalf("run %s is %s, and was to wait for a %s", r.WorkflowID, d.State, kind)
		}
		return false
	})
	return w
}

// OK ends the scenario where there is an error.
func (t *T) OK(what string, err error) {
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// Is checks that an operation ended in an error of a kind.
func (t *T) Is(what string, err, want error) {
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

// Equal checks a value.
func (t *T) Equal(what string, got, want any) {
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

// try holds what an operation gave; or ends the scenario where that is an
// error.
func try[V any](v V, err error) tried[V] { return tried[V]{v, err} }

type tried[V any] struct {
	v   V
	err error
}

func (x tried[V]) or(t *T, what string) V {
	t.OK(what, x.err)
	return x.v
}

// Watch starts a watch: it says how long ago that was.
func (t *T) Watch() func() time.Duration {
	began := time.Now()
	return func() time.Duration { return time.Since(began) }
}

// start starts a run.
func start[In, Out any](t *T, wf *durable.Workflow[In, Out], in In, id string) *durable.Run {
	r, err := wf.Start(t.ctx, t.Engine, in, &durable.StartOptions{ID: id})
	t.OK("start "+id, err)
	return r
}

// result waits for a run's result and checks it.
func result[In, Out any](t *T, wf *durable.Workflow[In, Out], r *durable.Run, want Out) {
	got, err := wf.Result(t.ctx, t.Of(r))
	if err != nil {
		t.Errorf("result of %s: %v", r.WorkflowID, err)
		return
	}
	t.Equal("result of "+r.WorkflowID, got, want)
}
