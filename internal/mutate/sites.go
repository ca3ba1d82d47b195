package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// site is a place where the code can be broken, by text that is put before and
// after a piece of it.
type site struct {
	n             int
	file          string
	line          int
	in            string // the function
	change, code  string
	from, to      int // of the piece
	before, after string
	off           bool // does not compile
}

// hangs reports whether a mutant leaves a lock held: it is not worth the time
// that it takes.
func (s *site) hangs() bool {
	return strings.HasPrefix(s.change, "drop ") && strings.HasSuffix(s.change, "nlock()")
}

func (s *site) result() result {
	return result{File: filepath.ToSlash(s.file), Line: s.line, In: s.in, Change: s.change, Code: s.code}
}

// source is a file and the places in it.
type source struct {
	name  string
	text  string
	lines []string
	sites []*site
}

func (f *source) dropLine(line string) (n int) {
	for _, s := range f.sites {
		if fmt.Sprint(s.line) == line && !s.off {
			s.off = true
			n++
		}
	}
	return n
}

func parseAll(dirs []string) ([]*source, error) {
	var out []*source
	n := 0
	for _, dir := range dirs {
		names, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") || strings.Contains(name, "_windows") || strings.HasPrefix(filepath.Base(name), "g_") {
				continue
			}
			b, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			f := &source{name: name, text: string(b), lines: strings.Split(string(b), "\n")}
			if err := f.find(&n); err != nil {
				return nil, err
			}
			out = append(out, f)
		}
	}
	return out, nil
}

// find finds the places.
func (f *source) find(n *int) error {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, f.name, f.text, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	in := ""
	seen := map[string]int{}
	at := func(p token.Pos) int { return fset.Position(p).Offset }
	text := func(x ast.Node) string { return f.text[at(x.Pos()):at(x.End())] }
	add := func(x ast.Node, change, before, after string) {
		*n++
		line := fset.Position(x.Pos()).Line
		id := fmt.Sprintf("mutantOn(%d)", *n)
		code, in := strings.TrimSpace(f.lines[line-1]), in
		same := in + "\x00" + change + "\x00" + code
		if seen[same]++; seen[same] > 1 {
			in += fmt.Sprintf(" #%d", seen[same]) // of those that look alike
		}
		f.sites = append(f.sites, &site{
			n: *n, file: f.name, line: line, in: in, change: change, code: code, from: at(x.Pos()), to: at(x.End()),
			before: strings.ReplaceAll(before, "ON", id), after: strings.ReplaceAll(after, "ON", id),
		})
	}
	short := func(s string) string {
		s = strings.Join(strings.Fields(s), " ")
		if len(s) > 60 {
			s = s[:57] + "..."
		}
		return s
	}
	condition := func(x ast.Expr) {
		if x != nil {
			add(x, "negate "+short(text(x)), "ON != (", ")")
		}
	}
	drop := func(list []ast.Stmt) {
		for _, s := range list {
			switch s := s.(type) {
			case *ast.AssignStmt:
				if s.Tok == token.DEFINE {
					continue
				}
			case *ast.ExprStmt:
				if strings.HasPrefix(text(s), "panic(") {
					continue
				}
			case *ast.BranchStmt:
				if s.Tok == token.FALLTHROUGH {
					continue
				}
			case *ast.IncDecStmt, *ast.DeferStmt, *ast.GoStmt, *ast.SendStmt:
			case *ast.ReturnStmt:
				if len(s.Results) > 0 {
					continue
				}
			default:
				continue
			}
			add(s, "drop "+short(text(s)), "if !ON { ", " }")
		}
	}
	simple := func(x ast.Expr) bool {
		ok := true
		ast.Inspect(x, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if id, is := n.Fun.(*ast.Ident); !is || id.Name != "len" {
					ok = false
				}
			case *ast.FuncLit, *ast.CompositeLit:
				ok = false
			}
			return ok
		})
		return ok
	}
	for _, d := range tree.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		in = fn.Name.Name
		if fn.Recv != nil {
			in = strings.TrimPrefix(text(fn.Recv.List[0].Type), "*") + "." + in
		}
		if fn.Type.Results == nil && len(fn.Body.List) > 1 {
			add(fn.Body.List[0], "return at the start of "+fn.Name.Name, "if ON { return }; ", "")
		}
		ast.Inspect(fn.Body, func(x ast.Node) bool {
			switch x := x.(type) {
			case *ast.IfStmt:
				condition(x.Cond)
			case *ast.ForStmt:
				condition(x.Cond)
			case *ast.BlockStmt:
				drop(x.List)
			case *ast.CaseClause:
				drop(x.Body)
			case *ast.CommClause:
				drop(x.Body)
			case *ast.BinaryExpr:
				a, b := text(x.X), text(x.Y)
				switch x.Op {
				case token.LAND:
					add(x.X, "true for "+short(a), "(ON || ", ")")
					add(x.Y, "true for "+short(b), "(ON || ", ")")
				case token.LOR:
					add(x.X, "false for "+short(a), "(!ON && (", "))")
					add(x.Y, "false for "+short(b), "(!ON && (", "))")
				case token.LSS, token.GTR:
					if simple(x.X) && simple(x.Y) {
						add(x, fmt.Sprintf("%s= for %s", x.Op, x.Op), "(", fmt.Sprintf(" || ON && %s == %s)", a, b))
					}
				case token.LEQ, token.GEQ:
					if simple(x.X) && simple(x.Y) {
						add(x, fmt.Sprintf("%s for %s", x.Op.String()[:1], x.Op), "(", fmt.Sprintf(" && !(ON && %s == %s))", a, b))
					}
				}
			}
			return true
		})
	}
	return nil
}

// broken is the text of the file with all its mutants.
func (f *source) broken() string {
	type put struct {
		at, span int
		end      bool
		text     string
	}
	var puts []put
	for _, s := range f.sites {
		if !s.off {
			puts = append(puts, put{s.from, s.to - s.from, false, s.before}, put{s.to, s.to - s.from, true, s.after})
		}
	}
	// At one place what ends comes before what begins, the inner before the
	// outer end, and the outer before the inner beginning.
	slices.SortStableFunc(puts, func(a, b put) int {
		switch {
		case a.at != b.at:
			return a.at - b.at
		case a.end != b.end:
			if a.end {
				return -1
			}
			return 1
		case a.end:
			return a.span - b.span
		}
		return b.span - a.span
	})
	// Of equal spans the one that begins last ends first.
	for i := 0; i < len(puts); {
		j := i + 1
		for j < len(puts) && puts[j].at == puts[i].at && puts[j].end == puts[i].end && puts[j].span == puts[i].span {
			j++
		}
		if puts[i].end {
			slices.Reverse(puts[i:j])
		}
		i = j
	}
	var out strings.Builder
	last := 0
	for _, p := range puts {
		out.WriteString(f.text[last:p.at])
		out.WriteString(p.text)
		last = p.at
	}
	out.WriteString(f.text[last:])
	return out.String()
}

// overlaid is the name of the broken form of a file.
func overlaid(i int) string { return fmt.Sprintf("%d.go", i) }

// writeAll writes the broken files and the overlay that puts them in place.
func writeAll(dir string, dirs []string, files []*source) (string, error) {
	root, err := os.Getwd()
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for i, f := range files {
		to := filepath.Join(dir, overlaid(i))
		if err := os.WriteFile(to, []byte(f.broken()), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, f.name)] = to
	}
	for i, d := range dirs {
		to := filepath.Join(dir, fmt.Sprintf("on%d.go", i))
		if err := os.WriteFile(to, []byte("package "+filepath.Base(d)+mutantOn), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, d, "mutant_on.go")] = to
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, b, 0o600)
}

// mutantOn is added to each package. While it is asked for, it says in a file
// which mutants are reached, also of processes that are killed.
const mutantOn = `

import (
	"os"
	"strconv"
	"sync/atomic"
)

var (
	mutantSet, _  = strconv.Atoi(os.Getenv("MUTANT"))
	mutantFile, _ = os.OpenFile(os.Getenv("MUTANTS_REACHED"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	mutantSeen    [1 << 16]atomic.Bool
)

func mutantOn(n int) bool {
	if mutantFile != nil && !mutantSeen[n].Load() && !mutantSeen[n].Swap(true) {
		mutantFile.WriteString(strconv.Itoa(n) + "\n")
	}
	return n == mutantSet
}
`
