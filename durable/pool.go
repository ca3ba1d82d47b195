package durable

// task is work for a goroutine of the pool: a loop, an attempt. What it
// returns is done next, on the same goroutine; nil ends it.
type task func() task

// maxIdle is how many goroutines are kept for the next task: one with a grown
// stack starts several times faster than a new one.
const maxIdle = 64

// spawn runs fn on a goroutine of its own. Whoever calls it accounts for fn.
func (ex *executor) spawn(fn task) {
	select {
	case ex.idle <- fn:
	default:
		ex.pool.Add(1)
		go func() {
			defer ex.pool.Done()
			ex.worker(fn)
		}()
	}
}

func (ex *executor) worker(fn task) {
	for {
		for fn != nil {
			fn = fn()
			if threadLocked() {
				// A step has locked it, for good: the thread ends with it.
				if fn != nil {
					ex.spawn(fn)
				}
				return
			}
		}
		if ex.idlers.Add(1) > maxIdle {
			ex.idlers.Add(-1)
			return
		}
		select {
		case fn = <-ex.idle:
			ex.idlers.Add(-1)
		case <-ex.life.Done():
			ex.idlers.Add(-1)
			return
		}
	}
}

// entryList is a list of entries, oldest first. An entry is in at most one.
type entryList struct {
	first, last *entry
	n           int
}

// entryLink is an entry's place in a list.
type entryLink struct {
	in         *entryList
	prev, next *entry
}

// push puts an entry at the end, if it is in no list.
func (l *entryList) push(e *entry) {
	if e.link.in != nil {
		return
	}
	e.link = entryLink{in: l, prev: l.last}
	if l.last != nil {
		l.last.link.next = e
	} else {
		l.first = e
	}
	l.last = e
	l.n++
}

// remove takes an entry out, if it is in this list. It may be nil.
func (l *entryList) remove(e *entry) {
	if e == nil || e.link.in != l {
		return
	}
	if e.link.prev != nil {
		e.link.prev.link.next = e.link.next
	} else {
		l.first = e.link.next
	}
	if e.link.next != nil {
		e.link.next.link.prev = e.link.prev
	} else {
		l.last = e.link.prev
	}
	e.link = entryLink{}
	l.n--
}
