package localengine_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/internal/journal"
	"github.com/mcpagent/mcpagent/durable/localengine"
)

// plain is what somebody would write who needs no engine: the same rows in
// the same tables by the same driver, one transaction each.
type plain struct {
	db     *sql.DB
	id     int64
	insert *sql.Stmt
	update *sql.Stmt
}

func newPlain(b *testing.B) *plain {
	b.Helper()
	db, err := sql.Open("sqlite", filepath.Join(b.TempDir(), "plain.db")+"?_journal_mode=WAL&_synchronous=FULL&_txlock=immediate")
	if err != nil {
		b.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	b.Cleanup(func() { db.Close() })
	p := &plain{db: db}
	_, err = db.Exec(`CREATE TABLE runs (rid INTEGER PRIMARY KEY, workflow_id TEXT, run_id TEXT, chain TEXT, config TEXT, scope TEXT, digest TEXT, state TEXT, status TEXT);
		CREATE TABLE heads (rid INTEGER PRIMARY KEY, changed INTEGER, turns INTEGER, deaths INTEGER, last INTEGER, open_from INTEGER);
		CREATE TABLE journal (id INTEGER PRIMARY KEY, run INTEGER, prev INTEGER, kind TEXT, head TEXT, data BLOB)`)
	if err == nil {
		p.insert, err = db.Prepare("INSERT INTO journal (id, run, prev, kind, head, data) VALUES (?,?,?,?,?,?)")
	}
	if err == nil {
		p.update, err = db.Prepare("UPDATE heads SET changed = ?, turns = ?, deaths = ?, last = ?, open_from = ? WHERE rid = ?")
	}
	for i := range 64 {
		if err == nil {
			_, err = db.Exec("INSERT INTO runs VALUES (?,?,?,?,?,?,?,'running',NULL)", i+1, fmt.Sprint("w", i), fmt.Sprint("run-", i), "run-1", `{"timeout":1}`, "scope", "digest")
		}
		if err == nil {
			_, err = db.Exec("INSERT INTO heads VALUES (?, 0, 0, 0, 0, 0)", i+1)
		}
	}
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// commit writes one turn of each of n runs in one transaction.
func (p *plain) commit(b *testing.B, n int, row *journal.Row) {
	tx, err := p.db.Begin()
	if err != nil {
		b.Fatal(err)
	}
	insert, update := tx.Stmt(p.insert), tx.Stmt(p.update)
	for i := range n {
		p.id++
		if _, err := insert.Exec(p.id, i+1, max(p.id-int64(n), 0), row.Kind, string(row.Head), row.Data); err != nil {
			b.Fatal(err)
		}
		if _, err := update.Exec(p.id, p.id, 0, p.id, p.id, i+1); err != nil {
			b.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
}

// turn is a row as a step with small input and output makes it.
func turn(b *testing.B, rid int64) *journal.Row {
	row, err := journal.Encode(rid, journal.KindTurn, &journal.Entry{
		At: 1763700000000000, Events: []*journal.Event{{Kind: journal.Done, Call: "0/3", At: 1763700000000000, Attempt: 1, Payload: journal.Payload(`{"id":"a-17","amount":1250,"currency":"EUR"}`)}},
		Calls: []*journal.Call{{ID: "0/4", Kind: journal.Step, Name: "invoice.validate", Digest: "0011223344556677", Key: "8899aabbccddeeff", Payload: journal.Payload(`{"id":"a-18","amount":99,"currency":"EUR"}`)}},
	})
	if err != nil {
		b.Fatal(err)
	}
	return row
}

// BenchmarkSequential commits one turn after the other, beside plain SQLite,
// taking turns so that both see the same disk. The figure that counts is the
// ratio.
func BenchmarkSequential(b *testing.B) {
	st := newStore(b, nil)
	r := newRun(1, "a")
	start(b, st, r)
	p := newPlain(b)
	row := turn(b, 1)
	var own, rival []time.Duration
	const stretch = 50
	for i := 0; b.Loop(); i++ {
		switch {
		case i/stretch%2 == 0:
			t := time.Now()
			r = next(r)
			c := *row
			commit(b, st, &journal.Tx{Writes: []journal.Write{{Run: r, Row: &c}}})
			own = append(own, time.Since(t))
		default:
			t := time.Now()
			p.commit(b, 1, row)
			rival = append(rival, time.Since(t))
		}
	}
	report(b, own, rival, 1)
}

// BenchmarkParallel has 64 runs that commit at once, beside plain SQLite with
// batches of 64.
func BenchmarkParallel(b *testing.B) {
	const runs = 64
	var flushes, ops int
	st := newStore(b, func(n int) error { flushes++; ops += n; return nil })
	all := make([]*journal.Run, runs)
	rows := make([]*journal.Row, runs)
	for i := range all {
		all[i] = newRun(int64(i)+1, fmt.Sprint("w", i))
		start(b, st, all[i])
		rows[i] = turn(b, int64(i)+1)
	}
	p := newPlain(b)
	var own, rival []time.Duration
	const stretch = 100
	for b.Loop() {
		t := time.Now()
		var wg sync.WaitGroup
		for i := range all {
			wg.Go(func() {
				for range stretch {
					all[i] = next(all[i])
					c := *rows[i]
					commit(b, st, &journal.Tx{Writes: []journal.Write{{Run: all[i], Row: &c}}})
				}
			})
		}
		wg.Wait()
		own = append(own, time.Since(t)/stretch/runs)
		t = time.Now()
		for range stretch {
			p.commit(b, runs, rows[0])
		}
		rival = append(rival, time.Since(t)/stretch/runs)
	}
	report(b, own, rival, 1)
	b.ReportMetric(float64(ops)/float64(flushes), "commits/flush")
}

// BenchmarkStep is a step of the whole engine, b.N of them shared by so many
// runs that step at once. go run ./internal/bench has these against their limits.
func BenchmarkStep(b *testing.B) {
	for _, runs := range []int{1, 64, 1000} {
		b.Run(fmt.Sprint("runs=", runs), func(b *testing.B) {
			type small struct {
				ID     string
				Amount float64
				Tags   []int
			}
			step := durable.NewStep("step", func(_ context.Context, s small) (small, error) { return s, nil }, nil)
			wf := durable.NewWorkflow("steps", func(ctx context.Context, n int) (int, error) {
				s := small{"a-17", 12.5, []int{1, 2, 3}}
				var err error
				for range n {
					if s, err = step.Do(ctx, s); err != nil {
						break
					}
				}
				return n, err
			}, nil)
			e, err := localengine.Open(b.Context(), filepath.Join(b.TempDir(), "a.db"), nil, wf, step)
			if err != nil {
				b.Fatal(err)
			}
			defer e.Close(context.Background())
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for i := range runs {
				wg.Go(func() {
					r, err := wf.Start(b.Context(), e, max((b.N+i)/runs, 1), nil)
					if err == nil {
						_, err = wf.Result(b.Context(), r)
					}
					if err != nil {
						b.Error(err)
					}
				})
			}
			wg.Wait()
		})
	}
}

func report(b *testing.B, own, rival []time.Duration, each int) {
	if len(own) == 0 || len(rival) == 0 {
		return
	}
	mean := func(all []time.Duration) float64 {
		var sum time.Duration
		for _, d := range all {
			sum += d
		}
		return float64(sum.Nanoseconds()) / float64(len(all)*each)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(mean(own)/1000, "µs/commit")
	b.ReportMetric(mean(rival)/1000, "µs/plain")
	b.ReportMetric(mean(own)/mean(rival), "ratio")
}
