package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kept is what is known of the test programs.
type kept struct {
	Off   []int    // mutants that do not compile
	Units [][]unit // of the suites
}

// unit is a test of a suite.
type unit struct {
	Test    string
	Took    time.Duration
	Reaches []int // mutants, sorted
}

// A test that takes longer than this is run alone, after the others.
const quick = 400 * time.Millisecond

// reach finds out what the tests reach, and that they pass. It is kept beside
// the test programs if these are kept.
func (m *mutator) reach(dir string) error {
	name := "reach.json"
	if m.hasty {
		name = "reach-quick.json"
	}
	keep := filepath.Join(cmp.Or(m.dir, dir), name)
	var k kept
	if b, err := os.ReadFile(keep); err == nil && !slices.ContainsFunc(m.bins, func(bin string) bool { return after(bin, keep) }) {
		if err := json.Unmarshal(b, &k); err == nil && len(k.Units) == len(suites) {
			m.units = k.Units
			m.sites = slices.DeleteFunc(m.sites, func(s *site) bool { return slices.Contains(k.Off, s.n) })
			return nil
		}
	}
	for _, s := range m.sites {
		if s.off {
			k.Off = append(k.Off, s.n)
		}
	}
	m.sites = slices.DeleteFunc(m.sites, func(s *site) bool { return s.off })
	m.units = make([][]unit, len(suites))
	for i, s := range suites {
		if s.slow && m.hasty {
			continue
		}
		out, err := exec.Command(m.bins[i], "-test.list", s.tests).Output()
		if err != nil {
			return fmt.Errorf("list the tests of %s: %w", s.pkg, err)
		}
		for name := range strings.Lines(string(out)) {
			if name = strings.TrimSpace(name); !strings.HasPrefix(name, "Benchmark") {
				u := unit{Test: name}
				if err := m.baseline(i, &u, filepath.Join(dir, "reached")); err != nil {
					return err
				}
				m.units[i] = append(m.units[i], u)
			}
		}
		slices.SortStableFunc(m.units[i], func(a, b unit) int { return cmp.Compare(a.Took, b.Took) })
	}
	b, err := json.Marshal(kept{k.Off, m.units})
	if err != nil {
		return fmt.Errorf("encode what the tests reach: %w", err)
	}
	return os.WriteFile(keep, b, 0o600)
}

func after(a, b string) bool {
	fa, err := os.Stat(a)
	fb, berr := os.Stat(b)
	return err != nil || berr != nil || fa.ModTime().After(fb.ModTime())
}

// baseline runs a test without a mutant.
func (m *mutator) baseline(i int, u *unit, reached string) error {
	if err := os.Remove(reached); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	began := time.Now()
	if out, err := m.play(i, []unit{*u}, 10*time.Minute, "MUTANTS_REACHED="+reached); err != nil {
		return fmt.Errorf("%s of %s does not pass without a mutant: %w\n%s", u.Test, suites[i].pkg, err, out)
	}
	u.Took = time.Since(began)
	b, err := os.ReadFile(reached)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, f := range strings.Fields(string(b)) {
		n, err := strconv.Atoi(f)
		if err != nil {
			return fmt.Errorf("what %s reaches: %w", u.Test, err)
		}
		u.Reaches = append(u.Reaches, n)
	}
	slices.Sort(u.Reaches)
	u.Reaches = slices.Compact(u.Reaches)
	return nil
}

// try runs what reaches a mutant until a test notices it, and names the suite.
func (m *mutator) try(s *site) string {
	for i, suite := range suites {
		if suite.slow && m.hasty || !slices.Contains(suite.of, filepath.ToSlash(filepath.Dir(s.file))) {
			continue
		}
		var group []unit
		var took time.Duration
		flush := func() string {
			if len(group) == 0 {
				return ""
			}
			noticed := m.notices(i, group, s.n, took)
			group, took = nil, 0
			return noticed
		}
		for _, u := range m.units[i] {
			if _, ok := slices.BinarySearch(u.Reaches, s.n); !ok {
				continue
			}
			if u.Took > quick {
				if how := flush(); how != "" {
					return suite.name + how
				}
			}
			group, took = append(group, u), took+u.Took
		}
		if how := flush(); how != "" {
			return suite.name + how
		}
	}
	return ""
}

// How a suite notices: a test fails, or does not come to an end.
const (
	fails = " "
	late  = ", by its time"
)

// notices reports how tests notice a mutant, if they do. What takes too long
// is given twice the time.
func (m *mutator) notices(i int, group []unit, n int, took time.Duration) string {
	for limit, again := m.grace+4*took, false; ; limit, again = 2*limit, true {
		began := time.Now()
		_, err := m.play(i, group, limit, fmt.Sprintf("MUTANT=%d", n))
		switch {
		case err == nil:
			return ""
		case time.Since(began) < limit:
			return fails
		case again:
			return late
		}
	}
}

// play runs tests of a suite.
func (m *mutator) play(i int, group []unit, limit time.Duration, env string) ([]byte, error) {
	names := make([]string, len(group))
	for k, u := range group {
		names[k] = regexp.QuoteMeta(u.Test)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit+5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, m.bins[i], "-test.failfast", "-test.timeout", limit.String(), "-test.run", "^("+strings.Join(names, "|")+")$"+suites[i].within)
	cmd.Dir = suites[i].pkg
	cmd.Env = append(append(os.Environ(), strings.Fields(suites[i].env)...), env)
	cmd.WaitDelay = time.Second
	return cmd.CombinedOutput()
}
