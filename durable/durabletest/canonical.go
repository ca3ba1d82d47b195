package durabletest

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/durable"
)

// Canonical is the log of a run on which engines are compared: per coroutine
// its calls in order, with their outcomes; the signals that it took, by name
// and in order; the updates that it accepted; whether it was asked to cancel;
// and the end. The order of independent events, times, ids that an engine
// makes up, attempts and book-keeping are not in it.
func Canonical(d *durable.Description, history []*durable.Record) string {
	type call struct {
		durable.Call
		outcome string
	}
	calls := map[string]*call{}
	signals := map[string][]string{}
	seen := map[string]bool{}
	var order []string
	var updates []string
	cancelled := false
	for _, rec := range history {
		if rec.Kind == "turn" {
			for _, ev := range rec.Events {
				switch ev.Kind {
				case "signaled":
					if ev.ID == "" || !seen[ev.ID] {
						seen[ev.ID] = true
						signals[ev.Name] = append(signals[ev.Name], mask(string(ev.Payload)))
					}
				case "asked":
					updates = append(updates, fmt.Sprintf("update %s %s: %s", ev.Name, mask(ev.ID), mask(string(ev.Payload))))
				case "canceled":
					cancelled = true
				case "done", "fired":
					if c := calls[ev.Call]; c != nil && c.outcome == "" {
						c.outcome = outcome(ev)
					}
				}
			}
		}
		for _, c := range rec.Calls {
			if on := calls[c.ID]; on != nil {
				on.Call = c // of a fork: it was on record before it was made
				continue
			}
			calls[c.ID] = &call{Call: c}
			if c.Refused != nil {
				calls[c.ID].outcome = "refused " + cmp.Or(c.Refused.Code, c.Refused.Type)
			} else if c.Kind == "side_effect" {
				calls[c.ID].outcome = "recorded"
			}
			order = append(order, c.ID)
		}
		for _, id := range rec.Closed {
			if c := calls[id]; c != nil && c.outcome == "" {
				c.outcome = "given up"
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "run %s of %s\n", mask(d.WorkflowID), d.Workflow)
	slices.SortFunc(order, comparePaths)
	for _, id := range order {
		c := calls[id]
		fmt.Fprintf(&b, "  %s %s", mask(id), c.Kind)
		if c.Name != "" {
			fmt.Fprintf(&b, " %s", mask(c.Name))
		}
		if len(c.Input) > 0 {
			fmt.Fprintf(&b, " %s", mask(string(c.Input)))
		}
		fmt.Fprintf(&b, " = %s\n", cmp.Or(c.outcome, "open"))
	}
	for _, name := range slices.Sorted(mapKeys(signals)) {
		fmt.Fprintf(&b, "  signal %s: %s\n", name, short(strings.Join(signals[name], " ")))
	}
	slices.Sort(updates)
	for _, u := range updates {
		fmt.Fprintf(&b, "  %s\n", u)
	}
	if cancelled {
		b.WriteString("  cancel\n")
	}
	fmt.Fprintf(&b, "  %s", d.State)
	if d.State == durable.Completed {
		fmt.Fprintf(&b, " %s", mask(string(d.Result)))
	} else if d.Failure != nil && d.State != durable.Terminated { // the reason is whoever's
		fmt.Fprintf(&b, " %s", failure(d.Failure))
	}
	if d.Problem != nil {
		fmt.Fprintf(&b, ", blocked: %s", d.Problem.Kind)
	}
	b.WriteString("\n")
	return b.String()
}

func mapKeys[V any](m map[string]V) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func outcome(ev durable.Event) string {
	switch {
	case ev.Failure != nil:
		return failure(ev.Failure)
	case ev.Kind == "fired":
		return "fired"
	case len(ev.Payload) == 0:
		return "done"
	}
	return mask(string(ev.Payload))
}

// failure tells a failure by what code may decide by: the text of what an
// engine states is its own.
func failure(e *durable.Error) string {
	if e.Code != "" || e.Type == "panic" {
		return "error " + cmp.Or(e.Code, e.Type)
	}
	if before, _, ok := strings.Cut(e.Message, " terminated: "); ok && e.Type == "durable.RunError" {
		return "error " + e.Type + ": " + mask(before) + " terminated"
	}
	return "error " + e.Type + ": " + mask(e.Message)
}

// made is what an engine, or a clock, makes up.
var made = []struct {
	re *regexp.Regexp
	as string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`[0-9a-f]{32,}`), "KEY"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`), "TIME"},
	{regexp.MustCompile(`/[0-9a-f]{8}/`), "/RUN/"},
}

func mask(s string) string {
	for _, m := range made {
		s = m.re.ReplaceAllString(s, m.as)
	}
	if b := []byte(s); json.Valid(b) {
		var out bytes.Buffer
		if json.Compact(&out, b) == nil {
			s = out.String()
		}
	}
	return short(s)
}

// short keeps a log readable: of what is long it gives the beginning and a
// digest.
func short(s string) string {
	if len(s) <= 200 {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes, %x)", s[:60], len(s), sha256.Sum256([]byte(s)))[:60+40]
}

// comparePaths orders call ids by their numbers.
func comparePaths(a, b string) int {
	cut := func(s string) []string {
		return strings.FieldsFunc(s, func(r rune) bool { return r == '/' || r == '.' })
	}
	return slices.CompareFunc(cut(a), cut(b), func(x, y string) int {
		m, err1 := strconv.Atoi(x)
		n, err2 := strconv.Atoi(y)
		if err1 == nil && err2 == nil {
			return cmp.Compare(m, n)
		}
		return strings.Compare(x, y)
	})
}

// canonical are the logs that the contract asks for: a txtar archive for each
// area, with a file for each scenario.
//
//go:embed canonical
var canonical embed.FS

// canonicalLogs reads them.
func canonicalLogs(t testing.TB) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := fs.WalkDir(canonical, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := canonical.ReadFile(path)
		for name, text := range parseArchive(string(b)) {
			out[name] = text
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// parseArchive reads the txtar format.
func parseArchive(s string) map[string]string {
	out := map[string]string{}
	name := ""
	for line := range strings.Lines(s) {
		if rest, ok := strings.CutPrefix(line, "-- "); ok {
			if n, ok := strings.CutSuffix(strings.TrimRight(rest, "\n"), " --"); ok {
				name = n
				out[name] = ""
				continue
			}
		}
		if name != "" {
			out[name] += line
		}
	}
	return out
}

// diffLines shows where two logs differ.
func diffLines(want, got string) string {
	w, g := strings.SplitAfter(want, "\n"), strings.SplitAfter(got, "\n")
	// The longest common subsequence, by the book: logs are short.
	n := make([][]int, len(w)+1)
	for i := range n {
		n[i] = make([]int, len(g)+1)
	}
	for i := len(w) - 1; i >= 0; i-- {
		for j := len(g) - 1; j >= 0; j-- {
			if w[i] == g[j] {
				n[i][j] = n[i+1][j+1] + 1
			} else {
				n[i][j] = max(n[i+1][j], n[i][j+1])
			}
		}
	}
	var b strings.Builder
	i, j := 0, 0
	for i < len(w) || j < len(g) {
		switch {
		case i < len(w) && j < len(g) && w[i] == g[j]:
			b.WriteString("  " + w[i])
			i, j = i+1, j+1
		case i < len(w) && (j == len(g) || n[i+1][j] >= n[i][j+1]):
			b.WriteString("- " + w[i])
			i++
		default:
			b.WriteString("+ " + g[j])
			j++
		}
	}
	return b.String()
}
