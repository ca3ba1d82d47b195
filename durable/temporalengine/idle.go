package temporalengine

import (
	"container/list"
	"sync"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"
)

// Of a run in the SDK's cache there is the SDK's goroutine, whose stack stays
// as large as it ever was: so it does nothing but wait, see [asides]. And a run
// that has waited for a while is put away, see [durable.Hosted.PutAway].

// A run is put away when nothing has come for it for idleAfter, and for idleTurn
// longer for each of its turns. These are replayed when something does come:
// it takes less than a thousandth of the time that nothing did.
const (
	idleAfter = time.Second
	idleTurn  = 100 * time.Millisecond
)

// lighten takes from the SDK what it keeps of a run's memo, for the run that
// may continue it: ten times what it says. An interceptor of the user's may
// want to see it.
func (d *drive) lighten() {
	info := workflow.GetInfo(d.ctx)
	if b, err := proto.Marshal(info.Memo); err == nil && d.in.last() {
		d.memo, info.Memo = b, nil
	}
}

// weigh gives it back, with what the run has changed.
func (d *drive) weigh() {
	info, memo := workflow.GetInfo(d.ctx), &commonpb.Memo{}
	if err := proto.Unmarshal(d.memo, memo); err == nil {
		proto.Merge(memo, info.Memo)
		info.Memo = memo
	}
}

// idle is whether a drive has something to do.
type idle struct {
	mu    sync.Mutex // held while the run is put away
	users int        // who are at work with the run: its own goroutine, queries
	over  bool
	place *list.Element // among the idlers; theirs to guard
}

// enter is called before something is done with the run.
func (d *drive) enter() {
	d.idle.mu.Lock()
	defer d.idle.mu.Unlock()
	d.idle.users++
}

// leave is called when it is done.
func (d *drive) leave() { d.left().rest(time.Now()) }

// left is leave, and gives a drive that has to go for this one.
func (d *drive) left() *drive {
	i := &d.idle
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.users--; i.users > 0 || i.over || d.in.held || d.run.Away() {
		return nil
	}
	if d.h.opts.Engine.MaxAwake < 0 {
		d.run.PutAway()
		return nil
	}
	return d.h.idlers.push(d, time.Now().Add(d.h.idlers.after+time.Duration(d.run.Row().Turns)*idleTurn), d.h.opts.Engine.MaxAwake)
}

// rest puts the run away if that is due, and nothing is being done with it.
func (d *drive) rest(now time.Time) {
	if d == nil {
		return
	}
	d.idle.mu.Lock()
	defer d.idle.mu.Unlock()
	if d.h.idlers.remove(d, now) && d.idle.users == 0 && !d.idle.over {
		d.run.PutAway()
	}
}

// close ends the coroutines of the run.
func (d *drive) close() {
	d.idle.mu.Lock()
	defer d.idle.mu.Unlock()
	d.idle.over = true
	d.h.idlers.remove(d, time.Time{})
	d.h.lenders.CompareAndDelete(d.execution(), d.run)
	d.run.Close()
}

// idlers are the drives of an engine that are idle and awake, the one that is
// idle longest first.
type idlers struct {
	after time.Duration
	mu    sync.Mutex
	list  list.List // of *idler
	timer *time.Timer
}

type idler struct {
	*drive
	due time.Time // zero: now
}

// push adds a drive at the end. Where there are more than most, it gives the
// first one, which is due then; 0 is no limit.
func (l *idlers) push(d *drive, due time.Time, most int) *drive {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := d.idle.place; e != nil {
		e.Value.(*idler).due = due
		l.list.MoveToBack(e)
	} else {
		d.idle.place = l.list.PushBack(&idler{d, due})
	}
	if l.timer == nil {
		l.timer = time.AfterFunc(l.after/10, l.sweep)
	}
	if most == 0 || l.list.Len() <= most {
		return nil
	}
	first := l.list.Front().Value.(*idler)
	first.due = time.Time{}
	return first.drive
}

// remove takes a drive out, if it was due by then; the zero time takes it out
// in any case.
func (l *idlers) remove(d *drive, by time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := d.idle.place
	if e == nil || !by.IsZero() && e.Value.(*idler).due.After(by) {
		return false
	}
	l.list.Remove(e)
	d.idle.place = nil
	return true
}

// sweep puts away what is due, again and again while there are idlers.
func (l *idlers) sweep() {
	now := time.Now()
	var due []*drive
	l.mu.Lock()
	for e := l.list.Front(); e != nil; e = e.Next() {
		if i := e.Value.(*idler); !i.due.After(now) {
			due = append(due, i.drive)
		}
	}
	l.mu.Unlock()
	for _, d := range due {
		d.rest(now)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer = nil; l.list.Len() > 0 {
		l.timer = time.AfterFunc(l.after/10, l.sweep)
	}
}
