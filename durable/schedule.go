package durable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// Overlap says what happens at a time of a schedule when the run of the time
// before has not ended.
type Overlap string

// The policies. The zero value leaves the time out.
const (
	OverlapSkip      Overlap = ""
	OverlapBufferOne Overlap = "buffer_one" // start it when that run has ended; further times are left out
	OverlapAllow     Overlap = "allow"      // start it
)

// Schedule starts runs of a workflow at certain times. Its times are those of
// Cron, or of Every.
type Schedule struct {
	// ID is the schedule's name, and the beginning of its runs' workflow ids:
	// the id, "-" and the time in UTC, such as "report-2026-03-01T06:00:00Z".
	ID       string          `json:"id"`
	Workflow string          `json:"workflow"`
	Input    json.RawMessage `json:"input,omitempty"`
	// Cron is "minute hour day-of-month month day-of-week" on the wall clock
	// of Zone (an IANA name; empty: UTC). Where the clock is put forward, times
	// that do not come are left out; where it is put back, those that come
	// twice count twice.
	Cron string `json:"cron,omitempty"`
	Zone string `json:"zone,omitempty"`
	// Every is the time between runs, from 1970-01-01T00:00:00Z + Offset on; at
	// least a second.
	Every  time.Duration `json:"every,omitempty"`
	Offset time.Duration `json:"offset,omitempty"`

	Overlap Overlap `json:"overlap,omitempty"`
	// CatchUp is how late a run may be started when nobody executed at its
	// time; after that it is left out. 0: 1 minute.
	CatchUp time.Duration `json:"catch_up,omitempty"`
	// Jitter delays each start by up to this long, always the same for the
	// same time, so that many schedules do not start at once. The id keeps the
	// nominal time.
	Jitter  time.Duration     `json:"jitter,omitempty"`
	Timeout time.Duration     `json:"timeout,omitempty"` // of the runs; 0: the workflow's own
	Tags    map[string]string `json:"tags,omitempty"`    // of the runs
}

// ScheduleInfo is what is known about a schedule.
type ScheduleInfo struct {
	Schedule
	Owner    string      `json:"owner,omitempty"`
	Paused   *Pause      `json:"paused,omitempty"`
	Created  time.Time   `json:"created"`
	Changed  time.Time   `json:"changed"`
	Next     []time.Time `json:"next,omitempty"`    // nominal times to come, at most five
	Last     time.Time   `json:"last,omitzero"`     // nominal time of the last run
	LastRun  Ref         `json:"last_run,omitzero"` // the last run
	Buffered time.Time   `json:"buffered,omitzero"` // nominal time that waits for the last run's end
	Problem  string      `json:"problem,omitempty"` // why it has no times, if it has none
}

// CreateSchedule makes a schedule. One with the same id is [ErrIDTaken].
func (e *Engine) CreateSchedule(ctx context.Context, s *Schedule) error {
	_, err := e.do(ctx, &Request{Op: opSchedule, Name: s.ID, Schedule: s, Reason: "create"})
	return err
}

// UpdateSchedule gives a schedule another definition. What is under way goes
// on; the times begin anew.
func (e *Engine) UpdateSchedule(ctx context.Context, s *Schedule) error {
	_, err := e.do(ctx, &Request{Op: opSchedule, Name: s.ID, Schedule: s, Reason: "update"})
	return err
}

// DeleteSchedule deletes a schedule. Its runs go on.
func (e *Engine) DeleteSchedule(ctx context.Context, id string) error {
	_, err := e.do(ctx, &Request{Op: opUnschedule, Name: id})
	return err
}

// Schedule tells about a schedule.
func (e *Engine) Schedule(ctx context.Context, id string) (*ScheduleInfo, error) {
	rep, err := e.do(ctx, &Request{Op: opSchedules, Name: id})
	if err != nil {
		return nil, err
	}
	return rep.Schedules[0], nil
}

// Schedules lists the schedules by their ids.
func (e *Engine) Schedules(ctx context.Context) ([]*ScheduleInfo, error) {
	rep, err := e.do(ctx, &Request{Op: opSchedules})
	if err != nil {
		return nil, err
	}
	return rep.Schedules, nil
}

// TriggerSchedule starts a run of a schedule now, whatever its overlap policy
// and also while it is paused. The time in its id is this second.
func (e *Engine) TriggerSchedule(ctx context.Context, id string) (*Run, error) {
	rep, err := e.do(ctx, &Request{Op: opTrigger, Name: id})
	if err != nil {
		return nil, err
	}
	return &Run{WorkflowID: rep.Ref.WorkflowID, RunID: rep.Ref.RunID, Existing: rep.Existing, e: e}, nil
}

// PauseSchedule keeps a schedule from starting runs. Times that pass meanwhile
// are left out.
func (e *Engine) PauseSchedule(ctx context.Context, id, reason string) error {
	_, err := e.do(ctx, &Request{Op: opHoldSchedule, Name: id, Reason: reason, Tree: true})
	return err
}

// ResumeSchedule ends a pause.
func (e *Engine) ResumeSchedule(ctx context.Context, id, reason string) error {
	_, err := e.do(ctx, &Request{Op: opHoldSchedule, Name: id, Reason: reason})
	return err
}

// times are the nominal times of a schedule.
type times interface {
	next(after time.Time) time.Time // zero: none
}

type every struct{ d, offset int64 } // microseconds

func (v every) next(after time.Time) time.Time {
	n := after.UnixMicro() - v.offset
	k := n / v.d
	if n < 0 && n%v.d != 0 {
		k--
	}
	return time.UnixMicro((k+1)*v.d + v.offset).UTC()
}

// times reads when the schedule is due, and reports what is wrong with it.
func (s *Schedule) times() (times, error) {
	switch s.Overlap {
	case OverlapSkip, OverlapBufferOne, OverlapAllow:
	default:
		return nil, fmt.Errorf("the overlap policy %q is not known: %w", s.Overlap, ErrUnsupported)
	}
	switch {
	case s.CatchUp < 0 || s.Jitter < 0 || s.Timeout < 0:
		return nil, errors.New("a duration is negative")
	case (s.Cron == "") == (s.Every == 0):
		return nil, errors.New("it needs either Cron or Every")
	case s.Cron != "":
		if s.Offset != 0 {
			return nil, errors.New("an Offset belongs to Every")
		}
		c, err := parseCron(s.Cron, s.Zone)
		if err != nil {
			return nil, err
		}
		return c, nil
	case s.Zone != "":
		return nil, errors.New("a Zone belongs to Cron")
	case s.Every < time.Second || s.Every%time.Second != 0 || s.Offset%time.Second != 0:
		return nil, fmt.Errorf("an interval of %v and an Offset of %v must be whole seconds, and at least one", s.Every, s.Offset)
	}
	return every{s.Every.Microseconds(), s.Offset.Microseconds()}, nil
}

func (s *Schedule) catchUp() time.Duration {
	if s.CatchUp > 0 {
		return s.CatchUp
	}
	return time.Minute
}

// jitter is the delay of one time.
func (s *Schedule) jitter(nominal time.Time) time.Duration {
	if s.Jitter < time.Microsecond {
		return 0
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%d", s.ID, nominal.Unix())
	return time.Duration(h.Sum64()%uint64(s.Jitter.Microseconds())) * time.Microsecond
}

func (s *Schedule) runID(nominal time.Time) string {
	return s.ID + "-" + nominal.UTC().Format("2006-01-02T15:04:05Z")
}

// plan is a schedule in the executor. mu is held over each of its commits.
type plan struct {
	mu    sync.Mutex
	row   *journal.Schedule // nil: deleted
	spec  Schedule
	times times // nil: it has a problem
	timer *timer
}

// specOf reads the definition of a stored schedule.
func specOf(c Codec, row *journal.Schedule) (s Schedule, err error) {
	if err := json.Unmarshal(row.Spec, &s); err != nil {
		return s, err
	}
	s.Input, err = openJSON(c, s.Input)
	return s, err
}

// recoverSchedules takes up the schedules of the store.
func (ex *executor) recoverSchedules() error {
	rows, err := ex.st.Schedules()
	if err != nil {
		return fmt.Errorf("recover the schedules: %w", err)
	}
	for _, row := range rows {
		p := ex.planOf(row.ID)
		p.mu.Lock()
		ex.adoptPlan(p, row)
		p.mu.Unlock()
		if row.Buffered > 0 {
			// The run that it waits for may have ended.
			ex.timers.add(time.Now().UnixMicro(), func() { ex.work(func() { ex.tick(row.ID) }) })
		}
	}
	return nil
}

func (ex *executor) planOf(id string) *plan {
	v, _ := ex.plans.LoadOrStore(id, &plan{})
	return v.(*plan)
}

// adoptPlan makes a stored row what the plan is, and sets its timer. p.mu is
// held.
func (ex *executor) adoptPlan(p *plan, row *journal.Schedule) {
	p.timer.stop()
	p.row, p.times, p.timer = row, nil, nil
	if row == nil {
		return
	}
	spec, err := specOf(ex.opts.Codec, row)
	if err == nil {
		p.spec = spec
		p.times, err = spec.times()
	}
	if err != nil {
		ex.log.Error("a schedule has no times", "schedule", row.ID, "error", err)
		return
	}
	if row.Next > 0 && row.Paused == nil {
		due := row.Next + p.spec.jitter(microTime(row.Next)).Microseconds()
		id := row.ID
		p.timer = ex.timers.add(due, func() { ex.work(func() { ex.tick(id) }) })
	}
}

// save commits a change of a plan, with a run that it starts. p.mu is held.
func (ex *executor) save(p *plan, row *journal.Schedule) error {
	if err := ex.commit(ex.commits, &journal.Tx{Schedules: []*journal.Schedule{row}}); err != nil {
		return err
	}
	if row.Deleted {
		row = nil
	}
	ex.adoptPlan(p, row)
	return nil
}

// tick starts what is due.
func (ex *executor) tick(id string) {
	p := ex.planOf(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.row != nil && p.times != nil && p.row.Paused == nil && ex.life.Err() == nil {
		now := time.Now()
		row := *p.row
		nominal := microTime(row.Next)
		var err error
		switch busy := ex.overlaps(p); {
		case row.Buffered > 0 && !busy:
			nominal = microTime(row.Buffered)
			row.Buffered = 0
			err = ex.startPlanned(p, &row, nominal, "")
		case row.Next == 0 || nominal.Add(p.spec.jitter(nominal)).After(now):
			return
		case now.Sub(nominal.Add(p.spec.jitter(nominal))) > p.spec.catchUp():
			// Too late: go on with the first that is not.
			row.Next = micros(p.times.next(latest(nominal, now.Add(-p.spec.catchUp()-p.spec.Jitter))))
			ex.log.Warn("a schedule left out what it could not start in time", "schedule", id, "since", nominal)
			err = ex.save(p, &row)
		case busy && p.spec.Overlap != OverlapAllow:
			row.Next = micros(p.times.next(nominal))
			if p.spec.Overlap == OverlapBufferOne && row.Buffered == 0 {
				row.Buffered = micros(nominal)
			}
			err = ex.save(p, &row)
		default:
			row.Next = micros(p.times.next(nominal))
			err = ex.startPlanned(p, &row, nominal, "")
		}
		if err != nil {
			if ex.life.Err() == nil {
				ex.log.Error("a schedule could not start a run; it is tried again", "schedule", id, "error", err)
				p.timer.stop()
				p.timer = ex.timers.add(now.Add(time.Second).UnixMicro(), func() { ex.work(func() { ex.tick(id) }) })
			}
			return
		}
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// overlaps reports whether the last run of a schedule, over its chain, has not
// ended.
func (ex *executor) overlaps(p *plan) bool {
	if p.row.LastRun == "" {
		return false
	}
	last, err := ex.st.Find(p.row.LastRun, "")
	return err == nil && !State(last.State).Done()
}

// startPlanned starts a run and commits the schedule's row with it.
func (ex *executor) startPlanned(p *plan, row *journal.Schedule, nominal time.Time, key string) error {
	s := &p.spec
	row.Last, row.LastRun = micros(nominal), s.runID(nominal)
	timeout := s.Timeout.Microseconds()
	if def := ex.defs.wfs[s.Workflow]; def != nil && timeout == 0 {
		timeout = def.opts.Timeout.Microseconds()
	}
	in := s.Input
	if len(in) == 0 {
		in = json.RawMessage("null")
	}
	_, existing, err := ex.create(newRunSpec{
		name: s.Workflow, id: row.LastRun, key: key, input: in, tags: s.Tags, owner: row.Owner, timeout: timeout, by: "schedule " + s.ID,
		reuse: ReuseReject, cfg: runConfig{Schedule: s.ID}, schedule: row,
	})
	var taken *TakenError
	if existing || errors.As(err, &taken) {
		// Somebody has started a run of this id by hand.
		return ex.save(p, row)
	}
	if err != nil {
		return err
	}
	ex.adoptPlan(p, row)
	return nil
}

// plannedEnded tells a schedule that one of its runs has ended.
func (ex *executor) plannedEnded(cfg *runConfig) {
	if cfg.Schedule != "" {
		ex.work(func() { ex.tick(cfg.Schedule) })
	}
}

// schedule carries out the operations on schedules.
func (ex *executor) schedule(req *Request) (*Reply, error) {
	if req.Op == opSchedule && req.Schedule == nil {
		return refuse(ErrBadInput, Ref{}, "schedule %q: it has no definition", req.Name), nil
	}
	if req.Op == opSchedule {
		if no := ex.checkSchedule(req); no != nil {
			return no, nil
		}
	}
	p := ex.planOf(req.Name)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now().UnixMicro()
	had := p.row
	switch {
	case req.Op == opSchedule && req.Reason == "create":
		if had != nil && had.Key == req.ID && had.Owner == req.Actor.Owner {
			return &Reply{Name: req.Name}, nil // it was lost on its way
		}
		if had != nil {
			return refuse(ErrIDTaken, Ref{}, "schedule %q exists: update it, or choose another id", req.Name), nil
		}
	case had == nil || req.Actor.Owner != "" && had.Owner != req.Actor.Owner:
		return refuse(ErrNotFound, Ref{}, "schedule %q: not found; list the schedules to see which there are", req.Name), nil
	}
	var row journal.Schedule
	if had != nil {
		row = *had
	}
	row.Changed = now
	switch req.Op {
	case opSchedule:
		spec := *req.Schedule
		spec.ID = req.Name
		ts, err := spec.times()
		if err != nil {
			return refuse(ErrBadInput, Ref{}, "schedule %q: %v", req.Name, err), nil
		}
		if had == nil {
			row.ID, row.Owner, row.Key, row.Created = spec.ID, req.Actor.Owner, req.ID, now
		}
		spec.Input = ex.sealJSON(spec.Input)
		row.Spec, row.Next, row.Buffered = jsonOf(&spec), micros(ts.next(microTime(now))), 0
	case opUnschedule:
		row.Deleted = true
	case opHoldSchedule:
		if req.Tree == (row.Paused != nil) {
			return &Reply{Name: req.Name}, nil
		}
		row.Paused = nil
		if req.Tree {
			row.Paused = jsonOf(&Pause{By: req.Actor.Name, Reason: req.Reason, Since: microTime(now), ID: req.ID})
		} else if p.times != nil {
			row.Next = micros(p.times.next(microTime(now)))
		}
	case opTrigger:
		if p.times == nil {
			return refuse(ErrUnsupported, Ref{}, "schedule %q has a problem: describe it, and update it", req.Name), nil
		}
		key := "trigger/" + req.ID
		ran, err := ex.st.FindKey(key)
		if errors.Is(err, journal.ErrNotFound) {
			nominal := microTime(now).Truncate(time.Second)
			if err := ex.startPlanned(p, &row, nominal, key); err != nil {
				return nil, fmt.Errorf("trigger schedule %q: %w", req.Name, err)
			}
			ran, err = ex.st.Find(p.row.LastRun, "")
		}
		if err != nil {
			return nil, fmt.Errorf("trigger schedule %q: %w", req.Name, err)
		}
		return &Reply{Ref: refOf(ran)}, nil
	}
	if err := ex.save(p, &row); err != nil {
		return nil, fmt.Errorf("%s %q: %w", req.Op, req.Name, err)
	}
	return &Reply{Name: req.Name}, nil
}

// checkSchedule looks whether a schedule can be what it is to be.
func (ex *executor) checkSchedule(req *Request) *Reply {
	if req.Reason == "create" {
		if no := checkScheduleID(req.Name); no != nil {
			return no
		}
	}
	spec := req.Schedule
	if _, err := spec.times(); err != nil {
		return refuse(ErrBadInput, Ref{}, "schedule %q: %v", req.Name, err)
	}
	def := ex.defs.wfs[spec.Workflow]
	if def == nil {
		return refuse(ErrNotDefined, Ref{}, "schedule %q: workflow %q is not defined", req.Name, spec.Workflow)
	}
	if err := def.check(spec.Input); err != nil {
		return refuse(ErrBadInput, Ref{}, "schedule %q: the input of workflow %q: %v", req.Name, spec.Workflow, err)
	}
	if err := ex.checkSize(len(spec.Input), "the input of schedule", req.Name); err != nil {
		return refuse(ErrTooLarge, Ref{}, "%v", err)
	}
	return nil
}

func checkScheduleID(id string) *Reply {
	if id == "" || len(id) > 400 || !utf8.ValidString(id) {
		return refuse(ErrBadInput, Ref{}, "schedule %q: an id has 1 to 400 bytes of UTF-8", id)
	}
	for _, c := range id {
		if unicode.IsControl(c) {
			return refuse(ErrBadInput, Ref{}, "schedule %q: the id has control characters", id)
		}
	}
	return nil
}

// schedules reads what schedules there are.
func (rd *reader) schedules(req *Request) *Reply {
	rows, err := rd.st.Schedules()
	if err != nil {
		return storeFailed(Ref{}, err)
	}
	rep := &Reply{Schedules: []*ScheduleInfo{}}
	for _, row := range rows {
		if req.Name != "" && row.ID != req.Name || req.Actor.Owner != "" && row.Owner != req.Actor.Owner {
			continue
		}
		i := &ScheduleInfo{Owner: row.Owner, Created: microTime(row.Created), Changed: microTime(row.Changed), Last: microTime(row.Last), Buffered: microTime(row.Buffered)}
		if row.LastRun != "" {
			i.LastRun = Ref{WorkflowID: row.LastRun}
		}
		if row.Paused != nil {
			i.Paused = &Pause{}
			_ = json.Unmarshal(row.Paused, i.Paused)
		}
		i.Schedule, err = specOf(rd.codec, row)
		var ts times
		if err == nil {
			ts, err = i.times()
		}
		if err != nil {
			i.ID, i.Problem = row.ID, err.Error()
		}
		for at := microTime(row.Next); err == nil && row.Next > 0 && i.Paused == nil && !at.IsZero() && len(i.Next) < 5; at = ts.next(at) {
			i.Next = append(i.Next, at)
		}
		rep.Schedules = append(rep.Schedules, i)
	}
	if req.Name != "" && len(rep.Schedules) == 0 {
		return refuse(ErrNotFound, Ref{}, "schedule %q: not found; list the schedules to see which there are", req.Name)
	}
	return rep
}
