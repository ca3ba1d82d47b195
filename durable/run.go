package durable

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

const (
	kindStep       = journal.Step
	kindTimer      = journal.Timer
	kindChild      = journal.Child
	kindMessage    = journal.Message
	kindStop       = journal.Stop
	kindQuestion   = journal.Question
	kindCallback   = journal.Callback
	kindSideEffect = journal.SideEffect
)

// run is a run that is awake: its coroutines, and what they wait for. It
// belongs to the loop of its entry; coroutines touch it while they hold the
// baton.
type run struct {
	ex   *executor
	ent  *entry
	row  *journal.Run
	def  *workflowDef
	cfg  runConfig
	root *scope
	ctx  context.Context

	holder    atomic.Uintptr // goroutine that holds the baton
	unwinding atomic.Bool
	gone      atomic.Bool
	reading   bool // a query or a validator runs
	cur       *coroutine
	cos       []*coroutine

	now           int64
	replaying     bool
	turn          *turn
	spare         *turn
	expect        []*journal.Call // replay: the calls of this turn that are yet to come
	open          map[string]*future
	mail          map[string]*mailbox
	seen          map[string]bool // signal ids
	seenOrder     []string
	updates       map[string]updateHandler
	queries       map[string]func(json.RawMessage) (json.RawMessage, error)
	replies       map[string]*journal.Reply // finished updates
	replyOrder    []*journal.Reply
	handling      map[string]bool // accepted updates at work
	marks         map[string]int
	asked         map[string]int // Version answers that are not recorded
	again         *turn          // of a reset, until its first turn: what the turns taken over publish
	rands         map[string]*stream
	scopesChanged bool
	cancelAsked   bool
	problem       *Problem
	end           *journal.End
	next          *journal.Run // of continue-as-new
	nextInput     json.RawMessage
	nextConfig    runConfig
	nextEvents    []*journal.Event
	nextRow       *journal.Row
	follow        *entry   // of next, reserved
	drift         []string // what the code does with other values than it did, as far as it is kept
	outcomes      int64
	calls         int
	asks          int              // updates accepted
	ends          map[string]int64 // next offsets of streams, nil until needed
	turns         int
	standing      []standing // kept for the observer only
}

// runConfig is what a run was started with and keeps. Times are microseconds.
type runConfig struct {
	ParentClose ParentClose       `json:"parent_close,omitempty"`
	Parent      *Ref              `json:"parent,omitempty"`
	Timeout     int64             `json:"timeout,omitempty"`
	StartAt     int64             `json:"start_at,omitempty"` // of a delayed start
	Trace       string            `json:"trace,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"` // of propagators
	Secret      string            `json:"secret,omitempty"`  // of callback tokens
	Rand        string            `json:"rand,omitempty"`    // of random streams; empty in older runs: Secret

	Schedule string `json:"schedule,omitempty"` // that started it

	// Of a run that was reset to: see reset.go.
	Lives   []life           `json:"lives,omitempty"`   // whose turns it took over, oldest first
	Before  []int64          `json:"before,omitempty"`  // numbers of all the runs that it stands for, oldest first
	Adopted map[string]int64 `json:"adopted,omitempty"` // calls whose children belong to an earlier run, by its number
	Kept    int              `json:"kept,omitempty"`    // turns taken over
	Seeded  bool             `json:"seeded,omitempty"`  // a fork: its first row answers calls

	// What continue-as-new carries over.
	Counter int              `json:"counter,omitempty"` // how often
	Seen    []string         `json:"seen,omitempty"`    // signal ids
	Carried []carriedSignal  `json:"carried,omitempty"` // unread signals
	Replies []carriedReply   `json:"replies,omitempty"` // answers of updates, newest last
	Offsets map[string]int64 `json:"offsets,omitempty"` // of streams
}

// seed is what random streams are made from.
func (c *runConfig) seed() string { return cmp.Or(c.Rand, c.Secret) }

type carriedSignal struct {
	Name    string `json:"name"`
	ID      string `json:"id,omitempty"`
	By      string `json:"by,omitempty"`
	Payload []byte `json:"payload,omitempty"` // as stored
}

type carriedReply struct {
	ID      string           `json:"id"`
	Payload []byte           `json:"payload,omitempty"` // as stored
	Failure *journal.Failure `json:"fail,omitempty"`
}

// turn is what the code does with a batch of events: one entry of the journal
// and what goes with it.
type turn struct {
	entry   journal.Entry
	asks    []*journal.Ask
	items   []*journal.Item
	blobs   []*journal.Blob
	status  map[string]json.RawMessage // nil: unchanged
	after   []func()                   // effects, once the turn is on disk
	answers []answer
	closed  []string // calls that it closes
	tx      journal.Tx
	writes  [1]journal.Write
}

// nextTurn is an empty turn. Nothing keeps one beyond its commit, so its space
// serves again.
func (r *run) nextTurn() *turn {
	t := r.spare
	if t == nil {
		t = &turn{}
		r.spare = t
		return t
	}
	evs, calls, closed := t.entry.Events, t.entry.Calls, t.closed
	clear(evs)
	clear(calls)
	*t = turn{closed: closed[:0]}
	t.entry.Events, t.entry.Calls = evs[:0], calls[:0]
	return t
}

type answer struct {
	id    string
	reply *journal.Reply
}

// callSpec is a call before it has an id.
type callSpec struct {
	kind, name string
	due        int64
	input      json.RawMessage // plain
	opts       any
	step       *resolved // instead of opts, of a step
	headers    json.RawMessage
	refused    *journal.Failure // it is not made, and this is recorded
	ask        *journal.Ask
}

// future is an open call.
type future struct {
	run     *run
	ctx     context.Context // whose cancel reaches the call
	spec    callSpec
	id      string
	seq     int
	done    bool
	given   bool   // given up: no outcome will come
	asked   bool   // cancel was asked
	began   bool   // child: started
	refused bool   // fail says why
	owner   string // question: the run id that it was asked under
	value   json.RawMessage
	addr    Ref // child
	fail    *journal.Failure
	by      string
	note    string
	at      int64
	order   int64 // place among all outcomes of the run
	then    func()
	cancel  cancelMode
}

// cancelMode is what the end of its scope does to a call.
type cancelMode int

const (
	cancelDrops cancelMode = iota // nobody waits any more: timers, questions
	cancelAsks                    // the outcome is awaited: steps, children
)

func newRun(ent *entry, row *journal.Run, def *workflowDef) (*run, error) {
	r := &run{
		ex: ent.ex, ent: ent, row: row, def: def,
		now:  row.Created,
		open: map[string]*future{}, mail: map[string]*mailbox{}, seen: map[string]bool{},
		updates: map[string]updateHandler{}, queries: map[string]func(json.RawMessage) (json.RawMessage, error){},
		replies: map[string]*journal.Reply{}, handling: map[string]bool{},
		marks: map[string]int{}, asked: map[string]int{}, rands: map[string]*stream{},
	}
	if len(row.Config) > 0 {
		if err := json.Unmarshal(row.Config, &r.cfg); err != nil {
			return nil, fmt.Errorf("run %s: damaged configuration: %w", row.RunID, err)
		}
	}
	for _, id := range r.cfg.Seen {
		r.remember(id)
	}
	for _, c := range r.cfg.Carried {
		r.mailbox(c.Name).put(letter{id: c.ID, by: c.By, payload: c.Payload})
		r.remember(c.ID)
	}
	for _, c := range r.cfg.Replies {
		r.answered(&journal.Reply{ID: c.ID, Payload: c.Payload, Failure: c.Failure})
	}
	if r.cfg.Kept > 0 && int64(r.cfg.Kept) == row.Turns && r.ex.past == nil {
		r.again = &turn{}
	}
	base := r.ex.propagate(context.Background(), &r.cfg, r.cfg.Headers)
	r.ctx, r.root = newScope(base, r, time.Time{})
	return r, nil
}

// broke stops the run with a problem. The turn at hand will not be committed.
func (r *run) broke(kind, text string) {
	if r.problem == nil {
		call := ""
		if r.cur != nil {
			call = r.cur.path + "/" + fmt.Sprint(r.cur.ordinal)
		}
		r.problem = &Problem{Kind: kind, Call: call, Text: text}
	}
}

func (r *run) ended() bool { return r.end != nil }

// stop breaks the run from inside a coroutine and does not return.
func (r *run) stop(kind, text string) {
	r.broke(kind, text)
	r.park(func() bool { return false })
}

// recorded reports whether the next call of the current coroutine is one that
// the history has: it was checked when it was made, and what is defined or
// allowed today does not matter to it.
//
// That includes a call that was refused then.
func (r *run) recorded(kind, name string) bool {
	if !r.replaying || len(r.expect) == 0 {
		return false
	}
	w := r.expect[0]
	return w.ID == r.cur.path+"/"+strconv.Itoa(r.cur.ordinal+1) && w.Kind == kind && w.Name == name
}

// issue makes a call in the current coroutine. In a replay it is held against
// the history.
func (r *run) issue(ctx context.Context, spec callSpec) *future {
	c := r.cur
	f := &future{run: r, ctx: ctx, spec: spec, id: c.nextID(), seq: r.calls}
	r.calls++
	if spec.kind == kindStep || spec.kind == kindChild {
		f.cancel = cancelAsks
	}
	if r.replaying {
		if len(r.expect) == 0 {
			r.stop("mismatch", fmt.Sprintf("the code makes the call %s (%s %q), where the history has none: the workflow was changed under a running run; deploy code that fits, or use durable.Version", f.id, spec.kind, spec.name))
		}
		want := r.expect[0]
		if want.ID != f.id || want.Kind != spec.kind || want.Name != spec.name {
			r.stop("mismatch", fmt.Sprintf("the code makes the call %s (%s %q), where the history has %s (%s %q): the workflow was changed under a running run; deploy code that fits, or use durable.Version", f.id, spec.kind, spec.name, want.ID, want.Kind, want.Name))
		}
		r.expect = r.expect[1:]
		if spec.input != nil && want.Digest != "" && want.Digest != digest(spec.input) && want.Digest != digest(escaped(spec.input)) {
			r.drifts("the call %s (%s %q) had the input %s; the code now makes it with %s", f.id, spec.kind, spec.name, glance(r.open1(want.Payload)), glance(spec.input))
		}
		f.spec.due = want.Due
		if want.Refused != nil {
			f.done, f.refused, f.fail = true, true, want.Refused
			return f
		}
		if spec.kind == kindSideEffect {
			f.done = true
			f.value = r.open1(want.Payload)
			return f
		}
		if spec.kind == kindQuestion {
			f.owner, _ = r.cfg.lifeAt(r.turns, r.row)
		}
		r.open[f.id] = f
		return f
	}
	jc := &journal.Call{ID: f.id, Kind: spec.kind, Name: spec.name, Due: spec.due}
	if spec.input != nil {
		jc.Digest = digest(spec.input)
	}
	if spec.refused != nil {
		jc.Refused = spec.refused
		f.done, f.refused, f.fail = true, true, spec.refused
		r.turn.entry.Calls = append(r.turn.entry.Calls, jc)
		return f
	}
	if spec.input != nil {
		p, err := r.ex.seal(spec.input)
		if err != nil {
			r.stop("payload", fmt.Sprintf("the codec cannot encode the input of %s %q: %v", spec.kind, spec.name, err))
		}
		jc.Payload = p
	}
	if spec.kind == kindStep || spec.kind == kindChild {
		jc.Key = effectKey(r.row.Scope, f.id)
	}
	jc.Headers = spec.headers
	switch {
	case spec.step != nil:
		jc.Options = spec.step.json
	case spec.opts != nil:
		jc.Options = jsonOf(spec.opts)
	}
	r.turn.entry.Calls = append(r.turn.entry.Calls, jc)
	if spec.kind == kindSideEffect {
		f.done, f.value = true, spec.input
		return f
	}
	if a := spec.ask; a != nil {
		f.owner = r.row.RunID
		a.ID, a.RID, a.Call = r.row.RunID+"/"+f.id, r.row.RID, f.id
		a.Created, a.State, a.Owner = r.now, "open", r.row.Owner
		a.Text, a.Context = r.ex.sealText(a.Text), r.ex.sealJSON(a.Context)
		r.turn.asks = append(r.turn.asks, a)
	}
	r.open[f.id] = f
	return f
}

// giveUp closes a call that nobody waits for any more.
func (r *run) giveUp(f *future) {
	if f.done || f.given {
		return
	}
	f.given = true
	delete(r.open, f.id)
	r.turn.entry.Closed = append(r.turn.entry.Closed, f.id)
	if f.spec.kind == kindQuestion && !r.replaying {
		r.turn.asks = append(r.turn.asks, &journal.Ask{ID: f.owner + "/" + f.id, State: "withdrawn"})
	}
}

// propagate hands the end of scopes on to the calls made under them.
func (r *run) propagate() {
	for r.scopesChanged {
		r.scopesChanged = false
		for _, f := range r.openOrder() {
			if f.asked || f.ctx.Err() == nil {
				continue
			}
			f.asked = true
			if f.cancel == cancelAsks {
				r.turn.entry.Stops = append(r.turn.entry.Stops, f.id)
			}
		}
	}
}

// openOrder lists the open calls in the order in which they were made.
func (r *run) openOrder() []*future {
	out := make([]*future, 0, len(r.open))
	for _, f := range r.open {
		out = append(out, f)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].seq < out[j].seq })
	return out
}

// await parks the current coroutine until f has its outcome. Where the call
// does not insist on its real outcome, the end of ctx ends the wait.
func (r *run) await(ctx context.Context, f *future) error {
	r.park(func() bool {
		// A call that waits for its real outcome does so once its own scope
		// has ended; another waiter's scope only ends that wait.
		return f.done || ctx.Err() != nil && !(f.cancel == cancelAsks && f.ctx.Err() != nil)
	})
	if f.done {
		return nil
	}
	if f.cancel == cancelDrops && f.ctx.Err() != nil {
		r.giveUp(f)
	}
	return ctx.Err()
}

// begin starts the code: the first event of a run.
func (r *run) begin(in json.RawMessage) {
	r.spawn("0", func() {
		out, err := r.def.fn(r.ctx, in)
		r.finish(out, err)
	})
}

// finish ends the run with what its function returned.
func (r *run) finish(out json.RawMessage, err error) {
	cancelled := err != nil && r.cancelAsked && errors.Is(err, context.Canceled)
	if !cancelled {
		r.parkFor("updates", "", func() bool { return len(r.handling) == 0 })
	}
	for _, f := range r.openOrder() {
		r.giveUp(f)
	}
	var again *continueError
	switch {
	case errors.As(err, &again):
		if cerr := r.carryOn(again); cerr != nil {
			r.end = &journal.End{State: string(Failed), Failure: toFailure(toError(cerr))}
			return
		}
		r.end = &journal.End{State: string(Continued)}
	case cancelled:
		r.end = &journal.End{State: string(Cancelled), Failure: toFailure(toError(err))}
	case err != nil:
		r.end = &journal.End{State: string(Failed), Failure: toFailure(toError(err))}
	default:
		p, serr := r.ex.seal(out)
		if serr == nil && r.ex.tooLarge(len(p)) {
			r.end = &journal.End{State: string(Failed), Failure: failed(ErrTooLarge, "the result of workflow %q has %d bytes, the limit is %d: put it into a blob and return its digest%s", r.def.name, len(p), r.ex.maxPayload(), r.ex.remedy)}
			return
		}
		if serr != nil {
			r.broke("payload", fmt.Sprintf("the codec cannot encode the result: %v", serr))
			return
		}
		r.end = &journal.End{State: string(Completed), Payload: p}
	}
}

// apply gives one event to the code and lets it run.
func (r *run) apply(ev *journal.Event) {
	if ev.At > r.now {
		r.now = ev.At
	}
	switch ev.Kind {
	case journal.Started:
		if ev.Payload == nil {
			r.begin(nil)
			break
		}
		r.begin(r.open1(ev.Payload))
	case journal.Signaled:
		if ev.ID != "" && r.seen[ev.ID] {
			return
		}
		r.remember(ev.ID)
		r.outcomes++
		r.mailbox(ev.Name).put(letter{id: ev.ID, by: ev.By, order: r.outcomes, payload: ev.Payload})
	case journal.Reset: // nothing but a turn
	case journal.Canceled:
		r.remember(ev.ID)
		if !r.cancelAsked {
			r.cancelAsked = true
			r.root.cancel(context.Canceled)
			r.scopesChanged = true
		}
	case journal.Asked:
		r.handle(ev)
	case journal.Running:
		if f := r.open[ev.Call]; f != nil {
			f.began = true
			_ = json.Unmarshal(r.open1(ev.Payload), &f.addr)
		}
	case journal.Done, journal.Fired:
		f := r.open[ev.Call]
		if f == nil {
			return // given up meanwhile
		}
		delete(r.open, ev.Call)
		f.done, f.fail, f.by, f.note, f.at = true, ev.Failure, ev.By, ev.Name, ev.At
		r.outcomes++
		f.order = r.outcomes
		if ev.Payload != nil {
			f.value = r.open1(ev.Payload)
		}
		if f.then != nil {
			f.then()
		}
	}
	r.schedule()
}

// open1 gives the plain form of a stored payload. A payload that the codec
// refuses stops the run.
func (r *run) open1(p journal.Payload) json.RawMessage {
	b, err := r.ex.unseal(p)
	if err != nil {
		r.broke("payload", fmt.Sprintf("the codec cannot decode a recorded value: %v; open the file with the key it was written with", err))
	}
	return b
}

// replay applies a recorded turn and holds the code against it.
func (r *run) replay(e *journal.Entry, events []*journal.Event) {
	r.replaying = true
	r.turn = &turn{}
	r.expect = e.Calls
	for _, m := range e.Marks {
		r.marks[m.ID] = m.Version
	}
	for _, ev := range events {
		r.turn.entry.Events = append(r.turn.entry.Events, ev)
		r.apply(ev)
		if r.problem != nil {
			return
		}
	}
	if len(r.expect) > 0 {
		w := r.expect[0]
		r.broke("mismatch", fmt.Sprintf("the history has the call %s (%s %q), which the code does not make: the workflow was changed under a running run; deploy code that fits, or use durable.Version", w.ID, w.Kind, w.Name))
		return
	}
	if (e.End != nil) != (r.end != nil) {
		r.broke("mismatch", "the code ends at another place than the history: the workflow was changed under a running run; deploy code that fits")
	}
	if e.End != nil && r.end != nil {
		r.compareEnd(e.End)
	}
	r.replaying = false
	r.turn = nil
}

// answered keeps the answer of an update for those who ask again.
func (r *run) answered(rep *journal.Reply) {
	r.replies[rep.ID] = rep
	r.replyOrder = append(r.replyOrder, rep)
}

// remember keeps the ids of signals, so that the same one again is ignored.
func (r *run) remember(id string) {
	if id != "" && !r.seen[id] {
		r.seen[id] = true
		r.seenOrder = append(r.seenOrder, id)
	}
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return short(&sum)
}

// short is the first half of a sum, in hex.
func short(sum *[sha256.Size]byte) string {
	var buf [sha256.Size]byte
	hex.Encode(buf[:], sum[:len(sum)/2])
	return string(buf[:])
}

func effectKey(scope, call string) string {
	var buf [128]byte
	b := append(append(append(buf[:0], scope...), 0), call...)
	sum := sha256.Sum256(b)
	return short(&sum)
}

// logLater keeps a log line until the turn is on disk.
func (r *run) logLater(h slog.Handler, rec slog.Record) {
	if r.replaying || r.turn == nil {
		return
	}
	ctx := r.logContext()
	r.turn.after = append(r.turn.after, func() { _ = h.Handle(ctx, rec) })
}
