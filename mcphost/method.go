package mcphost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/toolset"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// method is what a server has beside tools, as a tool.
type method struct {
	method, tool string
	about        string
	schema       string
}

// methods are those that a listing adds to a server's tools.
var methods = []method{
	{"resources/list", "list_resources", "List the resources of the server %q, with their addresses.", `{"type":"object","properties":{}}`},
	{"resources/read", "read_resource", "Read a resource of the server %q.", `{"type":"object","properties":{"uri":{"type":"string","description":"Its address, from the list or made from a template of the list."}},"required":["uri"]}`},
	{"prompts/list", "list_prompts", "List the prompts of the server %q, with their arguments.", `{"type":"object","properties":{}}`},
	{"prompts/get", "get_prompt", "Get a prompt of the server %q, filled in.", `{"type":"object","properties":{"name":{"type":"string","description":"Its name, from the list."},"arguments":{"type":"object","additionalProperties":{"type":"string"},"description":"Its arguments, texts by name."}},"required":["name"]}`},
}

// methods are those that this server has.
func (s *session) methods() []method {
	caps := s.cs.InitializeResult().Capabilities
	var out []method
	for _, m := range methods {
		if caps != nil && (strings.HasPrefix(m.method, "resources/") && caps.Resources != nil || strings.HasPrefix(m.method, "prompts/") && caps.Prompts != nil) {
			out = append(out, m)
		}
	}
	return out
}

// listed is the method as a tool of a listing.
func (m *method) listed(server string) toolset.Listed {
	no := false
	return toolset.Listed{
		Tool: llm.Tool{
			Description: fmt.Sprintf(m.about, server), Schema: json.RawMessage(m.schema),
			Hints: llm.Hints{ReadOnly: true, Idempotent: true, Destructive: &no},
		},
		Server: server, Original: m.tool, Method: m.method,
	}
}

// callMethod does what a method says, for a model.
func (h *Host) callMethod(ctx context.Context, l *link, in *toolset.CallIn) (toolset.CallOut, error) {
	if h.opts.ToolsOnly || !l.s.allowed(in.Tool) {
		return toolset.CallOut{}, durable.Permanent(&Error{Server: l.name, Op: in.Method, Err: kindOf(ErrDenied, "the configuration does not allow the tool %q", in.Tool)})
	}
	var args struct {
		URI       string            `json:"uri"`
		Name      string            `json:"name"`
		Arguments map[string]string `json:"arguments"`
	}
	if len(in.Call.Args) > 0 {
		if err := json.Unmarshal(in.Call.Args, &args); err != nil {
			return toolset.CallOut{Result: toolset.Failed(in.Call, "the arguments do not fit: %v", err)}, nil
		}
	}
	res := &llm.ToolResult{ID: in.Call.ID, Name: in.Call.Name}
	data := func(v any) (err error) {
		res.Data, err = json.Marshal(v)
		res.Parts = []llm.Part{{Text: string(res.Data)}}
		return err
	}
	err := l.use(ctx, func(s *session) error {
		switch in.Method {
		case "resources/list":
			all, err := s.listResources(ctx)
			return errors.Join(err, data(toolset.Resources{Resources: all}))
		case "resources/read":
			parts, err := s.readResource(ctx, args.URI)
			res.Parts = parts
			return err
		case "prompts/list":
			all, err := s.listPrompts(ctx)
			return errors.Join(err, data(toolset.Prompts{Prompts: all}))
		case "prompts/get":
			p, err := s.getPrompt(ctx, args.Name, args.Arguments)
			for _, m := range p.Messages {
				res.Parts = append(res.Parts, m.Parts...)
			}
			return err
		}
		return durable.Permanent(fmt.Errorf("server %q: the method %q is not known", l.name, in.Method))
	})
	if err != nil {
		return toolset.CallOut{}, err
	}
	return toolset.CallOut{Result: res}, nil
}

// said is the error that a server answered with; nil if err is none of those.
func said(err error) *jsonrpc.Error {
	var e *jsonrpc.Error
	if !errors.As(err, &e) || ofSDK[e.Code] == e.Message {
		return nil
	}
	return e
}

// ofSDK are errors of the same type that the SDK makes itself, about requests
// that failed on the way: there and back, as far as it says.
var ofSDK = map[int64]string{
	-32003: "client is closing",
	-32004: "server is closing",
	-32005: "rejected by transport",
}

// refusal makes a server's refusal one of ours.
func refusal(err error) error {
	if e := said(err); e != nil {
		return kindOf(ErrProtocol, "%s (%d)", e.Message, e.Code)
	}
	return err
}

// notThere drops the error of a server that has not what was asked for.
func notThere(err error) error {
	if e := said(err); e != nil && e.Code == jsonrpc.CodeMethodNotFound {
		return nil
	}
	return err
}
