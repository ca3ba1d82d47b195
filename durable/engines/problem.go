package engines

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a configuration, or worth knowing
// about it.
type Problem struct {
	Pos  Pos    // zero for what was set in Go
	Key  string // the path of the key, with dots
	Text string // what is wrong, with the remedy where there is one
}

func (p Problem) String() string {
	parts := []string{p.Pos.String(), p.Key, p.Text}
	parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" })
	return strings.Join(parts, ": ")
}

// Problems is everything that is wrong with a configuration, by position. It
// is the error of [Load] and [Open].
type Problems []Problem

// Error lists the problems, one a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

func (p *Problems) add(pos Pos, key, format string, args ...any) {
	*p = append(*p, Problem{pos, key, fmt.Sprintf(format, args...)})
}

// sorted sorts by position and leaves out what was said already.
func (p Problems) sorted() Problems {
	out := slices.Clone(p)
	slices.SortStableFunc(out, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Pos.File, b.Pos.File), a.Pos.Line-b.Pos.Line, a.Pos.Column-b.Pos.Column, cmp.Compare(a.Key, b.Key))
	})
	return slices.Compact(out)
}

// without leaves out what is about a key that others are about already, or
// about what is in it.
func (p Problems) without(others Problems) Problems {
	return slices.DeleteFunc(slices.Clone(p), func(one Problem) bool {
		return slices.ContainsFunc(others, func(other Problem) bool {
			rest, ok := strings.CutPrefix(other.Key, one.Key)
			return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
		})
	})
}

// err is nil if there is no problem.
func (p Problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return p.sorted()
}

// unknown says what somebody may have meant by a name.
func unknown(name string, known []string) string {
	best, far := "", 1000
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d < far || d == far && k < best {
			best, far = k, d
		}
	}
	switch {
	case len(known) == 0:
		return "no key is known here"
	case far <= max(1, len(best)/3):
		return fmt.Sprintf("did you mean %s?", best)
	case len(known) <= 12:
		return "known are " + listOf(known)
	}
	return fmt.Sprintf("the nearest known key is %s", best)
}

// listOf lists names for people.
func listOf(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	names = slices.Sorted(slices.Values(names))
	if len(names) == 1 {
		return names[0]
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// distance is the number of letters to insert, remove, replace or swap with
// the next one to make b of a.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	var before, last []int
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(x); i++ {
		before, last, row = last, row, make([]int, len(y)+1)
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(y)]
}
