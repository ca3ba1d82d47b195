package durable_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// The history of a run that waits in production is held against the code of
// the next release, before it is deployed.
func ExampleReplay() {
	order := func(before ...*durable.Step[int, int]) durable.Set {
		reserve := durable.NewStep("reserve", func(_ context.Context, n int) (int, error) { return n, nil }, nil)
		wf := durable.NewWorkflow("order", func(ctx context.Context, n int) (int, error) {
			for _, step := range before {
				if _, err := step.Do(ctx, n); err != nil {
					return 0, err
				}
			}
			if _, err := reserve.Do(ctx, n); err != nil {
				return 0, err
			}
			return n, durable.Sleep(ctx, 24*time.Hour)
		}, nil)
		return durable.Set{wf, reserve}
	}
	ctx := context.Background()
	eng, err := durable.NewMemory(ctx, nil, order())
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close(ctx)
	run, err := eng.Start(ctx, "order", []byte("3"), &durable.StartOptions{ID: "order-1"})
	if err != nil {
		log.Fatal(err)
	}
	var history []byte
	for done := false; !done; {
		d, err := run.Describe(ctx)
		if err != nil {
			log.Fatal(err)
		}
		done = len(d.Waiting) == 1 && d.Waiting[0].Name == "sleep"
	}
	if history, err = run.Export(ctx); err != nil {
		log.Fatal(err)
	}

	rep, err := durable.Replay(ctx, history, order())
	fmt.Println(rep.Turns, err)
	check := durable.NewStep("check", func(_ context.Context, n int) (int, error) { return n, nil }, nil)
	_, err = durable.Replay(ctx, history, order(check), check)
	fmt.Println(err)
	// Output:
	// 2 <nil>
	// run order-1 is blocked (mismatch): the code makes the call 0/1 (step "check"), where the history has 0/1 (step "reserve"): the workflow was changed under a running run; deploy code that fits, or use durable.Version (turn 1, at the start)
}
