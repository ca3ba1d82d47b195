package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// queue hands what it is given to an exporter, from a goroutine of its own.
// It has a bound: who puts something in never waits, and what finds no place
// is dropped and counted.
type queue[T any] struct {
	what    string // spans to http://…
	export  func(context.Context, []T) error
	dropped func(n int)
	log     func() *slog.Logger
	max     int

	life context.Context // of exports
	cut  context.CancelFunc
	wake chan struct{}
	done chan struct{}

	mu      sync.Mutex // guards what follows
	buf     []T
	closing bool
	lost    int64 // dropped, or not delivered
	sent    int64
	told    bool            // that something was lost
	flushes []chan struct{} // closed when what was in buf is gone
}

const (
	batchSize  = 512
	batchDelay = time.Second
	// exportTime bounds one batch; the exporters try again meanwhile.
	exportTime = 30 * time.Second
)

func newQueue[T any](what string, max int, log func() *slog.Logger, dropped func(int), export func(context.Context, []T) error) *queue[T] {
	q := &queue[T]{what: what, export: export, dropped: dropped, log: log, max: max, wake: make(chan struct{}, 1), done: make(chan struct{})}
	q.life, q.cut = context.WithCancel(context.Background())
	go q.run()
	return q
}

// put adds v, or drops it.
func (q *queue[T]) put(v T) {
	q.mu.Lock()
	full := q.closing || len(q.buf) >= q.max
	if !full {
		q.buf = append(q.buf, v)
	}
	n := len(q.buf)
	q.mu.Unlock()
	switch {
	case full:
		q.lose(1, fmt.Errorf("%d wait already", n))
	case n == batchSize:
		q.rouse()
	}
}

func (q *queue[T]) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// lose counts what is not delivered, and says so the first time.
func (q *queue[T]) lose(n int, why error) {
	q.mu.Lock()
	q.lost += int64(n)
	first := !q.told
	q.told = true
	q.mu.Unlock()
	q.dropped(n)
	if first {
		q.log().Warn("telemetry can't be delivered; what is lost is counted, and runs are not affected", "what", q.what, "error", why)
	}
}

func (q *queue[T]) run() {
	defer close(q.done)
	tick := time.NewTicker(batchDelay)
	defer tick.Stop()
	for {
		select {
		case <-q.wake:
		case <-tick.C:
		}
		for {
			q.mu.Lock()
			n := min(len(q.buf), batchSize)
			batch := q.buf[:n:n]
			if q.buf = q.buf[n:]; len(q.buf) == 0 {
				q.buf = nil
			}
			closing := q.closing
			var waiting []chan struct{}
			if n == 0 {
				waiting, q.flushes = q.flushes, nil
			}
			q.mu.Unlock()
			for _, ch := range waiting {
				close(ch)
			}
			if n == 0 && closing {
				return
			}
			if n == 0 {
				break
			}
			q.deliver(batch)
		}
	}
}

func (q *queue[T]) deliver(batch []T) {
	ctx, cancel := context.WithTimeout(q.life, exportTime)
	defer cancel()
	if err := q.export(ctx, batch); err != nil {
		q.lose(len(batch), err)
		return
	}
	q.mu.Lock()
	q.sent += int64(len(batch))
	q.mu.Unlock()
}

// flush waits until what was put in is delivered or lost.
func (q *queue[T]) flush(ctx context.Context) error {
	ch := make(chan struct{})
	q.mu.Lock()
	q.flushes = append(q.flushes, ch)
	q.mu.Unlock()
	q.rouse()
	select {
	case <-ch:
	case <-q.done:
	case <-ctx.Done():
		return fmt.Errorf("flush %s: %w", q.what, context.Cause(ctx))
	}
	return nil
}

// close delivers what is left until ctx ends.
func (q *queue[T]) close(ctx context.Context) error {
	q.mu.Lock()
	q.closing = true
	q.mu.Unlock()
	q.rouse()
	select {
	case <-q.done:
	case <-ctx.Done():
		q.cut() // an exporter that is at work gives up
		last := time.NewTimer(time.Second)
		defer last.Stop()
		select {
		case <-q.done:
		case <-last.C:
			return fmt.Errorf("the exporter of %s does not come back", q.what)
		}
	}
	q.cut()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.lost > 0 {
		return fmt.Errorf("%d %s were lost, %d delivered", q.lost, q.what, q.sent)
	}
	return nil
}
