// Command bench measures how fast the engines are, each figure against its
// limit, the two taking turns in the same run:
//
//	go run ./internal/bench                  # everything, some ten minutes
//	go run ./internal/bench -only 'memory|sequential'
//	go run ./internal/bench -quick           # small sizes, three rounds: does it work
//	go run ./internal/bench -list
//
// A ratio is the median over the rounds; a round has each contender once, and
// the garbage is collected before each. The directory must be on a disk.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime/pprof"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// part is a group of lines of the table that are measured together.
type part struct {
	name, about string
	run         func(b *bench) error
}

func parts() []part {
	return []part{
		{"memory", "a step of the memory engine", memoryStep},
		{"sequential", "steps one after the other on a file", sequential},
		{"parallel", "64 and 1,000 runs stepping at once on a file, and a lone one beside them", parallel},
		{"slow disk", "steps one after the other where each flush takes 0.5 ms", slowly},
		{"flushes", "what a signal and a thousand results cost in flushes", flushes},
		{"reopen", "opening a file with many unfinished runs", reopen},
		{"waiting", "what a waiting run costs in memory, and a query of it", waiting},
		{"growth", "with the number of runs, the length of a history, the size of a value", growth},
		{"temporal latency", "our engine on a Temporal server against the plain SDK: lone runs", temporal((*temporals).latencies)},
		{"temporal throughput", "… many runs at once", temporal((*temporals).throughput)},
		{"temporal messages", "… signals, queries, updates", temporal((*temporals).messages)},
		{"temporal memory", "… runs that wait", temporal((*temporals).memory)},
		{"agent turn", "a turn of an agent in memory, beyond bare HTTP calls", agentTurn},
		{"agent file", "… on a file: the flushes of its steps, and the time", agentFile},
		{"agent stream", "the first piece of a streamed answer, beyond a bare stream's", agentStream},
		{"agents at once", "1,000 agents in this process, at work and waiting", agentsAtOnce},
		{"host call", "a tool call through the host, beyond a bare session's", hostCall},
		{"start", "the README's first command, when it is built; run it from the root", start},
	}
}

func main() {
	if os.Getenv(serverVar) != "" {
		if err := echoServer().Run(context.Background(), &mcp.StdioTransport{}); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		return
	}
	only := flag.String("only", "", "measure only the parts whose name matches")
	rounds := flag.Int("rounds", 10, "how often each contender has its turn")
	quick := flag.Bool("quick", false, "small sizes and three rounds, to see that it works; the figures mean little")
	dir := flag.String("dir", os.TempDir(), "a directory on the disk to measure on")
	profile := flag.String("cpuprofile", "", "write a profile of the processor time to this file")
	list := flag.Bool("list", false, "list the parts")
	flag.Parse()
	if *list {
		for _, p := range parts() {
			fmt.Printf("%-20s %s\n", p.name, p.about)
		}
		return
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, *only, *rounds, *quick, *dir)
	pprof.StopCPUProfile()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, rounds int, quick bool, dir string) (err error) {
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	if quick {
		rounds = min(rounds, 3)
	}
	if dir, err = os.MkdirTemp(dir, "bench-"); err != nil {
		return err
	}
	defer func() {
		if rerr := os.RemoveAll(dir); err == nil {
			err = rerr
		}
	}()
	b := &bench{ctx: ctx, rounds: rounds, quick: quick, dir: dir}
	if err := b.onDisk(); err != nil {
		return err
	}
	if err := b.head(); err != nil {
		return err
	}
	for _, p := range parts() {
		if !match.MatchString(p.name) {
			continue
		}
		began := time.Now()
		fmt.Fprintf(os.Stderr, "bench: %s: %s\n", p.name, p.about)
		if err := p.run(b); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		fmt.Fprintf(os.Stderr, "bench: %s took %v\n", p.name, time.Since(began).Round(time.Millisecond))
	}
	return b.foot()
}
