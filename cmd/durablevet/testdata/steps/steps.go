// Package steps does everything that steps may do.
package steps

import (
	"context"
	"net/http"
	"os"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

var fetch = durable.NewStep("fetch", func(ctx context.Context, url string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	done := make(chan int)
	go func() { done <- 1 }()
	select {
	case <-done:
	case <-ctx.Done():
	}
	res, err := http.Get(url)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, nil
}, nil)

type gateway struct{}

func (gateway) call(context.Context, string) (string, error) { return os.Getenv("X"), nil }

var named = durable.NewStep[string, string]("named", gateway{}.call, nil)

var wf = durable.NewWorkflow("steps", func(ctx context.Context, n int) (int, error) {
	// The environment is read once, the file is not.
	_, err := durable.SideEffect(ctx, func() string {
		_, _ = os.ReadFile("x")    // want `os.ReadFile in workflow code is done again in each replay: do it in a step \(workflow steps → SideEffect → os.ReadFile\)`
		_ = durable.UUID(ctx, "x") // want `durable.UUID .*ErrReadOnly`
		return os.Getenv("X") + time.Now().String()
	})
	if err != nil {
		return 0, err
	}
	late := named.Bind(func(ctx context.Context, s string) (string, error) { return time.Now().String(), nil })
	_ = late
	return fetch.Do(ctx, "http://example.com")
}, nil)

// main does what it likes.
func open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	e, err := durable.NewMemory(ctx, nil, wf, fetch, named.Bind(gateway{}.call))
	if err != nil {
		return err
	}
	_, err = wf.Start(ctx, e, 1, nil)
	return err
}
