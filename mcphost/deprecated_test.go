package mcphost_test

//lint:file-ignore SA1019 roots are deprecated from revision 2026-07-28 on, and servers ask for them.

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/mcphost"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func TestRoots(t *testing.T) {
	t.Parallel()
	for _, revision := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			srv := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
			addTool(srv, "roots", func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				res, _ := req.Params.InputResponses["r"].(*mcp.ListRootsResult)
				if res == nil && revision >= "2026" {
					return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"r": &mcp.ListRootsParams{}}}, nil
				}
				if res == nil {
					var err error
					if res, err = req.Session.ListRoots(ctx, nil); err != nil {
						return nil, err
					}
				}
				var all []string
				for _, r := range res.Roots {
					all = append(all, r.URI+" "+r.Name)
				}
				slices.Sort(all)
				return text(strings.Join(all, ", ")), nil
			})
			s := inside(srv)
			s.Pin = revision
			s.Roots = []mcphost.Root{{URI: "file:///data", Name: "data"}, {URI: "file:///real", Alias: "file:///shown"}}
			h := open(t, map[string]mcphost.Server{"s": s})
			if res := callTool(t, h, "s", "roots", nil); res.Text() != "file:///data data, file:///shown " {
				t.Errorf("%+v", res)
			}
		})
	}
}
