package mcphost_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type echoIn struct {
	Text string `json:"text"`
}

// plain is a server with tools that do what they should.
func plain() *mcp.Server {
	srv := mcp.NewServer(&mcp.Implementation{Name: "plain", Version: "1"}, nil)
	mcp.AddTool(srv, &mcp.Tool{Name: "echo", Description: "says it again", Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true}},
		func(_ context.Context, _ *mcp.CallToolRequest, in echoIn) (*mcp.CallToolResult, any, error) {
			return text(in.Text), nil, nil
		})
	return srv
}

// serve is the test binary as a server.
func serve(kind string) {
	ctx := context.Background()
	switch kind {
	case "plain":
		_ = plain().Run(ctx, &mcp.StdioTransport{})
	case "silent": // never answers, nor ends
		<-time.After(time.Hour)
	default:
		fmt.Fprintf(os.Stderr, "no server %q\n", kind)
		os.Exit(2)
	}
}
