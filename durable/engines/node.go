package engines

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Pos is where something was read: a line and a column of a file, both from 1,
// or an environment variable, which has neither.
type Pos struct {
	File         string
	Line, Column int
}

// String writes a position as compilers do; empty if there is none.
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// node is one value of the merged configuration, with the place it is from.
type node struct {
	pos    Pos
	kind   kind
	text   string // of a scalar, before ${…} is expanded
	quoted bool   // the text is one, whatever it looks like
	env    bool   // from an environment variable: a text that may stand for a list or a map
	hidden bool   // from a secrets file: not shown in messages
	dir    string // what relative paths start from
	keys   []entry
	items  []*node
	size   int // of the tree, aliases counted as often as they are used
}

type kind uint8

const (
	null kind = iota
	scalar
	list
	mapping
)

func (k kind) String() string {
	return [...]string{"nothing", "a single value", "a list", "a map"}[k]
}

// entry is a key of a map.
type entry struct {
	name  string
	pos   Pos
	value *node
}

func (n *node) get(name string) *node {
	if n != nil {
		for _, e := range n.keys {
			if e.name == name {
				return e.value
			}
		}
	}
	return nil
}

// The limits of a file. They are far above what people write, and below what
// makes the parser or us use much memory or stack.
const (
	maxFile     = 1 << 20
	maxBrackets = 20_000 // of flow style, in the file
	maxNesting  = 1_000  // of one line, in block style
	maxNodes    = 200_000
)

// source is a text to parse.
type source struct {
	file   string // as it is called in messages
	dir    string
	hidden bool
}

// parse reads one YAML document. The result is nil if there is none.
func (s source) parse(text []byte, p *Problems) *node {
	at := Pos{File: s.file}
	switch {
	case len(text) > maxFile:
		p.add(at, "", "the file has %d bytes, the limit is %d", len(text), maxFile)
		return nil
	case tooDeep(string(text)):
		p.add(at, "", "the file is nested too deeply")
		return nil
	}
	f, err := parser.ParseBytes(bytes.TrimPrefix(text, []byte("\ufeff")), 0)
	if err != nil {
		var syntax yaml.Error // its Error shows the lines, which may hold secrets
		if errors.As(err, &syntax) && syntax.GetToken() != nil {
			p.add(s.at(syntax.GetToken()), "", "%s", s.message(syntax.GetMessage()))
		} else {
			p.add(at, "", "it is not YAML")
		}
		return nil
	}
	b := &builder{source: s, problems: p, anchors: map[string]*node{}}
	var root *node
	for _, doc := range f.Docs {
		switch doc.Body.(type) {
		case nil, *ast.DirectiveNode, *ast.CommentGroupNode:
			continue
		}
		if root != nil {
			p.add(s.at(doc.Body.GetToken()), "", "a second document begins here; only one is read")
			break
		}
		root = b.node(doc.Body)
	}
	if root != nil && root.size > maxNodes {
		p.add(at, "", "the file holds more than %d values, its aliases counted", maxNodes)
		return nil
	}
	return root
}

// message makes the parser's words ours: they quote keys, never values.
func (s source) message(m string) string {
	before, _, ok := strings.Cut(m, " already defined at ")
	if ok {
		return before + " is there twice"
	}
	return m
}

// tooDeep tells what would overflow a recursive parser.
func tooDeep(text string) bool {
	if strings.Count(text, "[")+strings.Count(text, "{") > maxBrackets {
		return true
	}
	for line := range strings.Lines(text) {
		if strings.Count(line, "- ")+strings.Count(line, "? ")+strings.Count(line, ": ")+strings.Count(line, "&")+strings.Count(line, "!") > maxNesting {
			return true
		}
	}
	return false
}

func (s source) at(t *token.Token) Pos {
	if t == nil || t.Position == nil {
		return Pos{File: s.file}
	}
	return Pos{s.file, max(1, t.Position.Line), max(1, t.Position.Column)}
}

// builder makes nodes of the parser's tree.
type builder struct {
	source
	problems *Problems
	anchors  map[string]*node
}

func (b *builder) node(n ast.Node) *node {
	if n == nil {
		return &node{size: 1, pos: Pos{File: b.file}, dir: b.dir, hidden: b.hidden}
	}
	out := &node{pos: b.at(n.GetToken()), dir: b.dir, hidden: b.hidden, size: 1}
	switch n := n.(type) {
	case *ast.NullNode:
	case *ast.StringNode:
		t := n.GetToken().Type
		out.kind, out.text, out.quoted = scalar, n.Value, t == token.SingleQuoteType || t == token.DoubleQuoteType
	case *ast.LiteralNode:
		out.kind, out.quoted = scalar, true
		if n.Value != nil {
			out.text = n.Value.Value
		}
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		out.kind, out.text = scalar, n.GetToken().Value
	case *ast.MappingNode:
		out.kind = mapping
		b.mapping(out, n.Values)
	case *ast.MappingValueNode:
		out.kind = mapping
		b.mapping(out, []*ast.MappingValueNode{n})
	case *ast.SequenceNode:
		out.kind = list
		for _, v := range n.Values {
			item := b.node(v)
			out.items = append(out.items, item)
			out.size += item.size
		}
	case *ast.AnchorNode:
		v := b.node(n.Value)
		if n.Name != nil {
			b.anchors[n.Name.GetToken().Value] = v
		}
		return v
	case *ast.AliasNode:
		name := ""
		if n.Value != nil {
			name = n.Value.GetToken().Value
		}
		v := b.anchors[name]
		if v == nil {
			b.problems.add(out.pos, "", "no anchor &%s stands before *%s", name, name)
			return out
		}
		if v.size > maxNodes {
			return &node{size: v.size, pos: out.pos}
		}
		return v
	case *ast.TagNode:
		return b.tag(n, out)
	default:
		b.problems.add(out.pos, "", "%s is not read here", strings.ToLower(n.Type().YAMLName()))
	}
	return out
}

// tag reads a value with a tag. Those of YAML itself are fine; the Python
// project's command line writes two of its own.
func (b *builder) tag(n *ast.TagNode, out *node) *node {
	name := n.GetToken().Value
	switch name {
	case "!!str":
		v := b.node(n.Value)
		v.quoted = true
		if v.kind == null {
			v.kind = scalar
		}
		return v
	case "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq":
		return b.node(n.Value)
	case "!developer_secret", "!user_secret":
		b.problems.add(out.pos, "", "the tag %s is for the Python project's cloud; here a secret is written as env:NAME or file:PATH", name)
	default:
		b.problems.add(out.pos, "", "the tag %s is not known", name)
	}
	return out
}

func (b *builder) mapping(out *node, values []*ast.MappingValueNode) {
	var merged []*node
	for i, kv := range values {
		if kv.Key == nil {
			continue
		}
		pos := b.at(kv.Key.GetToken())
		if i == 0 && out.pos.Line == pos.Line && out.pos.Column > pos.Column {
			out.pos = pos // the parser gives the colon
		}
		if kv.Key.IsMergeKey() {
			v := b.node(kv.Value)
			out.size += v.size
			switch v.kind {
			case mapping:
				merged = append(merged, v)
			case list:
				merged = append(merged, v.items...)
			}
			if v.kind == scalar {
				b.problems.add(pos, "", "<< wants a map, or a list of maps")
			}
			continue
		}
		key := b.key(kv.Key)
		if key == nil || key.kind != scalar {
			b.problems.add(pos, "", "a key is a text")
			continue
		}
		v := b.node(kv.Value)
		out.size += v.size
		if out.get(key.text) != nil {
			b.problems.add(pos, key.text, "the key is there twice")
			continue
		}
		out.keys = append(out.keys, entry{key.text, pos, v})
	}
	for _, m := range merged {
		for _, e := range m.keys {
			if out.get(e.name) == nil && len(out.keys) < maxNodes {
				out.keys = append(out.keys, e)
			}
		}
	}
}

func (b *builder) key(k ast.MapKeyNode) *node {
	if explicit, ok := k.(*ast.MappingKeyNode); ok {
		return b.node(explicit.Value)
	}
	return b.node(k)
}
