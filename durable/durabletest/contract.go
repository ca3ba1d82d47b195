package durabletest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/internal/pace"
)

// Engine is an engine whose keeping of the contract is tested.
type Engine struct {
	Name string
	// Open opens an engine that executes. A place is a directory; the same
	// place is the same storage.
	Open func(ctx context.Context, place string, o *durable.Options, defs ...durable.Definer) (*durable.Engine, error)
	// Kill makes the engine that is open at a place die: nothing of what it
	// does from now on is kept. It is closed after that. Nil: it can't be
	// killed, unless it is in a process of its own.
	Kill func(place string)
	// Client opens a client of an engine that another process executes. Where
	// it is given, scenarios execute in another process of this binary, which
	// must call [Serve], with Env added to its environment.
	Client func(ctx context.Context, place string, o *durable.Options, defs ...durable.Definer) (*durable.Engine, error)
	Env    []string
	// Hour is how long an hour of the scenarios takes. 0: time is virtual.
	Hour time.Duration
	// Only plays the scenarios of which it is true. Nil: all of them.
	Only func(Scenario) bool
	// AtOnce is how many scenarios of a mode are played at once where time is
	// real, beside the other modes. 0: 24.
	AtOnce int
	// Lacks says which abilities the engine does not have, and why.
	Lacks    map[Ability]string
	patience int // hours that a scenario may take where time is virtual; 0: 500 days
	// Modes are the names of the ways in which runs are executed; nil: all
	// [ContractModes].
	Modes []string
}

// pace is how a mode's pace is kept where time is real.
func (e Engine) pace(m Mode) pace.Pace {
	p := m.pace
	if p.Hold > 0 && e.Hour > 0 {
		p.Hold = e.Hour / 50
	}
	return p
}

// ContractModes are the modes in which [TestEngine] plays each scenario: runs
// stay awake or are put away and replayed after every turn, and take the events
// that reach them as they come, one at a time, or all that there are at that
// instant in one turn. All keep to [durable.Options].Portable.
func ContractModes() []Mode {
	quiet := slog.New(slog.DiscardHandler)
	awake, away := durable.Options{Logger: quiet, Portable: true}, durable.Options{Logger: quiet, Portable: true, MaxAwake: -1}
	all := pace.Pace{Hold: time.Nanosecond}
	return []Mode{
		{Name: "awake", Options: awake},
		{Name: "single", Options: awake, pace: pace.Pace{Single: true}},
		{Name: "batched", Options: awake, pace: all},
		{Name: "paranoid", Options: away},
		{Name: "paranoid-batched", Options: away, pace: all},
	}
}

// TestEngine plays every scenario of the contract on an engine, in each of its
// modes, as a subtest "engine/mode/scenario".
func TestEngine(t *testing.T, e Engine) {
	ref := canonicalLogs(t)
	t.Run(e.Name, func(t *testing.T) {
		var shared *worker
		if e.Client != nil {
			w, err := startWorker(e.Env)
			if err != nil {
				t.Fatal(err)
			}
			shared = w
			t.Cleanup(func() {
				if err := w.stop(); err != nil {
					t.Errorf("the worker: %v", err)
				}
			})
		}
		for _, m := range ContractModes() {
			if e.Modes != nil && !slices.Contains(e.Modes, m.Name) {
				continue
			}
			t.Run(m.Name, func(t *testing.T) {
				if e.Hour > 0 {
					t.Parallel() // with the other modes: what is played mostly waits
				}
				queue := newQueue(e.AtOnce)
				for _, s := range Scenarios() {
					if e.Only != nil && !e.Only(s) {
						continue
					}
					t.Run(s.Name, func(t *testing.T) {
						why := e.lacks(s)
						var early chan Outcome
						if e.Hour > 0 && why == "" {
							early = queue.play(t, e, m, s, shared, ref[s.Name])
						}
						t.Parallel()
						if why != "" {
							t.Logf("not able: %s", why)
							return
						}
						var out Outcome
						if early != nil {
							out = <-early
						} else {
							out = Check(t, e, m, s)
							out.compare(ref[s.Name])
						}
						for _, f := range out.Failures {
							t.Error(f)
						}
						if out.slow != "" {
							t.Log(out.slow)
						}
						if t.Failed() {
							t.Logf("the rule: %s", s.Rule)
						}
					})
				}
			})
		}
	})
}

// Real time is full of delays that are nobody's fault. A scenario that fails
// is played again with longer hours and less company, and its last play counts.
var rounds = []struct{ atOnce, hours int }{{24, 1}, {6, 3}, {2, 6}, {1, 12}}

// queue plays scenarios of an engine whose time is real: many at once, because
// they wait more than they work.
type queue []chan struct{} // places, by round

func newQueue(atOnce int) (q queue) {
	for i, r := range rounds {
		if i == 0 && atOnce > 0 {
			r.atOnce = atOnce
		}
		q = append(q, make(chan struct{}, r.atOnce))
	}
	return q
}

// play begins to play a scenario. The test waits for it.
func (q queue) play(t *testing.T, e Engine, m Mode, s Scenario, shared *worker, want string) chan Outcome {
	ch := make(chan Outcome, 1)
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	wg.Go(func() {
		before := ""
		for i, r := range rounds {
			q[i] <- struct{}{}
			slower := e
			slower.Hour *= time.Duration(r.hours)
			o := play(slower, m, s, t.TempDir(), "", shared)
			<-q[i]
			if o.compare(want); len(o.Failures) > 0 && i < len(rounds)-1 {
				before += "\n" + strings.Join(o.Failures, "\n")
				continue
			}
			if i > 0 {
				o.slow = fmt.Sprintf("played with hours of %v; with shorter ones:%s", slower.Hour, before)
			}
			ch <- o
			return
		}
	})
	return ch
}

// lacks says why the engine can't play a scenario, empty if it can.
func (e Engine) lacks(s Scenario) string {
	for _, a := range s.Needs {
		if why := e.Lacks[a]; why != "" {
			return fmt.Sprintf("%s: %s", a, why)
		}
	}
	return ""
}

// Outcome is what came of a scenario.
type Outcome struct {
	Failures []string
	Log      string // the canonical logs of its runs

	slow   string   // what happened before, where time is real
	unlike []string // why the log is not compared
}

// compare holds the log against that of the contract, where there is no other
// failure.
func (o *Outcome) compare(want string) {
	if len(o.Failures) == 0 && o.Log != want && len(o.unlike) == 0 {
		o.Failures = append(o.Failures, "the canonical log is not that of the contract (- want, + got):\n"+diffLines(want, o.Log))
	}
}

// Check plays one scenario in one mode. It fails t only where the kit itself
// can't go on: what the engine did wrong is in the outcome.
func Check(t *testing.T, e Engine, m Mode, s Scenario) (out Outcome) {
	t.Helper()
	place := t.TempDir()
	if e.Hour > 0 {
		return play(e, m, s, place, "", nil)
	}
	bubble := ""
	defer func() {
		// Time is virtual in a bubble, which knows when something in it will
		// never end.
		if p := recover(); p != nil {
			out.Failures = append(out.Failures, fmt.Sprintf("goroutines were left behind: %v\n%s", p, goroutinesOf(bubble)))
		}
	}()
	synctest.Test(t, func(*testing.T) {
		bubble = bubbleName()
		out = play(e, m, s, place, bubble, nil)
	})
	return out
}

func play(e Engine, m Mode, s Scenario, place, bubble string, shared *worker) (out Outcome) {
	env := &Env{hour: e.Hour, notes: newSheet()}
	left := 300 // hours
	if e.Hour == 0 {
		env.hour, left = time.Hour, cmp.Or(e.patience, 500*24)
	}
	wait := time.Duration(left) * env.hour
	if e.Hour > 0 {
		wait = min(wait, 90*time.Second+60*env.hour) // a scenario that hangs does so in each round
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	t := &T{Env: env, ctx: ctx, place: place, bubble: bubble, lacks: e.Lacks}
	t.host = &local{e: e, m: m, place: place}
	if e.Client != nil {
		env.notes = ledgerAt(place)
		t.host = &remote{e: e, m: m, s: s, place: place, shared: shared}
	}
	p := s.New(env)
	t.play = p
	t.run(func() { t.open(0) })
	if t.Engine == nil {
		return t.outcome()
	}
	t.run(func() {
		p.Drive(t)
		t.side.Wait()
	})
	if len(t.failures) == 0 {
		t.run(t.after)
	} else {
		t.run(t.waiting)
	}
	cancel()
	if err := t.host.close(); err != nil {
		t.Errorf("close the engine: %v", err)
	}
	return t.outcome()
}

func (t *T) outcome() Outcome {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Outcome{Failures: t.failures, Log: t.log, unlike: t.unlike}
}

// run calls fn on a goroutine of its own, which Fatalf can end.
func (t *T) run(fn func()) {
	done := make(chan struct{})
	go func() { // waited for below
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				buf := make([]byte, 16<<10)
				t.Errorf("panic: %v\n%s", p, buf[:runtime.Stack(buf, false)])
			}
		}()
		fn()
	}()
	<-done
}

// waiting says what the unfinished runs of a failed scenario wait for.
func (t *T) waiting() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), 5*time.Second)
	defer cancel()
	p, err := t.Engine.List(ctx, &durable.Filter{Limit: 20})
	if err != nil {
		t.Errorf("list the runs after the failure: %v", err)
		return
	}
	for _, d := range p.Runs {
		if d.State.Done() {
			continue
		}
		t.Errorf("run %s is %s after %d turns, paused: %v, problem: %+v, waits: %+v", d.WorkflowID, d.State, d.Turns, d.Paused != nil, d.Problem, d.Waiting)
	}
}

// after looks at what a scenario leaves: runs that are blocked, and the logs.
func (t *T) after() {
	t.Settle()
	var logs []string
	f := &durable.Filter{Limit: 500}
	for {
		p, err := t.Engine.List(t.ctx, f)
		if err != nil {
			t.Fatalf("list the runs at the end: %v", err)
		}
		for _, d := range p.Runs {
			if d.Problem != nil && !t.play.Blocked {
				t.Errorf("run %s is blocked at the end: %+v", d.WorkflowID, *d.Problem)
			}
			r := t.Engine.Run(d.WorkflowID, d.RunID)
			if d, err = r.Describe(t.ctx); err != nil { // a list of a cluster has no results
				t.Fatalf("describe run %s at the end: %v", r.WorkflowID, err)
			}
			h, err := r.History(t.ctx)
			if err != nil {
				t.Fatalf("history of run %s: %v", d.WorkflowID, err)
			}
			logs = append(logs, Canonical(d, h))
			t.replays(d)
		}
		if f.Cursor = p.Next; f.Cursor == "" {
			break
		}
	}
	slices.Sort(logs)
	t.log = strings.Join(logs, "")
	if t.play.Loose != "" {
		t.log = "not compared: " + t.play.Loose + "\n"
	}
}

// replays holds the program against the journal of a run that can go on: it
// must stand, from zero, where the run stands.
func (t *T) replays(d *durable.Description) {
	if d.Problem != nil {
		return // that is what the scenario is about
	}
	history, err := t.Engine.Run(d.WorkflowID, d.RunID).Export(t.ctx)
	if err != nil {
		t.Fatalf("export run %s: %v", d.WorkflowID, err)
	}
	if _, err := durable.Replay(t.ctx, history, t.play.version(t.versions)...); err != nil {
		t.Errorf("the journal of run %s does not replay: %v", d.WorkflowID, err)
	}
}

// host is where a scenario's program runs.
type host interface {
	// open starts a version of the program and gives its clients an engine.
	open(ctx context.Context, p *Play, version int) (*durable.Engine, error)
	// close ends it, as a good process ends.
	close() error
	// kill ends it, as a power cut does.
	kill() error
}

// local is a program in this process.
type local struct {
	e     Engine
	m     Mode
	place string
	eng   *durable.Engine
}

func (m Mode) options(p *Play) *durable.Options {
	o := m.Options
	if p.Options != nil {
		p.Options(&o)
	}
	return &o
}

func (p *Play) version(n int) durable.Set {
	if n == 0 {
		return p.Defs
	}
	return p.Later[n-1]
}

func (l *local) open(ctx context.Context, p *Play, version int) (_ *durable.Engine, err error) {
	l.eng, err = l.e.Open(pace.With(context.WithoutCancel(ctx), l.e.pace(l.m)), l.place, l.m.options(p), p.version(version)...)
	return l.eng, err
}

func (l *local) close() error {
	if l.eng == nil {
		return nil
	}
	eng := l.eng
	l.eng = nil
	return eng.Close(context.Background())
}

func (l *local) kill() error {
	if l.e.Kill == nil {
		return errors.New("the engine can't be killed: say so in Engine.Lacks")
	}
	l.e.Kill(l.place)
	_ = l.close() // it is dead; this collects its goroutines
	return nil
}

// bubbleName says in which bubble of testing/synctest this goroutine is, by
// the words of the runtime.
func bubbleName() string {
	buf := make([]byte, 256)
	head, _, _ := strings.Cut(string(buf[:runtime.Stack(buf, false)]), "]")
	_, name, _ := strings.Cut(head, "synctest bubble ")
	return name
}

// goroutinesOf are the stacks of a bubble's goroutines.
func goroutinesOf(bubble string) string {
	buf := make([]byte, 4<<20)
	var out []string
	for s := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		head, _, _ := strings.Cut(s, "]")
		if bubble != "" && strings.HasSuffix(head, "synctest bubble "+bubble) {
			out = append(out, s)
		}
	}
	return strings.Join(out, "\n\n")
}
