package mcpagent_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The rules of the house. AGENTS.md says them in words; when one of these
// tests fails, the rule stands until the table here is changed on purpose.

const module = "github.com/mcpagent/mcpagent"

// layer says what a package may import beside the standard library. Names
// without a dot in the first element are packages of this module. A name that
// ends in /... includes what is below.
type layer struct {
	pkg   string
	may   []string
	tests []string // its tests, in addition
}

var layers = []layer{
	{"durable", []string{"durable/internal/...", "internal/plainjson"}, []string{"durable/durabletest", "go.uber.org/goleak", "pgregory.net/rapid"}},
	{"durable/durabletest", []string{"durable", "durable/internal/..."}, []string{"go.uber.org/goleak"}},
	{"durable/engines", []string{"durable", "durable/localengine", "durable/temporalengine", "github.com/goccy/go-yaml/..."}, []string{"internal/temporaltest", "telemetry", "github.com/google/jsonschema-go/..."}},
	{"durable/internal/...", []string{"durable/internal/...", "internal/plainjson"}, nil},
	{"durable/localengine", []string{"durable", "durable/internal/...", "internal/plainjson", "modernc.org/sqlite/...", "golang.org/x/sys/..."}, []string{"durable/durabletest", "internal/powercut", "go.uber.org/goleak", "pgregory.net/rapid"}},
	{"durable/localengine/internal/simulate", []string{"durable", "durable/internal/...", "durable/localengine"}, []string{"go.uber.org/goleak"}},
	{"durable/localengine/internal/...", []string{"durable/internal/...", "durable/localengine/internal/...", "modernc.org/sqlite/...", "golang.org/x/sys/..."}, nil},
	{"durable/temporalengine", []string{"durable", "go.temporal.io/...", "google.golang.org/grpc/...", "google.golang.org/protobuf/..."}, []string{"durable/durabletest", "durable/engines", "internal/temporaltest", "go.uber.org/goleak"}},
	{"agent", []string{"durable", "llm", "internal/plainjson", "internal/toolset", "github.com/google/jsonschema-go/..."}, []string{"durable/durabletest", "durable/localengine", "durable/temporalengine", "internal/npmtest", "internal/temporaltest", "llm/anthropic", "llm/llmtest", "llm/openai", "mcphost", "github.com/modelcontextprotocol/go-sdk/...", "go.temporal.io/..."}},
	{"llm", nil, nil},
	{"pattern", []string{"agent", "durable", "llm"}, []string{"durable/durabletest", "llm/llmtest", "durable/localengine"}},
	{"llm/internal/...", []string{"durable", "internal/plainjson", "llm"}, []string{"llm/llmtest"}},
	{"llm/anthropic", []string{"durable", "internal/plainjson", "llm", "llm/internal/..."}, []string{"durable/engines", "internal/npmtest", "llm/llmtest", "go.uber.org/goleak"}},
	{"llm/llmtest", []string{"llm", "github.com/goccy/go-yaml"}, []string{"durable", "internal/npmtest", "llm/anthropic", "llm/openai", "go.uber.org/goleak"}},
	{"llm/openai", []string{"durable", "internal/plainjson", "llm", "llm/internal/..."}, []string{"durable/engines", "internal/npmtest", "llm/llmtest", "go.uber.org/goleak"}},
	{"mcphost", []string{"durable", "internal/toolset", "llm", "github.com/modelcontextprotocol/go-sdk/...", "github.com/google/jsonschema-go/...", "golang.org/x/sys/..."}, []string{"agent", "durable/durabletest", "durable/engines", "durable/localengine", "durable/temporalengine", "internal/npmtest", "internal/temporaltest", "llm/llmtest", "go.temporal.io/...", "go.uber.org/goleak"}},
	{"mcpserve", []string{"durable", "github.com/modelcontextprotocol/go-sdk/...", "github.com/google/jsonschema-go/..."}, []string{"durable/localengine", "go.uber.org/goleak"}},
	{"telemetry", []string{"durable", "go.opentelemetry.io/otel/...", "go.opentelemetry.io/contrib/bridges/otelslog"}, []string{"durable/localengine", "durable/temporalengine", "internal/temporaltest", "mcpserve", "github.com/goccy/go-yaml", "github.com/modelcontextprotocol/go-sdk/...", "go.opentelemetry.io/proto/otlp/...", "google.golang.org/protobuf/proto", "go.uber.org/goleak"}},
	{"examples/internal/exampletest", []string{"internal/temporaltest", "github.com/modelcontextprotocol/go-sdk/..."}, nil},
	{"examples/...", []string{"agent", "examples/internal/...", "llm", "llm/anthropic", "llm/llmtest", "llm/openai", "mcphost", "pattern", ".", "durable", "durable/engines", "durable/localengine", "telemetry", "mcpserve", "github.com/modelcontextprotocol/go-sdk/...", "golang.org/x/sys/...", "examples/invoice/app"}, []string{"modernc.org/sqlite", "internal/temporaltest"}},
	{"internal/bench", []string{"agent", "durable", "durable/localengine", "durable/temporalengine", "internal/powercut", "internal/temporaltest", "internal/toolset", "llm", "llm/anthropic", "llm/openai", "mcphost", "github.com/modelcontextprotocol/go-sdk/...", "go.temporal.io/...", "golang.org/x/sys/...", "modernc.org/sqlite/..."}, nil},
	{"internal/check", nil, nil},
	{"internal/contract", nil, nil},
	{"internal/crashsweep", []string{"durable", "durable/durabletest", "durable/localengine", "internal/powercut"}, []string{"go.uber.org/goleak"}},
	{"internal/mutate", nil, nil},
	{"internal/npmtest", nil, nil},
	{"internal/plainjson", nil, nil},
	{"internal/powercut", []string{"modernc.org/sqlite/...", "modernc.org/libc"}, nil},
	{"internal/temporaltest", nil, nil},
	{"internal/toolset", []string{"durable", "llm"}, []string{"durable/durabletest"}},
	{".", []string{"agent", "durable", "durable/engines", "llm", "mcphost", "mcpserve", "telemetry"}, []string{"durable/localengine", "internal/temporaltest", "llm/anthropic", "llm/llmtest", "llm/openai", "github.com/modelcontextprotocol/go-sdk/...", "go.uber.org/goleak"}},
}

// everyTest is what any test may import.
var everyTest = []string{"github.com/google/go-cmp/..."}

const (
	maxRootDirs  = 14
	maxRootFiles = 8
	maxDepth     = 5
	longFile     = 600
	maxFile      = 1000
)

// pkg is a directory with Go files.
type pkg struct {
	dir     string // "." is the root
	files   map[string]*ast.File
	imports map[string]string // path, and a file that imports it
	tests   map[string]string
}

// tree parses all Go files of the root module, whatever their build tags.
func tree(t *testing.T) (map[string]*pkg, *token.FileSet) {
	t.Helper()
	fset := token.NewFileSet()
	pkgs := map[string]*pkg{}
	walk(t, func(name string) {
		if !strings.HasSuffix(name, ".go") {
			return
		}
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		dir := path.Dir(name)
		p := pkgs[dir]
		if p == nil {
			p = &pkg{dir: dir, files: map[string]*ast.File{}, imports: map[string]string{}, tests: map[string]string{}}
			pkgs[dir] = p
		}
		p.files[name] = f
		into := p.imports
		if strings.HasSuffix(name, "_test.go") {
			into = p.tests
		}
		for _, i := range f.Imports {
			into[strings.Trim(i.Path.Value, `"`)] = name
		}
	})
	return pkgs, fset
}

// walk visits the files of the root module, by slash-separated names.
func walk(t *testing.T, visit func(name string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if !d.IsDir() {
			visit(name)
			return nil
		}
		if name == "." {
			return nil
		}
		if strings.HasPrefix(d.Name(), ".") && d.Name() != ".ci" || d.Name() == "node_modules" {
			return filepath.SkipDir
		}
		if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
			return filepath.SkipDir // a module of its own
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// matches reports whether a package is in a list of patterns.
func matches(name string, patterns ...string) bool {
	for _, p := range patterns {
		if prefix, ok := strings.CutSuffix(p, "/..."); ok && (name == prefix || strings.HasPrefix(name, prefix+"/")) || p == name {
			return true
		}
	}
	return false
}

// local gives the directory of a package of this module.
func local(imported string) (string, bool) {
	if imported == module {
		return ".", true
	}
	return strings.CutPrefix(imported, module+"/")
}

func isStd(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

func TestImportsFollowTheLayers(t *testing.T) {
	pkgs, _ := tree(t)
	for _, dir := range slices.Sorted(maps.Keys(pkgs)) {
		i := slices.IndexFunc(layers, func(l layer) bool { return matches(dir, l.pkg) })
		if i < 0 {
			t.Errorf("%s: no line in layers: say what it may import", dir)
			continue
		}
		may := layers[i].may
		check := func(imported, file string, may []string) {
			if isStd(imported) {
				return
			}
			name := imported
			if l, ok := local(imported); ok {
				name = l
			}
			if name == "." && dir != "." && !matches(dir, "examples/...") {
				t.Errorf("%s imports the root package; only examples may", file)
			} else if !matches(name, may...) {
				t.Errorf("%s imports %s; %s may import the standard library and %v", file, imported, dir, may)
			}
		}
		for imported, file := range pkgs[dir].imports {
			check(imported, file, may)
		}
		may = slices.Concat(may, layers[i].tests, everyTest, []string{dir})
		for imported, file := range pkgs[dir].tests {
			check(imported, file, may)
		}
	}
}

// TestDepth holds the longest chain of imports between public packages. What
// is internal belongs to the package that it lies in; that of the root does not
// count.
func TestDepth(t *testing.T) {
	pkgs, _ := tree(t)
	owner := func(dir string) string {
		before, _, _ := strings.Cut("/"+dir+"/", "/internal/")
		if before == "" && dir != "." {
			return dir
		}
		return strings.Trim(before, "/")
	}
	edges := map[string]map[string]bool{}
	for dir, p := range pkgs {
		if matches(dir, "examples/...") || matches(dir, "internal/bench") { // a command that measures what is above it
			continue
		}
		from := owner(dir)
		if edges[from] == nil {
			edges[from] = map[string]bool{}
		}
		for imported := range p.imports {
			if l, ok := local(imported); ok && owner(l) != from {
				edges[from][owner(l)] = true
			}
		}
	}
	var chain func(dir string, above []string) []string
	chain = func(dir string, above []string) []string {
		if slices.Contains(above, dir) {
			t.Fatalf("a cycle: %v", append(above, dir))
		}
		var longest []string
		for next := range edges[dir] {
			if c := chain(next, append(slices.Clone(above), dir)); len(c) > len(longest) {
				longest = c
			}
		}
		if strings.HasPrefix(dir, "internal/") {
			return longest
		}
		return append([]string{dir}, longest...)
	}
	for dir := range edges {
		if c := chain(dir, nil); len(c) > maxDepth {
			t.Errorf("depth %d, the limit is %d: %s", len(c), maxDepth, strings.Join(c, " → "))
		}
	}
}

func TestPackageComments(t *testing.T) {
	pkgs, _ := tree(t)
	for dir, p := range pkgs {
		documented, code := 0, 0
		for name, f := range p.files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			code++
			if f.Doc == nil {
				continue
			}
			want := "Package " + f.Name.Name + " "
			if f.Name.Name == "main" {
				want = "Command " + path.Base(dir) + " "
			}
			if text := f.Doc.Text(); !strings.HasPrefix(text, want) {
				t.Errorf("%s: the package comment begins with %.30q, not with %q", name, text, want)
			}
			documented++
		}
		if code > 0 && documented != 1 {
			t.Errorf("%s has %d package comments, not one", dir, documented)
		}
	}
}

func TestRootIsATableOfContents(t *testing.T) {
	all, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var dirs, files []string
	for _, e := range all {
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case e.IsDir():
			dirs = append(dirs, e.Name())
		case strings.HasSuffix(e.Name(), ".go"):
			files = append(files, e.Name())
		}
	}
	if len(dirs) > maxRootDirs {
		t.Errorf("%d directories in the root, the limit is %d: %v", len(dirs), maxRootDirs, dirs)
	}
	if len(files) > maxRootFiles {
		t.Errorf("%d Go files in the root, the limit is %d: %v", len(files), maxRootFiles, files)
	}
	for _, name := range []string{"LICENSE", "README.md", "CHANGELOG.md", "AGENTS.md", "CONTRIBUTING.md", "SECURITY.md"} {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
}

func TestFileLength(t *testing.T) {
	pkgs, fset := tree(t)
	for _, p := range pkgs {
		for name, f := range p.files {
			switch n := fset.File(f.Package).LineCount(); {
			case n > maxFile:
				t.Errorf("%s has %d lines, the limit is %d: split it", name, n, maxFile)
			case n > longFile:
				t.Logf("%s has %d lines: is there a second idea in it?", name, n)
			}
		}
	}
}

// TestNothingIsLeftUndone finds notes to oneself, tests that don't run, and
// tests that wait for the clock.
func TestNothingIsLeftUndone(t *testing.T) {
	pkgs, fset := tree(t)
	note := regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)
	for _, p := range pkgs {
		for name, f := range p.files {
			for _, g := range f.Comments {
				if m := note.FindString(g.Text()); m != "" {
					t.Errorf("%s: %s: an issue is the place for it", fset.Position(g.Pos()), m)
				}
			}
			if !strings.HasSuffix(name, "_test.go") {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				on, _ := sel.X.(*ast.Ident)
				switch {
				case on != nil && on.Name == "time" && sel.Sel.Name == "Sleep":
					// In a synctest bubble the clock is virtual.
					if !importsSynctest(f) {
						t.Errorf("%s: time.Sleep in a test: wait for the thing itself", fset.Position(n.Pos()))
					}
				case sel.Sel.Name == "Skip" || sel.Sel.Name == "Skipf" || sel.Sel.Name == "SkipNow":
					t.Errorf("%s: a skipped test: it tests nothing", fset.Position(n.Pos()))
				}
				return true
			})
		}
	}
}

func importsSynctest(f *ast.File) bool {
	return slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"testing/synctest"` })
}

// TestNoPlaces keeps out what is true on one machine only.
func TestNoPlaces(t *testing.T) {
	places := regexp.MustCompile(`(^|[^\w./-])/(work|root|home)/\w|[A-Z]:\\Users\\|proxy\.golang\.|registry\.npmjs|pypi\.org|deb\.debian`)
	walk(t, func(name string) {
		// .git is a file in a worktree.
		if name == "tree_test.go" || name == ".git" || slices.Contains([]string{".db", ".png"}, path.Ext(name)) {
			return
		}
		b, err := os.ReadFile(filepath.FromSlash(name))
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(b), "\n") {
			if m := places.FindString(line); m != "" {
				t.Errorf("%s:%d names a place: %q", name, i+1, m)
			}
		}
	})
}

// TestLinks follows the relative links of the documents.
func TestLinks(t *testing.T) {
	code := regexp.MustCompile("(?s)```.*?```")
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	walk(t, func(name string) {
		if path.Ext(name) != ".md" {
			return
		}
		b, err := os.ReadFile(filepath.FromSlash(name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(string(b), ""), -1) {
			if _, err := os.Stat(filepath.FromSlash(path.Join(path.Dir(name), m[1]))); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			}
		}
	})
}

func TestChangelog(t *testing.T) {
	b, err := os.ReadFile("CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), "\n## [Unreleased]\n") {
		t.Error("CHANGELOG.md has no section [Unreleased]")
	}
}

// TestPublicPackagesHaveAReason looks for a line about each public package.
func TestPublicPackagesHaveAReason(t *testing.T) {
	b, err := os.ReadFile("design/packages.md")
	if err != nil {
		t.Fatal(err)
	}
	pkgs, _ := tree(t)
	for dir, p := range pkgs {
		public := dir != "." && !matches(dir, "examples/...") && !strings.Contains("/"+dir+"/", "/internal/")
		if public && len(p.imports) > 0 && !strings.Contains(string(b), "`"+dir+"`") {
			t.Errorf("design/packages.md has no reason for %s", dir)
		}
	}
}

func TestExamplesCompile(t *testing.T) {
	out, err := exec.Command("go", "vet", "./examples/...").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
