package main

import (
	"go/ast"
	"go/token"
	"strings"
)

const directive = "//durablevet:ignore"

// ignores are the lines on which findings are silenced.
type ignores map[string]map[int]bool // by file and line

// readIgnores finds the directives of a file. One that stands alone on its
// line is for the next line. One without a reason silences nothing and is
// reported.
func (ig ignores) read(fset *token.FileSet, f *ast.File, missing func(token.Pos)) {
	var code map[int]bool // lines with code, made when needed
	for _, g := range f.Comments {
		for _, c := range g.List {
			rest, ok := strings.CutPrefix(c.Text, directive)
			if !ok || rest != "" && rest[0] != ' ' && rest[0] != '\t' {
				continue
			}
			// What follows a second // is another comment.
			rest, _, _ = strings.Cut(rest, "//")
			if strings.TrimSpace(rest) == "" {
				missing(c.Pos())
				continue
			}
			if code == nil {
				code = codeLines(fset, f)
			}
			at := fset.Position(c.Pos())
			if ig[at.Filename] == nil {
				ig[at.Filename] = map[int]bool{}
			}
			ig[at.Filename][at.Line] = true
			if !code[at.Line] {
				ig[at.Filename][fset.Position(g.End()).Line+1] = true
			}
		}
	}
}

func codeLines(fset *token.FileSet, f *ast.File) map[int]bool {
	lines := map[int]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n.(type) {
		case nil, *ast.File:
		case *ast.CommentGroup, *ast.Comment:
			return false
		default:
			lines[fset.Position(n.Pos()).Line] = true
			lines[fset.Position(n.End()).Line] = true
		}
		return true
	})
	return lines
}

// at reports whether findings at a position are silenced.
func (ig ignores) at(fset *token.FileSet, pos token.Pos) bool {
	if len(ig) == 0 {
		return false
	}
	p := fset.Position(pos)
	return ig[p.Filename][p.Line]
}

// trusted reports whether a function's comment has the directive.
func trusted(d *ast.FuncDecl) bool {
	if d.Doc == nil {
		return false
	}
	for _, c := range d.Doc.List {
		if rest, ok := strings.CutPrefix(c.Text, directive+" "); ok && strings.TrimSpace(rest) != "" {
			return true
		}
	}
	return false
}
