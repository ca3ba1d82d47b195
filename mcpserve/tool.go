package mcpserve

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Tool says how a definition is offered. The zero value is fine; fields that
// have no meaning for a kind of definition are refused, by name.
type Tool struct {
	// Name of the tool, 1 to 64 of A-Z a-z 0-9 _ -. Empty: the definition's
	// name, with other characters made _.
	Name string
	// Title and Description are for people and for the client's model. Empty:
	// the definition's own, and what follows from its kind.
	Title, Description string
	Icons              []Icon
	Hints              *Hints         // nil: what follows from the kind
	Meta               map[string]any // _meta of the tool
	// InputSchema replaces the JSON Schema that is made from the Go type, for
	// types that have none or say too little. It describes the input of a
	// workflow, the payload of a message, the answer of a question.
	InputSchema json.RawMessage
	// Arg is the name of one argument that holds the whole value. Empty: the
	// fields of the value are the arguments; where they can't be, the argument
	// is called input (workflow, query, update), payload (signal) or value
	// (question).
	Arg string

	// Async (workflows) answers with the ids as soon as the run has started.
	// Otherwise the call waits for the result and hands over to the ids after
	// Wait.
	Async bool
	// Wait (workflows) is how long an inline call waits. 0: [Options.Wait].
	Wait time.Duration
	// CancelRun (workflows) cancels the run that a call has started when its
	// client cancels the call or goes away. Otherwise the run goes on.
	CancelRun bool
	// ID (workflows) makes the workflow id from fields of the input:
	// "invoice-{invoice_id}", with dots for fields of fields. The same id and
	// input again is the same run. Empty: a new id each time.
	ID string
	// Reuse (workflows) says what a call does when a finished run has its id.
	Reuse durable.ReusePolicy

	// Const (questions) is the answer; the tool takes no other. Nil: the
	// answer is in the arguments.
	Const any
}

// Icon is a picture of a tool or a server.
type Icon struct {
	Source   string   // https: or data: URI
	MIMEType string   // empty: the client finds out
	Sizes    []string // "48x48", "any"
	Theme    string   // light or dark; empty: both
}

// Hints tell a client what calling a tool may do (tool annotations of MCP).
type Hints struct {
	ReadOnly    bool  // changes nothing
	Idempotent  bool  // the same call again changes nothing more
	Destructive *bool // may destroy; nil: not said, which clients take for yes
	OpenWorld   *bool // reaches beyond this server; nil: not said, which clients take for yes
}

func icons(in []Icon) []mcp.Icon {
	var out []mcp.Icon
	for _, i := range in {
		out = append(out, mcp.Icon{Source: i.Source, MIMEType: i.MIMEType, Sizes: i.Sizes, Theme: mcp.IconTheme(i.Theme)})
	}
	return out
}

// check refuses options without meaning, all at once.
func (t *Tool) check(kind durable.Kind) error {
	var errs []error
	if err := checkToolName(t.Name); err != nil {
		errs = append(errs, err)
	}
	if kind != durable.KindWorkflow {
		for _, f := range []struct {
			name string
			set  bool
		}{
			{"Async", t.Async}, {"Wait", t.Wait != 0}, {"CancelRun", t.CancelRun}, {"ID", t.ID != ""}, {"Reuse", t.Reuse != ""},
		} {
			if f.set {
				errs = append(errs, fmt.Errorf("only workflows have Tool.%s; remove it", f.name))
			}
		}
	}
	if t.Const != nil && kind != durable.KindQuestion {
		errs = append(errs, errors.New("only questions have Tool.Const; remove it"))
	}
	if t.Const != nil && (t.Arg != "" || t.InputSchema != nil) {
		errs = append(errs, errors.New("the option Tool.Const leaves nothing for Arg and InputSchema to describe; remove them"))
	}
	if kind == durable.KindStatus && (t.Arg != "" || t.InputSchema != nil) {
		errs = append(errs, errors.New("a status has no input; remove Tool.Arg and Tool.InputSchema"))
	}
	if t.Wait < 0 {
		errs = append(errs, fmt.Errorf("the option Tool.Wait is %v; give a positive time, or set Async", t.Wait))
	}
	if t.Async && (t.Wait != 0 || t.CancelRun) {
		errs = append(errs, errors.New("an Async tool does not wait; remove Wait and CancelRun"))
	}
	return errors.Join(errs...)
}

// tool makes what clients see of a tool.
func (t *Tool) tool(info durable.Info, fallback string, hints Hints, in, out *jsonschema.Schema) *mcp.Tool {
	m := &mcp.Tool{
		Name: t.Name, Title: t.Title, Description: t.Description, Icons: icons(t.Icons), Meta: t.Meta,
		InputSchema: in, OutputSchema: out,
	}
	if m.Title == "" {
		if m.Title = info.Title; m.Title == "" {
			m.Title = humanize(t.Name)
		}
	}
	if m.Description == "" {
		if m.Description = info.Description; m.Description != "" {
			m.Description = strings.TrimSpace(m.Description) + "\n\n"
		}
		m.Description += fallback
	}
	if t.Hints != nil {
		hints = *t.Hints
	}
	m.Annotations = hints.annotations(m.Title)
	return m
}

func (h Hints) annotations(title string) *mcp.ToolAnnotations {
	return &mcp.ToolAnnotations{
		Title: title, ReadOnlyHint: h.ReadOnly, IdempotentHint: h.Idempotent,
		DestructiveHint: h.Destructive, OpenWorldHint: h.OpenWorld,
	}
}

func readsOnly() Hints {
	return Hints{ReadOnly: true, Idempotent: true, Destructive: new(false), OpenWorld: new(false)}
}

// input is the schema of the user's value.
func (t *Tool) input(typ reflect.Type) (*jsonschema.Schema, error) {
	if t.InputSchema == nil {
		s, err := schemaOf(typ)
		if err != nil {
			return nil, fmt.Errorf("%v has no JSON Schema (%w); set Tool.InputSchema", typ, err)
		}
		return s, nil
	}
	s := new(jsonschema.Schema)
	if err := json.Unmarshal(t.InputSchema, s); err != nil {
		return nil, fmt.Errorf("Tool.InputSchema: %w", err)
	}
	if _, err := s.Resolve(nil); err != nil {
		return nil, fmt.Errorf("Tool.InputSchema: %w", err)
	}
	return s, nil
}

// toolName makes the name of a definition fit for a tool.
func toolName(name string) string {
	return strings.Map(func(r rune) rune {
		if okInToolName(r) {
			return r
		}
		return '_'
	}, name)
}

func okInToolName(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-'
}

func checkToolName(name string) error {
	if name == "" || len(name) > 64 {
		return fmt.Errorf("a tool name has 1 to 64 characters, %q has %d; set Tool.Name", name, len(name))
	}
	for _, r := range name {
		if !okInToolName(r) {
			return fmt.Errorf("the tool name %q has %q; use letters, digits, _ and -", name, r)
		}
	}
	return nil
}

// humanize makes a title of a name: invoice_status is "Invoice status".
func humanize(name string) string {
	words := strings.Join(strings.FieldsFunc(name, func(r rune) bool { return r == '_' || r == '-' }), " ")
	for i, r := range words {
		return string(unicode.ToUpper(r)) + words[i+len(string(r)):]
	}
	return name
}
