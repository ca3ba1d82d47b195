package main

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	"modernc.org/sqlite"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
)

// growth measures how figures grow with the number of runs in the file, the
// length of a history and the size of a value.
func growth(b *bench) error {
	return errors.Join(b.manyRuns(), b.longHistory(), b.largeValues())
}

// manyRuns fills a file with more and more ended runs. They are made by SQL
// from one that the engine made: only their ids differ.
func (b *bench) manyRuns() error {
	sizes := []int{1000, 10_000, 100_000, 1_000_000}
	if b.quick {
		sizes = sizes[:3]
	}
	path := b.file("growth.db")
	s, err := newStepper(b.ctx, path, 0, nil)
	if err != nil {
		return err
	}
	seed, err := s.wf.Start(b.ctx, s.e, payload("seed"), &durable.StartOptions{ID: "seed"})
	if err == nil {
		if err = s.goOn.Send(b.ctx, seed, 0, nil); err == nil {
			_, err = s.wf.Result(b.ctx, seed)
		}
	}
	if err = errors.Join(err, s.close()); err != nil {
		return err
	}
	var first map[string]time.Duration
	have := 0
	for _, n := range sizes {
		t := time.Now()
		if err := multiply(b.ctx, path, seed.RunID, have, n); err != nil {
			return err
		}
		filled := time.Since(t)
		have = n
		got, order, err := b.lookAt(path, n)
		if err != nil {
			return err
		}
		if first == nil {
			first = got
		}
		var all []string
		for _, k := range order {
			all = append(all, fmt.Sprintf("%s %s", k, short(got[k])))
		}
		worst := 0.0
		for k := range got {
			worst = max(worst, float64(got[k])/float64(first[k]))
		}
		b.add(row{what: fmt.Sprintf("%d runs in the file (filled in %v)", n, filled.Round(time.Second/10)), ours: strings.Join(all, ", "),
			limit: fmt.Sprintf("the same with %d", sizes[0]), ratio: worst})
	}
	return nil
}

// multiply adds copies of an ended run.
func multiply(ctx context.Context, path, seed string, from, to int) (err error) {
	d, err := sqlite.NewConnector("file://" + filepath.ToSlash(path) + "?mode=rw&_synchronous=OFF&_pragma=cache_size(-200000)")
	if err != nil {
		return err
	}
	c, err := d.Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	p := &plain{c: c}
	var cols []string
	if err := p.query("SELECT name FROM pragma_table_info('runs')", func(v []driver.Value) { cols = append(cols, v[0].(string)) }); err != nil {
		return err
	}
	pick := make([]string, len(cols))
	for i, name := range cols {
		switch name {
		case "rid":
			pick[i] = "top.rid + n.i"
		case "workflow_id":
			pick[i] = fmt.Sprintf("'old-' || (%d + n.i)", from)
		case "run_id", "chain":
			pick[i] = "lower(hex(randomblob(16)))"
		default:
			pick[i] = "r." + name
		}
	}
	numbers := fmt.Sprintf("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)", to-from)
	script := fmt.Sprintf(`BEGIN;
		CREATE TEMP TABLE top AS SELECT (SELECT max(id) FROM journal) AS id, (SELECT max(rid) FROM runs) AS rid, (SELECT count(*) FROM journal WHERE run = (SELECT rid FROM runs WHERE run_id = '%[1]s')) AS many;
		CREATE TEMP TABLE rows AS SELECT row_number() OVER (ORDER BY id) AS k, kind, head, data FROM journal WHERE run = (SELECT rid FROM runs WHERE run_id = '%[1]s');
		CREATE TEMP TABLE seed AS SELECT * FROM runs WHERE run_id = '%[1]s';
		CREATE TEMP TABLE head AS SELECT * FROM heads WHERE rid = (SELECT rid FROM seed);
		INSERT INTO runs (%[2]s) %[3]s SELECT %[4]s FROM n, top, seed r;
		INSERT INTO heads (rid, changed, turns, deaths, last, open_from)
			%[3]s SELECT top.rid + n.i, changed, turns, deaths, top.id + n.i * many, top.id + n.i * many FROM n, top, head;
		INSERT INTO journal (id, run, prev, kind, head, data)
			%[3]s SELECT top.id + (n.i - 1) * many + k, top.rid + n.i, iif(k = 1, 0, top.id + (n.i - 1) * many + k - 1), kind, head, data FROM n, top, rows;
		COMMIT`, seed, strings.Join(cols, ", "), numbers, strings.Join(pick, ", "))
	_, err = c.(driver.ExecerContext).ExecContext(ctx, script, nil)
	return err
}

// lookAt opens a file with n runs and tries what people do with it.
func (b *bench) lookAt(path string, n int) (got map[string]time.Duration, order []string, err error) {
	got = map[string]time.Duration{}
	put := func(name string, d time.Duration) { got[name] = d; order = append(order, name) }
	t := time.Now()
	s, err := openStepper(b.ctx, path, nil)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	put("open", time.Since(t))
	try := func(name string, do func(i int) error) error {
		var all times
		for i := range b.size(100) {
			t := time.Now()
			if err := do(i); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			all = append(all, time.Since(t))
		}
		put(name, all.median())
		return nil
	}
	s.runs = make([]*durable.Run, 1)
	live := make([]*durable.Run, b.size(100))
	err = try("start", func(i int) (err error) {
		live[i], err = s.wf.Start(b.ctx, s.e, payload(lone), nil)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	s.runs[0] = live[0]
	steps, err := s.alone(b.size(200), nil)
	if err != nil {
		return nil, nil, err
	}
	put("step", steps.median())
	err = errors.Join(
		try("describe", func(int) error {
			_, err := s.e.Run(fmt.Sprintf("old-%d", 1+rand.IntN(n-1)), "").Describe(b.ctx)
			return err
		}),
		try("list the newest 100", func(int) error { _, err := s.e.List(b.ctx, nil); return err }),
		try("list those running", func(int) error {
			p, err := s.e.List(b.ctx, &durable.Filter{States: []durable.State{durable.Running}, Limit: 1000})
			if err == nil && len(p.Runs) < len(live) {
				err = fmt.Errorf("%d runs, not %d", len(p.Runs), len(live))
			}
			return err
		}),
	)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range live {
		err = errors.Join(err, s.goOn.Send(b.ctx, r, 0, nil))
	}
	for _, r := range live {
		if _, rerr := s.wf.Result(b.ctx, r); rerr != nil {
			err = errors.Join(err, rerr)
		}
	}
	return got, order, err
}

// longHistory measures the replay of a run with more and more steps behind it.
func (b *bench) longHistory() (err error) {
	w := newWaiter()
	wf := durable.NewWorkflow("long", func(ctx context.Context, n int) (string, error) {
		if err := w.state.Handle(ctx, func(string) (int, error) { return n, nil }); err != nil {
			return "", err
		}
		for range n {
			if _, err := w.echo.Do(ctx, "a"); err != nil {
				return "", err
			}
		}
		return w.news.Receive(ctx)
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{w.news, w.state}})
	each := map[int]time.Duration{}
	for _, n := range []int{10, 100, 1000, 10_000} {
		if n == 10_000 {
			n = b.size(n)
		}
		// Put away after every turn, it would be replayed after every step.
		path, later := b.file("long.db"), b.file("later.db")
		long, err := localengine.Open(b.ctx, path, nil, wf, w.echo, w.news, w.state)
		if err != nil {
			return err
		}
		r, err := wf.Start(b.ctx, long, n, nil)
		if err == nil {
			err = waitsFor(b.ctx, r, "signal")
		}
		if err == nil {
			err = localengine.Backup(b.ctx, path, later)
		}
		if err = errors.Join(err, long.Close(context.Background())); err != nil {
			return err
		}
		e, err := localengine.Open(b.ctx, later, &localengine.Options{Engine: durable.Options{Observer: w, MaxAwake: -1}}, wf, w.echo, w.news, w.state)
		if err != nil {
			return err
		}
		var all times
		for range b.rounds {
			before := w.awoken.Load()
			if _, err := e.Run(r.WorkflowID, r.RunID).Query(b.ctx, "state", []byte(`""`)); err != nil {
				return errors.Join(err, e.Close(context.Background()))
			}
			if w.awoken.Load() != before+1 {
				return errors.Join(fmt.Errorf("the run was not replayed"), e.Close(context.Background()))
			}
			all = append(all, time.Duration(w.replayed.Load()))
		}
		if err := e.Close(context.Background()); err != nil {
			return err
		}
		each[n] = all.median() / time.Duration(n)
		line := row{what: fmt.Sprintf("replay of %d steps", n), ours: fmt.Sprintf("%s, %s a step", short(all.median()), short(each[n]))}
		if n > 100 {
			line.limit, line.ratio = "a step of 100: "+short(each[100]), float64(each[n])/float64(each[100])
			line.target = 1.5 // it is linear
		}
		b.add(line)
	}
	return nil
}

// largeValues measures a step whose input and result are large against four
// JSON passes of the value and the commit of the same bytes by plain SQLite.
func (b *bench) largeValues() (err error) {
	quiet := durable.Options{Logger: slog.New(slog.DiscardHandler)}
	var stamps []time.Time
	echo := durable.NewStep("echo", func(_ context.Context, s string) (string, error) { stamps = append(stamps, time.Now()); return s, nil }, nil)
	type job struct {
		Size, Steps int
	}
	wf := durable.NewWorkflow("large", func(ctx context.Context, j job) (int, error) {
		s := strings.Repeat("abcdefgh", j.Size/8)
		var err error
		for range j.Steps {
			if s, err = echo.Do(ctx, s); err != nil {
				return 0, err
			}
		}
		return len(s), nil
	}, nil)
	e, err := localengine.Open(b.ctx, b.file("large.db"), &localengine.Options{Engine: quiet}, wf, echo)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close(context.Background())) }()
	p, err := b.newPlain(1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	for _, size := range []int{1 << 10, 10 << 10, 100 << 10, 1 << 20, 10 << 20} {
		steps := max(min(100, (20<<20)/size), 3)
		value := strings.Repeat("abcdefgh", size/8)
		p.data = []byte(value + value)
		got, err := b.interleave(
			contender{"steps", func() (time.Duration, error) {
				stamps = stamps[:0]
				r, err := wf.Start(b.ctx, e, job{size, steps}, nil)
				if err != nil {
					return 0, err
				}
				if _, err := wf.Result(b.ctx, r); err != nil {
					return 0, err
				}
				return stamps[len(stamps)-1].Sub(stamps[0]) / time.Duration(len(stamps)-1), nil
			}},
			contender{"the limit", func() (time.Duration, error) {
				t := time.Now()
				for range steps {
					for range 2 {
						raw, err := json.Marshal(value)
						if err != nil {
							return 0, err
						}
						var s string
						if err := json.Unmarshal(raw, &s); err != nil {
							return 0, err
						}
					}
					if err := p.turns(1); err != nil {
						return 0, err
					}
				}
				return time.Since(t) / time.Duration(steps), nil
			}},
		)
		if err != nil {
			return err
		}
		b.add(row{what: fmt.Sprintf("a step with %d KB in and out", size>>10), ours: fmt.Sprintf("%s, %.0f MB/s", short(got[0].median()), 2*float64(size)/1e6/got[0].median().Seconds()),
			limit: "four JSON passes and plain SQLite: " + short(got[1].median()), ratio: got[0].over(got[1])})
	}
	return nil
}
