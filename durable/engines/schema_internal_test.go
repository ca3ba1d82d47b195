package engines

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
)

const (
	schemaFile = "../../docs/mcp-agent.schema.json"
	keysFile   = "../../docs/configuration.md"
)

// maker makes the schema and the tables of keys from the types.
type maker struct {
	comments map[string]string // by Type.Field
}

func newMaker(t *testing.T) *maker {
	t.Helper()
	m := &maker{comments: map[string]string{}}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			s, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			for _, field := range s.Fields.List {
				for _, id := range field.Names {
					m.comments[spec.Name.Name+"."+id.Name] = text(field.Doc)
				}
			}
			return true
		})
	}
	return m
}

// text is a comment as one line, with links as their names.
func text(g *ast.CommentGroup) string {
	s := strings.Join(strings.Fields(g.Text()), " ")
	return regexp.MustCompile(`\[([A-Za-z.]+)\]`).ReplaceAllString(s, "$1")
}

// describe is the comment of a field, without its name, which the key says.
func (m *maker) describe(t *testing.T, owner reflect.Type, f reflect.StructField) string {
	t.Helper()
	s := m.comments[owner.Name()+"."+f.Name]
	if s == "" {
		t.Errorf("%s.%s has no comment", owner.Name(), f.Name)
		return ""
	}
	for _, verb := range []string{" is ", " are ", " "} {
		if rest, ok := strings.CutPrefix(s, f.Name+verb); ok {
			s = rest
			break
		}
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// oneOf are scalars of a form; nothing is always fine.
func oneOf(pattern string, types ...string) *jsonschema.Schema {
	s := &jsonschema.Schema{Types: append(types, "null")}
	if slices.Contains(types, "string") && pattern != "" {
		s.Pattern = pattern + `|\$\{`
	}
	return s
}

func (m *maker) schema(t *testing.T, typ reflect.Type, tag reflect.StructTag, path string) *jsonschema.Schema {
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch {
	case typ == reflect.TypeFor[TLS]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{m.schema(t, reflect.TypeFor[bool](), "", path), m.object(t, typ, path)}}
	case typ == reflect.TypeFor[exporter]():
		name := &jsonschema.Schema{Enum: []any{"console", "file", "otlp"}}
		forms := []*jsonschema.Schema{name}
		keyed := m.object(t, reflect.TypeFor[keyedExporter](), path)
		keyed.Types, keyed.Type = nil, "object"
		keyed.MinProperties, keyed.MaxProperties = ptr(1), ptr(1)
		forms = append(forms, keyed)
		for i, of := range []reflect.Type{reflect.TypeFor[consoleExporter](), reflect.TypeFor[fileExporter](), reflect.TypeFor[otlpExporter]()} {
			kind := name.Enum[i]
			typed := m.object(t, of, path)
			typed.Types, typed.Type = nil, "object"
			typed.Properties["type"] = &jsonschema.Schema{Const: &kind}
			typed.PropertyOrder = append([]string{"type"}, typed.PropertyOrder...)
			typed.Required = []string{"type"}
			forms = append(forms, typed)
		}
		return &jsonschema.Schema{AnyOf: forms}
	case typ == reflect.TypeFor[envItem]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
			{Type: "string", MinLength: ptr(1)},
			{Type: "object", MinProperties: ptr(1), MaxProperties: ptr(1), AdditionalProperties: m.schema(t, secretType, "", path)},
		}}
	case typ == secretType:
		s := oneOf("", "string", "number", "boolean")
		s.WriteOnly = true
		return s
	case typ == durationType:
		return oneOf(`^[0-9._]+$|^P[0-9.,WDTHMS]+$|^([0-9.]+(ns|us|µs|ms|s|m|h))+$`, "number", "string")
	case typ == policiesType:
		return &jsonschema.Schema{Types: []string{"object", "null"}, AdditionalProperties: m.object(t, reflect.TypeFor[policy](), path+".*")}
	}
	switch typ.Kind() {
	case reflect.String:
		if enum := tag.Get("enum"); enum != "" {
			values := []any{}
			for v := range strings.SplitSeq(enum, ",") {
				values = append(values, v)
			}
			return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Enum: append(values, nil)}, {Type: "string", Pattern: `\$\{`}}}
		}
		return oneOf("", "string", "number", "boolean")
	case reflect.Bool:
		return oneOf(`^([Tt]rue|[Ff]alse|[Yy]es|[Nn]o|[Oo]n|[Oo]ff)$`, "boolean", "string")
	case reflect.Int:
		if tag.Get("as") == "size" {
			return oneOf(`^[0-9_]+ ?([KMGkmg]?[Bb])?$`, "integer", "string")
		}
		return oneOf(`^[-+]?[0-9_]+$`, "integer", "string")
	case reflect.Float64:
		return oneOf(`^[-+]?[0-9._eE]+$`, "number", "string")
	case reflect.Slice:
		return &jsonschema.Schema{Types: []string{"array", "null"}, Items: m.schema(t, typ.Elem(), tag, path+".*")}
	case reflect.Map:
		return &jsonschema.Schema{Types: []string{"object", "null"}, AdditionalProperties: m.schema(t, typ.Elem(), tag, path+".*")}
	case reflect.Struct:
		return m.object(t, typ, path)
	}
	t.Fatalf("%s: no schema for %v", path, typ)
	return nil
}

func ptr[T any](v T) *T { return &v }

func (m *maker) object(t *testing.T, typ reflect.Type, path string) *jsonschema.Schema {
	s := &jsonschema.Schema{Types: []string{"object", "null"}, Properties: map[string]*jsonschema.Schema{}, AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}}}
	m.keys(t, typ, path, func(key string, owner reflect.Type, f reflect.StructField) {
		p := m.schema(t, f.Type, f.Tag, join(path, key))
		p.Description = m.describe(t, owner, f)
		if d := f.Tag.Get("default"); d != "" {
			p.Default = defaultOf(f.Type, d)
		}
		s.Properties[key] = p
		s.PropertyOrder = append(s.PropertyOrder, key)
	})
	for _, gone := range slices.Sorted(maps.Keys(meaningless)) {
		i := strings.LastIndex(gone, ".")
		if parent := gone[:max(i, 0)]; parent == path {
			s.Properties[gone[i+1:]] = &jsonschema.Schema{Deprecated: true, Description: "No meaning here: " + meaningless[gone] + "."}
			s.PropertyOrder = append(s.PropertyOrder, gone[i+1:])
		}
	}
	return s
}

// keys visits the keys of a type, those of embedded ones included.
func (m *maker) keys(t *testing.T, typ reflect.Type, path string, visit func(key string, owner reflect.Type, f reflect.StructField)) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case opts == "inline":
			m.keys(t, f.Type, path, visit)
		case name != "" && name != "-":
			visit(name, typ, f)
		}
	}
}

func defaultOf(typ reflect.Type, s string) json.RawMessage {
	if _, err := strconv.ParseFloat(s, 64); err == nil && typ.Kind() != reflect.String || s == "true" || s == "false" {
		return json.RawMessage(s)
	}
	b, _ := json.Marshal(s)
	return b
}

// whole is the schema of a file.
func (m *maker) whole(t *testing.T) *jsonschema.Schema {
	s := m.object(t, reflect.TypeFor[Config](), "")
	theirs := m.object(t, reflect.TypeFor[sections](), "")
	for _, key := range theirs.PropertyOrder {
		if s.Properties[key] == nil {
			s.Properties[key] = theirs.Properties[key]
			s.PropertyOrder = append(s.PropertyOrder, key)
		}
	}
	s.Properties["$schema"] = &jsonschema.Schema{Type: "string", Description: "For editors."}
	s.PropertyOrder = append([]string{"$schema"}, s.PropertyOrder...)
	s.PatternProperties = map[string]*jsonschema.Schema{"^x-": {Description: "Your own: anchors to refer to, notes. It is not read."}}
	s.Schema = "https://json-schema.org/draft/2020-12/schema"
	s.Title = "mcp_agent.config.yaml"
	s.Description = "The configuration of mcp-agent for Go. Made from the Go types of durable/engines; do not edit."
	return s
}

func encode(t *testing.T, s *jsonschema.Schema) []byte {
	t.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		t.Fatal(err)
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// current compares a generated text with its file, or writes that.
func current(t *testing.T, path string, want []byte) {
	t.Helper()
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s is not what the types say; go test ./durable/engines -run Generated -update writes it (-want +got):\n%s", path, d)
	}
}

func TestGeneratedSchema(t *testing.T) {
	current(t, schemaFile, encode(t, newMaker(t).whole(t)))
}

// TestGeneratedKeys keeps the tables of the document.
func TestGeneratedKeys(t *testing.T) {
	b, err := os.ReadFile(keysFile)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- keys: made from the Go types by go test ./durable/engines -run Generated -update -->\n", "<!-- end of keys -->\n"
	before, rest, ok := strings.Cut(string(b), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the keys", keysFile)
	}
	m := newMaker(t)
	var out strings.Builder
	m.table(t, &out, reflect.TypeFor[Config](), "", map[string]bool{"local": true, "temporal": true})
	m.table(t, &out, reflect.TypeFor[Local](), "local", nil)
	m.table(t, &out, reflect.TypeFor[Temporal](), "temporal", nil)
	fmt.Fprintf(&out, "\n#### `%s.PATTERN`\n\n| key | value | default | |\n|---|---|---|---|\n", policiesKey)
	m.rows(t, &out, reflect.TypeFor[policy](), "")
	out.WriteString("\n### Sections of other packages\n\nThey are known, so that a misspelled key in them is found. Until a program has the package, a section is a warning.\n")
	m.keys(t, reflect.TypeFor[sections](), "", func(key string, owner reflect.Type, f reflect.StructField) {
		typ, path := f.Type, key
		if typ.Kind() == reflect.Map {
			typ, path = typ.Elem(), path+".NAME"
		}
		fmt.Fprintf(&out, "\n#### `%s`\n\n%s\n\n", path, m.describe(t, owner, f))
		if typ.Kind() == reflect.Struct {
			out.WriteString("| key | value | default | |\n|---|---|---|---|\n")
			m.rows(t, &out, typ, "")
		}
	})
	out.WriteString("\n### Keys without a meaning here\n\nThe Python project has them, or its documents do. They are warnings.\n\n| key | why |\n|---|---|\n")
	for _, key := range slices.Sorted(maps.Keys(meaningless)) {
		fmt.Fprintf(&out, "| `%s` | %s |\n", strings.ReplaceAll(key, "*", "NAME"), meaningless[key])
	}
	current(t, keysFile, []byte(before+begin+out.String()+"\n"+end+after))
}

func (m *maker) table(t *testing.T, out *strings.Builder, typ reflect.Type, path string, skip map[string]bool) {
	title := "The top level"
	if path != "" {
		title = "`" + path + "`"
	}
	fmt.Fprintf(out, "\n#### %s\n\n| key | value | default | |\n|---|---|---|---|\n", title)
	m.rows(t, out, typ, "")
}

func (m *maker) rows(t *testing.T, out *strings.Builder, typ reflect.Type, path string) {
	m.keys(t, typ, path, func(key string, owner reflect.Type, f reflect.StructField) {
		def := f.Tag.Get("default")
		if def != "" {
			def = "`" + def + "`"
		}
		inner, name := f.Type, join(path, key)
		value := kindOf(f.Type, f.Tag)
		fmt.Fprintf(out, "| `%s` | %s | %s | %s |\n", name, value, def, strings.ReplaceAll(m.describe(t, owner, f), "|", "\\|"))
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice || inner.Kind() == reflect.Map && inner != policiesType {
			if inner.Kind() == reflect.Map {
				name += ".NAME"
			} else if inner.Kind() == reflect.Slice {
				name += "[]"
			}
			inner = inner.Elem()
		}
		if owner != reflect.TypeFor[Config]() && inner.Kind() == reflect.Struct && inner != secretType {
			m.rows(t, out, inner, name)
		}
	})
}

// kindOf says what a value is, for people.
func kindOf(typ reflect.Type, tag reflect.StructTag) string {
	switch {
	case typ == secretType && tag.Get("as") == "pem", tag.Get("as") == "pem":
		return "PEM or path"
	case typ == secretType:
		return "secret"
	case typ == durationType:
		return "duration"
	case typ == policiesType:
		return "map of policies"
	case tag.Get("enum") != "" && typ.Kind() == reflect.String:
		return strings.ReplaceAll(tag.Get("enum"), ",", ", ")
	case tag.Get("as") != "":
		return tag.Get("as")
	case typ == reflect.TypeFor[*TLS]():
		return "true, false or map"
	case typ == reflect.TypeFor[envItem]():
		return "name, or name: value"
	case typ == reflect.TypeFor[exporter]():
		return "name or map"
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return kindOf(typ.Elem(), tag)
	case reflect.Slice:
		return "list of " + kindOf(typ.Elem(), tag)
	case reflect.Map:
		return "map of " + kindOf(typ.Elem(), tag)
	case reflect.Struct:
		return "map"
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "number"
	case reflect.Float64:
		return "number"
	}
	return "text"
}

// TestSchemaAgreesWithLoad holds the schema against the stories: what is
// loaded is valid, and a misspelled key or a value of another kind is not.
func TestSchemaAgreesWithLoad(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	r, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	stories, err := filepath.Glob("testdata/load/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	valid, invalid := 0, 0
	for _, story := range stories {
		b, err := os.ReadFile(story)
		if err != nil {
			t.Fatal(err)
		}
		comment, rest, _ := strings.Cut(string(b), "-- mcp_agent.config.yaml --\n")
		if rest == "" || strings.Contains(comment, "section billing") || strings.Contains(comment, "preload") {
			continue
		}
		config, _, _ := strings.Cut(rest, "\n-- ")
		var doc any
		if err := yaml.Unmarshal([]byte(config), &doc); err != nil {
			continue // not YAML
		}
		j, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(j, &v); err != nil {
			t.Fatal(err)
		}
		if v == nil {
			continue
		}
		err = r.Validate(v)
		name := filepath.Base(story)
		switch {
		case strings.Contains(string(b), "\n-- want --\nloaded\n"):
			valid++
			if err != nil {
				t.Errorf("%s is loaded, and the schema says %v", name, err)
			}
		case slices.Contains([]string{"typos.txtar", "values.txtar", "yaml-list.txtar"}, name):
			invalid++
			if err == nil {
				t.Errorf("%s is refused, and the schema takes it", name)
			}
		}
	}
	if valid < 11 || invalid != 3 {
		t.Errorf("%d valid and %d invalid stories were held against it", valid, invalid)
	}
}

// TestEveryTypoIsFound changes each key that the types know, in turn, and
// wants it reported with its place.
func TestEveryTypoIsFound(t *testing.T) {
	t.Parallel()
	n := 0
	var visit func(typ reflect.Type, path []string)
	visit = func(typ reflect.Type, path []string) {
		switch {
		case typ == secretType || typ == durationType || typ == reflect.TypeFor[envItem]():
			return
		case typ == policiesType:
			typ = reflect.TypeFor[map[string]policy]()
		case typ == reflect.TypeFor[exporter]():
			typ = reflect.TypeFor[keyedExporter]()
		}
		switch typ.Kind() {
		case reflect.Pointer:
			visit(typ.Elem(), path)
		case reflect.Slice:
			visit(typ.Elem(), append(slices.Clone(path), "[]"))
		case reflect.Map:
			visit(typ.Elem(), append(slices.Clone(path), "anything"))
		case reflect.Struct:
			new(maker).keys(t, typ, "", func(key string, _ reflect.Type, f reflect.StructField) {
				inner := append(slices.Clone(path), key)
				visit(f.Type, inner)
				doc, line, column := yamlOf(append(slices.Clone(path), key+"zzz"))
				_, err := Load("", &LoadOptions{Env: []string{preload + "=" + doc}})
				want := fmt.Sprintf("environment variable %s:%d:%d: ", preload, line, column)
				if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "zzz: the key is not known: ") {
					t.Errorf("%s\ngot  %v\nwant %s…", doc, err, want)
				}
				n++
			})
		}
	}
	visit(reflect.TypeFor[Config](), nil)
	visit(reflect.TypeFor[sections](), nil)
	if n < 200 {
		t.Errorf("%d keys were tried", n)
	}
}

// yamlOf writes a path as a document, and where its last key stands.
func yamlOf(path []string) (doc string, line, column int) {
	var b strings.Builder
	indent, dash := 0, false
	for _, p := range path {
		if p == "[]" {
			fmt.Fprintf(&b, "\n%s- ", strings.Repeat(" ", indent))
			indent, dash = indent+2, true
			continue
		}
		if !dash {
			fmt.Fprintf(&b, "\n%s", strings.Repeat(" ", indent))
		}
		line, column = strings.Count(b.String(), "\n")+1, indent+1
		fmt.Fprintf(&b, "%s:", p)
		indent, dash = indent+2, false
	}
	return b.String() + " x\n", line, column
}
