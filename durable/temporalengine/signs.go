package temporalengine

import (
	"context"
	"encoding/json"
	"sync"
	"time"
)

// signs are those that an attempt gives of its life: one now and then, and
// where the step has something to say.
type signs struct {
	every time.Duration
	tell  func(context.Context, json.RawMessage)
	ctx   context.Context

	mu    sync.Mutex  // guards what follows
	first *time.Timer // most attempts are over before it fires
	over  bool
	last  json.RawMessage // what the step says
	stop  context.CancelFunc
	now   chan struct{} // nil: none was given
	done  chan struct{}
}

func signsOfLife(ctx context.Context, every time.Duration, tell func(context.Context, json.RawMessage)) *signs {
	s := &signs{every: every, tell: tell, ctx: context.WithoutCancel(ctx)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first = time.AfterFunc(every, func() { s.give(nil) })
	return s
}

// give gives a sign now, with the newest details that are not nil. It does not
// wait for that.
func (s *signs) give(details json.RawMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	if details != nil {
		s.last = details
	}
	if s.now == nil {
		s.first.Stop()
		s.now, s.done = make(chan struct{}, 1), make(chan struct{})
		var ctx context.Context
		ctx, s.stop = context.WithCancel(s.ctx)
		go s.run(ctx)
	}
	select {
	case s.now <- struct{}{}:
	default: // it is about to
	}
}

// end gives no more of them.
func (s *signs) end() {
	s.mu.Lock()
	s.first.Stop()
	s.over = true
	s.mu.Unlock()
	if s.now != nil {
		s.stop()
		<-s.done
	}
}

func (s *signs) run(ctx context.Context) {
	defer close(s.done)
	t := time.NewTicker(s.every)
	defer t.Stop()
	for {
		select {
		case <-s.now:
		case <-t.C:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		last := s.last
		s.mu.Unlock()
		s.tell(ctx, last)
	}
}
