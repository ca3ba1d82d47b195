package mcphost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/toolset"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// maxPages is how many pages of a list are read: a server may go on for ever.
const maxPages = 1000

// each does something with servers side by side. The failure of a required one
// is the error; that of an optional one is in the list.
func (h *Host) each(ctx context.Context, names []string, do func(ctx context.Context, i int, s *session) error) ([]string, []toolset.Broken, error) {
	if len(names) == 0 {
		names = h.Servers()
	}
	names = slices.Clone(names)
	links := make([]*link, len(names))
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return nil, nil, durable.Permanent(fmt.Errorf("server %q is named twice", name))
		}
		l, err := h.link(name)
		if err != nil {
			return nil, nil, err
		}
		links[i] = l
	}
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, l := range links {
		wg.Go(func() {
			if l.s.Optional {
				if errs[i] = l.resting(); errs[i] != nil {
					return
				}
			}
			errs[i] = l.use(ctx, func(s *session) error { return do(ctx, i, s) })
		})
	}
	wg.Wait()
	var broken []toolset.Broken
	var bad []error
	for i, l := range links {
		switch {
		case errs[i] == nil:
		case l.s.Optional && ctx.Err() == nil:
			h.log.DebugContext(ctx, "mcphost: a server is left out", "server", l.name, "error", errs[i])
			broken = append(broken, toolset.Broken{Server: l.name, Error: errs[i].Error()})
		default:
			bad = append(bad, errs[i])
		}
	}
	return names, broken, errors.Join(bad...)
}

// use does something that may be done twice: on a connection that is lost
// meanwhile it is tried once more on a new one.
func (l *link) use(ctx context.Context, do func(*session) error) error {
	for again := false; ; again = true {
		s, err := l.session(ctx)
		if err != nil {
			return err
		}
		err = do(s)
		if err == nil || again || !s.isDown() || ctx.Err() != nil {
			return err
		}
	}
}

// request makes a request with a deadline. Nothing but tool calls reports
// progress, so there is one.
func (s *session) request(ctx context.Context, method string, do func(ctx context.Context) error) error {
	t := s.l.s.Timeouts
	ctx, cancel := context.WithTimeoutCause(ctx, t.Idle, fmt.Errorf("%w: no answer within %v (timeouts.idle)", durable.ErrTimeout, t.Idle))
	defer cancel()
	err := do(ctx)
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err = refusal(err); errors.Is(err, ErrProtocol) {
		return durable.Permanent(s.fail(method, err)) // it would say the same again
	}
	return s.fail(method, err)
}

// listTools gives the server's tools, as they were listed last, unless it said
// that they changed.
func (s *session) listTools(ctx context.Context) ([]*mcp.Tool, error) {
	s.mu.Lock()
	tools, listed := s.tools, s.listed
	s.mu.Unlock()
	if listed {
		return tools, nil
	}
	if caps := s.cs.InitializeResult().Capabilities; caps == nil || caps.Tools == nil {
		return nil, nil
	}
	// What changes while the list is read is read again: the mark is set
	// before, and a change takes it away.
	s.mu.Lock()
	s.listed = true
	s.mu.Unlock()
	err := s.request(ctx, "tools/list", func(ctx context.Context) error {
		p := &mcp.ListToolsParams{}
		for range maxPages {
			res, err := s.cs.ListTools(ctx, p)
			if err != nil {
				return err
			}
			tools = append(tools, res.Tools...)
			if res.NextCursor == "" {
				return nil
			}
			p = &mcp.ListToolsParams{Cursor: res.NextCursor}
		}
		return kindOf(ErrProtocol, "the list has more than %d pages", maxPages)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.listed = false
		return nil, err
	}
	if s.listed {
		s.tools = tools
	}
	return tools, nil
}

// listTools is the step mcp.list_tools.
func (h *Host) listTools(ctx context.Context, in toolset.ListIn) (toolset.Listing, error) {
	found := make([][]toolset.Listed, max(len(in.Servers), len(h.Servers())))
	_, broken, err := h.each(ctx, in.Servers, func(ctx context.Context, i int, s *session) error {
		tools, err := s.listTools(ctx)
		if err == nil {
			found[i] = h.offer(s, tools)
		}
		return err
	})
	if err != nil {
		return toolset.Listing{}, err
	}
	out := toolset.Listing{Tools: []toolset.Listed{}, Broken: broken}
	taken := map[string]bool{}
	for _, tools := range found {
		for _, t := range tools {
			if taken[t.Name] {
				t.Name = longName(t.Server, t.Original, t.Method)
			}
			taken[t.Name] = true
			out.Tools = append(out.Tools, t)
		}
	}
	return out, nil
}

// offer is what a server has to call, with names of our own, sorted.
func (h *Host) offer(s *session, tools []*mcp.Tool) []toolset.Listed {
	l := s.l
	servers := h.Servers()
	var out []toolset.Listed
	seen := map[string]bool{}
	for _, t := range tools {
		if seen[t.Name] || !l.s.allowed(t.Name) {
			continue
		}
		seen[t.Name] = true
		e := toolset.Listed{Server: l.name, Original: t.Name, Timeout: l.s.Timeouts.Request}
		e.Name = exposedName(servers, l.name, t.Name, "")
		e.Title, e.Description = l.hide.text(t.Title), l.hide.text(t.Description)
		e.Schema, e.Output = l.hide.json(rawSchema(t.InputSchema)), l.hide.json(rawSchema(t.OutputSchema))
		if a := t.Annotations; a != nil {
			if e.Title == "" {
				e.Title = l.hide.text(a.Title)
			}
			e.Hints = llm.Hints{ReadOnly: a.ReadOnlyHint, Idempotent: a.IdempotentHint, Destructive: a.DestructiveHint, OpenWorld: a.OpenWorldHint}
		}
		out = append(out, e)
	}
	if !h.opts.ToolsOnly {
		for _, m := range s.methods() {
			if !l.s.allowed(m.tool) {
				continue
			}
			e := m.listed(l.name)
			e.Timeout = l.s.Timeouts.Request
			if e.Name = exposedName(servers, l.name, m.tool, ""); seen[m.tool] {
				e.Name = exposedName(servers, l.name, m.tool, m.method)
			}
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b toolset.Listed) int {
		switch {
		case a.Name < b.Name:
			return -1
		case a.Name > b.Name:
			return 1
		}
		return 0
	})
	return out
}

// rawSchema is a schema as the server wrote it.
func rawSchema(v any) json.RawMessage {
	if v == nil {
		return nil
	}
	raw, err := json.Marshal(v)
	if err != nil || !bytes.HasPrefix(raw, []byte("{")) { // one that is no object says nothing
		return nil
	}
	return raw
}

// listResources is the step mcp.list_resources.
func (h *Host) listResources(ctx context.Context, in toolset.ListIn) (toolset.Resources, error) {
	found := make([][]toolset.Resource, max(len(in.Servers), len(h.Servers())))
	_, broken, err := h.each(ctx, in.Servers, func(ctx context.Context, i int, s *session) (err error) {
		found[i], err = s.listResources(ctx)
		return err
	})
	return toolset.Resources{Resources: slices.Concat(found...), Broken: broken}, err
}

func (s *session) listResources(ctx context.Context) (out []toolset.Resource, err error) {
	l := s.l
	if caps := s.cs.InitializeResult().Capabilities; caps == nil || caps.Resources == nil {
		return nil, nil
	}
	err = s.request(ctx, "resources/list", func(ctx context.Context) error {
		p := &mcp.ListResourcesParams{}
		for range maxPages {
			res, err := s.cs.ListResources(ctx, p)
			if err != nil {
				return err
			}
			for _, r := range res.Resources {
				if r != nil {
					out = append(out, toolset.Resource{Server: l.name, URI: r.URI, Name: r.Name, Title: r.Title, Description: l.hide.text(r.Description), Type: r.MIMEType, Size: r.Size})
				}
			}
			if res.NextCursor == "" {
				break
			}
			p = &mcp.ListResourcesParams{Cursor: res.NextCursor}
		}
		q := &mcp.ListResourceTemplatesParams{}
		for range maxPages {
			res, err := s.cs.ListResourceTemplates(ctx, q)
			if err != nil {
				return notThere(err) // servers may have none, and no answer
			}
			for _, r := range res.ResourceTemplates {
				if r != nil {
					out = append(out, toolset.Resource{Server: l.name, URI: r.URITemplate, Template: true, Name: r.Name, Title: r.Title, Description: l.hide.text(r.Description), Type: r.MIMEType})
				}
			}
			if res.NextCursor == "" {
				break
			}
			q = &mcp.ListResourceTemplatesParams{Cursor: res.NextCursor}
		}
		return nil
	})
	return out, err
}

// readResource is the step mcp.read_resource.
func (h *Host) readResource(ctx context.Context, in toolset.ReadIn) (out toolset.Contents, err error) {
	l, err := h.link(in.Server)
	if err != nil {
		return out, err
	}
	err = l.use(ctx, func(s *session) error {
		out.Parts, err = s.readResource(ctx, in.URI)
		return err
	})
	return out, err
}

func (s *session) readResource(ctx context.Context, uri string) (parts []llm.Part, err error) {
	err = s.request(ctx, "resources/read", func(ctx context.Context) error {
		res, err := s.cs.ReadResource(ctx, &mcp.ReadResourceParams{URI: uri})
		if err != nil {
			return err
		}
		if res.NeedsInput() {
			return kindOf(ErrProtocol, "it wants input for a resource, which is not supported")
		}
		parts = nil
		for _, c := range res.Contents {
			if c != nil {
				parts = append(parts, resourcePart(c, false))
			}
		}
		s.l.hide.parts(parts)
		return nil
	})
	return parts, err
}

// listPrompts is the step mcp.list_prompts.
func (h *Host) listPrompts(ctx context.Context, in toolset.ListIn) (toolset.Prompts, error) {
	found := make([][]toolset.PromptInfo, max(len(in.Servers), len(h.Servers())))
	_, broken, err := h.each(ctx, in.Servers, func(ctx context.Context, i int, s *session) (err error) {
		found[i], err = s.listPrompts(ctx)
		return err
	})
	return toolset.Prompts{Prompts: slices.Concat(found...), Broken: broken}, err
}

func (s *session) listPrompts(ctx context.Context) (out []toolset.PromptInfo, err error) {
	l := s.l
	if caps := s.cs.InitializeResult().Capabilities; caps == nil || caps.Prompts == nil {
		return nil, nil
	}
	err = s.request(ctx, "prompts/list", func(ctx context.Context) error {
		p := &mcp.ListPromptsParams{}
		for range maxPages {
			res, err := s.cs.ListPrompts(ctx, p)
			if err != nil {
				return err
			}
			for _, r := range res.Prompts {
				if r == nil {
					continue
				}
				e := toolset.PromptInfo{Server: l.name, Name: r.Name, Title: r.Title, Description: l.hide.text(r.Description)}
				for _, a := range r.Arguments {
					if a != nil {
						e.Arguments = append(e.Arguments, toolset.PromptArgument{Name: a.Name, Description: a.Description, Required: a.Required})
					}
				}
				out = append(out, e)
			}
			if res.NextCursor == "" {
				return nil
			}
			p = &mcp.ListPromptsParams{Cursor: res.NextCursor}
		}
		return nil
	})
	return out, err
}

// getPrompt is the step mcp.get_prompt.
func (h *Host) getPrompt(ctx context.Context, in toolset.PromptIn) (out toolset.Prompt, err error) {
	l, err := h.link(in.Server)
	if err != nil {
		return out, err
	}
	err = l.use(ctx, func(s *session) error {
		out, err = s.getPrompt(ctx, in.Name, in.Args)
		return err
	})
	return out, err
}

func (s *session) getPrompt(ctx context.Context, name string, args map[string]string) (out toolset.Prompt, err error) {
	l := s.l
	err = s.request(ctx, "prompts/get", func(ctx context.Context) error {
		res, err := s.cs.GetPrompt(ctx, &mcp.GetPromptParams{Name: name, Arguments: maps.Clone(args)})
		if err != nil {
			return err
		}
		if res.NeedsInput() {
			return kindOf(ErrProtocol, "it wants input for a prompt, which is not supported")
		}
		out = toolset.Prompt{Description: l.hide.text(res.Description)}
		for _, m := range res.Messages {
			if m == nil {
				continue
			}
			role := llm.RoleUser
			if m.Role == "assistant" {
				role = llm.RoleModel
			}
			parts := contentParts([]mcp.Content{m.Content})
			l.hide.parts(parts)
			out.Messages = append(out.Messages, llm.Message{Role: role, Parts: parts})
		}
		return nil
	})
	return out, err
}
