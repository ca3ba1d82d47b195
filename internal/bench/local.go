package main

import (
	"errors"
	"fmt"
	"time"
)

// framed is the size of a page in the log.
const framed = 4096 + 24

// sequential measures steps one after the other in one run against the commit
// that plain SQLite makes of the same rows, against the flush of the same
// bytes, and against that commit with a step of the memory engine: what no
// engine on a file can do without.
func sequential(b *bench) (err error) {
	n := b.size(400)
	q, err := b.newQueue(n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.close()) }()
	m, err := b.newMemorySteps(n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	f, err := b.newFlush(q.bytes)
	if err != nil {
		return err
	}
	defer f.close()
	got, err := b.interleave(q.ours(), q.plain(), contender{"flushes", func() (time.Duration, error) { return f.stretch(n) }}, contender{"memory", m.run})
	if err != nil {
		return err
	}
	b.add(row{what: "file engine: a step, one after the other in one run", ours: q.figures(got[0]),
		limit: "the same commit by plain SQLite: " + short(got[1].median()), ratio: got[0].over(got[1]), target: 1.15})
	b.add(row{what: "the same, processor time", ours: short(q.cpu.median()), limit: "plain SQLite: " + short(q.cpuPlain.median()), ratio: q.cpu.over(q.cpuPlain)})
	b.add(row{what: "the same", ours: short(got[0].median()),
		limit: fmt.Sprintf("that commit and a step of the memory engine (%s)", short(got[3].median())), ratio: got[0].over(got[1].plus(got[3])), target: 1.25})
	r := row{what: "the same, against the disk", ours: short(got[0].median()),
		limit: fmt.Sprintf("a flush of its %d bytes: %s", q.bytes, short(got[2].median())), ratio: got[0].over(got[2]), target: 1.5}
	if got[2].median() < slowFlush {
		r.void = "a flush takes < 0.5 ms here"
	}
	b.add(r)
	return nil
}

// slowFlush is what a flush takes on disks of which the targets speak.
const slowFlush = 500 * time.Microsecond

// slowly is sequential where each flush takes as long as on such a disk.
func slowly(b *bench) (err error) {
	n := b.size(400)
	c, err := b.countFlushes(slowFlush)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	there := *b
	there.dir = c.dir
	q, err := there.newQueue(n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.close()) }()
	got, err := b.interleave(q.ours(), q.plain(), contender{"flushes", func() (time.Duration, error) {
		t := time.Now()
		for range n {
			if err := c.once(); err != nil {
				return 0, err
			}
		}
		return time.Since(t) / time.Duration(n), nil
	}})
	if err != nil {
		return err
	}
	b.add(row{what: "where a flush takes 0.5 ms: a step, one after the other in one run", ours: q.figures(got[0]),
		limit: "the same commit by plain SQLite: " + short(got[1].median()), ratio: got[0].over(got[1]), target: 1.15})
	b.add(row{what: "the same, against the disk", ours: short(got[0].median()), limit: "a flush: " + short(got[2].median()), ratio: got[0].over(got[2]), target: 1.5})
	return nil
}

// queue is steps one after the other in one run, and the commits that plain
// SQLite makes of their rows.
type queue struct {
	n, bytes             int // of a round; of a commit in the log
	s                    *stepper
	p                    *plain
	worst, cpu, cpuPlain times
}

func (b *bench) newQueue(n int) (_ *queue, err error) {
	q := &queue{n: n}
	if q.s, err = newStepper(b.ctx, b.file("ours.db"), 0, nil); err != nil {
		return nil, err
	}
	if q.p, err = b.newPlain(1); err != nil {
		return nil, errors.Join(err, q.s.close())
	}
	before, err := q.p.pages()
	if err == nil {
		err = q.commits()
	}
	after, err2 := q.p.pages()
	if err = errors.Join(err, err2); err == nil {
		_, err = q.s.alone(n, nil)
	}
	if err != nil {
		return nil, errors.Join(err, q.close())
	}
	q.bytes = (after - before) * framed / n
	return q, nil
}

func (q *queue) close() error { return errors.Join(q.s.close(), q.p.close()) }

func (q *queue) commits() error {
	for range q.n {
		if err := q.p.turns(1); err != nil {
			return err
		}
	}
	return nil
}

func (q *queue) ours() contender {
	return contender{"steps", func() (d time.Duration, err error) {
		_, err = perOp(&q.cpu, q.n, func() (time.Duration, error) {
			all, err := q.s.alone(q.n, nil)
			if err != nil {
				return 0, err
			}
			q.worst, d = append(q.worst, quantile(all, 0.99)), all.mean()
			return d, nil
		})
		return d, err
	}}
}

func (q *queue) plain() contender {
	return contender{"plain SQLite", func() (time.Duration, error) {
		return perOp(&q.cpuPlain, q.n, func() (time.Duration, error) {
			t := time.Now()
			err := q.commits()
			return time.Since(t), err
		})
	}}
}

func (q *queue) figures(got times) string {
	return fmt.Sprintf("%s (%s), p99 %s", short(got.median()), got.spread(), short(q.worst.median()))
}

// perOp divides the time of n operations, and their processor time.
func perOp(cpu *times, n int, do func() (time.Duration, error)) (time.Duration, error) {
	before, err := cpuTime()
	if err != nil {
		return 0, err
	}
	d, err := do()
	if err != nil {
		return 0, err
	}
	after, err := cpuTime()
	*cpu = append(*cpu, (after-before)/time.Duration(n))
	return d / time.Duration(n), err
}

// parallel measures many runs that step at once against plain SQLite that
// inserts the same rows in batches of 64, and against that with the JSON
// passes and the baton of each step: what no engine can do without.
func parallel(b *bench) (err error) {
	const few, many, batch = 64, 1000, 64
	steps := b.size(6400)
	s, err := newStepper(b.ctx, b.file("ours.db"), few, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	p, err := b.newPlain(few)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	insert := func(do func(int) error) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			t := time.Now()
			for range steps / batch {
				if err := do(batch); err != nil {
					return 0, err
				}
			}
			return time.Since(t), nil
		}
	}
	var cpuFew, cpuMany, cpuRows, cpuTurns, cpuPasses, p50, p99 times
	per := func(runs int) int { return max(steps/runs, 2) }
	got, err := b.interleave(
		contender{"64 runs", func() (time.Duration, error) {
			return perOp(&cpuFew, few*per(few), func() (time.Duration, error) { return s.together(few, per(few)) })
		}},
		contender{"plain rows", func() (time.Duration, error) { return perOp(&cpuRows, steps/batch*batch, insert(p.rows)) }},
		contender{"plain turns", func() (time.Duration, error) { return perOp(&cpuTurns, steps/batch*batch, insert(p.turns)) }},
		contender{"passes and baton", func() (time.Duration, error) {
			return perOp(&cpuPasses, steps, func() (time.Duration, error) { d, err := jsonAndBaton(steps); return d * time.Duration(steps), err })
		}},
	)
	if err != nil {
		return err
	}
	m, err := newStepper(b.ctx, b.file("many.db"), many, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	f, err := b.newFlush(64 << 10)
	if err != nil {
		return err
	}
	defer f.close()
	var cpuAgain times
	more, err := b.interleave(
		contender{"64 runs", func() (time.Duration, error) {
			return perOp(&cpuAgain, few*per(few), func() (time.Duration, error) { return s.together(few, per(few)) })
		}},
		contender{"1,000 runs", func() (time.Duration, error) {
			return perOp(&cpuMany, many*per(many), func() (time.Duration, error) { return m.together(many, per(many)) })
		}},
		contender{"a lone run", func() (time.Duration, error) {
			all, err := m.alone(0, func() error { _, err := m.together(many, 2*per(many)); return err })
			if err != nil {
				return 0, err
			}
			p50, p99 = append(p50, quantile(all, 0.5)), append(p99, quantile(all, 0.99))
			return p99[len(p99)-1], nil
		}},
		contender{"flushes", func() (time.Duration, error) { return f.stretch(b.size(200)) }},
	)
	if err != nil {
		return err
	}
	rate := func(d time.Duration) string { return fmt.Sprintf("%.0f/s", float64(time.Second)/float64(d)) }
	speed := func(ours, limit times) float64 { return 1 / ours.over(limit) }
	b.add(row{what: "file engine: 64 runs stepping at once", ours: fmt.Sprintf("%s a step, %s", short(got[0].median()), rate(got[0].median())),
		limit: fmt.Sprintf("plain SQLite, the same rows, appended in batches of 64: %s, %s", short(got[1].median()), rate(got[1].median())),
		ratio: speed(got[0], got[1]), target: 0.5, atLeast: true})
	b.add(row{what: "the same, where the heads of the runs are written too", ours: short(got[0].median()),
		limit: fmt.Sprintf("plain SQLite, in batches of 64: %s, %s", short(got[2].median()), rate(got[2].median())), ratio: speed(got[0], got[2])})
	b.add(row{what: "the same, processor time of a step", ours: short(cpuFew.median()), limit: "15 µs",
		ratio: float64(cpuFew.median()) / float64(15*time.Microsecond), target: 1})
	sum := cpuTurns.plus(cpuPasses)
	b.add(row{what: "the same", ours: short(cpuFew.median()), ratio: cpuFew.over(sum), target: 2.5,
		limit: fmt.Sprintf("plain SQLite's, with the heads, and the four passes and the baton: %s + %s", short(cpuTurns.median()), short(cpuPasses.median()))})
	b.add(row{what: "of this, plain SQLite's for the same rows", ours: fmt.Sprintf("appended %s, with the heads of the runs %s", short(cpuRows.median()), short(cpuTurns.median()))})
	b.add(row{what: "file engine: 1,000 runs stepping at once", ours: fmt.Sprintf("%s a step, %s, %s of processor time", short(more[1].median()), rate(more[1].median()), short(cpuMany.median())),
		limit: "64 runs beside them: " + short(more[0].median()), ratio: speed(more[1], more[0]), target: 1, atLeast: true})
	b.add(row{what: "file engine: p99 of a lone run's step beside 1,000 busy runs", ours: fmt.Sprintf("%s (p50 %s)", short(more[2].median()), short(p50.median())),
		limit: fmt.Sprintf("a flush of 64 KB: %s", short(more[3].median())), ratio: more[2].over(more[3]), target: 3})
	// Where the processors are the limit and not the disk, every run waits
	// for a step of each of the others: that much is fair.
	all := make(times, len(more[1]))
	for i, d := range more[1] {
		all[i] = many * d
	}
	b.add(row{what: "the same, against a step of each of the 1,000", ours: short(more[2].median()), limit: short(all.median()), ratio: more[2].over(all), target: 3})
	return nil
}
