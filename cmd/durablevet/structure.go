package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// structure finds what is wrong only because of a durable call in it.
func (c *checker) structure(u *unit) {
	if u.body == nil {
		return
	}
	c.each(u.body, func(n ast.Node) {
		switch n := n.(type) {
		case *ast.RangeStmt:
			if what := c.unordered(n.X); what != "" {
				if call, name := c.first(n.Body, records); call != nil {
					c.find(u, n.Pos(), ruleOrder, name+" in a range over "+what, "the calls have another order in a replay; range over slices.Sorted(maps.Keys(m))")
				}
			}
		case *ast.DeferStmt:
			c.deferred(u, n)
		case *ast.CallExpr:
			if fn := c.callee(n); in(fn, "sync") && localName(fn) == "Map.Range" && len(n.Args) == 1 {
				if call, name := c.first(n.Args[0], records); call != nil {
					c.find(u, n.Pos(), ruleOrder, name+" in sync.Map.Range", "the calls have another order in a replay; gather the keys and sort them")
				}
			}
			if name, cl := c.class(n); cl != 0 {
				for _, a := range n.Args {
					if bg := c.background(a); bg != "" {
						c.find(u, a.Pos(), ruleLost, bg+" for "+name, "it is refused with ErrLostContext; pass the ctx of the workflow on, or durable.WithoutCancel(ctx)")
					}
				}
			}
		}
	})
	c.collected(u)
	c.locks(u, u.body)
	c.each(u.body, func(n ast.Node) {
		if lit, ok := n.(*ast.FuncLit); ok {
			c.locks(u, lit.Body)
		}
	})
}

// each visits the nodes of a unit: not functions that are units themselves,
// nor steps, nor what a go statement starts.
func (c *checker) each(n ast.Node, visit func(ast.Node)) {
	skip := map[ast.Node]bool{}
	ast.Inspect(n, func(n ast.Node) bool {
		if n == nil || skip[n] {
			return false
		}
		switch n := n.(type) {
		case *ast.GoStmt:
			return false
		case *ast.CallExpr:
			for i, a := range n.Args {
				if lit, ok := ast.Unparen(a).(*ast.FuncLit); ok && c.kindOf(c.callee(n), i) != kindNone {
					skip[lit] = true
				}
			}
		}
		visit(n)
		return true
	})
}

// class says what a call does in terms of package durable, also by way of
// other functions.
func (c *checker) class(call *ast.CallExpr) (string, class) {
	if c.ignores.at(c.Fset, call.Pos()) {
		return "", 0
	}
	fn := c.callee(call)
	if fn == nil {
		return "", 0
	}
	if name := api(fn); name != "" {
		if !strings.Contains(name, ".") {
			name = "durable." + name
		}
		return name, classes[api(fn)]
	}
	if u := c.funcs[fn]; u != nil {
		return by(u.name, u.call), u.class
	}
	if f := c.fact(fn); f != nil {
		return by(fn.Pkg().Name()+"."+localName(fn), f.Call), f.Class
	}
	return "", 0
}

func by(name, call string) string { return name + " (" + call + ")" }

// first finds a call of a class. The literals of local variables are looked
// into where they are called.
func (c *checker) first(n ast.Node, want class) (found *ast.CallExpr, name string) {
	seen := map[ast.Node]bool{}
	var look func(n ast.Node)
	look = func(n ast.Node) {
		c.each(n, func(n ast.Node) {
			call, ok := n.(*ast.CallExpr)
			if !ok || found != nil {
				return
			}
			if what, cl := c.class(call); cl&want != 0 {
				found, name = call, what
				return
			}
			id, ok := ast.Unparen(call.Fun).(*ast.Ident)
			if !ok {
				return
			}
			v, _ := c.TypesInfo.Uses[id].(*types.Var)
			if lit := c.lits[v]; lit != nil && !seen[lit] {
				seen[lit] = true
				look(lit.Body)
			}
		})
	}
	look(n)
	return found, name
}

// unordered says what is ranged over in no order, or "".
func (c *checker) unordered(x ast.Expr) string {
	if t := c.TypesInfo.TypeOf(x); t != nil {
		if _, ok := t.Underlying().(*types.Map); ok {
			return "a map"
		}
	}
	if call, ok := ast.Unparen(x).(*ast.CallExpr); ok {
		if fn := c.callee(call); in(fn, "maps") {
			switch fn.Name() {
			case "All", "Keys", "Values":
				return "maps." + fn.Name()
			}
		}
	}
	return ""
}

// collected follows what is gathered from a map, in the order of the text: as
// long as it is not sorted, what is done for each of it has no order.
func (c *checker) collected(u *unit) {
	const remedy = "the calls have another order in a replay; sort it first"
	filled := map[*types.Var]string{}
	variable := func(e ast.Expr) *types.Var {
		if id, ok := ast.Unparen(e).(*ast.Ident); ok {
			v, _ := c.TypesInfo.ObjectOf(id).(*types.Var)
			return v
		}
		return nil
	}
	c.each(u.body, func(n ast.Node) {
		switch n := n.(type) {
		case *ast.RangeStmt:
			if from := c.unordered(n.X); from != "" {
				c.each(n.Body, func(s ast.Node) {
					a, ok := s.(*ast.AssignStmt)
					if !ok || len(a.Lhs) != 1 || len(a.Rhs) != 1 {
						return
					}
					v := variable(a.Lhs[0])
					if call, ok := ast.Unparen(a.Rhs[0]).(*ast.CallExpr); ok && v != nil && v.Pos() < n.Pos() && isBuiltin(c.TypesInfo, call, "append") {
						filled[v] = from
					}
				})
			}
			if v := variable(n.X); v != nil && filled[v] != "" {
				if call, name := c.first(n.Body, records); call != nil {
					c.find(u, n.Pos(), ruleOrder, name+" for each of "+v.Name()+", in the order of "+filled[v]+",", remedy)
				}
			}
		case *ast.AssignStmt:
			if len(n.Lhs) != 1 || len(n.Rhs) != 1 {
				return
			}
			v := variable(n.Lhs[0])
			if call, ok := ast.Unparen(n.Rhs[0]).(*ast.CallExpr); ok && v != nil && len(call.Args) == 1 {
				if from := c.unordered(call.Args[0]); from != "" && in(c.callee(call), "slices") {
					delete(filled, v)
					if c.callee(call).Name() == "Collect" {
						filled[v] = from
					}
				}
			}
		case *ast.CallExpr:
			fn := c.callee(n)
			if in(fn, "slices") && strings.HasPrefix(fn.Name(), "Sort") || in(fn, "sort") {
				for _, a := range n.Args {
					ast.Inspect(a, func(n ast.Node) bool {
						if id, ok := n.(*ast.Ident); ok {
							delete(filled, variable(id))
						}
						return true
					})
				}
			}
			if api(fn) == "Map" && len(n.Args) > 1 {
				if v := variable(n.Args[1]); v != nil && filled[v] != "" {
					c.find(u, n.Pos(), ruleOrder, "durable.Map of "+v.Name()+", in the order of "+filled[v]+",", remedy)
				}
			}
		}
	})
}

// in reports whether a function is of a package.
func in(fn *types.Func, path string) bool {
	return fn != nil && fn.Pkg() != nil && fn.Pkg().Path() == path
}

func isBuiltin(info *types.Info, call *ast.CallExpr, name string) bool {
	id, ok := ast.Unparen(call.Fun).(*ast.Ident)
	if !ok {
		return false
	}
	b, ok := info.Uses[id].(*types.Builtin)
	return ok && b.Name() == name
}

// deferred looks at a defer statement: its function runs whenever the run is
// put away.
func (c *checker) deferred(u *unit, d *ast.DeferStmt) {
	const remedy = "a deferred function runs whenever the run is put away, and a durable call ends it there; call it before the function returns"
	var n ast.Node = d.Call
	if lit, ok := ast.Unparen(d.Call.Fun).(*ast.FuncLit); ok {
		n = lit.Body
	}
	if call, name := c.first(n, blocks); call != nil {
		c.find(u, call.Pos(), ruleDefer, name+" in a deferred function", remedy)
	}
}

// locks follows the mutexes of Go through one function, in the order of its
// text.
func (c *checker) locks(u *unit, body *ast.BlockStmt) {
	type lock struct {
		on, name string
		pos      token.Pos
	}
	var held []lock
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit, *ast.GoStmt:
			return false
		case *ast.DeferStmt:
			return false // an Unlock at the end; durable calls have a rule of their own
		case *ast.CallExpr:
			fn := c.callee(n)
			if in(fn, "sync") {
				sel, ok := ast.Unparen(n.Fun).(*ast.SelectorExpr)
				if !ok {
					return true
				}
				switch on := types.ExprString(sel.X); fn.Name() {
				case "Lock", "RLock":
					held = append(held, lock{on, on + "." + fn.Name(), n.Pos()})
				case "Unlock", "RUnlock":
					held = slices.DeleteFunc(held, func(l lock) bool { return l.on == on })
				}
				return true
			}
			if name, cl := c.class(n); cl&blocks != 0 {
				for _, l := range held {
					c.find(u, l.pos, ruleLock, l.name+" held over "+name, fmt.Sprintf("on line %d another coroutine may want it, which stops the whole run; use durable.Mutex", c.Fset.Position(n.Pos()).Line))
				}
				held = nil
			}
		}
		return true
	})
}
