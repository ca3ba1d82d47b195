package wire

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/mcpagent/mcpagent/llm"
)

// CallID is the ID of a call as any provider takes it. That of another
// provider may be too long, or have other characters; it becomes one that is
// the same each time.
func CallID(id string) string {
	if len(id) <= 40 && llm.ToolName(id) {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "call_" + hex.EncodeToString(sum[:16])
}

// CallName is the name of a call as any provider takes it back. Models call
// tools that there are none of ("functions.read"), by names that nobody could
// give one.
func CallName(name string) string {
	if llm.ToolName(name) {
		return name
	}
	b := []byte(name[:min(len(name), 64)])
	for i := range b {
		if !llm.ToolName(string(b[i : i+1])) {
			b[i] = '_'
		}
	}
	return cmp.Or(string(b), "_")
}

// UniqueIDs gives those calls of an answer an ID that have none, or one that
// the conversation has already: some servers count from 0 in each answer.
func UniqueIDs(r *llm.Request, answer *llm.Message) {
	for i := range answer.Parts {
		c := answer.Parts[i].Call
		if c == nil {
			continue
		}
		is := func(p llm.Part) bool { return p.Call != nil && p.Call.ID == c.ID }
		if c.ID == "" || slices.ContainsFunc(answer.Parts[:i], is) ||
			slices.ContainsFunc(r.Messages, func(m llm.Message) bool { return slices.ContainsFunc(m.Parts, is) }) {
			c.ID = "call_" + rand.Text()
		}
	}
}

// Args are the arguments that a model wrote, as [llm.ToolCall] has them. Null
// is what some write where there are none.
func Args(text string) (args json.RawMessage, bad string) {
	if text == "" || text == "null" {
		return json.RawMessage("{}"), ""
	}
	var out bytes.Buffer
	err := json.Compact(&out, []byte(text))
	switch {
	case err != nil:
		bad = "the arguments are no JSON object: " + err.Error()
	case isObject(out.Bytes()):
		return out.Bytes(), ""
	default:
		bad = "the arguments are JSON, and no object"
	}
	args, _ = json.Marshal(text) // of a string
	return args, bad
}

// Written are the arguments as the model wrote them.
func Written(c *llm.ToolCall) string {
	var text string
	if c.Bad != "" && json.Unmarshal(c.Args, &text) == nil {
		return text
	}
	if len(c.Args) == 0 {
		return "{}"
	}
	return string(c.Args)
}

// Shown reports whether an image in a tool's result is of a type that providers
// take; other media is for each of them to say.
func Shown(d *llm.Media) bool {
	kind, _, _ := strings.Cut(d.Type, ";")
	return !strings.HasPrefix(kind, "image/") || slices.Contains([]string{"image/png", "image/jpeg", "image/jpg", "image/gif", "image/webp"}, kind)
}

// Named is what a model is told of media that it can't be shown.
func Named(d *llm.Media) string {
	about := []string{d.Type}
	if d.Name != "" {
		about = append(about, d.Name)
	}
	if d.URL != "" {
		about = append(about, d.URL)
	} else {
		about = append(about, fmt.Sprintf("%d bytes", len(d.Data)))
	}
	return "(not shown: " + strings.Join(about, ", ") + ")"
}

// Once is a sequence that can be ranged over once.
func Once(seq iter.Seq2[llm.Delta, error]) iter.Seq2[llm.Delta, error] {
	var used atomic.Bool
	return func(yield func(llm.Delta, error) bool) {
		if used.Swap(true) {
			yield(llm.Delta{}, fmt.Errorf("an answer is ranged over twice: it comes once"))
			return
		}
		seq(yield)
	}
}
