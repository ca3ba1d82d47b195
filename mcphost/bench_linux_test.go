package mcphost_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/internal/toolset"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/mcphost"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// BenchmarkCall measures a tool call through the host and through a bare
// session of the SDK, to the same server: in this process, and as a process of
// its own. Beside the time it tells the time of processors that this process
// took, which other work on the machine changes less.
func BenchmarkCall(b *testing.B) {
	for _, revision := range []string{"2025-11-25", "2026-07-28"} {
		for _, where := range []string{"inside", "process"} {
			s := child("plain")
			if where == "inside" {
				s = inside(plain())
			}
			s.Pin = revision
			b.Run(revision+"/"+where+"/host", func(b *testing.B) {
				h := open(b, map[string]mcphost.Server{"it": s})
				in := toolset.CallIn{Server: "it", Tool: "echo", Call: llm.ToolCall{ID: "1", Name: "it_echo", Args: json.RawMessage(`{"text":"hello"}`)}}
				measure(b, func() {
					if out, err := h.CallStep(b.Context(), in); err != nil || out.Result.Text() != "hello" {
						b.Fatal(out, err)
					}
				})
			})
			b.Run(revision+"/"+where+"/sdk", func(b *testing.B) {
				var t mcp.Transport
				if where == "inside" {
					t, _ = s.Dial(context.Background())
				} else {
					cmd := exec.Command(os.Args[0])
					cmd.Env = append(os.Environ(), serverVar+"=plain")
					t = &mcp.CommandTransport{Command: cmd}
				}
				cs, err := mcp.NewClient(&mcp.Implementation{Name: "bare", Version: "1"}, nil).Connect(b.Context(), t, &mcp.ClientSessionOptions{ProtocolVersion: revision})
				if err != nil {
					b.Fatal(err)
				}
				defer cs.Close()
				measure(b, func() {
					res, err := cs.CallTool(b.Context(), &mcp.CallToolParams{Name: "echo", Arguments: json.RawMessage(`{"text":"hello"}`)})
					if err != nil || res.Content[0].(*mcp.TextContent).Text != "hello" {
						b.Fatal(res, err)
					}
				})
			})
		}
	}
}

func measure(b *testing.B, do func()) {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	do()
	b.ReportAllocs()
	before := used()
	for b.Loop() {
		do()
	}
	b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op")
}
