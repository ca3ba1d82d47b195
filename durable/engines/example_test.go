package engines_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/engines"
)

func Example() {
	greet := durable.NewStep("greet", func(_ context.Context, name string) (string, error) { return "Hello, " + name + "!", nil }, nil)
	hello := durable.NewWorkflow("hello", func(ctx context.Context, name string) (string, error) { return greet.Do(ctx, name) }, nil)

	ctx := context.Background()
	cfg := &engines.Config{Engine: "memory"} // or engines.Load("", nil)
	eng, err := engines.Open(ctx, cfg, nil, hello, greet)
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close(ctx)
	run, err := hello.Start(ctx, eng, "world", nil)
	if err != nil {
		log.Fatal(err)
	}
	result, err := run.Result(ctx)
	fmt.Println(string(result), err)
	// Output: "Hello, world!" <nil>
}

// Everything that is wrong is reported at once, with its place.
func ExampleLoad() {
	_, err := engines.Load("", &engines.LoadOptions{Env: []string{"MCP_APP_SETTINGS_PRELOAD=" + `
execution_engine: temporal
temporal:
  hsot: example.com
  timeout_seconds: soon
`}})
	var problems engines.Problems
	if errors.As(err, &problems) {
		for _, p := range problems {
			fmt.Printf("line %d, %s: %s\n", p.Pos.Line, p.Key, p.Text)
		}
	}
	// Output:
	// line 4, temporal.hsot: the key is not known: did you mean host?
	// line 5, temporal.timeout_seconds: "soon": want a duration: seconds (1.5), 90s, 1h30m or ISO 8601 (PT1H30M, P30D)
}

// A part of the program with a section of its own gets it from the same file.
func ExampleLoadOptions() {
	var billing struct {
		Gateway string         `yaml:"gateway"`
		Key     durable.Secret `yaml:"key"`
		Limit   int            `yaml:"limit" as:"size"`
	}
	_, err := engines.Load("", &engines.LoadOptions{
		Sections: map[string]any{"billing": &billing},
		Env: []string{"GATEWAY_KEY=sk-123", "MCP_APP_SETTINGS_PRELOAD=" + `
billing:
  gateway: https://pay.example.com
  key: env:GATEWAY_KEY
  limit: 1MB
`}})
	fmt.Println(billing, err)
	fmt.Println(billing.Key.Reveal() == "sk-123")
	// Output:
	// {https://pay.example.com (secret) 1048576} <nil>
	// true
}

func ExampleExplain() {
	pay := durable.NewStep("invoice.pay", func(context.Context, string) (string, error) { return "", nil },
		&durable.StepOptions{Retry: &durable.Retry{MaxAttempts: 5}})
	cfg, err := engines.Load("", &engines.LoadOptions{Env: []string{"MCP_APP_SETTINGS_PRELOAD=" + `
workflow_task_retry_policies:
  "*": {maximum_attempts: 10}
  invoice.*: {initial_interval: PT30S}
`}})
	if err != nil {
		log.Fatal(err)
	}
	opts := &engines.Options{Engine: durable.Options{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}}
	eng, err := engines.Open(context.Background(), cfg, opts, pay)
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close(context.Background())
	policies, err := engines.Explain(cfg, opts, eng.Definitions())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(policies[0])
	// Output:
	// invoice.pay
	//   maximum_attempts           5            the step
	//   initial_interval           30s          environment variable MCP_APP_SETTINGS_PRELOAD:4:3 "invoice.*"
	//   backoff_coefficient        2            the default
	//   maximum_interval           50m0s        the default
	//   non_retryable_error_types  none         the default
	//   won: environment variable MCP_APP_SETTINGS_PRELOAD:4:3 "invoice.*"
	//   matches too: environment variable MCP_APP_SETTINGS_PRELOAD:3:3 "*"
}
