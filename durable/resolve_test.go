package durable_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpagent/mcpagent/durable"
)

func TestResolveStep(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		options  durable.Options
		declared durable.StepOptions
		want     durable.StepOptions
	}{
		{"the defaults", durable.Options{}, durable.StepOptions{},
			durable.StepOptions{Timeout: 10 * time.Minute, Retry: &durable.Retry{Initial: time.Second, Backoff: 2, Max: 100 * time.Second}}},
		{"field by field", durable.Options{Policies: durable.Policies{"invoice.*": {MaxAttempts: 3, Max: time.Minute}, "*": {Backoff: 9}}},
			durable.StepOptions{Timeout: 30 * time.Second, Retry: &durable.Retry{Initial: 5 * time.Second, MaxAttempts: 5, NonRetryable: []string{"X"}}},
			durable.StepOptions{Timeout: 30 * time.Second, Retry: &durable.Retry{Initial: 5 * time.Second, Backoff: 2, Max: time.Minute, MaxAttempts: 3, NonRetryable: []string{"X"}}}},
		{"an empty list takes the declared types away", durable.Options{Policies: durable.Policies{"pay": {NonRetryable: []string{}}}},
			durable.StepOptions{Retry: &durable.Retry{NonRetryable: []string{"X"}}},
			durable.StepOptions{Timeout: 10 * time.Minute, Retry: &durable.Retry{Initial: time.Second, Backoff: 2, Max: 100 * time.Second, NonRetryable: []string{}}}},
		{"the longest wait holds for the first one", durable.Options{Policies: durable.Policies{"pay": {Max: 3 * time.Second}}},
			durable.StepOptions{Retry: &durable.Retry{Initial: 5 * time.Second}},
			durable.StepOptions{Timeout: 10 * time.Minute, Retry: &durable.Retry{Initial: 3 * time.Second, Backoff: 2, Max: 3 * time.Second}}},
		{"at most once stays it", durable.Options{Policies: durable.Policies{"*": {MaxAttempts: 7}}},
			durable.StepOptions{AtMostOnce: true},
			durable.StepOptions{AtMostOnce: true, Timeout: 10 * time.Minute, Retry: &durable.Retry{Initial: time.Second, Backoff: 2, Max: 100 * time.Second, MaxAttempts: 1}}},
		{"StepTimeout", durable.Options{StepTimeout: time.Minute}, durable.StepOptions{},
			durable.StepOptions{Timeout: 10 * time.Minute, TotalTimeout: time.Minute, Retry: &durable.Retry{Initial: time.Second, Backoff: 2, Max: 100 * time.Second}}},
		{"StepTimeout below a declared timeout", durable.Options{StepTimeout: time.Minute}, durable.StepOptions{Timeout: time.Hour},
			durable.StepOptions{Timeout: time.Hour, Retry: &durable.Retry{Initial: time.Second, Backoff: 2, Max: 100 * time.Second}}},
		{"StepTimeout below a declared total", durable.Options{StepTimeout: time.Minute}, durable.StepOptions{TotalTimeout: time.Hour},
			durable.StepOptions{Timeout: 10 * time.Minute, TotalTimeout: time.Hour, Retry: &durable.Retry{Initial: time.Second, Backoff: 2, Max: 100 * time.Second}}},
	} {
		got, err := test.options.ResolveStep("invoice.pay", test.declared)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		} else if d := cmp.Diff(test.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, d)
		}
	}
	if _, err := new(durable.Options).ResolveStep("x", durable.StepOptions{Timeout: -1}); err == nil {
		t.Error("a negative timeout is not refused")
	}
}

func TestDeclaredStep(t *testing.T) {
	t.Parallel()
	pay := durable.NewStep[string, string]("pay", nil, &durable.StepOptions{Timeout: time.Second})
	d, err := durable.NewDefinitions(pay.Bind(func(_ context.Context, s string) (string, error) { return s, nil }))
	if err != nil {
		t.Fatal(err)
	}
	if o, ok := d.Step("pay"); !ok || o.Timeout != time.Second {
		t.Errorf("%+v, %v", o, ok)
	}
	if _, ok := d.Step("nothing"); ok {
		t.Error("a step that is not there is found")
	}
}

func TestStepTimeoutOfTheEngine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := durable.NewStep("hang", func(ctx context.Context, _ none) (string, error) { <-ctx.Done(); return "", ctx.Err() }, nil)
		flow := durable.NewWorkflow("flow", func(ctx context.Context, _ none) (string, error) { return hang.Do(ctx, none{}) }, nil)
		eng, err := durable.NewMemory(t.Context(), &durable.Options{StepTimeout: time.Minute, Logger: slog.New(slog.DiscardHandler)}, flow, hang)
		if err != nil {
			t.Fatal(err)
		}
		defer eng.Close(context.Background())
		began := time.Now()
		run, err := flow.Start(t.Context(), eng, none{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = run.Result(t.Context())
		var failed *durable.RunError
		if took := time.Since(began); !errors.As(err, &failed) || took != time.Minute {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

func TestReuseOfTheEngine(t *testing.T) {
	t.Parallel()
	flow := durable.NewWorkflow("flow", func(context.Context, none) (string, error) { return "done", nil }, nil)
	for policy, fresh := range map[durable.ReusePolicy]bool{durable.ReuseReject: false, durable.ReuseAllow: true, durable.ReuseFailed: false} {
		eng, err := durable.NewMemory(t.Context(), &durable.Options{Reuse: policy}, flow)
		if err != nil {
			t.Fatal(err)
		}
		defer eng.Close(context.Background())
		for i := range 2 {
			run, err := eng.Start(t.Context(), "flow", nil, &durable.StartOptions{ID: "one"})
			if err != nil {
				t.Fatal(err)
			}
			if i == 1 && run.Existing == fresh {
				t.Errorf("policy %q: the run that is there: %v", policy, run.Existing)
			}
			if _, err := run.Result(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, bad := range []durable.Options{{Reuse: "sometimes"}, {StepTimeout: -1}} {
		if _, err := durable.NewMemory(t.Context(), &bad); err == nil || !strings.Contains(err.Error(), "options: ") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
