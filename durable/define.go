package durable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sort"
)

// Definer is something that an engine must know of before it runs: a
// workflow, a bound step, an agent with all that belongs to it. Definitions
// are values given to Open; there is no global registry.
type Definer interface {
	// Define adds what the value consists of. It may be called many times.
	Define(*Definitions)
}

// Set is several definitions as one.
type Set []Definer

// Define implements [Definer].
func (s Set) Define(d *Definitions) { d.Add(s...) }

// Definition is a single named definition.
type Definition interface {
	Definer
	Info() Info
}

// Accepted is a message that a workflow can declare in
// [WorkflowOptions.Accepts].
type Accepted interface {
	Definition
	accepted()
}

// Kind says what a definition defines.
type Kind string

// The kinds of definitions.
const (
	KindWorkflow Kind = "workflow"
	KindStep     Kind = "step"
	KindSignal   Kind = "signal"
	KindQuery    Kind = "query"
	KindUpdate   Kind = "update"
	KindQuestion Kind = "question"
	KindStatus   Kind = "status"
	KindStream   Kind = "stream"
)

// Info describes a definition: what serving and documentation are made from.
type Info struct {
	Kind               Kind
	Name               string
	Title, Description string
	// In is the type of the input of a workflow, step, query or update, of a
	// signal's payload and of a question's answer. Out is the type of a
	// result, a status or a stream's elements. Nil where there is none.
	In, Out reflect.Type
	// Accepts lists what a workflow declares.
	Accepts []Info
}

// Describe gives a message a title and a description for people.
type describe struct{ title, description string }

// Definitions is what Open has been given: by kind and name. It is built by
// [NewDefinitions] and not changed afterwards.
type Definitions struct {
	infos map[defKey]Info
	defs  map[defKey]Definer // first definition under the name
	wfs   map[string]*workflowDef
	steps map[string]*stepDef
	errs  []error

	values map[reflect.Type]any // see Provide
}

type defKey struct {
	kind Kind
	name string
}

type workflowDef struct {
	name    string
	opts    WorkflowOptions
	in      reflect.Type
	fn      func(ctx context.Context, in json.RawMessage) (json.RawMessage, error)
	check   func(in json.RawMessage) error // does the input fit the type
	accepts map[defKey]Accepted
}

type stepDef struct {
	name  string
	opts  StepOptions
	bound bool
	fn    func(ctx context.Context, in json.RawMessage) (json.RawMessage, error) // nil: declared only
	owner *stepIdentity
}

// NewDefinitions collects definitions. All mistakes are reported at once: two
// definitions under one name, bad names, options that contradict each other.
func NewDefinitions(defs ...Definer) (*Definitions, error) {
	d := &Definitions{
		infos: map[defKey]Info{}, defs: map[defKey]Definer{},
		wfs: map[string]*workflowDef{}, steps: map[string]*stepDef{},
	}
	d.Add(defs...)
	return d, errors.Join(d.errs...)
}

// Add adds definitions. The same value may be added many times.
func (d *Definitions) Add(defs ...Definer) {
	for _, def := range defs {
		if def == nil {
			d.errs = append(d.errs, fmt.Errorf("a definition is nil"))
			continue
		}
		def.Define(d)
	}
}

// Infos lists all definitions by kind and name.
func (d *Definitions) Infos() []Info {
	out := make([]Info, 0, len(d.infos))
	for _, i := range d.infos {
		out = append(out, i)
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Kind != out[j].Kind {
			return out[i].Kind < out[j].Kind
		}
		return out[i].Name < out[j].Name
	})
	return out
}

// Info finds one definition.
func (d *Definitions) Info(kind Kind, name string) (Info, bool) {
	i, ok := d.infos[defKey{kind, name}]
	return i, ok
}

// Step finds the options that a step declares.
func (d *Definitions) Step(name string) (StepOptions, bool) {
	s := d.steps[name]
	if s == nil {
		return StepOptions{}, false
	}
	return s.owner.opts, true
}

// claim takes a name; false if it is taken by this very value already, or
// cannot be had.
func (d *Definitions) claim(def Definition, info Info) bool {
	key := defKey{info.Kind, info.Name}
	if had, ok := d.defs[key]; ok {
		if had != Definer(def) {
			d.errs = append(d.errs, fmt.Errorf("%s %q: %w: two values have this name", info.Kind, info.Name, ErrDefinedTwice))
		}
		return false
	}
	if err := checkName(info.Name); err != nil {
		d.errs = append(d.errs, fmt.Errorf("%s %q: %w", info.Kind, info.Name, err))
		return false
	}
	d.defs[key], d.infos[key] = def, info
	return true
}

// checkName holds names to [A-Za-z0-9_./-]{1,200}; the prefix "__" is ours.
func checkName(name string) error {
	if name == "" || len(name) > 200 {
		return fmt.Errorf("a name has 1 to 200 characters, this one %d", len(name))
	}
	for _, c := range name {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '.', c == '/', c == '-':
		default:
			return fmt.Errorf("a name consists of letters, digits and _ . / -, not %q", c)
		}
	}
	if len(name) > 1 && name[:2] == "__" {
		return fmt.Errorf("the prefix __ is reserved")
	}
	return nil
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }
