// Command mutate breaks the code in many small ways and lists those that no
// test notices:
//
//	go run ./internal/mutate -n 300 -seed 1 -file 'turn.go|run.go'
//
// All mutants are compiled into one set of test programs, and the environment
// says which of them is on, so that one costs a run of the tests and no build.
// Results are kept in a file; what was tried is not tried again.
package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// suite is a test program, and the code that it answers for.
type suite struct {
	name string
	pkg  string
	args []string
	env  string
	of   []string // directories; nil: all of them
}

const (
	core    = "durable"
	records = "durable/internal/journal"
	file    = "durable/localengine"
)

// suites are run in this order: the quick ones first.
var suites = []suite{
	{"a hundred simulated programs", "./durable/localengine/internal/simulate", []string{"-test.run", "EnginesDoWhatTheModelSays/memory"}, "SIMULATE_PROGRAMS=100 SIMULATE_SHRINK=1", []string{core, records}},
	{"journal", "./durable/internal/journal", nil, "", []string{records}},
	{"durable", "./durable", nil, "", []string{core, records}},
	{"durabletest", "./durable/durabletest", nil, "", []string{core, records}},
	{"localengine", "./durable/localengine", []string{"-test.skip", "TestContract"}, "", []string{file, records}},
	{"simulated programs on a file", "./durable/localengine/internal/simulate", []string{"-test.run", "EnginesDoWhatTheModelSays/local"}, "SIMULATE_SHRINK=1", []string{file}},
}

// result is what became of a mutant.
type result struct {
	File   string
	Line   int
	Change string
	Code   string // of the line
	Killed string // suite that noticed; empty: none did
}

func (r result) key() string { return r.File + "\x00" + r.Change + "\x00" + r.Code }

func main() {
	n := flag.Int("n", 100, "how many mutants")
	seed := flag.Uint64("seed", 1, "which ones")
	only := flag.String("file", "", "only files whose path matches this regular expression")
	keep := flag.String("results", filepath.Join(os.TempDir(), "mutate.jsonl"), "where results are kept")
	limit := flag.Duration("timeout", time.Minute, "of one suite; a mutant that takes longer is noticed")
	again := flag.Bool("survivors", false, "only those that nobody noticed the last time")
	workers := flag.Int("workers", 2, "mutants at once")
	bins := flag.String("bin", "", "where the test programs are kept, and taken from if they are there and newer than the code; empty: nowhere")
	list := flag.Bool("list", false, "only print the results that are kept")
	flag.Parse()
	m := &mutator{timeout: *limit, workers: *workers, dir: *bins, keep: *keep, done: map[string]result{}}
	err := m.load()
	if err == nil && !*list {
		err = m.run(*n, *seed, *only, *again)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(2)
	}
	m.print()
}

// late follows the name of a suite that did not come to an end.
const late = ", by its time"

type mutator struct {
	timeout time.Duration
	keep    string
	done    map[string]result
	workers int
	dir     string // of the test programs
	sites   []*site
	bins    []string // of the suites

	mu sync.Mutex // guards done, and the file of results
}

func (m *mutator) load() error {
	f, err := os.Open(m.keep)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		var r result
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			return fmt.Errorf("%s: %w", m.keep, err)
		}
		m.done[r.key()] = r
	}
	return s.Err()
}

func (m *mutator) note(r result) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done[r.key()] = r
	f, err := os.OpenFile(m.keep, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	b, err := json.Marshal(r)
	if err == nil {
		_, err = f.Write(append(b, '\n'))
	}
	return errors.Join(err, f.Close())
}

func (m *mutator) run(n int, seed uint64, only string, again bool) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := m.build(dir); err != nil {
		return err
	}
	for i, s := range suites {
		if ok, err := m.passes(i, 0); err != nil || !ok {
			return fmt.Errorf("%s does not pass without a mutant: %w", s.pkg, err)
		}
	}
	todo := slices.Clone(m.sites)
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
	fmt.Printf("%d mutants in all\n", len(todo))
	var chosen []*site
	for _, s := range todo {
		had, tried := m.done[s.result().key()]
		if len(chosen) < n && match.MatchString(s.file) && tried == again && (!again || had.Killed == "") {
			chosen = append(chosen, s)
		}
	}
	var next atomic.Int64
	errs := make([]error, max(m.workers, 1))
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(chosen) && errs[w] == nil; i = int(next.Add(1)) - 1 {
				errs[w] = m.one(chosen[i])
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// one tries a mutant and notes what became of it.
func (m *mutator) one(s *site) (err error) {
	r := s.result()
	if r.Killed, err = m.try(s); err != nil {
		return err
	}
	if r.Killed == "" {
		fmt.Printf("survived  %s:%d  %s  in  %s\n", r.File, r.Line, r.Change, r.Code)
	}
	return m.note(r)
}

// try runs the suites on a mutant until one notices it.
func (m *mutator) try(s *site) (string, error) {
	for i, suite := range suites {
		if !slices.Contains(suite.of, filepath.ToSlash(filepath.Dir(s.file))) {
			continue
		}
		began := time.Now()
		ok, err := m.passes(i, s.n)
		if err != nil {
			return "", err
		}
		if !ok {
			if time.Since(began) >= m.timeout {
				return suite.name + late, nil
			}
			return suite.name, nil
		}
	}
	return "", nil
}

// passes runs a suite with a mutant on; 0 is none.
func (m *mutator) passes(i, n int) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), m.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, m.bins[i], append([]string{"-test.failfast", "-test.timeout", m.timeout.String()}, suites[i].args...)...)
	cmd.Dir = suites[i].pkg
	cmd.Env = append(append(os.Environ(), strings.Fields(suites[i].env)...), fmt.Sprintf("MUTANT=%d", n))
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if n == 0 && err != nil {
		return false, fmt.Errorf("%w\n%s", err, out)
	}
	return err == nil, nil
}

// build compiles the suites with all mutants in them. Where a mutant does not
// compile it is left out.
func (m *mutator) build(dir string) error {
	dirs := []string{core, records, file}
	files, err := parseAll(dirs)
	if err != nil {
		return err
	}
	m.sites = nil
	for _, f := range files {
		m.sites = append(m.sites, f.sites...)
	}
	place := regexp.MustCompile(`(?m)^(?:vet: )?(\S+\.go):(\d+):`)
	m.bins = make([]string, len(suites))
	for i, s := range suites {
		m.bins[i] = filepath.Join(cmp.Or(m.dir, dir), strings.ReplaceAll(strings.Trim(s.pkg, "./"), "/", "-")+".test")
		if slices.Contains(m.bins[:i], m.bins[i]) || m.dir != "" && newer(m.bins[i], files) {
			continue
		}
		for try := 0; ; try++ {
			overlay, err := writeAll(dir, dirs, files)
			if err != nil {
				return err
			}
			out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay", overlay, "-gcflags=all=-e", "-o", m.bins[i], s.pkg).CombinedOutput()
			if err == nil {
				break
			}
			dropped := 0
			for _, at := range place.FindAllStringSubmatch(string(out), -1) {
				for k, f := range files {
					if filepath.Base(at[1]) == overlaid(k) {
						dropped += f.dropLine(at[2])
					}
				}
			}
			if dropped == 0 || try > 10 {
				return fmt.Errorf("build %s: %w\n%s", s.pkg, err, out)
			}
		}
	}
	m.sites = slices.DeleteFunc(m.sites, func(s *site) bool { return s.off })
	return nil
}

// newer reports whether a test program was built after the last change of the
// code.
func newer(bin string, files []*source) bool {
	b, err := os.Stat(bin)
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(files, func(f *source) bool {
		i, err := os.Stat(f.name)
		return err != nil || i.ModTime().After(b.ModTime())
	})
}

func (m *mutator) print() {
	var all []result
	for _, r := range m.done {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b result) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		return a.Line - b.Line
	})
	by := map[string]int{}
	for _, r := range all {
		by[r.Killed]++
		if strings.HasSuffix(r.Killed, late) {
			by[late]++
			by[strings.TrimSuffix(r.Killed, late)]++
		}
		if r.Killed == "" {
			fmt.Printf("%s:%d  %s  in  %s\n", r.File, r.Line, r.Change, r.Code)
		}
	}
	fmt.Printf("%d mutants, %d noticed, %d not\n", len(all), len(all)-by[""], by[""])
	for _, s := range suites {
		fmt.Printf("  %4d by %s\n", by[s.name], s.name)
	}
	fmt.Printf("  %4d of them since it did not come to an end\n", by[late])
}
