package durable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
	"github.com/mcpagent/mcpagent/durable/internal/pace"
)

// executor runs workflows over a store: the engine in memory and on a file.
//
// Each unfinished run has an entry. What reaches a run (an event, a control, a
// query) is put into its entry's inbox; a loop, which lives only while there
// is something in it, takes all of it, lets the code go on, commits, and only
// then lets effects out. So a run never has more than one uncommitted turn,
// and a run that is stuck costs only itself.
type executor struct {
	st     journal.Store
	defs   *Definitions
	opts   Options
	log    *slog.Logger
	reader *reader
	past   *pastStore // of Replay, else nil
	host   *Hosted    // of a run on a cluster, else nil
	queues bool       // steps may be routed
	remote bool       // of an attempt on a cluster: there is no run here
	plans  sync.Map   // schedule id → *plan
	timers *timers
	pace   pace.Pace // of tests
	tracer Tracer    // the observer, if it is one

	content bool // the observer wants inputs and results

	life     context.Context // ends when the executor stops
	end      context.CancelCauseFunc
	commits  context.Context // what commits wait under; ends after life
	cut      context.CancelFunc
	steps    sync.WaitGroup              // attempts
	loops    sync.WaitGroup              // loops and other work on behalf of runs
	policies map[*stepIdentity]*resolved // of the steps as declared; not changed
	slots    chan struct{}               // places for steps
	limit    int                         // of one value, on a cluster; 0: the options' own
	remedy   string                      // more of it
	atWork   atomic.Int64
	working  sync.Map // *attempt at work → name of its step
	queued   atomic.Int64
	paused   atomic.Int64
	pool     sync.WaitGroup // goroutines that loops and steps run on
	idle     chan task      // to one that has nothing to do
	idlers   atomic.Int64
	left     atomic.Int64 // attempts left behind

	mu         sync.Mutex        // guards what follows
	entries    map[int64]*entry  // by number; see index.go
	byRun      map[string]*entry // by run id, of those that are loaded
	byID       map[string]*entry // by workflow id
	sleepers   map[int64]*timer  // of runs without an entry
	unfinished int
	starting   map[string]chan struct{}
	nextRID    int64
	stopping   bool
	awake      entryList // idle awake entries, oldest first
	busy       entryList // those whose loop is at work
	watchers   map[watched]chan struct{}
	broken     error         // why nothing can be recorded any more
	rouse      chan struct{} // wakes the watchdog when there is something to watch
	watching   bool          // the watchdog is awake
}

// entry is an unfinished run in the executor's index.
type entry struct {
	ex   *executor
	rid  int64
	cfg  *runConfig
	work task         // loop, as a value
	mu   sync.Mutex   // guards in, done, busy, gone and row
	row  *journal.Run // nil: not loaded yet
	busy bool         // a loop is at work
	gone bool         // not in the index any more
	in   []*incoming
	done []*incoming // what in was before, for its space
	link entryLink   // guarded by executor.mu

	// The rest belongs to the loop.
	run      *run
	open     map[string]*openCall
	pend     []pending              // stored, not applied
	startA   int64                  // delayed start
	signals  int                    // that reached the run so far; negative: not counted
	starting *timer                 // of a delayed start
	deadline *timer                 // run timeout
	retry    bool                   // try a blocked run again
	launched []task                 // attempts that the loop lets go when it has committed
	seed     map[string]*seedCall   // of a fork, nil until needed
	asking   map[string][]*incoming // who waits for the answer of an update, by its id

	writing  sync.Mutex                  // held for each commit of the run; guards accused
	accused  bool                        // the stored row has what the watchdog found, e.row has not
	detached atomic.Pointer[journal.Run] // how it was ended while its code did not come back
	ended    atomic.Bool                 // the observer knows of its end
	lent     atomic.Pointer[lentBy]      // what the awake run has lent, see [LendBlob]
	turning  atomic.Int64                // since when code runs, UnixMicro; 0: it does not
}

// incoming is what is put into an entry's inbox: one of ev, note, ctl.
type incoming struct {
	ev     *journal.Event
	note   *journal.Note
	ctl    func(e *entry)              // on the loop, with the run's entry; ack is called only if the run can't be read
	ask    *journal.Ask                // changed with ev
	ack    func(err error)             // once it is durable, or refused; may be nil
	answer func(*journal.Reply, error) // of an update, instead of ack
	after  func()                      // of a note: once it is durable
	// accepted says of an update that it was looked at when it came.
	accepted bool
}

// pending is an event that was stored before it could be applied.
type pending struct {
	row int64
	idx int
	ev  *journal.Event
}

// openCall is a call whose outcome is still to come.
type openCall struct {
	call    *journal.Call
	row     int64 // the journal row that made it
	at      int64
	due     int64 // timer, next attempt, expiry
	attempt int   // attempts that are over or at work
	sent    bool  // at most once: the intent to send it is on disk
	stop    bool  // cancel was asked
	began   bool  // child: its start is on record
	over    bool  // its outcome is stored, but not applied yet
	closing bool  // the turn that is being committed closes it
	held    bool  // this program does not define the step
	failure *journal.Failure
	beat    json.RawMessage
	timer   *timer
	active  *attempt
	spec    *stepSpec
}

// NewExecutor makes the executor over a store and recovers what the store
// holds: steps that were at work are sent again or become unknown, timers keep
// their time. Runs are replayed only when an event for them comes. For the
// engines of this module.
func NewExecutor(ctx context.Context, st journal.Store, defs *Definitions, o *Options) (Backend, error) {
	ex := &executor{
		st: st, defs: defs, timers: newTimers(), log: slog.Default(),
		entries: map[int64]*entry{}, byRun: map[string]*entry{}, byID: map[string]*entry{}, sleepers: map[int64]*timer{}, starting: map[string]chan struct{}{},
		watchers: map[watched]chan struct{}{}, rouse: make(chan struct{}, 1),
	}
	ex.pace = pace.Of(ctx)
	if o != nil {
		ex.opts = *o
	}
	if err := ex.opts.check(); err != nil {
		return nil, err
	}
	if err := ex.resolveAll(); err != nil {
		return nil, err
	}
	if ex.opts.Logger != nil {
		ex.log = ex.opts.Logger
	}
	ex.meet()
	ex.slots = make(chan struct{}, ex.opts.maxSteps())
	ex.idle = make(chan task)
	ex.reader = &reader{st: st, defs: defs, codec: ex.opts.Codec, watch: ex.watch}
	ex.life, ex.end = context.WithCancelCause(context.Background())
	ex.commits, ex.cut = context.WithCancel(context.Background())
	top, err := st.MaxRID()
	if err != nil {
		return nil, err
	}
	ex.nextRID = top + 1
	if err := ex.recover(ctx); err != nil {
		ex.end(ErrClosed)
		return nil, err
	}
	if err := ex.recoverSchedules(); err != nil {
		ex.end(ErrClosed)
		return nil, err
	}
	ex.loops.Go(func() { ex.timers.loop(ex.life) })
	ex.loops.Go(ex.watchdog)
	ex.loops.Go(ex.prune)
	return ex, nil
}

// resolveAll resolves the policies of the steps as they are declared.
func (ex *executor) resolveAll() error {
	ex.policies = make(map[*stepIdentity]*resolved, len(ex.defs.steps))
	for _, d := range ex.defs.steps {
		p, err := ex.policy(d.owner, &d.opts, false)
		if err != nil {
			return fmt.Errorf("step %q: %w", d.name, err)
		}
		ex.policies[d.owner] = p
	}
	for _, d := range ex.defs.wfs {
		if d.opts.Queue != "" && !ex.queues {
			return fmt.Errorf("workflow %q: option Queue: %w: it runs everything in this process", d.name, ErrUnsupported)
		}
	}
	return nil
}

// Close implements [Backend].
func (ex *executor) Close(ctx context.Context) error {
	ex.mu.Lock()
	if ex.stopping {
		ex.mu.Unlock()
		return nil
	}
	ex.stopping = true
	ex.mu.Unlock()
	ex.end(ErrShutdown) // steps see it as the cause of their context's end
	defer ex.cut()
	var problems []string
	if !waitFor(ctx, ex.steps.Wait) {
		var names []string
		ex.working.Range(func(_, name any) bool { names = append(names, name.(string)); return true })
		slices.Sort(names)
		problems = append(problems, fmt.Sprintf("%d steps did not stop (%s); their attempts are lost", len(names), strings.Join(slices.Compact(names), ", ")))
	}
	// Coroutines end in no time. Where the steps took all the time there was,
	// they get a moment of their own: one that is left would be there for ever.
	moment := ctx
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		moment, cancel = context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
	}
	if !waitFor(moment, ex.loops.Wait) {
		problems = append(problems, "code of a run did not come back")
	}
	for {
		ex.mu.Lock()
		e := ex.awake.first
		ex.awake.remove(e)
		ex.mu.Unlock()
		if e == nil {
			break
		}
		e.mu.Lock()
		if !e.busy && e.run != nil {
			if n := e.run.unwind(moment.Done()); n > 0 {
				problems = append(problems, fmt.Sprintf("%d coroutines of run %s did not end", n, e.row.RunID))
			}
			e.run = nil
		}
		e.mu.Unlock()
	}
	ex.tellAll(nil)
	grace, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for ex.left.Load() > 0 && grace.Err() == nil {
		_ = plainSleep(grace, env{}, time.Millisecond)
	}
	if ex.left.Load() == 0 && len(problems) == 0 {
		waitFor(grace, ex.pool.Wait)
	}
	if n := ex.left.Load(); n > 0 {
		problems = append(problems, fmt.Sprintf("%d steps that were given up are still running", n))
	}
	if len(problems) > 0 {
		return fmt.Errorf("close: %s", strings.Join(problems, "; "))
	}
	return nil
}

func waitFor(ctx context.Context, wait func()) bool {
	done := make(chan struct{})
	go func() { wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
}

// work runs fn beside the caller, unless the executor stops. Close waits for
// it.
func (ex *executor) work(fn func()) bool {
	if ex.host != nil {
		fn()
		return true
	}
	ex.mu.Lock()
	defer ex.mu.Unlock()
	if ex.stopping {
		return false
	}
	ex.loops.Go(fn)
	return true
}

// deliver puts something into an entry's inbox and sees to it that a loop is
// at work. A nil entry takes nothing.
func (ex *executor) deliver(e *entry, in ...*incoming) {
	if e == nil || len(in) == 0 {
		return
	}
	if ex.host != nil {
		ex.host.take(in...)
		return
	}
	if loop := ex.hand(e, in...); loop != nil {
		ex.spawn(loop)
	}
}

// hand is deliver for a task that ends with it: it gives the loop to go on
// with, or nil where one is at work.
func (ex *executor) hand(e *entry, in ...*incoming) task {
	e.mu.Lock()
	for e.gone {
		e.mu.Unlock()
		e = ex.present(e.rid)
		e.mu.Lock()
	}
	e.in = append(e.in, in...)
	if e.busy {
		e.mu.Unlock()
		return nil
	}
	e.busy = true
	e.mu.Unlock()
	ex.mu.Lock()
	defer ex.mu.Unlock()
	return ex.begin(e)
}

// begin gives the loop of an entry that has just become busy. The caller holds
// ex.mu.
func (ex *executor) begin(e *entry) task {
	if !ex.watching {
		ex.watching = true
		select {
		case ex.rouse <- struct{}{}:
		default:
		}
	}
	ex.awake.remove(e)
	ex.busy.push(e)
	// A loop may begin while the executor stops: outcomes of steps are still
	// to be recorded. Close waits for the steps first.
	ex.loops.Add(1)
	return e.work
}

// loop works off what is in an entry's inbox. While more has come, it is its
// own next task. When there is no more, the goroutine goes on with an attempt
// of a step that has been let go: no other one needs to be woken.
func (e *entry) loop() (next task) {
	more := false
	defer func() {
		if !more {
			e.ex.loops.Done()
		}
	}()
	if d := e.ex.pace.Hold; d > 0 {
		time.Sleep(d)
	}
	e.ousted(nil)
	e.mu.Lock()
	batch := e.in
	e.in, e.done = e.done[:0], nil
	if e.ex.pace.Single && len(batch) > 1 {
		batch, e.in = batch[:1], append(e.in, batch[1:]...)
	}
	e.mu.Unlock()
	if len(batch) > 0 {
		e.workOff(batch)
		clear(batch)
	}
	e.mu.Lock()
	e.done = batch
	if len(e.in) > 0 {
		e.mu.Unlock()
		more = true
		return e.work
	}
	due, dormant := e.dormant()
	if !dormant {
		next = e.letGo(true)
		e.busy = false
		e.mu.Unlock()
		e.ex.rest(e)
		return next
	}
	e.mu.Unlock()
	e.letGo(false) // the run has ended meanwhile: they find that out
	e.putAway()    // a query came too late, and was answered from a replay
	if e.ex.retire(e, due) {
		return nil
	}
	more = true
	return e.work
}

// workOff does what is in a part of the inbox.
func (e *entry) workOff(batch []*incoming) {
	if e.row == nil {
		if err := e.load(); err != nil {
			e.unloaded(batch, err)
			return
		}
	}
	e.letGo(false)
	for from := 0; from < len(batch); {
		to := from
		for to < len(batch) && batch[to].ctl == nil {
			to++
		}
		if to > from {
			e.turn(batch[from:to])
		}
		if from = to; from < len(batch) {
			batch[from].ctl(e)
			from++
		}
		if from < len(batch) {
			e.letGo(false)
		}
	}
	e.acquit()
	if e.run != nil && e.ex.opts.maxAwake() == 0 {
		e.putAway()
	}
}

// letGo starts the attempts that have been dispatched, except the one that
// the caller goes on with itself.
func (e *entry) letGo(last bool) (next task) {
	if len(e.launched) == 0 {
		return nil
	}
	for i, fn := range e.launched {
		if last && i == len(e.launched)-1 {
			next = fn
		} else {
			e.ex.spawn(fn)
		}
		e.launched[i] = nil
	}
	e.launched = e.launched[:0]
	return next
}

// rest is called when an entry's loop has ended: it may stay awake, and the
// one that has been idle longest may have to go.
func (ex *executor) rest(e *entry) {
	var old *entry
	ex.mu.Lock()
	e.mu.Lock()
	if !e.busy {
		ex.busy.remove(e)
		if e.run != nil {
			ex.awake.push(e)
		}
	}
	e.mu.Unlock()
	if ex.awake.n > ex.opts.maxAwake() {
		old = ex.awake.first
	}
	ex.mu.Unlock()
	if old != nil {
		ex.deliver(old, &incoming{ctl: (*entry).putAway})
	}
}

// putAway ends the coroutines of a waiting run. An event wakes it by replay.
func (e *entry) putAway() {
	r := e.run
	if r == nil {
		return
	}
	e.run = nil
	e.lent.Store(nil)
	e.ex.discard(r)
}

// discard ends the coroutines of an awake run, within bounds.
func (ex *executor) discard(r *run) {
	stuck := make(chan struct{})
	t := time.AfterFunc(5*time.Second, func() { close(stuck) })
	defer t.Stop()
	if n := r.unwind(stuck); n > 0 {
		ex.log.Error("coroutines of a run that is put away do not end", "run_id", r.row.RunID, "workflow", r.row.Name, "coroutines", n)
	}
}

// wake replays the run, if it is not awake.
func (e *entry) wake() (*run, *Problem) {
	if e.run != nil {
		return e.run, nil
	}
	r, p := e.ex.rebuild(e, e.row)
	if p != nil {
		return nil, p
	}
	e.run = r
	return r, nil
}

// rebuild makes an awake run from its history.
func (ex *executor) rebuild(e *entry, row *journal.Run) (*run, *Problem) {
	began := time.Now()
	def := ex.defs.wfs[row.Name]
	if def == nil || def.fn == nil {
		return nil, &Problem{Kind: "not_defined", Text: fmt.Sprintf("workflow %q is not defined in this program: deploy one that has it", row.Name)}
	}
	r, err := newRun(e, row, def)
	if err != nil {
		return nil, &Problem{Kind: "payload", Text: err.Error()}
	}
	fail := func(p *Problem) (*run, *Problem) {
		ex.discard(r)
		return nil, p
	}
	rows, err := ex.st.Rows(row.Last, 0)
	switch {
	case errors.Is(err, journal.ErrNotFound): // a part of it is missing
		return fail(&Problem{Kind: "payload", Text: fmt.Sprintf("read the history: %v", err)})
	case err != nil:
		return fail(unread("the history", err))
	}
	held := map[int64][]*journal.Event{}
	entries := make([]*journal.Entry, len(rows))
	for i, jr := range rows {
		if entries[i], err = journal.Decode(jr); err != nil {
			return fail(&Problem{Kind: "payload", Text: err.Error()})
		}
		// Version looks ahead: an answer that is recorded anywhere holds.
		for _, m := range entries[i].Marks {
			r.marks[m.ID] = m.Version
		}
	}
	n := 0
	e.turning.Store(began.UnixMicro())
	defer e.turning.Store(0)
	for i, jr := range rows {
		ent := entries[i]
		switch jr.Kind {
		case journal.KindEvent:
			held[jr.ID] = ent.Events
		case journal.KindTurn:
			evs := make([]*journal.Event, len(ent.Events))
			for j, ev := range ent.Events {
				if ev.Ref == 0 {
					evs[j] = ev
					continue
				}
				full := held[ev.Ref]
				if ev.Index >= len(full) {
					return fail(&Problem{Kind: "payload", Text: fmt.Sprintf("journal row %d is damaged: it refers to an event that is not there", jr.ID)})
				}
				c := *full[ev.Index]
				c.At = ev.At
				evs[j] = &c
			}
			r.replay(ent, evs)
			if ex.opts.Observer != nil {
				r.standing = r.stands(ent, evs, func(ev *journal.Event) *journal.Event { return ev }, nil)
			}
			if p := r.problem; p != nil {
				if p.Kind == "mismatch" {
					p.Text += " (" + r.place() + ")"
				}
				return fail(p)
			}
			r.turns++
			n++
		}
	}
	r.row = row
	if n > 0 {
		e.observe(row, Observation{Kind: "woken", Took: time.Since(began), Turns: n})
	}
	if len(r.drift) > 0 {
		e.observe(row, Observation{Kind: "drift"})
		ex.log.Warn("a replay made a call with another input than it had: the code was changed; the recorded outcome holds", "run_id", row.RunID, "workflow", row.Name)
	}
	return r, nil
}

// write commits a change of the run. Only its loop calls it.
func (e *entry) write(tx *journal.Tx) error {
	e.writing.Lock()
	defer e.writing.Unlock()
	if row := e.detached.Load(); row != nil {
		return finishedError(row)
	}
	err := e.ex.commit(e.ex.commits, tx)
	if err == nil {
		e.accused = false
	}
	return err
}

// leftBehind keeps count of a step that was given up but goes on.
func (ex *executor) leftBehind(a *attempt) {
	if !ex.remote {
		ex.left.Add(1)
	}
	ex.log.Warn("a step does not stop; its result will be dropped", "step", a.info.Step, "run_id", a.info.RunID, "attempt", a.info.Attempt)
}

// cameBack notes the late outcome of a step that was left behind.
func (ex *executor) cameBack(a *attempt, err error) {
	if ex.remote {
		return
	}
	ex.left.Add(-1)
	n := &journal.Note{Kind: "dropped", Call: a.info.Call, Attempt: a.info.Attempt, Text: "it returned after it had been given up", Failure: toFailure(toError(err))}
	ex.work(func() { ex.deliver(a.ent, &incoming{note: n}) })
}
