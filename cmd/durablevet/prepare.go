package main

import (
	"go/ast"
	"go/token"
	"go/types"
	"strings"

	"golang.org/x/tools/go/types/typeutil"
)

// prepare collects what has to be known of the whole package first.
func (c *checker) prepare(f *ast.File) {
	inTest := strings.HasSuffix(c.Fset.Position(f.Package).Filename, "_test.go")
	for _, d := range f.Decls {
		fd, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if fn, ok := c.TypesInfo.Defs[fd.Name].(*types.Func); ok && fd.Body != nil && fd.Name.Name != "_" {
			c.decls[fn] = fd
		}
	}
	write := func(e ast.Expr) {
		v := c.root(e)
		if v == nil || !global(v) || v.Pkg() != c.Pkg {
			return
		}
		declared := strings.HasSuffix(c.Fset.Position(v.Pos()).Filename, "_test.go")
		if declared || !inTest {
			c.written[v] = true
		}
	}
	for _, d := range f.Decls {
		fd, _ := d.(*ast.FuncDecl)
		initial := fd == nil || fd.Recv == nil && fd.Name.Name == "init"
		ast.Inspect(d, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for i, e := range n.Lhs {
					var value ast.Expr
					if len(n.Lhs) == len(n.Rhs) {
						value = n.Rhs[i]
					}
					c.define(e, value)
					if !initial {
						write(e)
					}
				}
			case *ast.ValueSpec:
				for i, name := range n.Names {
					if len(n.Values) == len(n.Names) {
						c.define(name, n.Values[i])
					}
				}
			case *ast.IncDecStmt:
				if !initial {
					write(n.X)
				}
			case *ast.UnaryExpr:
				if n.Op == token.AND {
					if id, ok := ast.Unparen(n.X).(*ast.Ident); ok {
						c.define(id, nil)
					}
				}
			}
			return true
		})
	}
}

// define notes what a variable is assigned, to know those that are a function
// literal or a background context and stay it.
func (c *checker) define(e, value ast.Expr) {
	id, ok := ast.Unparen(e).(*ast.Ident)
	if !ok {
		return
	}
	v, ok := c.TypesInfo.ObjectOf(id).(*types.Var)
	if !ok {
		return
	}
	c.assigns[v]++
	delete(c.lits, v)
	delete(c.ctxs, v)
	if c.assigns[v] > 1 || value == nil {
		return
	}
	switch value := ast.Unparen(value).(type) {
	case *ast.FuncLit:
		c.lits[v] = value
	case *ast.CallExpr:
		c.ctxs[v] = c.background(value) != ""
	}
}

// background gives the name of a context that belongs to no run.
func (c *checker) background(e ast.Expr) string {
	switch e := ast.Unparen(e).(type) {
	case *ast.CallExpr:
		fn := c.callee(e)
		if fn != nil && fn.Pkg() != nil && fn.Pkg().Path() == "context" && (fn.Name() == "Background" || fn.Name() == "TODO") {
			return "context." + fn.Name() + "()"
		}
	case *ast.Ident:
		if v, ok := c.TypesInfo.Uses[e].(*types.Var); ok && c.ctxs[v] {
			return e.Name + ", which is context.Background(),"
		}
	}
	return ""
}

// callee gives the function that is called by name, also one of an interface.
func (c *checker) callee(call *ast.CallExpr) *types.Func {
	fn, _ := typeutil.Callee(c.TypesInfo, call).(*types.Func)
	if fn != nil {
		fn = fn.Origin()
	}
	return fn
}

// root gives the variable that an assignment to e changes.
func (c *checker) root(e ast.Expr) *types.Var {
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		v, _ := c.TypesInfo.Uses[e].(*types.Var)
		return v
	case *ast.SelectorExpr:
		if id, ok := ast.Unparen(e.X).(*ast.Ident); ok {
			if _, ok := c.TypesInfo.Uses[id].(*types.PkgName); ok {
				return c.root(e.Sel)
			}
		}
		return c.root(e.X)
	case *ast.IndexExpr:
		return c.root(e.X)
	case *ast.StarExpr:
		return c.root(e.X)
	}
	return nil
}

func global(v *types.Var) bool {
	return v.Pkg() != nil && v.Parent() == v.Pkg().Scope()
}

// kindOf says what becomes of an argument of a call.
func (c *checker) kindOf(fn *types.Func, arg int) kind {
	switch {
	case fn == nil:
		return kindNone
	case api(fn) != "":
		return kinds[api(fn)][arg]
	case fn.Pkg() == c.Pkg:
		return c.params[fn][arg]
	}
	if f := c.fact(fn); f != nil && arg < len(f.Given) {
		return f.Given[arg]
	}
	return kindNone
}

// forwarded finds the parameters that functions of this package hand to
// package durable, or call in a function that they hand to it.
func (c *checker) forwarded() {
	for changed := true; changed; {
		changed = false
		for fn, d := range c.decls {
			index := map[types.Object]int{}
			for i := range fn.Signature().Params().Len() {
				index[fn.Signature().Params().At(i)] = i
			}
			note := func(e ast.Expr, k kind) {
				id, ok := ast.Unparen(e).(*ast.Ident)
				if !ok || k == kindNone {
					return
				}
				i, ok := index[c.TypesInfo.Uses[id]]
				if !ok || c.params[fn][i] != kindNone {
					return
				}
				if c.params[fn] == nil {
					c.params[fn] = map[int]kind{}
				}
				c.params[fn][i] = k
				changed = true
			}
			var walk func(n ast.Node, in kind)
			walk = func(n ast.Node, in kind) {
				lits := map[ast.Node]kind{}
				ast.Inspect(n, func(m ast.Node) bool {
					switch m := m.(type) {
					case *ast.FuncLit:
						if k, ok := lits[m]; ok {
							walk(m.Body, k)
							return false
						}
					case *ast.CallExpr:
						note(m.Fun, in)
						callee := c.callee(m)
						for i, a := range m.Args {
							k := c.kindOf(callee, i)
							note(a, k)
							if lit, ok := ast.Unparen(a).(*ast.FuncLit); ok && k != kindNone {
								lits[lit] = k
							}
						}
					}
					return true
				})
			}
			walk(d.Body, kindNone)
		}
	}
}
