// Command crashsweep lets the durable core die in all the ways that it can,
// and holds what is left against what was promised: everything that was
// acknowledged is there, what may happen at most once did, "unknown" is said
// only of what was going to start, and the result is that of an undisturbed
// life.
//
//	go run ./internal/crashsweep -duration 1m -seed 7
//
// It prints a table: for each kind of death and each workload how many points
// there are at which it can die, at how many of them it did, how often it was
// killed, what was acknowledged, what of it was lost, which effects happened
// twice, and how many at-most-once calls came back as unknown: truly, where
// the effect had begun, and falsely, where the process died between writing
// down the intent and beginning.
//
// When something is wrong it says so, with the seed, the point and what was
// expected, keeps the files, and exits with status 1. docs/crash.md says more.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

func main() {
	if spec := os.Getenv(processVar); spec != "" {
		if err := beVictim(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	duration := flag.Duration("duration", time.Minute, "how long; everything once at least")
	seed := flag.Uint64("seed", uint64(time.Now().Unix()), "of the first round; each further one adds 1")
	kind := flag.String("kind", "", "only this kind of death: "+strings.Join(kinds, ", "))
	load := flag.String("workload", "", "only this workload: "+strings.Join(names(), ", "))
	point := flag.String("point", "", "die at this point, once")
	lie := flag.Bool("lie", false, "let fsync do nothing, to see that the sweep finds out")
	flag.Parse()
	s := &sweep{seed: *seed, kinds: kinds, workloads: workloads, point: *point, lie: *lie, progress: os.Stderr}
	if *kind != "" {
		if !slices.Contains(kinds, *kind) {
			return fmt.Errorf("kind %q: there are %s", *kind, strings.Join(kinds, ", "))
		}
		s.kinds = []string{*kind}
	}
	if *load != "" {
		i := slices.Index(names(), *load)
		if i < 0 {
			return fmt.Errorf("workload %q: there are %s", *load, strings.Join(names(), ", "))
		}
		s.workloads = workloads[i : i+1]
		if *kind == "" {
			s.kinds = slices.DeleteFunc(slices.Clone(kinds), func(k string) bool { return k == killed })
		}
	}
	var err error
	if s.dir, err = os.MkdirTemp("", "crashsweep-"); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	began := time.Now()
	err = s.run(ctx, *duration)
	fmt.Fprintln(os.Stderr)
	s.table(os.Stdout)
	fmt.Printf("\nseed %d, %v\n", *seed, time.Since(began).Round(time.Second))
	if err == nil || errors.Is(err, context.Canceled) {
		return errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}

func names() (out []string) {
	for _, l := range workloads {
		out = append(out, l.name)
	}
	return out
}
