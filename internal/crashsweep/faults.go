package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/powercut"
)

// fault is a disk that gets full for a while, or an fsync that fails once.
type fault struct {
	began chan struct{} // closed when it has happened

	mu    sync.Mutex // guards what follows
	hit   bool
	over  bool   // there is room again
	kind  string // full or fsync
	again int    // fsyncs after the one that failed
	ended bool   // the clients are done; what Close does is its own affair
	wg    sync.WaitGroup
}

// faultPoints picks the points at which a kind of fault can happen.
func faultPoints(kind string, points []string) []string {
	var out []string
	for _, p := range points {
		switch op := strings.TrimPrefix(p, "before "); {
		case op == p && (kind == diskFull || kind == failedSync):
		case kind == closing && strings.HasPrefix(p, "after "):
		case kind == diskFull && !strings.Contains(op, ".write#"):
		case kind == failedSync && !strings.Contains(op, ".sync#"):
		default:
			out = append(out, p)
		}
	}
	return out
}

// op is what becomes of an operation; here says that the fault is due.
func (f *fault) op(here bool, op powercut.Op) powercut.Verdict {
	f.mu.Lock()
	defer f.mu.Unlock()
	if here {
		f.hit = true
		if f.began != nil {
			close(f.began)
		} else {
			f.over = true // nobody watches yet: it is over at once
		}
		if op.Kind == "sync" {
			return powercut.Fail
		}
		return powercut.Full
	}
	switch {
	case !f.hit || f.ended:
	case op.Kind == "sync" && f.kind == failedSync:
		f.again++
	case op.Kind == "write" && f.kind == diskFull && !f.over:
		return powercut.Full
	}
	return powercut.Go
}

// watch looks at the health of the engine once the fault has happened: that of
// a full disk is bad until there is room again, that of one whose fsync failed
// for good.
func (f *fault) watch(ctx context.Context, l *life, e *durable.Engine) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kind = l.h.kind
	if f.hit || f.kind != diskFull && f.kind != failedSync {
		return
	}
	began := make(chan struct{})
	f.began = began
	f.wg.Go(func() {
		select {
		case <-began:
		case <-ctx.Done():
			return
		}
		sick := errors.New("the engine's health does not say what has happened")
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
			h, err := e.Health(ctx)
			if err != nil || !h.OK {
				sick = nil
				break
			}
			if pause(ctx, time.Millisecond) != nil {
				sick = nil
				break
			}
		}
		if f.kind == failedSync {
			_ = pause(ctx, 100*time.Millisecond) // what may it still do?
		}
		f.mu.Lock()
		f.over = true
		if f.kind == failedSync && f.again > 0 && !f.ended {
			sick = errors.Join(sick, errors.New("an fsync came after the one that failed"))
		}
		f.mu.Unlock()
		if sick != nil {
			l.trouble = errors.Join(l.trouble, sick)
		}
		if f.kind == failedSync {
			if l.h.seed%2 == 0 {
				l.disk.Cut() // it is killed; otherwise it is closed
			}
			l.die()
		}
	})
}

// end comes after the clients.
func (f *fault) end() {
	f.mu.Lock()
	hit := f.hit
	f.ended = !hit
	f.mu.Unlock()
	if hit {
		f.wg.Wait() // it has something to say
	}
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
}
