package mcphost

import (
	"fmt"
	"strings"

	"github.com/mcpagent/mcpagent/llm"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// contentParts is a server's content in the form that models are shown.
func contentParts(content []mcp.Content) []llm.Part {
	var parts []llm.Part
	for _, c := range content {
		switch c := c.(type) {
		case *mcp.TextContent:
			parts = append(parts, llm.Part{Text: c.Text})
		case *mcp.ImageContent:
			parts = append(parts, mediaPart(c.MIMEType, c.Data, ""))
		case *mcp.AudioContent:
			parts = append(parts, mediaPart(c.MIMEType, c.Data, ""))
		case *mcp.EmbeddedResource:
			if c.Resource != nil {
				parts = append(parts, resourcePart(c.Resource, true))
			}
		case *mcp.ResourceLink:
			parts = append(parts, llm.Part{Text: linkText(c)})
		}
	}
	return parts
}

// resourcePart is the content of a resource. named puts its address before a
// text, for who does not know it.
func resourcePart(r *mcp.ResourceContents, named bool) llm.Part {
	if r.Blob != nil {
		return mediaPart(r.MIMEType, r.Blob, r.URI)
	}
	if named && r.URI != "" {
		return llm.Part{Text: fmt.Sprintf("Resource %s:\n%s", r.URI, r.Text)}
	}
	return llm.Part{Text: r.Text}
}

// mediaPart is what a server sent as media. Without content it is none, and no
// provider would take it.
func mediaPart(kind string, data []byte, name string) llm.Part {
	kind = mimeType(kind)
	if len(data) == 0 {
		return llm.Part{Text: strings.TrimSpace("(empty: "+kind+" "+name) + ")"}
	}
	return llm.Part{Media: &llm.Media{Type: kind, Data: data, Name: name}}
}

func mimeType(s string) string {
	if s == "" {
		return "application/octet-stream"
	}
	return s
}

// linkText tells a model of a resource that it can ask for.
func linkText(r *mcp.ResourceLink) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Resource %s", r.URI)
	var about []string
	for _, s := range []string{r.Title, r.MIMEType} {
		if s != "" {
			about = append(about, s)
		}
	}
	if r.Title == "" && r.Name != "" {
		about = append([]string{r.Name}, about...)
	}
	if len(about) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(about, ", "))
	}
	if r.Description != "" {
		fmt.Fprintf(&b, ": %s", r.Description)
	}
	return b.String()
}
