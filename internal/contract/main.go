// Command contract plays the contract of engines (docs/contract.md) on every
// engine of this module, in every mode, and prints a table of it:
//
//	go run ./internal/contract              # all scenarios
//	go run ./internal/contract -run signals # those whose name contains it
//	go run ./internal/contract -temporal    # on a Temporal server too, in three modes: three minutes more
//
// It fails if a scenario fails anywhere, or is missing anywhere.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// packages are where engines are given to durabletest.TestEngine.
var packages = []string{"./durable/durabletest", "./durable/localengine"}

func main() {
	only := flag.String("run", "", "only the scenarios whose name contains this")
	race := flag.Bool("race", false, "under the race detector: with fewer modes on a file, and no other process")
	temporal := flag.Bool("temporal", false, "on a Temporal server too: in one process, and with two workers in another one that keep nothing in memory")
	flag.Parse()
	ok, err := run(os.Stdout, *only, *race, *temporal)
	if err != nil {
		fmt.Fprintln(os.Stderr, "contract:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

func run(w io.Writer, only string, race, temporal bool) (bool, error) {
	args := []string{"test", "-json", "-count=1", "-timeout=15m", "-run=^TestContract"}
	packages := packages
	if temporal {
		args = append(args, "-tags=contract", "-timeout=30m")
		packages = append(slices.Clone(packages), "./durable/temporalengine")
	}
	if race {
		args = append(args, "-race")
	}
	began := time.Now()
	cmd := exec.Command("go", append(args, packages...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, fmt.Errorf("run go test: %w", err)
	}
	t, rerr := read(out)
	err = cmd.Wait()
	if rerr != nil {
		return false, rerr
	}
	good := t.print(w, only)
	fmt.Fprintf(w, "\n%s in %v\n", t.summary(only), time.Since(began).Round(time.Second))
	if err != nil && good && only == "" {
		return false, fmt.Errorf("the tests fail beside the scenarios:\n%s", strings.Join(t.rest, ""))
	}
	return good, nil
}

// event is a line of go test -json.
type event struct {
	Action, Test, Output string
}

// cell is what became of a scenario on an engine in a mode.
type cell struct {
	result string // pass, fail
	unable string // why it was not played
	output []string
}

// table is all of it.
type table struct {
	columns   []string // engine/mode
	scenarios []string
	cells     map[string]*cell // column + " " + scenario
	rest      []string
}

// split takes the name of a test apart: Test…/engine/mode/scenario.
func split(test string) (column, scenario string, ok bool) {
	parts := strings.SplitN(test, "/", 4)
	if len(parts) < 4 {
		return "", "", false
	}
	return parts[1] + "/" + parts[2], parts[3], true
}

func read(r io.Reader) (*table, error) {
	t := &table{cells: map[string]*cell{}}
	in := bufio.NewReader(r)
	dec := json.NewDecoder(in)
	for {
		var ev event
		if err := dec.Decode(&ev); err == io.EOF {
			return t, nil
		} else if err != nil {
			return nil, fmt.Errorf("read the output of go test: %w", err)
		}
		column, scenario, ok := split(ev.Test)
		if !ok {
			if ev.Action == "output" {
				t.rest = append(t.rest, ev.Output)
			}
			continue
		}
		c := t.cells[column+" "+scenario]
		if c == nil {
			c = &cell{}
			t.cells[column+" "+scenario] = c
			if !slices.Contains(t.columns, column) {
				t.columns = append(t.columns, column)
			}
			if !slices.Contains(t.scenarios, scenario) {
				t.scenarios = append(t.scenarios, scenario)
			}
		}
		switch ev.Action {
		case "pass", "fail", "skip":
			c.result = ev.Action
		case "output":
			if _, why, ok := strings.Cut(ev.Output, "not able: "); ok {
				c.unable = strings.TrimSpace(why)
			}
			if s := strings.TrimSpace(ev.Output); !strings.HasPrefix(s, "=== ") && !strings.HasPrefix(s, "--- PASS") {
				c.output = append(c.output, ev.Output)
			}
		}
	}
}

// print writes the table and what failed; it reports whether all is well.
func (t *table) print(w io.Writer, only string) bool {
	slices.Sort(t.columns)
	wide := 0
	for _, s := range t.scenarios {
		wide = max(wide, len(s))
	}
	for i, c := range t.columns {
		fmt.Fprintf(w, "%*s%s %s\n", wide+2+3*i, "", "┌", c)
	}
	good := len(t.scenarios) > 0
	notes := map[string]bool{}
	var failed []string
	for _, s := range t.scenarios {
		if !strings.Contains(s, only) {
			continue
		}
		fmt.Fprintf(w, "%-*s", wide+2, s)
		for _, column := range t.columns {
			c := t.cells[column+" "+s]
			mark := "✗"
			switch {
			case c == nil:
				failed = append(failed, fmt.Sprintf("%s on %s: it was not played\n", s, column))
			case c.result != "pass":
				failed = append(failed, fmt.Sprintf("%s on %s:\n%s", s, column, strings.Join(c.output, "")))
			case c.unable != "":
				mark = "–"
				notes[column+" "+c.unable] = true
			default:
				mark = "✓"
			}
			good = good && mark != "✗"
			fmt.Fprintf(w, "%-3s", mark)
		}
		fmt.Fprintln(w)
	}
	for n := range notes {
		fmt.Fprintf(w, "– %s\n", n)
	}
	for _, f := range failed {
		fmt.Fprintf(w, "\n%s", f)
	}
	return good
}

func (t *table) summary(only string) string {
	scenarios, passed, all := 0, 0, 0
	for _, s := range t.scenarios {
		if !strings.Contains(s, only) {
			continue
		}
		scenarios++
		for _, column := range t.columns {
			all++
			if c := t.cells[column+" "+s]; c != nil && c.result == "pass" && c.unable == "" {
				passed++
			}
		}
	}
	return fmt.Sprintf("%d scenarios × %d engines and modes: %d of %d hold", scenarios, len(t.columns), passed, all)
}
