// Command check runs everything that has to hold before a change goes in, in
// every module of the repository:
//
//	go run ./internal/check            # all of it
//	go run ./internal/check -fast      # gofmt, vet and the tests, without the race detector
//
// The race detector needs a C compiler; where there is none, check says so and
// tests without it, unless the environment has CI=true.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// targets are the systems that the code has to build for: each system, and each
// architecture.
var targets = []string{"linux/amd64", "linux/arm64", "darwin/arm64", "windows/amd64"}

// portable are the packages of the root module that differ by system, or use
// those that do. What stands on the Temporal SDK and gRPC does not, and takes
// minutes to compile for each target.
var portable = []string{"./durable/localengine", "./durable/durabletest", "./mcpserve", "./examples/invoice/app", "./examples/invoice/demo"}

// heavy are the modules that are only vetted and tested, on this system, without
// the race detector. The Temporal server has 450 modules, and one SDK of a vendor
// of models takes a minute: to compile them for each system, and once more with
// the detector, would check other people's code. The programs that talk to the
// server run under the detector, and it in a process of its own.
var heavy = []string{"temporalserver", "internal/peers"}

// timed are the packages of the root module whose tests hold real servers to
// real deadlines: without the race detector, which makes Temporal's SDK give up
// code that is only slow, and a message of 200 MB outlast every patience. To run
// them under it takes a quiet machine: go test -race ./mcphost, say.
var timed = []string{"durable/temporalengine", "examples/hello", "examples/report", "examples/invoice/app", "examples/pause_resume", "mcphost"}

func main() {
	fast := flag.Bool("fast", false, "only gofmt, vet and the tests, without the race detector")
	race := flag.Bool("race", true, "run the tests under the race detector")
	run := flag.String("run", "", "run only the tests that match, as go test -run does")
	flag.Parse()

	c := &checker{run: *run, race: *race && !*fast}
	if err := c.find(); err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(2)
	}
	c.raceNeedsC()
	c.step("gofmt", c.gofmt)
	c.each("vet", c.modules, func(dir string) ([]byte, error) { return goTool(dir, nil, "vet", "./...") })
	if !*fast {
		c.step("staticcheck", c.staticcheck)
		c.step("durablevet", c.durablevet)
		c.each("mod tidy", c.modules, func(dir string) ([]byte, error) { return goTool(dir, nil, "mod", "tidy", "-diff") })
		for _, t := range targets {
			c.each("build "+t, c.light(), func(dir string) ([]byte, error) { return build(dir, t) })
		}
	}
	c.test()
	if !*fast {
		// With every engine, mode and process, which the tests leave out under
		// the race detector, and to be quick.
		c.step("contract", func() ([]byte, error) { return goTool(".", nil, "run", "./internal/contract", "-temporal") })
	}
	c.close()
}

// checker keeps the account of one run.
type checker struct {
	run     string
	race    bool
	modules []string // directories, the root first
	failed  []string // checks that failed
	tests   struct{ passed, failed int }
}

// find finds the modules below the directory of the root's go.mod.
func (c *checker) find() error {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(out)))
	if _, err := os.Stat(filepath.Join(root, "internal", "tools", "go.mod")); err != nil {
		return errors.New("run it in the directory that holds the repository's first go.mod")
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	return filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.Name() == "go.mod":
			c.modules = append(c.modules, filepath.Dir(path))
		}
		return nil
	})
}

// raceNeedsC turns the race detector off where it can't work.
func (c *checker) raceNeedsC() {
	if !c.race || os.Getenv("CI") != "" {
		return
	}
	out, _ := exec.Command("go", "env", "CGO_ENABLED", "CC").Output()
	enabled, cc, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if _, err := exec.LookPath(strings.TrimSpace(cc)); enabled != "1" || err != nil {
		c.race = false
		fmt.Println("note no C compiler: the tests run without the race detector")
	}
}

// step runs one check, prints a line about it, and what it said if it failed.
func (c *checker) step(name string, fn func() ([]byte, error)) {
	start := time.Now()
	out, err := fn()
	took := time.Since(start).Round(100 * time.Millisecond)
	if err == nil {
		fmt.Printf("ok   %-22s %v\n", name, took)
		return
	}
	c.failed = append(c.failed, name)
	fmt.Printf("FAIL %-22s %v\n%s%v\n", name, took, out, err)
}

// light lists the modules but the heavy ones.
func (c *checker) light() []string {
	return slices.DeleteFunc(slices.Clone(c.modules), func(dir string) bool { return slices.Contains(heavy, dir) })
}

// each runs one check in every of the modules.
func (c *checker) each(name string, modules []string, fn func(dir string) ([]byte, error)) {
	for _, dir := range modules {
		label := name
		if dir != "." {
			label += " " + filepath.ToSlash(dir)
		}
		c.step(label, func() ([]byte, error) { return fn(dir) })
	}
}

// gofmt lists what is not formatted.
func (c *checker) gofmt() ([]byte, error) {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	bin := filepath.Join(strings.TrimSpace(string(goroot)), "bin", "gofmt")
	out, err := exec.Command(bin, "-l", "-s", ".").CombinedOutput()
	if err == nil && len(out) > 0 {
		err = errors.New("run gofmt -s -w on these files")
	}
	return out, err
}

// staticcheck runs the version that internal/tools pins.
func (c *checker) staticcheck() ([]byte, error) {
	path, err := exec.Command("go", "-C", filepath.Join("internal", "tools"), "tool", "-n", "staticcheck").Output()
	if err != nil {
		return stderrOf(err), fmt.Errorf("build staticcheck: %w", err)
	}
	var all []byte
	for _, dir := range c.light() {
		cmd := exec.Command(strings.TrimSpace(string(path)), "./...")
		cmd.Dir = dir
		out, e := cmd.CombinedOutput()
		if e != nil {
			all, err = append(all, out...), e
		}
	}
	return all, err
}

// durablevet looks for code that cannot run in a workflow, in all packages that
// can define one. The tests of package durable itself do what is not allowed.
func (c *checker) durablevet() ([]byte, error) {
	const durable = "github.com/mcpagent/mcpagent/durable"
	dir, err := os.MkdirTemp("", "check")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	tool := filepath.Join(dir, "durablevet.exe")
	if out, err := goTool(filepath.Join("cmd", "durablevet"), nil, "build", "-buildvcs=false", "-o", tool, "."); err != nil {
		return out, err
	}
	var all []byte
	for _, module := range c.modules {
		const list = "{{.ImportPath}}{{range .Deps}} {{.}}{{end}}{{range .TestImports}} {{.}}{{end}}{{range .XTestImports}} {{.}}{{end}}"
		cmd := exec.Command("go", "list", "-f", list, "./...")
		cmd.Dir = module
		out, e := cmd.Output()
		if e != nil {
			all, err = append(all, stderrOf(e)...), e
			continue
		}
		args := []string{"vet", "-vettool=" + tool}
		for line := range strings.Lines(string(out)) {
			if names := strings.Fields(line); names[0] != durable && slices.Contains(names[1:], durable) {
				args = append(args, names[0])
			}
		}
		if len(args) == 2 {
			continue
		}
		if out, e := goTool(module, nil, args...); e != nil {
			all, err = append(all, out...), e
		}
	}
	return all, err
}

// build compiles a module for another system. Tests are type-checked too.
func build(dir, target string) ([]byte, error) {
	system, arch, _ := strings.Cut(target, "/")
	env := []string{"GOOS=" + system, "GOARCH=" + arch, "CGO_ENABLED=0"}
	what := []string{"./..."}
	if dir == "." {
		what = portable
	}
	if out, err := goTool(dir, env, append([]string{"build"}, what...)...); err != nil {
		return out, err
	}
	return goTool(dir, env, append([]string{"vet"}, what...)...)
}

func goTool(dir string, env []string, args ...string) ([]byte, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	return cmd.CombinedOutput()
}

func stderrOf(err error) []byte {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.Stderr
	}
	return nil
}

// test runs the tests of all modules and counts them.
func (c *checker) test() {
	for _, dir := range c.modules {
		if !c.race || slices.Contains(heavy, dir) {
			c.testIn(dir, "./...")
			continue
		}
		if dir != "." {
			c.testIn(dir, "-race", "./...")
			continue
		}
		out, err := exec.Command("go", "list", "./...").Output()
		if err != nil {
			c.failed = append(c.failed, "list the packages")
			fmt.Printf("%s%v\n", stderrOf(err), err)
			continue
		}
		race, plain := []string{"-race"}, []string{}
		for _, pkg := range strings.Fields(string(out)) {
			if slices.ContainsFunc(timed, func(name string) bool { return strings.HasSuffix(pkg, "/"+name) }) {
				plain = append(plain, pkg)
			} else {
				race = append(race, pkg)
			}
		}
		c.testIn(dir, race...)
		c.testIn(dir, plain...)
	}
}

// testIn runs the tests of packages of a module.
func (c *checker) testIn(dir string, what ...string) {
	args := []string{"test", "-json", "-shuffle=on"}
	if c.run != "" {
		args = append(args, "-run", c.run)
	}
	args = append(args, what...)
	said := strings.Join(args, " ")
	if len(args) > 12 {
		said = strings.Join(args[:5], " ") + fmt.Sprintf(" … and %d more", len(args)-5)
	}
	fmt.Printf("     go %s (%s)\n", said, filepath.ToSlash(dir))
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		c.report(out)
		err = cmd.Wait()
	}
	if err != nil {
		fmt.Print(stderr.String())
		c.failed = append(c.failed, "test "+filepath.ToSlash(dir))
	}
}

// event is a line of go test -json.
type event struct {
	Action, Package, ImportPath, Test, Output string
	Elapsed                                   float64
}

// report prints a line for each package and the output of what failed.
func (c *checker) report(r io.Reader) {
	said := map[[2]string][]string{} // by package and test
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Println(lines.Text())
			continue
		}
		key := [2]string{e.Package, e.Test}
		switch e.Action {
		case "build-output":
			fmt.Print(e.Output)
		case "output":
			said[key] = append(said[key], e.Output)
		case "pass", "fail", "skip":
			c.count(e)
			switch {
			case e.Action == "fail" && e.Test == "":
				// A test that did not come to its end has no event of its own.
				for k, lines := range said {
					if k[0] == e.Package && k[1] != "" {
						fmt.Print(strings.Join(lines, ""))
					}
				}
				fmt.Print(strings.Join(said[key], ""))
			case e.Action == "fail":
				fmt.Print(strings.Join(said[key], ""))
			case e.Test == "" && e.Action == "pass":
				fmt.Printf("ok   %s %.1fs\n", e.Package, e.Elapsed)
			}
			delete(said, key)
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Println("check: read the output of go test:", err)
		c.failed = append(c.failed, "test output")
	}
}

func (c *checker) count(e event) {
	switch {
	case e.Test == "":
	case e.Action == "pass":
		c.tests.passed++
	case e.Action == "fail":
		c.tests.failed++
	}
}

// close prints the account and ends the process.
func (c *checker) close() {
	if c.tests.passed+c.tests.failed == 0 {
		c.failed = append(c.failed, "no test ran")
	}
	if len(c.failed) > 0 {
		fmt.Printf("\nfailed: %s (%s, %s/%s)\n", strings.Join(slices.Compact(c.failed), ", "), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	}
	fmt.Printf("%d passed, %d failed\n", c.tests.passed, c.tests.failed)
	if len(c.failed) > 0 {
		os.Exit(1)
	}
}
