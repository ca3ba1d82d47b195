package durable

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// timers fires functions at their time, in due order, each once. One
// goroutine serves them all.
type timers struct {
	mu   sync.Mutex // guards heap and seq
	heap timerHeap
	seq  int64
	wake chan struct{}
}

type timer struct {
	due  int64 // microseconds
	seq  int64
	fn   func()
	pos  int // in the heap; -1: not in it
	from *timers
}

func newTimers() *timers { return &timers{wake: make(chan struct{}, 1)} }

// add calls fn, which must not block, at its time.
func (t *timers) add(due int64, fn func()) *timer {
	t.mu.Lock()
	t.seq++
	x := &timer{due: due, seq: t.seq, fn: fn, from: t}
	heap.Push(&t.heap, x)
	first := x.pos == 0
	t.mu.Unlock()
	if first {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
	return x
}

// stop keeps the timer from firing. It may be nil.
func (x *timer) stop() {
	if x == nil {
		return
	}
	x.from.mu.Lock()
	if x.pos >= 0 {
		heap.Remove(&x.from.heap, x.pos)
	}
	x.from.mu.Unlock()
}

func (t *timers) loop(ctx context.Context) {
	clock := time.NewTimer(time.Hour)
	defer clock.Stop()
	for {
		t.mu.Lock()
		now := time.Now().UnixMicro()
		var fire []*timer
		// Overdue timers come in due order, a bounded number at once.
		for len(t.heap) > 0 && t.heap[0].due <= now && len(fire) < 256 {
			fire = append(fire, heap.Pop(&t.heap).(*timer))
		}
		wait := time.Hour
		if len(t.heap) > 0 {
			wait = time.Duration(min(t.heap[0].due-now, wait.Microseconds())) * time.Microsecond
		}
		t.mu.Unlock()
		for _, x := range fire {
			x.fn()
		}
		if ctx.Err() != nil {
			return
		}
		if len(fire) > 0 {
			continue
		}
		clock.Reset(max(wait, 0))
		select {
		case <-clock.C:
		case <-t.wake:
		case <-ctx.Done():
			return
		}
	}
}

type timerHeap []*timer

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	return h[i].due < h[j].due || h[i].due == h[j].due && h[i].seq < h[j].seq
}
func (h timerHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i]; h[i].pos, h[j].pos = i, j }
func (h *timerHeap) Push(x any) {
	t := x.(*timer)
	t.pos = len(*h)
	*h = append(*h, t)
}
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.pos = -1
	return t
}
