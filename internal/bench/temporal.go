package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/mcpagent/mcpagent/internal/temporaltest"
)

// temporal measures our engine on a Temporal server against the same workflows
// written by hand on the plain SDK: the same server, the same settings, taking
// turns. The server is one in memory, in a process of its own, or the one that
// TEMPORAL_ADDRESS names.
func temporal(measure func(*temporals) error) func(*bench) error {
	return func(b *bench) error {
		addr := os.Getenv("TEMPORAL_ADDRESS")
		if addr == "" {
			s, err := temporaltest.Start(b.ctx, nil)
			if err != nil {
				return err
			}
			defer s.Kill()
			addr = s.Addr()
		}
		ours, err := oursOn(b.ctx, addr)
		if err != nil {
			return err
		}
		defer ours.close()
		hand, err := handOn(b.ctx, addr)
		if err != nil {
			return err
		}
		defer hand.close()
		look, err := dial(b.ctx, addr)
		if err != nil {
			return err
		}
		defer look.Close()
		return measure(&temporals{bench: b, ours: ours, hand: hand, look: look})
	}
}

type temporals struct {
	*bench
	ours, hand *side
	look       client.Client
}

// against adds a line: the time of ours against that by hand.
func (t *temporals) against(what string, stretch func(*side) (time.Duration, error)) error {
	got, err := t.interleave(
		contender{t.ours.name, func() (time.Duration, error) { return stretch(t.ours) }},
		contender{t.hand.name, func() (time.Duration, error) { return stretch(t.hand) }},
	)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	t.add(row{what: what, ours: fmt.Sprintf("%s (%s)", short(got[0].median()), got[0].spread()),
		limit: fmt.Sprintf("plain SDK: %s (%s)", short(got[1].median()), got[1].spread()), ratio: got[0].over(got[1]), target: 1.05})
	return nil
}

// latencies are from the start of a lone run to its result, with the number of
// events that it takes.
func (t *temporals) latencies() error {
	for _, c := range []struct {
		what, name string
		n, runs    int
	}{
		{"a run of 1 step", chainName, 1, 20},
		{"a run of 10 steps", chainName, 10, 8},
		{"a run of 100 steps", chainName, 100, 2},
		{"a run of 50 steps at once", fanName, 50, 6},
	} {
		events := map[*side][]int{}
		err := t.against("Temporal: "+c.what, func(s *side) (time.Duration, error) {
			var all times
			for range t.size(c.runs) {
				began := time.Now()
				id, err := s.through(t.ctx, c.name, c.n)
				if err != nil {
					return 0, err
				}
				all = append(all, time.Since(began))
				d, err := t.look.DescribeWorkflowExecution(t.ctx, id, "")
				if err != nil {
					return 0, err
				}
				events[s] = append(events[s], int(d.GetWorkflowExecutionInfo().GetHistoryLength()))
			}
			return all.median(), nil
		})
		if err != nil {
			return err
		}
		a, b := median(events[t.ours]), median(events[t.hand])
		t.add(row{what: "… events", ours: fmt.Sprint(a), limit: fmt.Sprintf("plain SDK: %d", b), ratio: float64(a) / float64(b), target: 1.05})
	}
	return nil
}

// through starts a run and waits for its result.
func (s *side) through(ctx context.Context, name string, n int) (string, error) {
	r, err := s.start(ctx, name, n)
	if err != nil {
		return "", err
	}
	return r.id, r.wait(ctx)
}

// throughput is how long each of many runs takes when 32 are at work at once.
func (t *temporals) throughput() error {
	for _, c := range []struct {
		what, name string
		n, runs    int
	}{
		{"32 runs of 1 step at once, each run", chainName, 1, 200},
		{"32 runs of 10 steps at once, each run", chainName, 10, 64},
	} {
		got, err := t.interleave(
			contender{t.ours.name, func() (time.Duration, error) { return t.many(t.ours, c.name, c.n, t.size(c.runs)) }},
			contender{t.hand.name, func() (time.Duration, error) { return t.many(t.hand, c.name, c.n, t.size(c.runs)) }},
		)
		if err != nil {
			return err
		}
		t.add(row{what: "Temporal: " + c.what, ours: fmt.Sprintf("%s, %.0f/s", short(got[0].median()), rate(got[0])),
			limit: fmt.Sprintf("plain SDK: %s, %.0f/s", short(got[1].median()), rate(got[1])), ratio: got[1].over(got[0]), target: 0.95, atLeast: true})
	}
	return nil
}

func rate(t times) float64 { return float64(time.Second) / float64(t.median()) }

func (t *temporals) many(s *side, name string, n, runs int) (time.Duration, error) {
	began := time.Now()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed []error
	turns := make(chan struct{}, 32)
	for range runs {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			if _, err := s.through(t.ctx, name, n); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, err)
			}
		})
	}
	wg.Wait()
	return time.Since(began) / time.Duration(runs), errors.Join(failed...)
}

// messages are a signal, a query and an update, one after the other to one
// run.
func (t *temporals) messages() error {
	for _, m := range []struct {
		what string
		send func(talk) func(context.Context) error
	}{
		{"a signal, until it is taken", func(r talk) func(context.Context) error { return r.signal }},
		{"a query", func(r talk) func(context.Context) error { return r.query }},
		{"an update", func(r talk) func(context.Context) error { return r.update }},
	} {
		n := t.size(40)
		if err := t.against("Temporal: "+m.what, func(s *side) (time.Duration, error) {
			r, err := s.start(t.ctx, listenName, 1<<20)
			if err != nil {
				return 0, err
			}
			if err := r.update(t.ctx); err != nil { // it listens
				return 0, err
			}
			var all times
			for range n {
				began := time.Now()
				if err := m.send(r)(t.ctx); err != nil {
					return 0, err
				}
				all = append(all, time.Since(began))
			}
			return all.median(), t.look.TerminateWorkflow(t.ctx, r.id, "", "measured")
		}); err != nil {
			return err
		}
	}
	n := t.size(100)
	return t.against(fmt.Sprintf("Temporal: %d signals to a run, until its result, each", n), func(s *side) (time.Duration, error) {
		r, err := s.start(t.ctx, listenName, n)
		if err != nil {
			return 0, err
		}
		began := time.Now()
		for range n {
			if err := r.signal(t.ctx); err != nil {
				return 0, err
			}
		}
		err = r.wait(t.ctx)
		return time.Since(began) / time.Duration(n), err
	})
}

// memory is what a worker needs for runs that wait: as soon as each was asked
// something, and when nothing has come for them for a while, in which our
// engine puts them away.
func (t *temporals) memory() error {
	runs := t.size(1000)
	idle := map[*side]times{}
	got, err := t.interleaveFew(3, func(s *side) (time.Duration, error) {
		before := inUse()
		all := make([]talk, runs)
		for i := range all {
			r, err := s.start(t.ctx, listenName, 1)
			if err != nil {
				return 0, err
			}
			if err := r.update(t.ctx); err != nil {
				return 0, err
			}
			all[i] = r
		}
		each := func() time.Duration {
			return time.Duration(max(1, int64(inUse())-int64(before)) / int64(runs))
		}
		for _, r := range all {
			if err := r.query(t.ctx); err != nil {
				return 0, err
			}
		}
		awake := each()
		select {
		case <-time.After(12 * time.Second):
		case <-t.ctx.Done():
			return 0, t.ctx.Err()
		}
		idle[s] = append(idle[s], each())
		for _, r := range all {
			if err := t.look.TerminateWorkflow(t.ctx, r.id, "", "measured"); err != nil {
				return 0, err
			}
		}
		worker.PurgeStickyWorkflowCache()
		return awake, t.calm()
	})
	if err != nil {
		return err
	}
	line := func(what string, ours, hand times) {
		t.add(row{what: fmt.Sprintf("Temporal: %d cached runs, memory of each, %s", runs, what), ours: fmt.Sprintf("%d B", ours.median()),
			limit: fmt.Sprintf("plain SDK: %d B", hand.median()), ratio: ours.over(hand), target: 1.1})
	}
	line("just asked something", got[0], got[1])
	line("idle for 12 s", idle[t.ours][1:], idle[t.hand][1:]) // without the round to get warm
	return nil
}

// calm waits until runs that were thrown out of the cache are gone: their
// goroutines end one after the other, and the next side is measured from there.
func (t *temporals) calm() error {
	for was, same := 0, 0; same < 5; {
		now := runtime.NumGoroutine()
		if same++; now < was {
			same = 0
		}
		was = now
		select {
		case <-time.After(200 * time.Millisecond):
		case <-t.ctx.Done():
			return t.ctx.Err()
		}
	}
	return nil
}

// interleaveFew is interleave with fewer rounds.
func (t *temporals) interleaveFew(rounds int, stretch func(*side) (time.Duration, error)) ([]times, error) {
	b := *t.bench
	b.rounds = min(b.rounds, rounds)
	return b.interleave(
		contender{t.ours.name, func() (time.Duration, error) { return stretch(t.ours) }},
		contender{t.hand.name, func() (time.Duration, error) { return stretch(t.hand) }},
	)
}
