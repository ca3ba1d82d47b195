package engines

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// LoadOptions say more about [Load]. The zero value is fine.
type LoadOptions struct {
	// Sections are where other packages' sections go: pointers by top-level
	// key. They are decoded as strictly as the rest, and their problems are
	// reported with the rest's. Fields have yaml tags; enum:"a,b", as:"path",
	// as:"size" and as:"pem" say more; default:"x" is what stands in an
	// item of a map where the file says nothing. A section with a method Check() error
	// is asked what is wrong with it; each of the errors that are joined there
	// may begin with the path of a key and a colon, for its position. A section
	// that the Python project does not have, nor this one, is the program's
	// own.
	Sections map[string]any
	// Secrets is the path of the secrets file. Empty: the one beside the
	// configuration, or else one that is found as that is.
	Secrets string
	// Dir is where the search begins. Empty: the working directory.
	Dir string
	// Env is the environment, as os.Environ has it. Nil: the process's.
	Env []string
}

// prefix is what the names of variables that override the file begin with.
const prefix = "MCP_AGENT__"

// preload is the variable whose text takes the place of the files.
const preload = "MCP_APP_SETTINGS_PRELOAD"

// Load reads the configuration file at a path, or the one that it finds, the
// secrets beside it, and the environment. Where there is no file, that is no
// error: the configuration is the environment's.
//
// The names are mcp-agent.config.yaml and mcp_agent.config.yaml, and the same
// with secrets; they are looked for in the directory and all above it, in the
// directory .mcp-agent of each, and in ~/.mcp-agent. docs/configuration.md
// tells how the parts are merged.
//
// The error is [Problems] with everything that is wrong, by position, unless a
// file can't be read. Nothing in it shows a secret.
func Load(path string, o *LoadOptions) (*Config, error) {
	if o == nil {
		o = &LoadOptions{}
	}
	l := &loader{o: o, env: map[string]string{}}
	environ := o.Env
	if environ == nil {
		environ = os.Environ()
	}
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok {
			l.env[name] = value
		}
	}
	if l.home = l.env["HOME"]; l.home == "" && o.Env == nil {
		l.home, _ = os.UserHomeDir()
	}
	root, err := l.read(path)
	if err != nil {
		return nil, err
	}
	root = l.overlay(root)
	return l.config(root)
}

type loader struct {
	o        *LoadOptions
	env      map[string]string
	home     string
	dir      string // of the configuration
	problems Problems
}

// read gives the files' values, merged.
func (l *loader) read(path string) (*node, error) {
	if text := l.env[preload]; text != "" && path == "" {
		return source{file: "environment variable " + preload}.parse([]byte(text), &l.problems), nil
	}
	dir, err := filepath.Abs(l.o.Dir)
	if err != nil {
		return nil, fmt.Errorf("find the configuration: %w", err)
	}
	if path == "" {
		path = l.find(dir, "config")
	}
	secrets := l.o.Secrets
	if secrets == "" && path != "" {
		for _, name := range names("secrets") {
			if beside := filepath.Join(filepath.Dir(path), name); exists(beside) {
				secrets = beside
				break
			}
		}
	}
	if secrets == "" {
		secrets = l.find(dir, "secrets")
	}
	root, err := l.file(path, false)
	if err != nil {
		return nil, err
	}
	if path != "" {
		if l.dir, err = filepath.Abs(filepath.Dir(path)); err != nil {
			return nil, fmt.Errorf("find the configuration: %w", err)
		}
	}
	hidden, err := l.file(secrets, true)
	if err != nil {
		return nil, err
	}
	return merge(root, hidden, ""), nil
}

func names(what string) []string {
	return []string{"mcp-agent." + what + ".yaml", "mcp_agent." + what + ".yaml"}
}

// find looks for a file in a directory and above it, and at home.
func (l *loader) find(dir, what string) string {
	for d := dir; ; d = filepath.Dir(d) {
		for _, name := range names(what) {
			for _, p := range []string{filepath.Join(d, name), filepath.Join(d, ".mcp-agent", name)} {
				if exists(p) {
					return p
				}
			}
		}
		if d == filepath.Dir(d) {
			break
		}
	}
	if l.home != "" {
		for _, name := range names(what) {
			if p := filepath.Join(l.home, ".mcp-agent", name); exists(p) {
				return p
			}
		}
	}
	return ""
}

func exists(path string) bool {
	i, err := os.Stat(path)
	return err == nil && !i.IsDir()
}

// file reads one file.
func (l *loader) file(path string, hidden bool) (*node, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	full, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return source{file: l.called(path), dir: filepath.Dir(full), hidden: hidden}.parse(text, &l.problems), nil
}

// called is a path as messages have it: short, where the file is below the
// directory.
func (l *loader) called(path string) string {
	dir, err := filepath.Abs(l.o.Dir)
	if err != nil || !filepath.IsAbs(path) {
		return path
	}
	if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

// merge lays one tree over another: maps are merged, everything else is
// replaced, but nothing by nothing. Two lists are joined.
func merge(base, over *node, path string) *node {
	switch {
	case over == nil || over.kind == null:
		return base
	case base == nil || base.kind == null:
		return over
	case base.kind == list && over.kind == list && (path == "otel.exporters" || path == "workflow_task_modules"):
		out := *base
		out.items = nil
		for _, item := range slices.Concat(base.items, over.items) {
			if !slices.ContainsFunc(out.items, item.same) {
				out.items = append(out.items, item)
			}
		}
		return &out
	case base.kind != mapping || over.kind != mapping:
		return over
	}
	out := *base
	out.keys = slices.Clone(base.keys)
	for _, e := range over.keys {
		if i := slices.IndexFunc(out.keys, func(had entry) bool { return had.name == e.name }); i >= 0 {
			merged := merge(out.keys[i].value, e.value, join(path, e.name))
			if merged != out.keys[i].value {
				out.keys[i].pos = e.pos
				if merged.kind == mapping {
					out.keys[i].pos = base.keys[i].pos
				}
			}
			out.keys[i].value = merged
		} else {
			out.keys = append(out.keys, e)
		}
	}
	return &out
}

// same compares values, wherever they stand.
func (n *node) same(m *node) bool {
	return n.kind == m.kind && n.text == m.text &&
		slices.EqualFunc(n.items, m.items, (*node).same) &&
		slices.EqualFunc(n.keys, m.keys, func(a, b entry) bool { return a.name == b.name && a.value.same(b.value) })
}

// overlay lays the environment over the files.
func (l *loader) overlay(root *node) *node {
	for _, name := range slices.Sorted(maps.Keys(l.env)) {
		path, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		at := Pos{File: "environment variable " + name}
		parts := strings.Split(path, "__")
		if slices.Contains(parts, "") {
			l.problems.add(at, "", "want "+prefix+"SECTION__KEY, with two underscores between names")
			continue
		}
		root = l.put(root, parts, &node{pos: at, kind: scalar, text: l.env[name], env: true}, "")
	}
	return root
}

// put sets a value in a copy of a tree.
func (l *loader) put(n *node, names []string, v *node, path string) *node {
	if len(names) == 0 {
		if n != nil && n.kind == mapping && strings.HasPrefix(strings.TrimSpace(v.text), "{") {
			p := Problems{}
			if m := v.structured(mapping, &p); m != nil && len(p) == 0 {
				return merge(n, m, path)
			}
		}
		return v
	}
	out := &node{pos: v.pos, kind: mapping}
	if n != nil && n.kind == scalar && n.env {
		p := Problems{}
		if m := n.structured(mapping, &p); m != nil && len(p) == 0 {
			n = m
		}
	}
	if n != nil && n.kind == mapping {
		c := *n
		out = &c
		out.keys = slices.Clone(n.keys)
	}
	key := strings.ToLower(names[0])
	i := slices.IndexFunc(out.keys, func(e entry) bool { return e.name == names[0] })
	if i < 0 {
		i = slices.IndexFunc(out.keys, func(e entry) bool {
			return strings.ReplaceAll(strings.ToLower(e.name), "-", "_") == strings.ReplaceAll(key, "-", "_")
		})
	}
	if i < 0 {
		i = len(out.keys)
		out.keys = append(out.keys, entry{name: key})
	}
	out.keys[i].value = l.put(out.keys[i].value, names[1:], v, join(path, out.keys[i].name))
	if len(names) == 1 || out.keys[i].pos == (Pos{}) {
		out.keys[i].pos = v.pos
	}
	return out
}

// config decodes everything.
func (l *loader) config(root *node) (*Config, error) {
	c := &Config{dir: l.dir, at: map[string]Pos{}, pending: map[string]Problems{}}
	look := func(name string) (string, bool) { v, ok := l.env[name]; return v, ok }
	newDecoder := func() *decoder {
		return &decoder{lookup: look, home: l.home, known: map[string]bool{}, at: c.at}
	}
	if root != nil && root.kind != mapping && root.kind != null {
		l.problems.add(root.pos, "", "want %v, not %v", mapping, root.kind)
		root = nil
	}
	ours := fieldsOf(reflect.ValueOf(c).Elem())
	theirs := sectionTypes()
	known := slices.Concat(slices.Collect(maps.Keys(ours)), slices.Collect(maps.Keys(theirs)), slices.Collect(maps.Keys(l.o.Sections)))
	keys := []entry(nil)
	if root != nil {
		keys = root.keys
	}
	for _, e := range keys {
		d := newDecoder()
		d.note(e.name, e.pos)
		mine, isOurs := ours[e.name]
		into, wanted := l.o.Sections[e.name]
		shape, isTheirs := theirs[e.name]
		switch {
		case e.name == "$schema" || strings.HasPrefix(e.name, "x-"):
		case isOurs:
			d.warn = true
			d.value(e.value, mine.v, e.name, mine.tag)
		case isTheirs || wanted:
			if isTheirs {
				d.dry, d.warn = true, true
				d.value(e.value, reflect.New(shape).Elem(), e.name, "")
			}
			if wanted {
				v := reflect.ValueOf(into)
				if v.Kind() != reflect.Pointer || v.IsNil() {
					panic(fmt.Sprintf("engines: section %s wants a pointer, not a %T", e.name, into))
				}
				d.dry, d.warn = false, false
				seen := d.problems
				d.problems = nil
				d.value(e.value, v.Elem(), e.name, "")
				d.problems = append(seen, d.problems.without(seen)...)
				if checked, ok := into.(interface{ Check() error }); ok && len(d.problems)+len(d.missing) == 0 {
					d.noteErrors(checked.Check(), e.name, e.pos)
				}
			} else {
				d.warnings.add(e.pos, e.name, "the section is not used by this program")
			}
		case inapplicable(e.name) != "":
			d.warnings.add(e.pos, e.name, "it has no meaning here: %s", inapplicable(e.name))
		default:
			d.problems.add(e.pos, e.name, "the key is not known: %s (a section of the program's own is named in LoadOptions.Sections)", unknown(e.name, known))
		}
		l.problems = append(l.problems, d.problems...)
		c.Warnings = append(c.Warnings, d.warnings...)
		if isOurs && (e.name == "local" || e.name == "temporal") {
			if len(d.missing) > 0 {
				c.pending[e.name] = d.missing
			}
		} else {
			l.problems = append(l.problems, d.missing...)
		}
	}
	l.problems = append(l.problems, c.check()...)
	l.problems = append(l.problems, c.pending[c.section()]...)
	c.Warnings = c.Warnings.sorted()
	if len(l.problems) > 0 {
		return nil, l.problems.sorted()
	}
	return c, nil
}
