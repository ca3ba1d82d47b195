package llm

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// ToolName reports whether a tool may be called that: every provider takes 1 to
// 64 letters, digits, _ and -.
func ToolName(s string) bool {
	for _, c := range []byte(s) {
		if (c|' ' < 'a' || c|' ' > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// Validate finds what no provider could take; each provider calls it before it
// sends anything. The rules:
//
//   - the conversation begins and ends with a user or with results, and is not empty
//   - a model speaks after a user or after results; a user after a model, or
//     right after results
//   - a message with calls is followed by one that has exactly one result for
//     each, in the order of the calls, and nothing else
//   - a call's ID is unique in the conversation
//   - a part is one thing, and where it may be: media and text of users, calls
//     and reasoning of models
//   - names of tools are [A-Za-z0-9_-]{1,64} and unique; schemas are objects
//   - Choice is a tool that is there
//
// The error is an [*Error] of class [Invalid] that names the place.
func (r *Request) Validate() error {
	if err := r.validate(); err != nil {
		return &Error{Class: Invalid, Message: "the request is wrong: " + err.Error(), Err: err}
	}
	return nil
}

func (r *Request) validate() error {
	tools := map[string]bool{}
	for i, t := range r.Tools {
		switch {
		case !ToolName(t.Name):
			return fmt.Errorf("tool %d has the name %q, want [A-Za-z0-9_-]{1,64}", i, t.Name)
		case tools[t.Name]:
			return fmt.Errorf("there are two tools with the name %s", t.Name)
		}
		tools[t.Name] = true
		if err := object(t.Schema, true); err != nil {
			return fmt.Errorf("the schema of tool %s %w", t.Name, err)
		}
	}
	switch r.Choice {
	case ToolAuto, ToolNone:
	case ToolRequired:
		if len(tools) == 0 {
			return fmt.Errorf("the choice is to call a tool, and there is none")
		}
	default:
		if !tools[string(r.Choice)] {
			return fmt.Errorf("the choice is tool %q, which is not there", r.Choice)
		}
	}
	if s := r.Schema; s != nil {
		if s.Name != "" && !ToolName(s.Name) {
			return fmt.Errorf("the schema of the answer has the name %q, want [A-Za-z0-9_-]{1,64}", s.Name)
		}
		if err := object(s.Schema, false); err != nil {
			return fmt.Errorf("the schema of the answer %w", err)
		}
	}
	if r.MaxTokens < 0 {
		return fmt.Errorf("MaxTokens is %d", r.MaxTokens)
	}
	switch r.Effort {
	case "", "none", "low", "medium", "high":
	default:
		return fmt.Errorf("the effort is %q, want none, low, medium or high", r.Effort)
	}
	if err := object(r.Extra, true); err != nil {
		return fmt.Errorf("what is extra %w", err)
	}
	return r.conversation()
}

// object wants JSON that is an object.
func object(b json.RawMessage, absent bool) error {
	b = bytes.TrimSpace(b)
	switch {
	case len(b) == 0 && absent:
		return nil
	case len(b) == 0:
		return fmt.Errorf("is missing")
	case !json.Valid(b):
		return fmt.Errorf("is no JSON: %.60q", b)
	case b[0] != '{':
		return fmt.Errorf("is no object: %.60q", b)
	}
	return nil
}

// place is a message, in words.
type place int

func (p place) String() string { return fmt.Sprintf("message %d", int(p)) }

func (r *Request) conversation() error {
	if len(r.Messages) == 0 {
		return fmt.Errorf("there are no messages")
	}
	var before Role
	var open []*ToolCall // of the message before
	ids := make(map[string]bool, len(r.Messages)/2)
	for i, m := range r.Messages {
		at := place(i)
		if len(open) > 0 && m.Role != RoleTools {
			return fmt.Errorf("%s is of role %q, but call %s (%s) has no result", at, m.Role, open[0].ID, open[0].Name)
		}
		for j := range m.Parts {
			if err := m.Parts[j].validate(m.Role); err != nil {
				return fmt.Errorf("%s, part %d: %w", at, j, err)
			}
		}
		switch m.Role {
		case RoleUser:
			if before == RoleUser {
				return fmt.Errorf("%s is of a user, as the one before it: make one of them", at)
			}
			if m.empty() {
				return fmt.Errorf("%s says nothing", at)
			}
		case RoleModel:
			if before == "" || before == RoleModel {
				return fmt.Errorf("%s is of the model, which nobody asked", at)
			}
			open = m.appendCalls(open[:0])
			for _, c := range open {
				if ids[c.ID] {
					return fmt.Errorf("%s has a call with the ID %q of another", at, c.ID)
				}
				ids[c.ID] = true
			}
		case RoleTools:
			if err := m.answers(open); err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
			open = open[:0]
		default:
			return fmt.Errorf("%s has the role %q, want %s, %s or %s", at, m.Role, RoleUser, RoleModel, RoleTools)
		}
		before = m.Role
	}
	if before == RoleModel {
		if len(open) > 0 {
			return fmt.Errorf("the last message has call %s (%s) without a result", open[0].ID, open[0].Name)
		}
		return fmt.Errorf("the last message is the model's own")
	}
	return nil
}

// answers holds the results of a message against the calls of the one before.
func (m Message) answers(calls []*ToolCall) error {
	if len(calls) == 0 {
		return fmt.Errorf("results, and the message before it calls no tool")
	}
	for i, p := range m.Parts {
		if i >= len(calls) {
			return fmt.Errorf("a result for %s too many", p.Result.ID)
		}
		if c := calls[i]; p.Result.ID != c.ID || p.Result.Name != c.Name {
			return fmt.Errorf("result %d is for %s (%s), and the call is %s (%s)", i, p.Result.ID, p.Result.Name, c.ID, c.Name)
		}
	}
	if n := len(m.Parts); n < len(calls) {
		return fmt.Errorf("call %s (%s) has no result", calls[n].ID, calls[n].Name)
	}
	return nil
}

func (m Message) empty() bool {
	for _, p := range m.Parts {
		if p.Text != "" || p.Media != nil {
			return false
		}
	}
	return true
}

func (p *Part) validate(role Role) error {
	n := 0
	for _, set := range [...]bool{p.Text != "", p.Media != nil, p.Call != nil, p.Result != nil, p.Reasoning != nil} {
		if set {
			n++
		}
	}
	switch {
	case n > 1:
		return fmt.Errorf("more than one thing")
	case p.Result != nil && role != RoleTools, p.Result == nil && role == RoleTools:
		return fmt.Errorf("results are in messages of role %q, and nothing else is", RoleTools)
	case p.Call != nil && role != RoleModel:
		return fmt.Errorf("a call by a %s", role)
	case p.Reasoning != nil && role != RoleModel:
		return fmt.Errorf("reasoning of a %s", role)
	}
	switch {
	case p.Call != nil:
		if p.Call.ID == "" {
			return fmt.Errorf("the call of %s has no ID", p.Call.Name)
		}
		if len(p.Call.Args) > 0 && !json.Valid(p.Call.Args) {
			return fmt.Errorf("the arguments of call %s are no JSON: %.60q", p.Call.ID, p.Call.Args)
		}
	case p.Media != nil:
		return p.Media.validate()
	case p.Result != nil:
		if len(p.Result.Data) > 0 && !json.Valid(p.Result.Data) {
			return fmt.Errorf("the data of result %s are no JSON: %.60q", p.Result.ID, p.Result.Data)
		}
		for i, q := range p.Result.Parts {
			if q.Call != nil || q.Result != nil || q.Reasoning != nil {
				return fmt.Errorf("part %d of result %s is neither text nor media", i, p.Result.ID)
			}
			if err := q.validate(RoleUser); err != nil {
				return fmt.Errorf("part %d of result %s: %w", i, p.Result.ID, err)
			}
		}
	}
	return nil
}

func (m *Media) validate() error {
	switch {
	case m.Type == "":
		return fmt.Errorf("media %q without a type", m.Name)
	case len(m.Data) == 0 && m.URL == "":
		return fmt.Errorf("%s %q without content", m.Type, m.Name)
	case len(m.Data) > 0 && m.URL != "":
		return fmt.Errorf("%s %q has content and a URL", m.Type, m.Name)
	}
	return nil
}
