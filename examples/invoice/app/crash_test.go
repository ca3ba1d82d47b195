package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// TestSurvivesKills kills the program at random moments while a client works
// through its invoices, and holds it to what it has acknowledged: a run that
// was started is there, an approval counts, and each line is paid once.
//
// INVOICE_SEED and INVOICE_KILLS repeat a run, or make it longer.
func TestSurvivesKills(t *testing.T) {
	seed := number(t, "INVOICE_SEED", 1)
	kills := number(t, "INVOICE_KILLS", 10)
	for i, transport := range []string{"stdio", "http"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(uint64(seed), uint64(i)))
			t.Logf("INVOICE_SEED=%d INVOICE_KILLS=%d", seed, kills)
			s := newServer(t, transport, t.TempDir(), "-pay-delay", "150ms", "-fail-validate", "1")
			c := newClerk(t, s, rnd, kills+2)
			for range kills {
				c.untilKilled(time.Duration(rnd.Int64N(int64(1500 * time.Millisecond))))
			}
			if err := s.start(t.Context()); err != nil {
				t.Fatal(err)
			}
			for !c.done() {
				if err := c.next(); err != nil {
					t.Fatal(err)
				}
			}
			c.check()
		})
	}
}

// TestSurvivesKillsOfEither has two processes on one file and kills one of
// them, again and again. Calls to the other one never fail: it waits, or it
// takes over.
func TestSurvivesKillsOfEither(t *testing.T) {
	t.Parallel()
	seed := number(t, "INVOICE_SEED", 1)
	kills := number(t, "INVOICE_KILLS", 10)
	rnd := rand.New(rand.NewPCG(uint64(seed), 2))
	t.Logf("INVOICE_SEED=%d INVOICE_KILLS=%d", seed, kills)
	dir := t.TempDir()
	both := []*server{started(t, "stdio", dir, "-pay-delay", "150ms"), started(t, "http", dir, "-pay-delay", "150ms")}
	c := newClerk(t, both[0], rnd, kills+2)
	for range kills {
		i := rnd.IntN(2)
		victim, survivor := both[i], both[1-i]
		d := time.Duration(rnd.Int64N(int64(time.Second)))
		process := victim.cmd.Process
		killer := time.AfterFunc(d, func() { _ = process.Kill() })
		for alive, rounds := true, 0; alive || rounds < 5; {
			c.s = survivor
			if alive = !victim.gone(); !alive {
				rounds++
			} else if rnd.IntN(2) == 0 {
				c.s = victim
			}
			err := c.next()
			var no *toolError
			if err != nil && (c.s == survivor || errors.As(err, &no)) {
				t.Fatalf("the %s server is killed after %v, the %s server says: %v", victim.transport, d, c.s.transport, err)
			}
		}
		killer.Stop()
		t.Logf("the %s server was killed after %v, %d acknowledged", victim.transport, d.Round(time.Millisecond), c.acks)
		victim.kill()
		if err := victim.start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for !c.done() {
		c.s = both[rnd.IntN(2)]
		if err := c.next(); err != nil {
			t.Fatal(err)
		}
	}
	c.check()
}

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(otherwise)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// clerk works through invoices, whatever happens to the server.
type clerk struct {
	t    *testing.T
	s    *server
	rnd  *rand.Rand
	work []*invoiceWork
	want []string // descriptions of all lines
	acks int
}

// invoiceWork is how far the clerk has come with an invoice, as far as was
// acknowledged.
type invoiceWork struct {
	invoice  map[string]any
	ids      map[string]any // nil: not started
	approved bool
	paid     bool
}

func newClerk(t *testing.T, s *server, rnd *rand.Rand, invoices int) *clerk {
	c := &clerk{t: t, s: s, rnd: rnd}
	for n := range invoices {
		inv := map[string]any{"invoice_id": fmt.Sprintf("R-%d", n), "customer": "Random Ltd", "po_number": n}
		var lines []any
		for l := range 1 + rnd.IntN(4) {
			d := fmt.Sprintf("R-%d line %d", n, l)
			c.want = append(c.want, d)
			due := time.Now().Add(time.Duration(rnd.IntN(8000)-2000) * time.Millisecond)
			lines = append(lines, map[string]any{"description": d, "amount": 1 + l, "due_date": due.Format(time.RFC3339)})
		}
		inv["lines"] = lines
		c.work = append(c.work, &invoiceWork{invoice: inv})
	}
	return c
}

// untilKilled starts the server, kills it after d, and works until then.
func (c *clerk) untilKilled(d time.Duration) {
	c.t.Helper()
	if err := c.s.spawn(); err != nil {
		c.t.Fatal(err)
	}
	process := c.s.cmd.Process
	before := c.acks
	killer := time.AfterFunc(d, func() { _ = process.Kill() })
	defer killer.Stop()
	err := c.s.connect(c.t.Context())
	for err == nil {
		if c.done() {
			<-c.s.exited
			break
		}
		err = c.next()
	}
	var no *toolError
	if errors.As(err, &no) {
		c.t.Fatalf("killed after %v: %v", d, err)
	}
	c.t.Logf("killed after %v, %d acknowledged: %v", d.Round(time.Millisecond), c.acks-before, err)
	c.s.kill()
}

func (c *clerk) done() bool {
	for _, w := range c.work {
		if !w.paid {
			return false
		}
	}
	return true
}

// next makes a round over the invoices. An error that is no *toolError leaves
// open what happened, and the next round asks again.
func (c *clerk) next() error {
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	start := c.rnd.IntN(8) == 0 // one now and then, so that kills fall between
	for _, w := range c.work {
		switch {
		case w.ids == nil && !start:
		case w.ids == nil:
			start = false
			out, err := c.s.call(ctx, "process_invoice", map[string]any{"invoice": w.invoice})
			if err != nil {
				return err
			}
			w.ids = map[string]any{"workflow_id": out["workflow_id"], "run_id": out["run_id"]}
			c.acks++
		default:
			if err := c.advance(ctx, w); err != nil {
				return err
			}
		}
	}
	return pause(ctx, 5*time.Millisecond)
}

// advance looks at a started invoice and approves it when it is asked.
func (c *clerk) advance(ctx context.Context, w *invoiceWork) error {
	if w.paid {
		return nil
	}
	out, err := c.s.call(ctx, "invoice_status", w.ids)
	if err != nil {
		return err
	}
	if out["run_id"] != w.ids["run_id"] {
		c.t.Errorf("run %v of %v became %v", w.ids["run_id"], w.ids["workflow_id"], out["run_id"])
	}
	switch status := out["value"]; status {
	case "PAID":
		w.paid = true
		c.acks++
	case "FAILED", "REJECTED":
		c.t.Fatalf("invoice %v is %v", w.ids["workflow_id"], status)
	case "PENDING-APPROVAL":
		if w.approved {
			// The answer is on disk; the run may take a moment to see it.
			return nil
		}
		_, err := c.s.call(ctx, "approve_invoice", w.ids)
		var no *toolError
		if errors.As(err, &no) && no.kind == "already_answered" {
			err = nil // by a call whose answer did not come back
		}
		if err != nil {
			return err
		}
		w.approved = true
		c.acks++
	}
	return nil
}

// check compares the end with what it has to be.
func (c *clerk) check() {
	c.t.Helper()
	checkBook(c.t, c.s.book(), c.want...)
	parents := 0
	page := map[string]any{"limit": 2 * len(c.work), "page_size": 10}
	for {
		out, err := c.s.call(c.t.Context(), "workflows-runs-list", page)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, r := range out["runs"].([]any) {
			run := r.(map[string]any)
			if run["status"] != "completed" {
				c.t.Errorf("run %v is %v, want completed", run["workflow_id"], run["status"])
			}
			if run["name"] == "process_invoice" {
				parents++
			}
		}
		if out["next_page_token"] == nil {
			break
		}
		page["next_page_token"] = out["next_page_token"]
	}
	if parents != len(c.work) {
		c.t.Errorf("%d runs of process_invoice, want %d", parents, len(c.work))
	}
}
