package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/internal/powercut"
)

// flushCounter is a directory in which the fsyncs are counted that SQLite asks
// for. Each takes as long as one does on this disk, and least at least.
type flushCounter struct {
	dir   string
	least time.Duration
	disk  *powercut.Disk
	f     *flush
	n     atomic.Int64
	err   atomic.Pointer[error]
}

func (b *bench) countFlushes(least time.Duration) (*flushCounter, error) {
	c := &flushCounter{dir: b.file("counted"), least: least}
	err := os.Mkdir(c.dir, 0o700)
	if err == nil {
		c.f, err = b.newFlush(16 << 10)
	}
	if err == nil {
		c.disk, err = powercut.Watch(c.dir)
	}
	if err != nil {
		return nil, err
	}
	c.disk.Hook(func(op powercut.Op) powercut.Verdict {
		if op.Kind == "sync" {
			c.n.Add(1)
			if err := c.once(); err != nil {
				c.err.Store(&err)
			}
		}
		return powercut.Go
	})
	return c, nil
}

// once is one flush.
func (c *flushCounter) once() error {
	t := time.Now()
	err := c.f.once()
	nap(c.least - time.Since(t))
	return err
}

func (c *flushCounter) close() error {
	c.disk.Close()
	if err := c.err.Load(); err != nil {
		return *err
	}
	return c.f.close()
}

// flushes counts what a signal and a thousand results cost.
func flushes(b *bench) (err error) {
	c, err := b.countFlushes(0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	const results = 1000
	var gate chan struct{}
	at := make(chan int64)
	news := durable.NewSignal[string]("news")
	mark := durable.NewStep("mark", func(context.Context, string) (string, error) { at <- c.n.Load(); return "", nil }, nil)
	held := durable.NewStep("held", func(ctx context.Context, i int) (int, error) {
		at <- 0
		select {
		case <-gate:
			return i, nil
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}, nil)
	wait := durable.NewWorkflow("wait", func(ctx context.Context, _ string) (string, error) {
		for {
			if _, err := mark.Do(ctx, ""); err != nil {
				return "", err
			}
			if s, err := news.Receive(ctx); err != nil || s == "end" {
				return s, err
			}
		}
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{news}})
	gather := durable.NewWorkflow("gather", func(ctx context.Context, n int) (int, error) {
		all := make([]int, n)
		for i := range all {
			all[i] = i
		}
		got, err := durable.Map(ctx, all, held.Do, nil)
		return len(got), err
	}, nil)
	e, err := localengine.Open(b.ctx, c.dir+"/a.db", nil, wait, gather, mark, held, news)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close(context.Background())) }()

	r, err := wait.Start(b.ctx, e, "", nil)
	if err != nil {
		return err
	}
	<-at
	var counts []int64
	for range 20 {
		if err := waitsFor(b.ctx, r, "signal"); err != nil {
			return err
		}
		before := c.n.Load()
		if err := news.Send(b.ctx, r, "", nil); err != nil {
			return err
		}
		counts = append(counts, <-at-before)
	}
	most := quantile(counts, 1)
	b.add(row{what: "a signal to a waiting run, until its next step begins: flushes", ours: fmt.Sprintf("%d at most, of 20 signals", most), limit: "2", ratio: float64(most) / 2, target: 1})

	counts = nil
	var took times
	for range b.rounds {
		gate = make(chan struct{})
		r, err := gather.Start(b.ctx, e, results, nil)
		if err != nil {
			return err
		}
		for range results {
			<-at
		}
		if err := waitsFor(b.ctx, r, "step"); err != nil {
			return err
		}
		before, t := c.n.Load(), time.Now()
		close(gate)
		if n, err := gather.Result(b.ctx, r); err != nil || n != results {
			return errors.Join(err, fmt.Errorf("%d results", n))
		}
		counts, took = append(counts, c.n.Load()-before), append(took, time.Since(t))
	}
	mid := median(counts)
	b.add(row{what: "1,000 results into one run, until it has ended: flushes", ours: fmt.Sprintf("%d (%d–%d), %s", mid, quantile(counts, 0), quantile(counts, 1), short(took.median())),
		limit: "20", ratio: float64(mid) / 20, target: 1})
	return nil
}

// waitsFor returns when a run waits for nothing but things of one kind.
func waitsFor(ctx context.Context, r *durable.Run, kind string) error {
	for {
		d, err := r.Describe(ctx)
		if err != nil {
			return err
		}
		if len(d.Waiting) > 0 && d.Waiting[0].Kind == kind {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
}
