package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// bench is one run of the command: its settings, and the table so far.
type bench struct {
	ctx    context.Context
	rounds int
	quick  bool
	dir    string // on the disk, for this run alone
	files  int
	lines  int
}

// size is how much to do: n, or a twentieth of it where only the working is
// to be seen.
func (b *bench) size(n int) int {
	if b.quick {
		return max(n/20, 2)
	}
	return n
}

// file is a path that nothing has used yet.
func (b *bench) file(name string) string {
	b.files++
	return filepath.Join(b.dir, fmt.Sprintf("%d-%s", b.files, name))
}

// contender is measured against others. run does one stretch of its work and
// says how long one operation of it took.
type contender struct {
	name string
	run  func() (time.Duration, error)
}

// times are the figures of a contender, one for each round.
type times []time.Duration

// interleave lets contenders take turns: once to get warm, then for each
// round. The garbage of the one is not collected in the time of the next.
func (b *bench) interleave(all ...contender) ([]times, error) {
	got := make([]times, len(all))
	for round := range b.rounds + 1 {
		for i, c := range all {
			if err := b.ctx.Err(); err != nil {
				return nil, err
			}
			runtime.GC()
			d, err := c.run()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			if round > 0 {
				got[i] = append(got[i], d)
			}
		}
	}
	return got, nil
}

func (t times) median() time.Duration { return median(t) }

// over is the median of the ratios of two contenders, round by round: what
// slowed the machine down for a while slowed both.
func (t times) over(limit times) float64 {
	r := make([]float64, len(t))
	for i := range t {
		r[i] = float64(t[i]) / float64(limit[i])
	}
	return median(r)
}

// plus adds the times of two contenders, round by round.
func (t times) plus(other times) times {
	sum := make(times, len(t))
	for i := range t {
		sum[i] = t[i] + other[i]
	}
	return sum
}

// minus is what the one takes beyond the other, round by round.
func (t times) minus(other times) times {
	out := make(times, len(t))
	for i := range t {
		out[i] = t[i] - other[i]
	}
	return out
}

// spread says how far apart the rounds are.
func (t times) spread() string {
	return fmt.Sprintf("%v–%v", short(slices.Min(t)), short(slices.Max(t)))
}

func median[T cmp.Ordered](all []T) T { return quantile(all, 0.5) }

// quantile is the smallest value that a share q of all does not exceed.
func quantile[T cmp.Ordered](all []T, q float64) T {
	s := slices.Sorted(slices.Values(all))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

// short writes a time with three digits.
func short(d time.Duration) string {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit).String()
}

// row is a line of the table.
type row struct {
	what, ours, limit string
	ratio             float64
	target            float64 // the ratio that is allowed; 0: none is set
	atLeast           bool    // the ratio must be the target or more
	void              string  // why the target does not count here
}

// add prints a line of the table.
func (b *bench) add(r row) {
	target, met := "", ""
	if r.target > 0 {
		sign := "≤"
		ok := r.ratio <= r.target
		if r.atLeast {
			sign, ok = "≥", r.ratio >= r.target
		}
		target = fmt.Sprintf("%s %s", sign, number(r.target))
		met = "**no**"
		if ok {
			met = "yes"
		}
		if r.void != "" {
			met = r.void
		}
	}
	if b.lines++; b.lines == 1 {
		fmt.Println("| what | ours | limit | ratio | target | met |\n|---|---|---|---|---|---|")
	}
	ratio := ""
	if r.ratio > 0 || r.target > 0 {
		ratio = number(r.ratio)
	}
	fmt.Println("| " + strings.Join([]string{r.what, r.ours, r.limit, ratio, target, met}, " | ") + " |")
}

func number(f float64) string {
	if f >= 100 {
		return fmt.Sprintf("%.0f", f)
	}
	return fmt.Sprintf("%.3g", f)
}

// flush is a file that is overwritten piece by piece, each piece made durable:
// what the disk takes for it, and nothing else.
type flush struct {
	f    *os.File
	size int64
	at   int64
	buf  []byte
}

// newFlush makes the file, with all of its blocks there.
func (b *bench) newFlush(piece int) (*flush, error) {
	f, err := os.Create(b.file("flush"))
	if err != nil {
		return nil, err
	}
	s := &flush{f: f, size: max(8<<20, 4*int64(piece)), buf: make([]byte, piece)}
	for i := range s.buf {
		s.buf[i] = byte(i * 7)
	}
	for at := int64(0); at < s.size; at += 1 << 20 {
		if _, err := f.WriteAt(make([]byte, 1<<20), at); err != nil {
			return nil, err
		}
	}
	return s, f.Sync()
}

// once writes a piece and waits until it is on the disk.
func (s *flush) once() error {
	if s.at+int64(len(s.buf)) > s.size {
		s.at = 0
	}
	if _, err := s.f.WriteAt(s.buf, s.at); err != nil {
		return err
	}
	s.at += int64(len(s.buf))
	return s.f.Sync()
}

// stretch is the time of one flush, of n in a row.
func (s *flush) stretch(n int) (time.Duration, error) {
	t := time.Now()
	for range n {
		if err := s.once(); err != nil {
			return 0, err
		}
	}
	return time.Since(t) / time.Duration(n), nil
}

func (s *flush) close() error { return s.f.Close() }
