package main

import (
	"bufio"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// start measures the README's first command, built before: until its server
// is up, and until the demonstration is over, which waits for a payment and
// before its retry.
func start(b *bench) error {
	var up times
	got, err := b.interleave(contender{"go run ./examples/invoice/demo", func() (time.Duration, error) {
		t := time.Now()
		var seen time.Duration
		cmd := exec.CommandContext(b.ctx, "go", "run", "./examples/invoice/demo")
		out, err := cmd.StdoutPipe()
		if err != nil {
			return 0, err
		}
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if seen == 0 && strings.Contains(lines.Text(), "a server, pid") {
				seen = time.Since(t)
			}
		}
		if err := cmd.Wait(); err != nil {
			return 0, err
		}
		if seen == 0 {
			return 0, fmt.Errorf("it never said that a server is up")
		}
		up = append(up, seen)
		return time.Since(t), nil
	}})
	if err != nil {
		return err
	}
	b.add(row{what: "`go run ./examples/invoice/demo`, not the first time: until its server is up", ours: short(up.median()), limit: "2 s",
		ratio: up.median().Seconds() / 2, target: 1})
	b.add(row{what: "the same, until the demonstration is over: a payment of half a second, two kills, a retry after a second", ours: short(got[0].median())})
	return nil
}
