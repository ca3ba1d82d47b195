package main

import (
	"go/types"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

// load gives the types of packages.
func load(t *testing.T, paths ...string) map[string]*types.Package {
	t.Helper()
	pkgs, err := packages.Load(&packages.Config{Mode: packages.NeedName | packages.NeedTypes, Dir: filepath.Join("..", "..")}, paths...)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]*types.Package{}
	for _, p := range pkgs {
		for _, err := range p.Errors {
			t.Fatal(err)
		}
		m[p.PkgPath] = p.Types
	}
	return m
}

// exported are the exported functions and methods of a package, by their names
// in the tables.
func exported(pkg *types.Package) map[string]*types.Func {
	m := map[string]*types.Func{}
	for _, name := range pkg.Scope().Names() {
		switch obj := pkg.Scope().Lookup(name).(type) {
		case *types.Func:
			m[name] = obj
		case *types.TypeName:
			for _, t := range []types.Type{obj.Type(), types.NewPointer(obj.Type())} {
				for sel := range types.NewMethodSet(t).Methods() {
					if fn := sel.Obj().(*types.Func); sel.Obj().Exported() && localName(fn) == name+"."+fn.Name() {
						m[name+"."+fn.Name()] = fn
					}
				}
			}
		}
	}
	for name := range m {
		if first := name[0]; first < 'A' || first > 'Z' {
			delete(m, name)
		}
	}
	return m
}

// TestTheTableNamesWhatIsThere finds slips of the pen.
func TestTheTableNamesWhatIsThere(t *testing.T) {
	t.Parallel()
	var std []string
	for _, b := range table {
		if inStd(b.pkg, "") {
			std = append(std, b.pkg)
		}
	}
	pkgs := load(t, std...)
	for _, b := range table {
		pkg := pkgs[b.pkg]
		if pkg == nil {
			continue
		}
		funcs := exported(pkg)
		for name := range strings.FieldsSeq(b.names) {
			name = strings.TrimPrefix(name, "-")
			typ, all := strings.CutSuffix(name, ".*")
			if name == "*" || funcs[name] != nil || (all || funcs[name] == nil && !strings.Contains(name, ".")) && pkg.Scope().Lookup(typ) != nil {
				continue
			}
			t.Errorf("package %s has no %s", b.pkg, name)
		}
	}
}

// TestTheTablesKnowPackageDurable fails when package durable has got a
// function that takes a context, or a function, and that nobody has thought
// about here.
func TestTheTablesKnowPackageDurable(t *testing.T) {
	t.Parallel()
	harmless := []string{
		"Now", "Logger", "InfoOf", "StepInfoOf", "WithoutCancel", // looked at, never recorded
		"WithActor", "ActorOf", "WithTrace", "TraceOf", "With", "Provided", // values of a context
		"Heartbeat", "LastHeartbeat", // refused in a workflow by an error, nothing there
		"NewExecutor", "NewReader", "Backend.Do", "Backend.Close", // for engines
		"Host.RunStep", "Hosted.Update", "Cluster.Record", "Cluster.Tell", // for engines
		"Propagator.Inject", "Propagator.Extract", "Tracer.Caller", "Tracer.Place", // for the engine to call
	}
	pkg := load(t, durablePath)[durablePath]
	if pkg == nil {
		t.Fatal("package durable was not loaded")
	}
	funcs := exported(pkg)
	for _, name := range slices.Sorted(maps.Keys(classes)) {
		if funcs[name] == nil {
			t.Errorf("classes has %s, package durable has not", name)
		}
	}
	for name, args := range kinds {
		if funcs[name] == nil {
			t.Errorf("kinds has %s, package durable has not", name)
			continue
		}
		for i := range args {
			if _, ok := funcs[name].Signature().Params().At(i).Type().Underlying().(*types.Signature); !ok {
				t.Errorf("parameter %d of %s is no function", i, name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(funcs)) {
		params := funcs[name].Signature().Params()
		for i := range params.Len() {
			typ := params.At(i).Type()
			_, isFunc := typ.Underlying().(*types.Signature)
			switch {
			case isFunc && kinds[name][i] == kindNone && !slices.Contains(harmless, name):
				t.Errorf("kinds does not say what becomes of parameter %s of %s", params.At(i).Name(), name)
			case typ.String() == "context.Context" && classes[name] == 0 && !slices.Contains(harmless, name):
				t.Errorf("classes does not say what %s does", name)
			}
		}
	}
}
