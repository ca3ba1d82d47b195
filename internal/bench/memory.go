package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// small is the payload of the steps: three fields.
type small struct {
	ID     string  `json:"id"`
	Amount float64 `json:"amount"`
	Tags   []int   `json:"tags"`
}

func payload(id string) small { return small{ID: id, Amount: 12.5, Tags: []int{1, 2, 3}} }

// memorySteps is a run of the memory engine that takes n steps.
type memorySteps struct {
	b  *bench
	n  int
	wf *durable.Workflow[small, small]
	e  *durable.Engine

	allocs, bytes uint64 // of a step, the last time
}

func (b *bench) newMemorySteps(n int) (*memorySteps, error) {
	m := &memorySteps{b: b, n: n}
	echo := durable.NewStep("echo", func(_ context.Context, s small) (small, error) { return s, nil }, nil)
	m.wf = durable.NewWorkflow("steps", func(ctx context.Context, s small) (small, error) {
		var err error
		for range n {
			if s, err = echo.Do(ctx, s); err != nil {
				break
			}
		}
		return s, err
	}, nil)
	var err error
	m.e, err = durable.NewMemory(b.ctx, nil, m.wf, echo)
	return m, err
}

// run takes the steps, and gives the time of one.
func (m *memorySteps) run() (time.Duration, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	t := time.Now()
	r, err := m.wf.Start(m.b.ctx, m.e, payload("a-17"), nil)
	if err != nil {
		return 0, err
	}
	if _, err := m.wf.Result(m.b.ctx, r); err != nil {
		return 0, err
	}
	d := time.Since(t) / time.Duration(m.n)
	runtime.ReadMemStats(&after)
	m.allocs, m.bytes = (after.Mallocs-before.Mallocs)/uint64(m.n), (after.TotalAlloc-before.TotalAlloc)/uint64(m.n)
	return d, nil
}

func (m *memorySteps) close() error { return m.e.Close(context.Background()) }

// memoryStep measures a step of the memory engine against what no engine can
// do without: the value is encoded and decoded on its way to the step and on
// its way back, and the baton changes hands and returns.
func memoryStep(b *bench) (err error) {
	n := b.size(20_000)
	m, err := b.newMemorySteps(n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	got, err := b.interleave(contender{"a step", m.run}, contender{"the limit", func() (time.Duration, error) { return jsonAndBaton(n) }})
	if err != nil {
		return err
	}
	b.add(row{what: "memory engine: a step with a three-field struct",
		ours:  fmt.Sprintf("%s (%s), %d allocations, %d B", short(got[0].median()), got[0].spread(), m.allocs, m.bytes),
		limit: fmt.Sprintf("four JSON passes and one hand-over: %s", short(got[1].median())),
		ratio: got[0].over(got[1]), target: 2})
	return nil
}

// jsonAndBaton is four JSON passes of the payload, and a baton that goes to
// another goroutine and comes back.
func jsonAndBaton(n int) (time.Duration, error) {
	there, back := make(chan struct{}), make(chan struct{})
	go func() {
		for range there {
			back <- struct{}{}
		}
		close(back)
	}()
	s := payload("a-17")
	t := time.Now()
	for range n {
		for range 2 {
			raw, err := json.Marshal(s)
			if err != nil {
				return 0, err
			}
			s = small{}
			if err := json.Unmarshal(raw, &s); err != nil {
				return 0, err
			}
		}
		there <- struct{}{}
		<-back
	}
	d := time.Since(t) / time.Duration(n)
	close(there)
	<-back
	return d, nil
}
