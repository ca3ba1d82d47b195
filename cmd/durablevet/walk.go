package main

import (
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"strings"
)

// unit is code that runs in a workflow as a whole or not at all: the body of a
// function, with the literals in it, or a literal that is given to package
// durable.
type unit struct {
	name     string
	body     *ast.BlockStmt
	own      *ast.FuncLit // what it writes to is declared in here; nil: anywhere
	ownKind  kind
	found    []finding
	mentions []mention
	given    []*given
	durable  []durableCall
	class    class  // of all durable calls, by way of other functions too
	call     string // one of them
	reach    map[rule]*witness
}

// finding is something that is not allowed.
type finding struct {
	pos          token.Pos
	rule         rule
	what, remedy string
}

// short is what stands at the end of a path.
func (f finding) short() string {
	s, _, _ := strings.Cut(f.what, ", ")
	return s
}

// mention is the name of a function in code: as good as a call of it.
type mention struct {
	pos token.Pos
	fn  *types.Func
}

// given is a function that is given to package durable.
type given struct {
	kind kind
	name string // in paths
	pos  token.Pos
	in   *unit
	// One of the two.
	unit *unit
	fn   *types.Func
}

// durableCall is a call of package durable.
type durableCall struct {
	pos   token.Pos
	name  string
	class class
}

// build makes the units of a file.
func (c *checker) build(f *ast.File) {
	rest := &unit{name: "package " + c.Pkg.Name()}
	for _, d := range f.Decls {
		fd, ok := d.(*ast.FuncDecl)
		if !ok {
			c.walk(rest, d)
			continue
		}
		fn, _ := c.TypesInfo.Defs[fd.Name].(*types.Func)
		if fn == nil || fd.Body == nil || trusted(fd) {
			continue
		}
		u := &unit{name: localName(fn), body: fd.Body}
		if c.decls[fn] != nil {
			c.funcs[fn] = u
		}
		c.order = append(c.order, u)
		c.walk(u, fd.Body)
	}
}

// walk collects what a unit says.
func (c *checker) walk(u *unit, n ast.Node) {
	done := map[ast.Node]bool{} // dealt with
	ast.Inspect(n, func(n ast.Node) bool {
		if n == nil || done[n] {
			return false
		}
		switch n := n.(type) {
		case *ast.GoStmt:
			c.find(u, n.Pos(), ruleGo, "a go statement", useGroup)
			for _, a := range n.Call.Args {
				c.walk(u, a)
			}
			return false
		case *ast.SelectStmt:
			c.find(u, n.Pos(), ruleWait, "select", useWait)
			for _, s := range n.Body.List {
				for _, s := range s.(*ast.CommClause).Body {
					c.walk(u, s)
				}
			}
			return false
		case *ast.SendStmt:
			c.find(u, n.Arrow, ruleWait, "a channel send", "use a variable with durable.Await, or a durable.Signal")
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				c.receive(u, n.Pos(), n.X)
			}
		case *ast.RangeStmt:
			if t := c.TypesInfo.TypeOf(n.X); t != nil {
				if _, ok := t.Underlying().(*types.Chan); ok {
					c.receive(u, n.Pos(), n.X)
				}
			}
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, e := range n.Lhs {
					c.write(u, e)
				}
			}
		case *ast.IncDecStmt:
			c.write(u, n.X)
		case *ast.CallExpr:
			c.call(u, n, done)
		case *ast.SelectorExpr:
			// A method of a value stands at its own name, a qualified name
			// at its package.
			if id, ok := n.X.(*ast.Ident); ok {
				if _, ok := c.TypesInfo.Uses[id].(*types.PkgName); ok {
					c.mention(u, n.Pos(), n.Sel)
					return false
				}
			}
		case *ast.Ident:
			c.mention(u, n.Pos(), n)
		}
		return true
	})
}

func (c *checker) find(u *unit, pos token.Pos, r rule, what, remedy string) {
	if !c.ignores.at(c.Fset, pos) {
		u.found = append(u.found, finding{pos, r, what, remedy})
	}
}

// receive is a native wait.
func (c *checker) receive(u *unit, pos token.Pos, from ast.Expr) {
	if call, ok := ast.Unparen(from).(*ast.CallExpr); ok {
		fn := c.callee(call)
		if fn != nil && fn.Name() == "Done" && fn.Pkg() != nil && fn.Pkg().Path() == "context" {
			c.find(u, pos, ruleWait, "<-ctx.Done()", "durable calls return when ctx ends; to wait for that alone, use durable.Await with ctx.Err() != nil")
			return
		}
	}
	c.find(u, pos, ruleWait, "a channel receive", useWait)
}

const useVariable = "keep it in a variable of the workflow, or publish it with a durable.Status"

func (c *checker) write(u *unit, e ast.Expr) {
	v := c.root(e)
	switch {
	case v == nil:
	case global(v):
		c.find(u, e.Pos(), ruleGlobal, "a write to the package variable "+v.Name(), useVariable)
	case u.own == nil || u.own.Pos() <= v.Pos() && v.Pos() < u.own.End():
	case strings.HasSuffix(c.Fset.Position(e.Pos()).Filename, "_test.go"):
		// A test looks into a run this way.
	case u.ownKind == kindWorkflow:
		c.find(u, e.Pos(), ruleGlobal, "a write to "+v.Name()+", which is declared outside the workflow,", useVariable)
	case u.ownKind == kindSide:
		c.find(u, e.Pos(), ruleReadOnly, "a write to "+v.Name(), "it is not made again in a replay: return the value")
	default:
		c.find(u, e.Pos(), ruleReadOnly, "a write to "+v.Name(), "this function only reads: it runs at any time, and not again in a replay")
	}
}

// call looks at a call: what it is of package durable, and what its function
// arguments are to become.
func (c *checker) call(u *unit, call *ast.CallExpr, done map[ast.Node]bool) {
	if id, ok := ast.Unparen(call.Fun).(*ast.Ident); ok {
		if b, ok := c.TypesInfo.Uses[id].(*types.Builtin); ok {
			switch b.Name() {
			case "print", "println":
				c.find(u, call.Pos(), ruleLog, b.Name(), useLogger)
			case "delete", "clear", "copy":
				c.write(u, call.Args[0])
			}
			return
		}
	}
	callee := c.callee(call)
	if callee == nil {
		return
	}
	if pkg := callee.Pkg(); pkg != nil && (pkg.Path() == "sync/atomic" || pkg.Path() == "sync" && strings.HasPrefix(localName(callee), "Map.")) {
		c.atomic(u, call, callee)
	}
	if name := api(callee); classes[name] != 0 {
		cl := classes[name]
		pos := call.Pos()
		if sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr); ok && strings.Contains(name, ".") {
			pos = sel.Sel.Pos()
		}
		text := name
		if !strings.Contains(name, ".") {
			text = "durable." + name
		}
		if !c.ignores.at(c.Fset, pos) {
			u.durable = append(u.durable, durableCall{pos, text, cl})
		}
		if cl&operation != 0 {
			c.find(u, pos, ruleOperation, text, "it is for other programs; start a run with Workflow.Run or Child, send with Signal.Send, or do it in a step")
		}
		if cl&writes != 0 {
			c.find(u, pos, ruleReadOnly, text, "it is refused with ErrReadOnly: do it in the workflow")
		}
	}
	for i, a := range call.Args {
		if k := c.kindOf(callee, i); k != kindNone {
			c.give(u, callee, call, a, k, done)
		}
	}
}

// atomic is state that several runs share.
func (c *checker) atomic(u *unit, call *ast.CallExpr, callee *types.Func) {
	var on ast.Expr
	if sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr); ok && callee.Signature().Recv() != nil {
		on = sel.X
	} else if len(call.Args) > 0 {
		if a, ok := ast.Unparen(call.Args[0]).(*ast.UnaryExpr); ok && a.Op == token.AND {
			on = a.X
		}
	}
	if on == nil {
		return
	}
	if v := c.root(on); v != nil && global(v) {
		c.find(u, on.Pos(), ruleGlobal, "the package variable "+v.Name(), useVariable)
	}
}

// give deals with a function that is given to package durable.
func (c *checker) give(u *unit, callee *types.Func, call *ast.CallExpr, arg ast.Expr, k kind, done map[ast.Node]bool) {
	name := k.label(api(callee))
	if k == kindWorkflow {
		name = "workflow " + c.workflowName(call, arg, u)
	}
	add := func(lit *ast.FuncLit, fn *types.Func) {
		if k == kindStep {
			return
		}
		g := &given{kind: k, name: name, pos: arg.Pos(), in: u, fn: fn}
		if lit != nil {
			g.unit = c.literal(lit, k, name, u)
		}
		u.given = append(u.given, g)
		c.roots = append(c.roots, g)
	}
	e := ast.Unparen(arg)
	switch x := e.(type) {
	case *ast.IndexExpr:
		e = x.X
	case *ast.IndexListExpr:
		e = x.X
	}
	switch x := e.(type) {
	case *ast.FuncLit:
		done[arg], done[x] = true, true
		add(x, nil)
	case *ast.Ident:
		switch obj := c.TypesInfo.Uses[x].(type) {
		case *types.Func:
			done[arg] = true
			add(nil, obj.Origin())
		case *types.Var:
			if lit := c.lits[obj]; lit != nil {
				add(lit, nil)
			}
		}
	case *ast.SelectorExpr:
		if fn, ok := c.TypesInfo.Uses[x.Sel].(*types.Func); ok {
			done[x.Sel] = true
			if id, ok := x.X.(*ast.Ident); ok {
				if _, ok := c.TypesInfo.Uses[id].(*types.PkgName); ok {
					done[arg] = true
				}
			}
			if !types.IsInterface(recvType(fn)) {
				add(nil, fn.Origin())
			}
		}
	case *ast.CallExpr:
		// A function of this package that makes the function.
		if d := c.decls[c.callee(x)]; d != nil {
			ast.Inspect(d.Body, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncLit:
					return false
				case *ast.ReturnStmt:
					for _, r := range n.Results {
						if lit, ok := ast.Unparen(r).(*ast.FuncLit); ok {
							add(lit, nil)
						}
					}
				}
				return true
			})
		}
	}
}

func recvType(fn *types.Func) types.Type {
	if r := fn.Signature().Recv(); r != nil {
		return r.Type()
	}
	return types.Typ[types.Invalid]
}

// literal makes the unit of a function literal.
func (c *checker) literal(lit *ast.FuncLit, k kind, name string, in *unit) *unit {
	u := c.units[lit.Body]
	if u == nil {
		u = &unit{name: name, body: lit.Body, own: lit, ownKind: k}
		if k == kindMember || k == kindHandler {
			// The variables are those of the run that it belongs to.
			u.own, u.ownKind = in.own, in.ownKind
		}
		c.units[lit.Body] = u
		c.order = append(c.order, u)
		c.walk(u, lit.Body)
	}
	return u
}

// workflowName is the name under which a workflow is defined.
func (c *checker) workflowName(call *ast.CallExpr, fn ast.Expr, u *unit) string {
	for _, a := range call.Args {
		if a == fn {
			break
		}
		if v := c.TypesInfo.Types[a].Value; v != nil && v.Kind() == constant.String {
			return constant.StringVal(v)
		}
	}
	if name := types.ExprString(fn); len(name) < 40 && !strings.Contains(name, "func(") {
		return name
	}
	return "in " + u.name
}

// mention looks at a name.
func (c *checker) mention(u *unit, pos token.Pos, id *ast.Ident) {
	switch obj := c.TypesInfo.Uses[id].(type) {
	case *types.Func:
		fn := obj.Origin()
		if b, ok := lookup(fn); ok {
			c.find(u, pos, b.rule, fn.Pkg().Name()+"."+localName(fn), b.remedy)
			return
		}
		if fn.Pkg() == nil || fn.Pkg().Path() == durablePath || types.IsInterface(recvType(fn)) || c.ignores.at(c.Fset, pos) {
			return
		}
		u.mentions = append(u.mentions, mention{pos, fn})
	case *types.Var:
		if !global(obj) {
			return
		}
		if b, ok := lookup(obj); ok {
			c.find(u, pos, b.rule, obj.Pkg().Name()+"."+obj.Name(), b.remedy)
			return
		}
		if ofDurable(obj.Type()) {
			return
		}
		if c.written[obj] || obj.Pkg() != c.Pkg && c.ImportObjectFact(obj, new(varFact)) {
			c.find(u, pos, ruleGlobal, "the package variable "+obj.Name()+", which is written after the start,", useVariable)
		}
	}
}
