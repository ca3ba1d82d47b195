package localengine

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// How often the file is looked at for what other processes wrote: at once
	// after a change, more and more rarely while nothing happens.
	pollMin = 2 * time.Millisecond
	pollMax = 20 * time.Millisecond
	// A wait ends after this time at the latest, whatever happened.
	waitMax = 250 * time.Millisecond
)

// watcher notices that another connection has written to the file. It looks
// only while somebody waits.
type watcher struct {
	c    *conn
	quit chan struct{}
	done chan struct{}

	mu      sync.Mutex
	waiting int
	next    chan struct{} // closed at the next change
	kick    chan struct{}
}

func newWatcher(path string) (*watcher, error) {
	c, err := dialReader(path)
	if err != nil {
		return nil, explain(path, err)
	}
	w := &watcher{c: c, quit: make(chan struct{}), done: make(chan struct{}), next: make(chan struct{}), kick: make(chan struct{}, 1)}
	go w.run() // close waits for it
	return w, nil
}

// soon is what is closed at the next change. Take it, look, then wait for it.
func (w *watcher) soon() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.next
}

// wait returns when the file may have changed since ch was taken.
func (w *watcher) wait(ctx context.Context, ch <-chan struct{}) error {
	w.mu.Lock()
	w.waiting++
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.waiting--
		w.mu.Unlock()
	}()
	select {
	case w.kick <- struct{}{}:
	default:
	}
	t := time.NewTimer(waitMax)
	defer t.Stop()
	select {
	case <-ch:
	case <-t.C:
	case <-w.quit:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// watch is soon and wait as [durable.NewReader] wants them.
func (w *watcher) watch() func(ctx context.Context) error {
	ch := w.soon()
	return func(ctx context.Context) error { return w.wait(ctx, ch) }
}

func (w *watcher) run() {
	defer close(w.done)
	var last int64
	every := pollMin
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-w.quit:
			return
		case <-t.C:
		}
		w.mu.Lock()
		idle := w.waiting == 0
		w.mu.Unlock()
		if idle {
			select {
			case <-w.quit:
				return
			case <-w.kick:
			}
			every = pollMin
		}
		v, err := w.c.int64("PRAGMA data_version")
		if err != nil || v != last {
			last = v
			every = pollMin
			w.mu.Lock()
			close(w.next)
			w.next = make(chan struct{})
			w.mu.Unlock()
			if err != nil {
				every = pollMax
			}
		} else {
			every = min(every*5/4, pollMax)
		}
		t.Reset(every)
	}
}

func (w *watcher) close() error {
	close(w.quit)
	<-w.done
	return errors.Join(w.c.close())
}
