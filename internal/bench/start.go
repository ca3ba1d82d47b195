package main

import (
	"fmt"
	"os/exec"
	"time"
)

// start measures the README's first command, built before.
func start(b *bench) error {
	got, err := b.interleave(contender{"go run ./examples/invoice -demo", func() (time.Duration, error) {
		t := time.Now()
		out, err := exec.CommandContext(b.ctx, "go", "run", "./examples/invoice", "-demo").CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("%w: %s", err, out)
		}
		return time.Since(t), nil
	}})
	if err != nil {
		return err
	}
	b.add(row{what: "`go run ./examples/invoice -demo`, not the first time", ours: fmt.Sprintf("%s (%s)", short(got[0].median()), got[0].spread()), limit: "2 s",
		ratio: got[0].median().Seconds() / 2, target: 1})
	return nil
}
