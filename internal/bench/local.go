package main

import (
	"errors"
	"fmt"
	"time"
)

// framed is the size of a page in the log.
const framed = 4096 + 24

// sequential measures steps one after the other in one run against the commit
// that plain SQLite makes of the same rows, and against the flush of the same
// bytes.
func sequential(b *bench) (err error) {
	n := b.size(400)
	s, err := newStepper(b.ctx, b.file("ours.db"), 0, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	p, err := b.newPlain(1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	before, err := p.pages()
	if err != nil {
		return err
	}
	for range n {
		if err := p.turns(1); err != nil {
			return err
		}
	}
	after, err := p.pages()
	if err != nil {
		return err
	}
	bytes := (after - before) * framed / n
	f, err := b.newFlush(bytes)
	if err != nil {
		return err
	}
	defer f.close()
	if _, err := s.alone(n, nil); err != nil {
		return err
	}
	var worst, cpu, cpuPlain times
	got, err := b.interleave(
		contender{"steps", func() (d time.Duration, err error) {
			_, err = perOp(&cpu, n, func() (time.Duration, error) {
				all, err := s.alone(n, nil)
				if err != nil {
					return 0, err
				}
				worst, d = append(worst, quantile(all, 0.99)), all.mean()
				return d, nil
			})
			return d, err
		}},
		contender{"plain SQLite", func() (time.Duration, error) {
			return perOp(&cpuPlain, n, func() (time.Duration, error) {
				t := time.Now()
				for range n {
					if err := p.turns(1); err != nil {
						return 0, err
					}
				}
				return time.Since(t), nil
			})
		}},
		contender{"flushes", func() (time.Duration, error) { return f.stretch(n) }},
	)
	if err != nil {
		return err
	}
	ours := fmt.Sprintf("%s (%s), p99 %s", short(got[0].median()), got[0].spread(), short(worst.median()))
	b.add(row{what: "file engine: a step, one after the other in one run", ours: ours,
		limit: "the same commit by plain SQLite: " + short(got[1].median()), ratio: got[0].over(got[1]), target: 1.15})
	b.add(row{what: "the same, processor time", ours: short(cpu.median()), limit: "plain SQLite: " + short(cpuPlain.median()), ratio: cpu.over(cpuPlain)})
	r := row{what: "the same, against the disk", ours: short(got[0].median()),
		limit: fmt.Sprintf("a flush of its %d bytes: %s", bytes, short(got[2].median())), ratio: got[0].over(got[2]), target: 1.5}
	if got[2].median() < 500*time.Microsecond {
		r.void = "a flush takes < 0.5 ms here"
	}
	b.add(r)
	return nil
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
// inserts the same rows in batches of 64.
func parallel(b *bench) (err error) {
	const few, many, batch = 64, 1000, 64
	steps := b.size(6400)
	s, err := newStepper(b.ctx, b.file("ours.db"), few, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	m, err := newStepper(b.ctx, b.file("many.db"), many, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	p, err := b.newPlain(few)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	f, err := b.newFlush(64 << 10)
	if err != nil {
		return err
	}
	defer f.close()

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
	var cpuFew, cpuMany, cpuRows, cpuTurns, p50, p99 times
	per := func(runs int) int { return max(steps/runs, 2) }
	got, err := b.interleave(
		contender{"64 runs", func() (time.Duration, error) {
			return perOp(&cpuFew, few*per(few), func() (time.Duration, error) { return s.together(few, per(few)) })
		}},
		contender{"plain rows", func() (time.Duration, error) { return perOp(&cpuRows, steps/batch*batch, insert(p.rows)) }},
		contender{"1,000 runs", func() (time.Duration, error) {
			return perOp(&cpuMany, many*per(many), func() (time.Duration, error) { return m.together(many, per(many)) })
		}},
		contender{"plain turns", func() (time.Duration, error) { return perOp(&cpuTurns, steps/batch*batch, insert(p.turns)) }},
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
		limit: fmt.Sprintf("plain SQLite, in batches of 64: %s, %s", short(got[3].median()), rate(got[3].median())), ratio: speed(got[0], got[3])})
	b.add(row{what: "the same, processor time of a step", ours: short(cpuFew.median()), limit: "15 µs",
		ratio: float64(cpuFew.median()) / float64(15*time.Microsecond), target: 1})
	b.add(row{what: "of this, plain SQLite's for the same rows", ours: fmt.Sprintf("appended %s, with the heads of the runs %s", short(cpuRows.median()), short(cpuTurns.median()))})
	b.add(row{what: "file engine: 1,000 runs stepping at once", ours: fmt.Sprintf("%s a step, %s, %s of processor time", short(got[2].median()), rate(got[2].median()), short(cpuMany.median())),
		limit: "64 runs: " + short(got[0].median()), ratio: speed(got[2], got[0]), target: 1, atLeast: true})
	b.add(row{what: "file engine: p99 of a lone run's step beside 1,000 busy runs", ours: fmt.Sprintf("%s (p50 %s)", short(got[4].median()), short(p50.median())),
		limit: fmt.Sprintf("a flush of 64 KB: %s", short(got[5].median())), ratio: got[4].over(got[5]), target: 3})
	// Where the processors are the limit and not the disk, every run waits
	// for a step of each of the others: that much is fair.
	all := make(times, len(got[2]))
	for i, d := range got[2] {
		all[i] = many * d
	}
	b.add(row{what: "the same, against a step of each of the 1,000", ours: short(got[4].median()), limit: short(all.median()), ratio: got[4].over(all), target: 3})
	return nil
}
