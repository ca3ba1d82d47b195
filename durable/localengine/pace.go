package localengine

import "time"

// pace decides how large batches get. Greedy batches oscillate: of 64 runs
// that come back at once, half find the committer at work and wait for it,
// and so the two halves take turns for ever, each with a flush of its own. So
// after a flush the committer waits for the runs which that flush released,
// for a fifth of the time that it took, and as much again while they are just
// coming; and not where that did not pay lately. It is used by one goroutine.
type pace struct {
	cost     time.Duration // of the statements of one operation, smoothed
	took     time.Duration // by the last flush
	ended    time.Time
	released int // operations in it
	left     int // in the queue when it ended

	// Of the wait under way.
	before int // in the queue when it began
	want   int
	until  time.Time
	seen   int // in the queue when until was set
	vain   int // waits in a row that brought nothing
}

// vainLimit is after how many vain waits only each vainProbe-th flush tries.
const (
	vainLimit = 8
	vainProbe = 32
)

// patience says for how many operations to wait, 0 where there is nothing to
// wait for.
func (p *pace) patience(queued int) int {
	p.want = min(p.left+p.released, p.limit())
	if queued >= p.want {
		return 0
	}
	if p.vain >= vainLimit {
		if p.vain++; p.vain%vainProbe != 0 {
			return 0
		}
	}
	p.before, p.seen, p.until = queued, queued, p.ended.Add(p.took/5)
	return p.want
}

// more says whether to wait on, with so many in the queue now.
func (p *pace) more(queued int, now time.Time) bool {
	if now.Before(p.until) {
		return true
	}
	if queued-p.seen <= p.want/16 || now.After(p.ended.Add(2*p.took/5)) {
		return false
	}
	p.seen, p.until = queued, now.Add(p.took/20)
	return true
}

// waited tells what a wait brought.
func (p *pace) waited(queued int) {
	if queued > p.before {
		p.vain = 0
	} else {
		p.vain++
	}
}

// flushed tells about a flush.
func (p *pace) flushed(ops, left int, start, end time.Time) {
	p.took, p.ended, p.released, p.left = end.Sub(start), end, ops, left
}

// executed tells how long the statements of a batch took.
func (p *pace) executed(ops int, took time.Duration) {
	each := took / time.Duration(max(ops, 1))
	if p.cost == 0 {
		p.cost = each
	}
	p.cost += (each - p.cost) / 8
}

// limit is the largest batch.
func (p *pace) limit() int {
	if p.cost <= 0 {
		return 256
	}
	return min(max(int(batchTime/p.cost), 8), 4096)
}
