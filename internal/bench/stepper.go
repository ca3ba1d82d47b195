package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
)

// stepper is an engine on a file with runs that take steps when told to.
type stepper struct {
	ctx  context.Context
	e    *durable.Engine
	wf   *durable.Workflow[small, int]
	goOn *durable.Signal[int]
	runs []*durable.Run

	left atomic.Int64  // steps to take
	done chan struct{} // closed when all are taken

	mu     sync.Mutex
	stamps []time.Time   // when steps of the lone run were carried out
	want   int           // how many steps of it
	enough chan struct{} // closed when it has taken them, or was stopped
	stop   atomic.Bool   // the lone run is to end its stretch
}

// endless tells a run to step until its step says stop.
const endless = -1

// lone is the id of the run whose steps are timed one by one.
const lone = "lone"

// newStepper opens a file and starts runs, which wait then.
func newStepper(ctx context.Context, path string, runs int, o *localengine.Options) (*stepper, error) {
	s, err := openStepper(ctx, path, o)
	if err != nil {
		return nil, err
	}
	if err := s.start(runs); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// openStepper opens a file.
func openStepper(ctx context.Context, path string, o *localengine.Options) (_ *stepper, err error) {
	s := &stepper{ctx: ctx, goOn: durable.NewSignal[int]("go")}
	echo := durable.NewStep("echo", s.step, nil)
	s.wf = durable.NewWorkflow("stepper", func(ctx context.Context, in small) (int, error) {
		for total := 0; ; {
			n, err := s.goOn.Receive(ctx)
			if err != nil || n == 0 {
				return total, err
			}
			for ; n != 0; n-- {
				if in, err = echo.Do(ctx, in); err != nil {
					return total, err
				}
				total++
				if in.Amount < 0 {
					in.Amount = -in.Amount
					break
				}
			}
		}
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{s.goOn}})
	s.e, err = localengine.Open(ctx, path, o, s.wf, echo)
	return s, err
}

func (s *stepper) step(_ context.Context, in small) (small, error) {
	if in.ID == lone {
		s.mu.Lock()
		s.stamps = append(s.stamps, time.Now())
		if s.stop.Load() {
			in.Amount = -in.Amount
		}
		if len(s.stamps) == s.want || in.Amount < 0 {
			close(s.enough)
		}
		s.mu.Unlock()
		return in, nil
	}
	if s.left.Add(-1) == 0 {
		close(s.done)
	}
	return in, nil
}

// start starts runs, and one that is timed.
func (s *stepper) start(n int) error {
	s.runs = make([]*durable.Run, n+1)
	return each(n+1, func(i int) (err error) {
		id := lone
		if i < n {
			id = fmt.Sprintf("run-%05d", i)
		}
		s.runs[i], err = s.wf.Start(s.ctx, s.e, payload(id), &durable.StartOptions{ID: id})
		return err
	})
}

// each does something n times at once and gives the first error.
func each(n int, do func(i int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() { errs[i] = do(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// together lets the first runs take n steps each, at once, and gives the time
// from the signals to the last step.
func (s *stepper) together(runs, n int) (time.Duration, error) {
	s.done = make(chan struct{})
	s.left.Store(int64(runs * n))
	t := time.Now()
	if err := each(runs, func(i int) error { return s.goOn.Send(s.ctx, s.runs[i], n, nil) }); err != nil {
		return 0, err
	}
	select {
	case <-s.done:
		return time.Since(t), nil
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	}
}

// alone lets the lone run take n steps while during is at work, or n steps
// where that is nil, and gives the times between them.
func (s *stepper) alone(n int, during func() error) (times, error) {
	s.mu.Lock()
	s.stop.Store(false)
	if during != nil {
		n = endless
	}
	s.stamps, s.want, s.enough = s.stamps[:0], n, make(chan struct{})
	enough := s.enough
	s.mu.Unlock()
	if err := s.goOn.Send(s.ctx, s.runs[len(s.runs)-1], n, nil); err != nil {
		return nil, err
	}
	if during != nil {
		if err := during(); err != nil {
			return nil, err
		}
		s.stop.Store(true)
	}
	select {
	case <-enough:
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
	if err := waitsFor(s.ctx, s.runs[len(s.runs)-1], "signal"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.stamps) < 2 {
		return nil, fmt.Errorf("the lone run took %d steps", len(s.stamps))
	}
	var all times
	for i := 1; i < len(s.stamps); i++ {
		all = append(all, s.stamps[i].Sub(s.stamps[i-1]))
	}
	return all, nil
}

// mean is the time of one of n things that took all of these times.
func (t times) mean() time.Duration {
	var sum time.Duration
	for _, d := range t {
		sum += d
	}
	return sum / time.Duration(len(t))
}

func (s *stepper) close() error { return s.e.Close(context.Background()) }
