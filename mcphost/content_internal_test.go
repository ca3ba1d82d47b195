package mcphost

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpagent/mcpagent/llm"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// TestMediaWithoutContent is none: no provider would take the conversation.
func TestMediaWithoutContent(t *testing.T) {
	t.Parallel()
	got := contentParts([]mcp.Content{
		&mcp.ImageContent{MIMEType: "image/png"},
		&mcp.ImageContent{Data: []byte("x")},
		&mcp.AudioContent{MIMEType: "audio/wav", Data: []byte("x")},
		&mcp.EmbeddedResource{Resource: &mcp.ResourceContents{URI: "file:///a", Blob: []byte{}}},
	})
	want := []llm.Part{
		{Text: "(empty: image/png)"},
		{Media: &llm.Media{Type: "application/octet-stream", Data: []byte("x")}},
		{Media: &llm.Media{Type: "audio/wav", Data: []byte("x")}},
		{Text: "(empty: application/octet-stream file:///a)"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// TestSchemasThatAreNone are left out: a tool is called without one.
func TestSchemasThatAreNone(t *testing.T) {
	t.Parallel()
	for _, v := range []any{nil, "x", true, []any{1}, json.RawMessage("null")} {
		if got := rawSchema(v); got != nil {
			t.Errorf("%v is the schema %s", v, got)
		}
	}
	if got := rawSchema(map[string]any{"type": "object"}); string(got) != `{"type":"object"}` {
		t.Errorf("got %s", got)
	}
}
