package toolset_test

import (
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mcpagent/mcpagent/internal/toolset"
)

// FuzzGlob holds patterns against those of package path, where they mean the
// same.
func FuzzGlob(f *testing.F) {
	f.Add("read_*", "read_file")
	f.Add("*a*b?", "xxabyb-")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if strings.ContainsAny(pattern, `[\`) || strings.Contains(name, "/") || !utf8.ValidString(pattern+name) {
			return
		}
		if want, err := path.Match(pattern, name); err == nil && toolset.Glob(pattern, name) != want {
			t.Errorf("%q and %q: %v", pattern, name, !want)
		}
	})
}
