// Command simulate makes random programs — workflows, and what clients and
// failing processes do to them —, says by a simple model of the contract what
// must come out, and holds the engines against it:
//
//	go run ./durable/localengine/internal/simulate -programs 5000 -seed 3
//
// A program that comes out otherwise is made as small as it goes and printed
// as pseudo-Go, with the seed that makes it again.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func main() {
	testing.Init()
	c := &campaign{}
	flag.IntVar(&c.programs, "programs", 5000, "how many programs")
	flag.Uint64Var(&c.seed, "seed", 1, "what they are made from")
	flag.Uint64Var(&c.first, "first", 0, "number of the first program")
	engines := flag.String("engine", "memory,paranoid,local", "engines to hold against the model")
	flag.StringVar(&c.dir, "dir", "", "where the files of the local engine are; empty: the system's directory for such things")
	flag.IntVar(&c.workers, "workers", 2, "programs at once")
	flag.BoolVar(&c.full, "full", false, "print all that was seen of a failing program")
	show := flag.Bool("show", false, "print the first program and what the model says, and end")
	flag.Parse()
	c.engines = strings.Split(*engines, ",")
	if *show {
		p := generate(c.seed, c.first)
		out, unclear := predict(p)
		fmt.Printf("%s\n%s\nunclear: %q\n", p, out, unclear)
		return
	}
	// The bubbles of virtual time belong to package testing. Main ends the
	// process, with 1 after a failure.
	testing.Main(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "simulate", F: func(t *testing.T) {
		began := time.Now()
		r := c.run(t)
		r.print(os.Stdout, time.Since(began))
		if r.failure != "" {
			t.Fail()
		}
	}}}, nil, nil)
}

// campaign is a number of programs.
type campaign struct {
	programs int
	seed     uint64
	first    uint64
	engines  []string
	dir      string
	workers  int
	full     bool
	faults   faults // planted into the engines in memory
	tries    int    // to make a failing program smaller; 0: 4,000
}

// report is what came of it.
type report struct {
	programs int
	unclear  int // the contract leaves their outcome open
	took     map[string]time.Duration
	played   map[string]int
	failure  string // of the first program that came out otherwise
	seed     uint64
	number   uint64
	small    *Program // the same, made small
}

func (r *report) print(to *os.File, took time.Duration) {
	fmt.Fprintf(to, "%d programs in %v, of which the contract leaves %d open\n", r.programs, took.Round(time.Millisecond), r.unclear)
	for _, e := range []string{"model", "memory", "paranoid", "local"} {
		if n := r.played[e]; n > 0 {
			fmt.Fprintf(to, "%-8s %6d programs, %6.0f a minute on one core\n", e, n, float64(n)/r.took[e].Minutes())
		}
	}
	if r.failure != "" {
		fmt.Fprint(to, r.failure)
	}
}

// run plays all programs, until one comes out otherwise.
func (c *campaign) run(t *testing.T) *report {
	r := &report{took: map[string]time.Duration{}, played: map[string]int{}, seed: c.seed}
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := c.first
	for range max(c.workers, 1) {
		wg.Go(func() {
			for {
				mu.Lock()
				n := next
				if n >= c.first+uint64(c.programs) || r.failure != "" {
					mu.Unlock()
					return
				}
				next++
				mu.Unlock()
				p := generate(c.seed, n)
				began := time.Now()
				want, unclear := predict(p)
				mu.Lock()
				r.programs++
				r.took["model"] += time.Since(began)
				r.played["model"]++
				if unclear != "" {
					r.unclear++
				}
				mu.Unlock()
				if unclear != "" {
					continue
				}
				for _, e := range c.engines {
					began := time.Now()
					got := c.play(t, e, p)
					mu.Lock()
					r.took[e] += time.Since(began)
					r.played[e]++
					mu.Unlock()
					if diff := difference(want, got); diff != "" {
						c.explain(t, r, &mu, e, n, diff)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	return r
}

// explain makes the failing program small.
func (c *campaign) explain(t *testing.T, r *report, mu *sync.Mutex, engine string, n uint64, diff string) {
	mu.Lock()
	defer mu.Unlock()
	if r.failure != "" {
		return
	}
	first := diff
	small := shrink(generate(c.seed, n), cmp.Or(c.tries, 4000), func(p *Program) bool {
		want, unclear := predict(p)
		if unclear != "" {
			return false
		}
		d := difference(want, c.play(t, engine, p))
		if d != "" {
			diff = d
		}
		return d != ""
	})
	again := ""
	want, _ := predict(small)
	if difference(want, c.play(t, engine, small)) == "" {
		again = "(not each time)\n"
	}
	r.number, r.small = n, small
	if c.full {
		diff += fmt.Sprintf("\nthe model says:\n%s\nthe engine does:\n%s", want, c.play(t, engine, small))
	}
	r.failure = fmt.Sprintf("\nseed %d, program %d, %s: the engine does not do what the model says %s\n%s\nmade small:\n%s\n%s", c.seed, n, engine, again, first, small, diff)
}

// play runs a program on an engine, in a bubble.
func (c *campaign) play(t *testing.T, engine string, p *Program) (out string) {
	synctest.Test(t, func(t *testing.T) {
		var at place
		var err error
		switch {
		case engine == "local":
			at, err = newLocal(c.dir)
		case engine == "memory" || engine == "paranoid":
			at = newMemory(c.faults)
		default:
			err = fmt.Errorf("engine %q is not known", engine)
		}
		if err == nil {
			out, err = play(context.Background(), p, at, engine == "paranoid")
		}
		if at != nil {
			if cerr := at.close(); err == nil {
				err = cerr
			}
		}
		if err != nil {
			out = "error: " + err.Error()
		}
	})
	return out
}
