package mcphost_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type echoIn struct {
	Text string `json:"text"`
}

// plain is a server with a tool that does what it should.
func plain() *mcp.Server {
	srv := mcp.NewServer(&mcp.Implementation{Name: "plain", Version: "1"}, nil)
	mcp.AddTool(srv, &mcp.Tool{Name: "echo", Description: "says it again", Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true}},
		func(_ context.Context, _ *mcp.CallToolRequest, in echoIn) (*mcp.CallToolResult, any, error) {
			return text(in.Text), nil, nil
		})
	return srv
}

func addTool(srv *mcp.Server, name string, do func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error)) {
	srv.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`)}, do)
}

// forever ends with the process only.
func forever() { <-time.After(time.Hour) }

// serve is the test binary as a server.
func serve(kind string) {
	ctx := context.Background()
	stdio := &mcp.StdioTransport{}
	srv := plain()
	switch kind {
	case "plain":
		_ = srv.Run(ctx, stdio)
	case "host":
		beHost()
	case "silent": // never answers, nor ends
		signal.Ignore(syscall.SIGTERM)
		forever()
	case "deaf": // works, and does not end
		signal.Ignore(syscall.SIGTERM)
		_ = srv.Run(ctx, stdio)
		forever()
	case "quitter":
		fmt.Fprintf(os.Stderr, "cannot go on: token %s is not valid\n", os.Getenv("TOKEN"))
		os.Exit(3)
	case "chatty": // a megabyte of logs
		line := strings.Repeat("x", 1023) + "\n"
		for range 1024 {
			fmt.Fprint(os.Stderr, line)
		}
		_ = srv.Run(ctx, stdio)
	case "banner": // what is no message, on standard output
		fmt.Print("Welcome!\n\n{\"level\":\"info\",\"msg\":\"a log line\"}\n{not json\n[1,2\n")
		_ = srv.Run(ctx, stdio)
	case "late": // is not up before it was given up as one that knows server/discover
		in := bufio.NewReader(os.Stdin)
		var asked string
		for range 2 {
			line, err := in.ReadString('\n')
			if err != nil {
				panic(err)
			}
			asked += line
		}
		_ = srv.Run(ctx, &mcp.IOTransport{Reader: io.NopCloser(io.MultiReader(strings.NewReader(asked), in)), Writer: os.Stdout})
	case "refuser":
		in := json.NewDecoder(os.Stdin)
		for {
			var m struct {
				ID json.RawMessage `json:"id"`
			}
			if err := in.Decode(&m); err != nil {
				return
			}
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32000,"message":"not today"}}`+"\n", m.ID)
		}
	case "fragile":
		addTool(srv, "die", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			fmt.Fprintln(os.Stderr, "goodbye, cruel world")
			os.Exit(7)
			return nil, nil
		})
		_ = srv.Run(ctx, stdio)
	case "family", "runaway": // a grandchild that does not end
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), serverVar+"=silent")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if kind == "runaway" {
			cmd.SysProcAttr = ownSession()
		}
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		_ = srv.Run(ctx, stdio)
	case "huge": // 200 MB in one message
		addTool(srv, "huge", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			piece := strings.Repeat("y", 1<<20)
			fmt.Print(`{"jsonrpc":"2.0","id":1,"result":"`)
			for range 200 {
				fmt.Print(piece)
			}
			fmt.Print("\"}\n")
			return nil, errors.New("never")
		})
		_ = srv.Run(ctx, stdio)
	case "slow":
		addTool(srv, "wait", func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		_ = srv.Run(ctx, stdio)
	case "unread": // introduces itself, and reads no more
		old(func(id json.RawMessage, method string) bool { return method != "notifications/initialized" })
		forever()
	case "mute": // says nothing to what it does not know
		old(func(id json.RawMessage, method string) bool { return true })
	default:
		fmt.Fprintf(os.Stderr, "no server %q\n", kind)
		os.Exit(2)
	}
}

// old is a small server of revision 2025-06-18, by hand.
func old(more func(id json.RawMessage, method string) bool) {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var m struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
		}
		if err := json.Unmarshal(in.Bytes(), &m); err != nil {
			panic(err)
		}
		switch m.Method {
		case "initialize":
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"old","version":"1"}}}`+"\n", m.ID)
		case "tools/list":
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"sum","inputSchema":{"type":"object"}}]}}`+"\n", m.ID)
		case "tools/call":
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"42"}]}}`+"\n", m.ID)
		}
		if !more(m.ID, m.Method) {
			return
		}
	}
}
