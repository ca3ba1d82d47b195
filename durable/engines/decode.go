package engines

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// decoder fills Go values from nodes, strictly. It knows struct tags:
//
//	yaml:"name"      the key; ",inline" takes the keys of an embedded struct
//	enum:"a,b"       the values of a text
//	as:"path"        a path, relative to the file it stands in
//	as:"size"        a number of bytes, or one with KB, MB or GB
//	as:"pem"         PEM text, a reference, or the path of a file that holds it
//
// A type may have UnmarshalYAML(func(any) error) error, to be written in
// several forms, or UnmarshalText.
type decoder struct {
	problems Problems // what is wrong
	missing  Problems // what is wrong outside: a variable, a file of a secret
	warnings Problems
	lookup   func(name string) (string, bool)
	// dry looks at names and forms only: nothing is looked up.
	dry bool
	// warn reports keys that have no meaning here.
	warn bool
	home string
	// known are the paths of keys that are known; where a type has no field
	// for one, it is not used.
	known map[string]bool
	at    map[string]Pos // of the keys by their path
}

func (d *decoder) bad(n *node, key, format string, args ...any) {
	d.problems.add(n.pos, key, format, args...)
}

// errNoted is what unmarshal functions return for what is in problems already.
type errNoted struct{}

func (errNoted) Error() string { return "the configuration has problems" }

type unmarshaler interface {
	UnmarshalYAML(unmarshal func(any) error) error
}

var (
	secretType   = reflect.TypeFor[durable.Secret]()
	durationType = reflect.TypeFor[time.Duration]()
	policiesType = reflect.TypeFor[durable.Policies]()
)

// value decodes a node. field is where it goes, for its tags.
func (d *decoder) value(n *node, v reflect.Value, key string, tag reflect.StructTag) {
	if n == nil || n.kind == null {
		return
	}
	if v.Kind() == reflect.Pointer {
		p := reflect.New(v.Type().Elem())
		d.value(n, p.Elem(), key, tag)
		v.Set(p)
		return
	}
	switch u, ok := v.Addr().Interface().(unmarshaler); {
	case ok:
		err := u.UnmarshalYAML(func(into any) error {
			before := len(d.problems) + len(d.missing)
			d.value(n, reflect.ValueOf(into).Elem(), key, "")
			if len(d.problems)+len(d.missing) > before {
				return errNoted{}
			}
			return nil
		})
		if _, noted := err.(errNoted); err != nil && !noted {
			d.bad(n, key, "%v", err)
		}
		return
	case v.Type() == secretType:
		if s, ok := d.secret(n, key, tag); ok {
			v.Set(reflect.ValueOf(durable.NewSecret(s)))
		}
		return
	case v.Type() == durationType:
		d.scalar(n, key, "a duration", func(s string) error {
			t, err := parseDuration(s)
			v.SetInt(int64(t))
			return err
		})
		return
	case v.Type() == policiesType:
		d.policies(n, v, key)
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.scalar(n, key, "a text", func(s string) error { return u.UnmarshalText([]byte(s)) })
		return
	}
	switch v.Kind() {
	case reflect.String:
		d.text(n, v, key, tag)
	case reflect.Bool:
		d.scalar(n, key, "true or false", func(s string) error {
			b, err := parseBool(s)
			v.SetBool(b)
			return err
		})
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		what, parse := "a whole number", parseInt
		if tag.Get("as") == "size" {
			what, parse = "a number of bytes", parseSize
		}
		d.scalar(n, key, what, func(s string) error {
			i, err := parse(s)
			if err == nil && v.OverflowInt(i) {
				return errors.New("it is out of range")
			}
			v.SetInt(i)
			return err
		})
	case reflect.Float64, reflect.Float32:
		d.scalar(n, key, "a number", func(s string) error {
			f, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
			if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
				return errForm
			}
			v.SetFloat(f)
			return nil
		})
	case reflect.Slice:
		if n = d.want(n, list, key); n != nil {
			out := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
			for i, item := range n.items {
				d.note(fmt.Sprintf("%s[%d]", key, i), item.pos)
				d.value(item, out.Index(i), fmt.Sprintf("%s[%d]", key, i), tag)
			}
			v.Set(out)
		}
	case reflect.Map:
		if n = d.want(n, mapping, key); n != nil {
			out := reflect.MakeMapWithSize(v.Type(), len(n.keys))
			for _, e := range n.keys {
				d.note(key+"."+e.name, e.pos)
				item := reflect.New(v.Type().Elem()).Elem()
				preset(item)
				d.value(e.value, item, key+"."+e.name, tag)
				out.SetMapIndex(reflect.ValueOf(e.name).Convert(v.Type().Key()), item)
			}
			v.Set(out)
		}
	case reflect.Struct:
		if n = d.want(n, mapping, key); n != nil {
			d.fields(n, v, key)
		}
	case reflect.Interface:
		if x := d.any(n, key); x != nil {
			v.Set(reflect.ValueOf(x))
		}
	default:
		panic(fmt.Sprintf("engines: %s: a %s can't be read from a file", key, v.Type()))
	}
}

// preset gives the texts and truths of an item what their tags say stands there
// by default. A section that is no item of a map has its defaults from whoever
// made it.
func preset(v reflect.Value) {
	if v.Kind() != reflect.Struct {
		return
	}
	for i := range v.NumField() {
		f, text := v.Field(i), v.Type().Field(i).Tag.Get("default")
		switch {
		case !f.CanSet():
		case f.Kind() == reflect.Bool:
			f.SetBool(text == "true")
		case f.Kind() == reflect.String && text != "":
			f.SetString(text)
		default:
			preset(f)
		}
	}
}

// note keeps where a key stands.
func (d *decoder) note(key string, pos Pos) {
	if d.at != nil {
		d.at[key] = pos
	}
	if d.dry {
		d.known[key] = true
	}
}

// noteErrors adds what a section says about itself.
func (d *decoder) noteErrors(err error, section string, pos Pos) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			d.noteErrors(one, section, pos)
		}
		return
	}
	key, text, ok := strings.Cut(err.Error(), ": ")
	if at, known := d.at[key]; ok && known {
		d.problems.add(at, key, "%s", text)
		return
	}
	d.problems.add(pos, section, "%v", err)
}

// fields decodes a map into a struct.
func (d *decoder) fields(n *node, v reflect.Value, key string) {
	fields := fieldsOf(v)
	for _, e := range n.keys {
		path := join(key, e.name)
		f, ok := fields[e.name]
		switch {
		case ok:
			d.note(path, e.pos)
			d.value(e.value, f.v, path, f.tag)
		case inapplicable(path) != "":
			d.note(path, e.pos)
			if d.warn {
				d.warnings.add(e.pos, path, "it has no meaning here: %s", inapplicable(path))
			}
		case !d.dry && d.known[path]:
			d.warnings.add(e.pos, path, "it is not used by this program")
		default:
			d.problems.add(e.pos, path, "the key is not known: %s", unknown(e.name, slices.Collect(maps.Keys(fields))))
		}
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

type field struct {
	v   reflect.Value
	tag reflect.StructTag
}

// fieldsOf lists a struct's fields by key.
func fieldsOf(v reflect.Value) map[string]field {
	out := map[string]field{}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case opts == "inline":
			for name, inner := range fieldsOf(v.Field(i)) {
				out[name] = inner
			}
		case name != "" && name != "-":
			out[name] = field{v.Field(i), f.Tag}
		}
	}
	return out
}

// want gives a node of a kind. A text from the environment may stand for a
// list or a map.
func (d *decoder) want(n *node, k kind, key string) *node {
	if n.kind == scalar && n.env {
		p := Problems{}
		if m := n.structured(k, &p); m != nil && m.kind == k && len(p) == 0 {
			return m
		}
	}
	if n.kind == k {
		return n
	}
	if d.dry && n.kind == scalar && strings.Contains(n.text, "${") {
		return nil
	}
	d.bad(n, key, "want %v, not %v", k, n.kind)
	return nil
}

// structured reads a text from the environment as YAML. A list may also be
// written with commas.
func (n *node) structured(k kind, p *Problems) *node {
	if k == list && !strings.HasPrefix(strings.TrimSpace(n.text), "[") {
		out := &node{pos: n.pos, kind: list, env: true}
		for s := range strings.SplitSeq(n.text, ",") {
			if s = strings.TrimSpace(s); s != "" {
				out.items = append(out.items, &node{pos: n.pos, kind: scalar, text: s, env: true})
			}
		}
		return out
	}
	m := source{file: n.pos.File}.parse([]byte(n.text), p)
	m.from(n.pos)
	return m
}

// from makes a tree one of the environment, with one position.
func (n *node) from(pos Pos) {
	if n == nil || n.env {
		return
	}
	n.pos, n.env = pos, true
	for i := range n.keys {
		n.keys[i].pos = pos
		n.keys[i].value.from(pos)
	}
	for _, item := range n.items {
		item.from(pos)
	}
}

// raw gives the expanded text of a single value. false: it can't be had, and
// that is noted, or nothing is to be looked up.
func (d *decoder) raw(n *node, key string) (string, bool) {
	if n.kind != scalar {
		d.bad(n, key, "want %v, not %v", scalar, n.kind)
		return "", false
	}
	if n.env || !strings.Contains(n.text, "${") {
		return n.text, true
	}
	if d.dry {
		return "", false
	}
	s, unset, err := expand(n.text, d.lookup)
	switch {
	case err != nil:
		d.bad(n, key, "%v", err)
	case len(unset) > 0:
		what := "variable %s is"
		if len(unset) > 1 {
			what = "variables %s are"
		}
		d.missing.add(n.pos, key, "the environment "+what+" not set, and there is no default, as in ${%s:-default}", listOf(unset), unset[0])
	default:
		return s, true
	}
	return "", false
}

// show is the text of a value in a message.
func (n *node) show() string {
	if n.hidden {
		return "the text (a secrets file is not shown)"
	}
	s := n.text
	if len(s) > 60 {
		s = strings.ToValidUTF8(s[:60], "") + "…"
	}
	return strconv.Quote(s)
}

// scalar decodes a single value with a function.
func (d *decoder) scalar(n *node, key, what string, parse func(string) error) {
	s, ok := d.raw(n, key)
	if !ok {
		return
	}
	switch err := parse(s); err {
	case nil:
	case errForm:
		d.bad(n, key, "want %s, %s is none", what, n.show())
	default:
		if n.hidden || strings.Contains(n.text, "${") { // the error may tell the text
			d.bad(n, key, "want %s, %s is none", what, n.show())
		} else {
			d.bad(n, key, "%s: %v", n.show(), err)
		}
	}
}

// text decodes a string.
func (d *decoder) text(n *node, v reflect.Value, key string, tag reflect.StructTag) {
	s, ok := d.raw(n, key)
	if !ok {
		return
	}
	switch enum := tag.Get("enum"); {
	case enum != "":
		if allowed := strings.Split(enum, ","); !slices.Contains(allowed, s) {
			d.bad(n, key, "want %s, not %s", strings.Join(allowed, ", "), n.show())
			return
		}
	case tag.Get("as") == "path":
		s = d.path(n, s)
	case tag.Get("as") == "pem":
		if s, ok = d.secret(n, key, tag); !ok {
			return
		}
	}
	v.SetString(s)
}

// path makes a path that does not depend on where the program is started.
func (d *decoder) path(n *node, p string) string {
	if rest, ok := strings.CutPrefix(p, "~/"); ok && d.home != "" {
		return filepath.Join(d.home, rest)
	}
	if p == "" || p == ":memory:" || n.dir == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(n.dir, p)
}

// secret reads a secret: a text, env:NAME or file:PATH. Of a PEM one, a text
// that is neither PEM nor a reference is a path.
func (d *decoder) secret(n *node, key string, tag reflect.StructTag) (string, bool) {
	s, ok := d.raw(n, key)
	if !ok {
		return "", false
	}
	if name, is := strings.CutPrefix(s, "env:"); is {
		if d.dry {
			return "", false
		}
		v, ok := d.lookup(name)
		if !ok || v == "" {
			d.missing.add(n.pos, key, "the environment variable %s is not set", name)
			return "", false
		}
		return v, true
	}
	if p, is := strings.CutPrefix(s, "file:"); is {
		if d.dry {
			return "", false
		}
		b, err := os.ReadFile(d.path(n, p))
		if err != nil {
			d.missing.add(n.pos, key, "%v", err)
			return "", false
		}
		return strings.TrimRight(string(b), "\r\n"), true
	}
	if tag.Get("as") == "pem" && !strings.Contains(s, "-----BEGIN ") {
		return d.path(n, s), true
	}
	return s, true
}

// any decodes what has no type: nil, bool, int64, float64, string, []any or
// map[string]any.
func (d *decoder) any(n *node, key string) any {
	switch n.kind {
	case list:
		out := make([]any, len(n.items))
		for i, item := range n.items {
			out[i] = d.any(item, fmt.Sprintf("%s[%d]", key, i))
		}
		return out
	case mapping:
		out := make(map[string]any, len(n.keys))
		for _, e := range n.keys {
			d.note(key+"."+e.name, e.pos)
			out[e.name] = d.any(e.value, key+"."+e.name)
		}
		return out
	case null:
		return nil
	}
	s, ok := d.raw(n, key)
	if !ok {
		return nil
	}
	if n.quoted {
		return s
	}
	switch s {
	case "true", "True", "TRUE":
		return true
	case "false", "False", "FALSE":
		return false
	case "null", "~", "":
		return nil
	}
	if i, err := parseInt(s); err == nil {
		return i
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
		return f
	}
	return s
}
