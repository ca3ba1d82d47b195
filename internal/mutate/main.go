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
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
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

// suite is a test program, or a part of it.
type suite struct {
	name   string
	pkg    string
	tests  string // -test.list: which tests are units, each with a list of its own of what it reaches
	within string // what follows the name of a test in -test.run
	env    string
	of     []string // the directories that it answers for
	slow   bool     // left out with -quick
}

// Where the code is that is broken.
const (
	core    = "durable"
	records = "durable/internal/journal"
	file    = "durable/localengine"
)

// suites are run in this order: the quick ones first.
var suites = []suite{
	{name: "a hundred simulated programs", pkg: "./durable/localengine/internal/simulate", tests: "EnginesDoWhatTheModelSays", within: "/memory",
		env: "SIMULATE_PROGRAMS=100 SIMULATE_SHRINK=1", of: []string{core, records}},
	{name: "journal", pkg: "./durable/internal/journal", tests: ".", of: []string{records}},
	{name: "durable", pkg: "./durable", tests: ".", of: []string{core, records}},
	{name: "contract, in memory", pkg: "./durable/durabletest", tests: "^TestContract$|Transfer|Order", of: []string{core, records}},
	{name: "simulated programs on a file", pkg: "./durable/localengine/internal/simulate", tests: "EnginesDoWhatTheModelSays", within: "/local",
		env: "SIMULATE_SHRINK=1", of: []string{file}},
	{name: "localengine", pkg: "./durable/localengine", tests: "^Fuzz|^Test([^C]|C[^o])", of: []string{records, file}},
	{name: "contract, on a file", pkg: "./durable/localengine", tests: "^TestContract$", within: "/^local$/^awake$", of: []string{file}, slow: true},
	{name: "contract, seen by a client", pkg: "./durable/localengine", tests: "^TestContractOfAClient$", of: []string{file}, slow: true},
}

// result is what became of a mutant.
type result struct {
	File   string
	Line   int
	In     string // the function
	Change string
	Code   string // of the line
	Killed string // suite that noticed; empty: none did
	Why    string `json:",omitempty"` // written by hand: why nobody can notice, or that somebody should
}

func (r result) key() string { return r.File + "\x00" + r.In + "\x00" + r.Change + "\x00" + r.Code }

func main() {
	n := flag.Int("n", 100, "how many mutants")
	seed := flag.Uint64("seed", 1, "which ones")
	only := flag.String("file", "", "only files whose path matches this regular expression")
	keep := flag.String("results", filepath.Join("internal", "mutate", "results.jsonl"), "where results are kept")
	grace := flag.Duration("grace", 10*time.Second, "what a mutant may take beside four times what its tests take without it; if it takes longer, and twice as long alone, it is noticed")
	again := flag.Bool("survivors", false, "only those that nobody noticed the last time")
	hasty := flag.Bool("quick", false, "without the contract on a file: follow it by -survivors")
	workers := flag.Int("workers", 1, "mutants at once")
	bins := flag.String("bin", "", "where the test programs are kept, and taken from if they are there and newer than the code; empty: nowhere")
	list := flag.Bool("list", false, "only print the results that are kept")
	flag.Parse()
	m := &mutator{grace: *grace, workers: *workers, dir: *bins, keep: *keep, hasty: *hasty, done: map[string]result{}}
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

type mutator struct {
	grace   time.Duration
	keep    string
	done    map[string]result
	workers int
	hasty   bool
	dir     string // of the test programs
	sites   []*site
	bins    []string // of the suites
	units   [][]unit // of the suites

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
	if r.Killed == "" {
		r.Why = m.done[r.key()].Why
	}
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
	if err := m.reach(dir); err != nil {
		return err
	}
	todo := slices.Clone(m.sites)
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
	fmt.Printf("%d mutants in all\n", len(todo))
	var chosen []*site
	for _, s := range todo {
		had, tried := m.done[s.result().key()]
		if len(chosen) < n && !s.hangs() && match.MatchString(s.file) && tried == again && (!again || had.Killed == "") {
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
	return errors.Join(append(errs, m.save())...)
}

// save writes the results in order, each once.
func (m *mutator) save() error {
	var b bytes.Buffer
	for _, r := range m.sorted() {
		line, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encode a result: %w", err)
		}
		b.Write(append(line, '\n'))
	}
	return os.WriteFile(m.keep, b.Bytes(), 0o600)
}

func (m *mutator) sorted() []result {
	return slices.SortedFunc(maps.Values(m.done), func(a, b result) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, strings.Compare(a.Change, b.Change), strings.Compare(a.Code, b.Code))
	})
}

// one tries a mutant and notes what became of it.
func (m *mutator) one(s *site) error {
	r := s.result()
	if r.Killed = strings.TrimSpace(m.try(s)); r.Killed == "" {
		fmt.Printf("survived  %s:%d (%s)  %s  in  %s\n", r.File, r.Line, r.In, r.Change, r.Code)
	}
	return m.note(r)
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
			out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay", overlay, "-gcflags=github.com/mcpagent/mcpagent/...=-e", "-o", m.bins[i], s.pkg).CombinedOutput()
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
	all := m.sorted()
	by := map[string]int{}
	for _, r := range all {
		by[r.Killed]++
		if strings.HasSuffix(r.Killed, late) {
			by[late]++
			by[strings.TrimSuffix(r.Killed, late)]++
		}
		if r.Killed == "" {
			fmt.Printf("%s:%d (%s)  %s  in  %s\n", r.File, r.Line, r.In, r.Change, r.Code)
			if r.Why != "" {
				fmt.Printf("\t%s\n", r.Why)
				by["why"]++
			}
		}
	}
	fmt.Printf("%d mutants, %d noticed, %d not, %d of these with a reason\n", len(all), len(all)-by[""], by[""], by["why"])
	for _, s := range suites {
		fmt.Printf("  %4d by %s\n", by[s.name], s.name)
	}
	fmt.Printf("  %4d of them since it did not come to an end\n", by[late])
}
