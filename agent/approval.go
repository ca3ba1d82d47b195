package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/toolset"
	"github.com/mcpagent/mcpagent/llm"
)

// Decision is what a [Rule] says about a tool call.
type Decision string

// The decisions.
const (
	Allow Decision = "allow"
	Ask   Decision = "ask"
	Deny  Decision = "deny"
)

// Rule says which tool calls it is about, and what becomes of them. What is
// left empty fits every call. In a glob, * is any text and ? one character.
type Rule struct {
	Server      string                          // name of the MCP server; a glob
	Tool        string                          // name that the model knows, or the server's own; a glob
	Destructive bool                            // only tools that say they are
	If          func(args json.RawMessage) bool // only these arguments; pure, it runs in the workflow
	Do          Decision
}

// Policy decides about tool calls. A rule that denies wins; among the others,
// the first one that fits. Where none fits, a tool that says that it is
// destructive is asked about, and any other one allowed.
type Policy []Rule

func (p Policy) decide(o *offered, args json.RawMessage) Decision {
	var first Decision
	for _, r := range p {
		switch {
		case !r.fits(o, args):
		case r.Do == Deny:
			return Deny
		case first == "":
			first = r.Do
		}
	}
	switch {
	case first != "":
		return first
	case o.destructive():
		return Ask
	}
	return Allow
}

func (r *Rule) fits(o *offered, args json.RawMessage) bool {
	glob := func(pattern string, names ...string) bool {
		for _, n := range names {
			if toolset.Glob(pattern, n) {
				return true
			}
		}
		return pattern == ""
	}
	return glob(r.Server, o.server) && glob(r.Tool, o.spec.Name, o.original) &&
		(!r.Destructive || o.destructive()) && (r.If == nil || r.If(args))
}

func (p Policy) check() error {
	var errs []error
	for i, r := range p {
		if r.Do != Allow && r.Do != Ask && r.Do != Deny {
			errs = append(errs, fmt.Errorf("rule %d of the policy: Do is %q, not allow, ask or deny", i+1, r.Do))
		}
		for _, g := range []string{r.Server, r.Tool} {
			if strings.ContainsAny(g, `[]\`) {
				errs = append(errs, fmt.Errorf("rule %d of the policy: %q: a pattern has * for any text and ? for one character, and nothing else", i+1, g))
			}
		}
	}
	return errors.Join(errs...)
}

// Approval is a person's answer about one exact tool call.
type Approval struct {
	Approve bool `json:"approve" jsonschema:"whether the call may be made"`
	// Args replace the arguments. Empty: as the model wrote them.
	Args json.RawMessage `json:"args,omitempty" jsonschema:"other arguments to call it with"`
	// Remember holds for all later calls of the same tool in this run.
	Remember bool   `json:"remember,omitempty" jsonschema:"do not ask about this tool again in this run"`
	Note     string `json:"note,omitempty" jsonschema:"what to tell the model"`
}

// Approvals is the question whether a tool may be called. Its digest binds the
// answer to the tool and its arguments.
var Approvals = durable.NewQuestion[Approval]("approval").
	Describe("Approve a tool call", "An agent wants to call a tool and asks for permission.")

// pending is what a person sees of a call that waits for them.
type pending struct {
	Agent  string          `json:"agent"`
	Tool   string          `json:"tool"`
	Server string          `json:"server,omitempty"`
	Args   json.RawMessage `json:"args,omitempty"`
	Why    string          `json:"why"`
}

// permit decides about a call: nil is yes, with the arguments in c; otherwise
// it is the result that the model gets.
func (t *talk) permit(ctx context.Context, o *offered, c *llm.ToolCall) (*llm.ToolResult, error) {
	switch t.a.c.Policy.decide(o, c.Args) {
	case Allow:
		return nil, nil
	case Deny:
		return toolset.Failed(*c, "%s is not allowed here; do without it", c.Name), nil
	}
	if yes, ok := t.remembered[c.Name]; ok {
		if yes {
			return nil, nil
		}
		return toolset.Failed(*c, "a person denied calls of %s in this run; do without it", c.Name), nil
	}
	why := "the policy asks about it"
	if o.destructive() {
		why = "the tool says that it is destructive"
	}
	about, err := json.Marshal(pending{t.a.name, o.spec.Name, o.server, c.Args, why})
	if err != nil {
		return nil, fmt.Errorf("%s: describe the call of %s: %w", t.a.name, c.Name, err)
	}
	a, err := Approvals.Ask(ctx, fmt.Sprintf("May %s call %s with %s?", t.a.name, c.Name, brief(c.Args)), &durable.AskOptions{
		Kind: "approval", Expires: t.a.c.wait(), Audience: t.a.c.Audience, Digest: digestOf(o, c.Args), Context: about,
	})
	switch {
	case errors.Is(err, durable.ErrExpired):
		return toolset.Failed(*c, "nobody answered whether %s may be called, for %v", c.Name, t.a.c.wait()), nil
	case errors.Is(err, durable.ErrNoEngine):
		return nil, fmt.Errorf("%s: %s needs a person's approval, and nobody can be asked without an engine: start a run, or allow it in Config.Policy: %w", t.a.name, c.Name, err)
	case err != nil:
		return nil, err
	}
	if a.Value.Remember {
		t.remembered[c.Name] = a.Value.Approve
	}
	if !a.Value.Approve {
		text := fmt.Sprintf("a person denied the call of %s", c.Name)
		if note := firstOf(a.Value.Note, a.Note); note != "" {
			text += ": " + note
		}
		return toolset.Failed(*c, "%s", text), nil
	}
	if args := a.Value.Args; len(args) > 0 && string(args) != "null" {
		c.Args = args
	}
	return nil, nil
}

func firstOf(ss ...string) string {
	for _, s := range ss {
		if s != "" {
			return s
		}
	}
	return ""
}

// digestOf binds an answer to a call.
func digestOf(o *offered, args json.RawMessage) string {
	h := sha256.New()
	for _, s := range []string{o.server, o.spec.Name, string(args)} {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// brief is the beginning of a text, for one line.
func brief(b []byte) string {
	const most = 300
	if len(b) == 0 {
		return "no arguments"
	}
	if len(b) <= most {
		return string(b)
	}
	return strings.ToValidUTF8(string(b[:most]), "") + "…"
}
