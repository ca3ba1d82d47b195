// Package across calls helpers of other packages.
package across

import (
	"context"
	"slices"

	"example.com/foreign"
	"example.com/vet/durablecalls"
	"example.com/vet/helper"

	"github.com/mcpagent/mcpagent/durable"
)

var wf = durable.NewWorkflow("across", func(ctx context.Context, n int) (int, error) {
	local() // reported where it leaves the package
	helper.Trusted()
	new(helper.Config).Load() // want `os.ReadFile in workflow code is done again in each replay: do it in a step \(workflow across → helper.Config.Load → os.ReadFile, helper.go:24\)`
	helper.Start()            // want `a go statement in workflow code leaves the run: use durable.NewGroup or durable.Map \(workflow across → helper.Start → a go statement, helper.go:27\)`
	_ = helper.Limit          // want `the package variable Limit, which is written after the start,`
	_ = helper.Fixed
	helper.SetLimit(3) // want `a write to the package variable Limit`
	helper.Limit = 4   // want `a write to the package variable Limit`
	return helper.Pure(n), nil
}, nil)

func local() {
	helper.Stamp() // want `time.Now in workflow code gives another time in a replay: use durable.Now\(ctx\) \(workflow across → local → helper.Stamp → stamp → time.Now, helper.go:13\)`
}

var direct = durable.NewWorkflow("direct", durablecalls.Careless, nil) // want `time.Now .*\(workflow direct → durablecalls.Careless → time.Now, durablecalls.go:\d+\)`

var order = durable.NewWorkflow("order", func(ctx context.Context, m map[string]int) (int, error) {
	for k := range m { // want `durablecalls.Pay \(Step.Do\) in a range over a map`
		_ = durablecalls.Pay(ctx, k)
	}
	durablecalls.Pay(context.Background(), "x") // want `context.Background\(\) for durablecalls.Pay \(Step.Do\)`
	return 0, nil
}, nil)

// What is given to a function that hands it to package durable is workflow
// code as well.
func forwarded(ctx context.Context) {
	durablecalls.Define("far", func(ctx context.Context, n int) (int, error) {
		helper.Stamp() // want `workflow far → helper.Stamp`
		return n, nil
	})
	durablecalls.DefineStep("near", func(ctx context.Context, n int) (int, error) {
		helper.Stamp()
		return n, nil
	})
	_ = slices.IndexFunc([]int{1}, func(int) bool { helper.Stamp(); return true })
}

// What another module does in itself is its own affair, if it is not the clock,
// chance or I/O.
var far = durable.NewWorkflow("abroad", func(ctx context.Context, n int) (int, error) {
	foreign.Ago(durable.Now(ctx)) // want `time.Since .*\(workflow abroad → foreign.Ago → time.Since, foreign.go:27\)`
	foreign.Read()                // want `os.ReadFile .*\(workflow abroad → foreign.Read → os.ReadFile, foreign.go:30\)`
	return foreign.Compute(), nil
}, nil)

// A SideEffect may read the clock by way of others, too.
var side = durable.NewWorkflow("side", func(ctx context.Context, n int) (int, error) {
	_, err := durable.SideEffect(ctx, func() string {
		new(helper.Config).Load()      // want `workflow side → SideEffect → helper.Config.Load → os.ReadFile`
		_ = durablecalls.Pay(ctx, "x") // want `Step.Do .*ErrReadOnly.*\(workflow side → SideEffect → durablecalls.Pay → Step.Do`
		return helper.Stamp().String()
	})
	return n, err
}, nil)
