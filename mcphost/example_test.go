package mcphost_test

import (
	"context"
	"fmt"
	"log"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/mcphost"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A workflow calls a tool of an MCP server. The call is recorded once; in
// another life of the program the run goes on behind it.
func Example() {
	ctx := context.Background()
	search := mcp.NewServer(&mcp.Implementation{Name: "search", Version: "1"}, nil)
	mcp.AddTool(search, &mcp.Tool{Name: "find"}, func(_ context.Context, _ *mcp.CallToolRequest, in struct {
		Query string `json:"query"`
	}) (*mcp.CallToolResult, any, error) {
		return text("three pages about " + in.Query), nil, nil
	})

	// Most servers are a Command or a URL; this one is in the program.
	host := mcphost.New(&mcphost.Options{Servers: map[string]mcphost.Server{"search": inside(search)}})
	defer host.Close(ctx)

	research := durable.NewWorkflow("research", func(ctx context.Context, topic string) (string, error) {
		res, err := mcphost.CallTool(ctx, "search", "find", map[string]string{"query": topic}, nil)
		if err != nil {
			return "", err
		}
		return res.Text(), nil
	}, nil)

	eng, err := durable.NewMemory(ctx, nil, host, research)
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close(ctx)
	run, err := research.Start(ctx, eng, "otters", nil)
	if err != nil {
		log.Fatal(err)
	}
	found, err := research.Result(ctx, run)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(found)
	// Output: three pages about otters
}
