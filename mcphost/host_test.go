package mcphost_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mcpagent/mcpagent/mcphost"
)

func TestListAndCall(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]mcphost.Server{"process": child("plain"), "inside": inside(plain())} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t, map[string]mcphost.Server{"it": s})
			listing, err := do(t, h, func(ctx context.Context) (mcphost.Listing, error) { return mcphost.ListTools(ctx) })
			if err != nil {
				t.Fatal(err)
			}
			if len(listing.Tools) != 1 || listing.Tools[0].Name != "it_echo" || !listing.Tools[0].Hints.ReadOnly {
				t.Fatalf("%+v", listing)
			}
			res := callTool(t, h, "it", "echo", map[string]string{"text": "hello"})
			if diff := cmp.Diff("hello", res.Text()); diff != "" || res.Error {
				t.Errorf("%+v\n%s", res, diff)
			}
		})
	}
}

// TestAWrongAddressShowsNoSecret is about those that can't be read.
func TestAWrongAddressShowsNoSecret(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"htps://me:canary@host/mcp", "me:canary@host?api_key=canary", "https://me:%zz-canary@host", "host/mcp?api_key=canary"} {
		err := open(t, map[string]mcphost.Server{"s": {URL: address}}).Check()
		if err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "host") {
			t.Errorf("%s: %v", address, err)
		}
	}
}
