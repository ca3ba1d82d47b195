package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
)

var analyzer = &analysis.Analyzer{
	Name: "durablevet",
	Doc: `find code that cannot run in a durable workflow

A workflow's function runs again from its beginning after a crash, and must
make the same durable calls then. The functions given to durable.NewWorkflow,
Group.Go, Map, Update.Handle, Query.Handle, Await and SideEffect, and all that
they call by name, in any package, are held to that.`,
	URL:       "https://github.com/mcpagent/mcpagent/blob/main/docs/durablevet.md",
	Run:       run,
	FactTypes: []analysis.Fact{new(funcFact), new(varFact)},
}

// funcFact is what the callers of a function in other packages have to know.
type funcFact struct {
	Module  string // of the function
	Durable bool   // its package knows of durable code
	Reach   []witness
	Class   class  // of the durable calls that it makes
	Call    string // one of them
	Given   []kind // by parameter, if it hands one to package durable
}

func (*funcFact) AFact() {}

func (f *funcFact) String() string {
	var s []string
	for _, w := range f.Reach {
		s = append(s, string(w.Rule)+": "+strings.Join(w.Path, " → "))
	}
	if f.Class&waits != 0 {
		s = append(s, "durable: "+f.Call)
	}
	return strings.Join(s, "; ")
}

// witness is one way from a function to something that is not allowed.
type witness struct {
	Rule         rule
	What, Remedy string
	Path         []string // from the function's own name on
	Where        string   // file and line of the end
}

// varFact marks a package-level variable that is written after initialization.
type varFact struct{}

func (*varFact) AFact()         {}
func (*varFact) String() string { return "written" }

// checker is the analysis of one package.
type checker struct {
	*analysis.Pass
	durable bool // the package knows of durable code
	ignores ignores
	decls   map[*types.Func]*ast.FuncDecl
	lits    map[*types.Var]*ast.FuncLit // variables that are a literal and stay it
	assigns map[*types.Var]int
	ctxs    map[*types.Var]bool // variables that are context.Background() and stay it
	written map[*types.Var]bool
	params  map[*types.Func]map[int]kind
	units   map[ast.Node]*unit // by body
	funcs   map[*types.Func]*unit
	order   []*unit // as made
	roots   []*given
	facts   map[*types.Func]*funcFact // of this package
	other   map[*types.Func]*funcFact // of others
	seen    map[reported]bool
}

type reported struct {
	pos  token.Pos
	rule rule
}

func run(pass *analysis.Pass) (any, error) {
	c := &checker{
		Pass:    pass,
		durable: seesDurable(pass.Pkg),
		ignores: ignores{},
		decls:   map[*types.Func]*ast.FuncDecl{},
		lits:    map[*types.Var]*ast.FuncLit{},
		assigns: map[*types.Var]int{},
		ctxs:    map[*types.Var]bool{},
		written: map[*types.Var]bool{},
		params:  map[*types.Func]map[int]kind{},
		units:   map[ast.Node]*unit{},
		funcs:   map[*types.Func]*unit{},
		facts:   map[*types.Func]*funcFact{},
		other:   map[*types.Func]*funcFact{},
		seen:    map[reported]bool{},
	}
	if path := pass.Pkg.Path(); path == durablePath || inStd(path, c.module()) {
		return nil, nil // known by tables
	}
	for _, f := range pass.Files {
		c.ignores.read(pass.Fset, f, func(pos token.Pos) {
			if c.durable {
				c.emit(pos, ruleDirective, directive+" has no reason: say why the line is right")
			}
		})
		c.prepare(f)
	}
	if c.durable {
		c.forwarded()
	}
	for _, f := range pass.Files {
		c.build(f)
	}
	if c.durable {
		c.reachClasses()
		for _, u := range c.order {
			c.structure(u)
		}
	}
	c.reachRules()
	c.export()
	c.report()
	return nil, nil
}

// inStd reports whether a package is of the standard library: its functions
// are in the table.
func inStd(path, module string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".") && (module == "" || module == "std")
}

func (c *checker) module() string {
	if c.Module == nil {
		return ""
	}
	return c.Module.Path
}

// fact gives what is known of a function of another package.
func (c *checker) fact(fn *types.Func) *funcFact {
	f, ok := c.other[fn]
	if !ok {
		f = new(funcFact)
		if fn.Pkg() == nil || fn.Pkg() == c.Pkg || !c.ImportObjectFact(fn, f) {
			f = nil
		}
		c.other[fn] = f
	}
	return f
}

// counts reports whether what a function of another package does under a rule
// is the caller's affair.
func (c *checker) counts(f *funcFact, r rule) bool {
	return f.Durable || f.Module == c.module() || slices.Contains(carried, r)
}

// reachClasses finds the functions that make durable calls, by way of others
// too.
func (c *checker) reachClasses() {
	callers := c.callers()
	for _, one := range []class{records, blocks, writes, operation} {
		var queue []*unit
		mark := func(u *unit, call string) {
			if u.class&one == 0 {
				u.class |= one
				if u.call == "" {
					u.call = call
				}
				queue = append(queue, u)
			}
		}
		for _, u := range c.order {
			for _, d := range u.durable {
				if d.class&one != 0 {
					mark(u, d.name)
				}
			}
			for _, m := range u.mentions {
				if f := c.fact(m.fn); f != nil && f.Class&one != 0 {
					mark(u, f.Call)
				}
			}
		}
		for len(queue) > 0 {
			u := queue[0]
			queue = queue[1:]
			for _, by := range callers[u] {
				mark(by.from, u.call)
			}
		}
	}
}

type caller struct{ from *unit }

// callers turns the calls within the package around.
func (c *checker) callers() map[*unit][]caller {
	m := map[*unit][]caller{}
	for _, u := range c.order {
		for _, call := range u.mentions {
			if to := c.funcs[call.fn]; to != nil && to != u {
				m[to] = append(m[to], caller{u})
			}
		}
	}
	return m
}

// reachRules finds, for each function, one way to each kind of offence. What
// is in a function that is given to package durable is left out: it is
// reported where it stands.
func (c *checker) reachRules() {
	callers := c.callers()
	starts := map[rule][]*unit{}
	for _, u := range c.order {
		u.reach = map[rule]*witness{}
		add := func(w *witness) {
			if u.reach[w.Rule] == nil {
				u.reach[w.Rule] = w
				starts[w.Rule] = append(starts[w.Rule], u)
			}
		}
		for _, f := range u.found {
			add(&witness{f.rule, f.what, f.remedy, []string{u.name, f.short()}, c.place(f.pos)})
		}
		for _, m := range u.mentions {
			f := c.fact(m.fn)
			if f == nil {
				continue
			}
			for _, w := range f.Reach {
				if c.counts(f, w.Rule) {
					w.Path = extend(u.name, w.Path)
					add(&w)
				}
			}
		}
	}
	for r, queue := range starts {
		for len(queue) > 0 {
			u := queue[0]
			queue = queue[1:]
			for _, by := range callers[u] {
				if by.from.reach[r] == nil {
					w := *u.reach[r]
					w.Path = extend(by.from.name, w.Path)
					by.from.reach[r] = &w
					queue = append(queue, by.from)
				}
			}
		}
	}
}

// extend puts a name in front of a path, and keeps long ones readable.
func extend(name string, path []string) []string {
	path = append([]string{name}, path...)
	if len(path) > 8 {
		path = slices.Concat(path[:3], []string{"…"}, path[len(path)-4:])
	}
	return path
}

// place is a position without its directory.
func (c *checker) place(pos token.Pos) string {
	p := c.Fset.Position(pos)
	name := p.Filename[strings.LastIndexAny(p.Filename, `/\`)+1:]
	return fmt.Sprintf("%s:%d", name, p.Line)
}

// export leaves facts for the packages that import this one.
func (c *checker) export() {
	for fn, u := range c.funcs {
		f := &funcFact{Module: c.module(), Durable: c.durable, Class: u.class, Call: u.call}
		if given := c.params[fn]; given != nil {
			f.Given = make([]kind, fn.Signature().Params().Len())
			for i, k := range given {
				f.Given[i] = k
			}
		}
		for _, w := range u.reach {
			w := *w
			w.Path = slices.Clone(w.Path)
			w.Path[0] = c.Pkg.Name() + "." + w.Path[0]
			f.Reach = append(f.Reach, w)
		}
		slices.SortFunc(f.Reach, func(a, b witness) int { return cmp.Compare(a.Rule, b.Rule) })
		if len(f.Reach) > 0 || f.Class != 0 || len(f.Given) > 0 {
			c.ExportObjectFact(fn, f)
		}
	}
	for v := range c.written {
		if v.Pkg() == c.Pkg && v.Exported() {
			c.ExportObjectFact(v, new(varFact))
		}
	}
}

// report follows the calls from each function that runs in a workflow.
func (c *checker) report() {
	slices.SortStableFunc(c.roots, func(a, b *given) int {
		// Paths from a workflow say more.
		return cmp.Or(cmp.Compare(min(a.kind, kindMember), min(b.kind, kindMember)), cmp.Compare(a.pos, b.pos))
	})
	for _, g := range c.roots {
		name := g.name
		if g.kind != kindWorkflow {
			name += " in " + g.in.name
		}
		c.follow(g, []string{name})
	}
}

// follow reports what a function reaches.
func (c *checker) follow(g *given, path []string) {
	type visit struct {
		u    *unit
		mode mode
	}
	type stop struct {
		visit
		path []string
	}
	seen := map[visit]bool{}
	var queue []stop
	enter := func(g *given, m mode, path []string) {
		u := g.unit
		if u == nil {
			u = c.funcs[g.fn]
			if g.kind != kindWorkflow && u != nil {
				path = append(slices.Clone(path), u.name)
			}
		}
		switch {
		case u == nil:
			c.outside(mention{g.pos, g.fn}, m, path)
		case !seen[visit{u, m}]:
			seen[visit{u, m}] = true
			queue = append(queue, stop{visit{u, m}, path})
		}
	}
	enter(g, g.kind.mode(), path)
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for _, f := range at.u.found {
			if f.rule.modes()&at.mode != 0 {
				c.emit(f.pos, f.rule, message(f.what, f.rule, f.remedy, append(slices.Clone(at.path), f.short()), ""))
			}
		}
		for _, inner := range at.u.given {
			if inner.kind != kindWorkflow {
				enter(inner, inner.kind.mode(), append(slices.Clone(at.path), inner.name))
			}
		}
		for _, m := range at.u.mentions {
			to := c.funcs[m.fn]
			if to == nil {
				c.outside(m, at.mode, at.path)
				continue
			}
			if v := (visit{to, at.mode}); !seen[v] {
				seen[v] = true
				queue = append(queue, stop{v, append(slices.Clone(at.path), to.name)})
			}
		}
	}
}

// outside reports what a function of another package is known to do, at the
// call.
func (c *checker) outside(m mention, in mode, path []string) {
	f := c.fact(m.fn)
	if f == nil {
		return
	}
	for _, w := range f.Reach {
		if w.Rule.modes()&in != 0 && c.counts(f, w.Rule) {
			c.emit(m.pos, w.Rule, message(w.What, w.Rule, w.Remedy, slices.Concat(path, w.Path), w.Where))
		}
	}
}

// message says what, why, what instead, and by which way.
func message(what string, r rule, remedy string, path []string, where string) string {
	s := what + " in workflow code" + reasons[r] + ": " + remedy + " (" + strings.Join(path, " → ")
	if where != "" {
		s += ", " + where
	}
	return s + ")"
}

// reasons are added where the name alone does not say what is wrong.
var reasons = map[rule]string{
	ruleClock:     " gives another time in a replay",
	ruleRandom:    " gives another value in a replay",
	ruleEnv:       " may differ in a replay",
	ruleIO:        " is done again in each replay",
	ruleGo:        " leaves the run",
	ruleWait:      " stops the whole run",
	ruleContext:   " is not the run's",
	ruleLog:       " is written again in each replay",
	ruleGlobal:    " is shared by all runs and forgotten by a crash",
	ruleOperation: " is refused with ErrInWorkflow",
}

func (c *checker) emit(pos token.Pos, r rule, text string) {
	if c.ignores.at(c.Fset, pos) || c.seen[reported{pos, r}] {
		return
	}
	c.seen[reported{pos, r}] = true
	c.Report(analysis.Diagnostic{Pos: pos, Category: string(r), Message: text})
}
