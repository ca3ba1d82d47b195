package mcphost_test

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/mcphost"
)

// FuzzRead reads what a server may write. It ends with the end of that or with
// a message above the limit, whatever stands there, and finds a message that
// follows.
func FuzzRead(f *testing.F) {
	const message = `{"jsonrpc":"2.0","id":1,"result":{}}` + "\n"
	for _, s := range []string{"", "\n\n", "Welcome\n", "{", "[1,2]\n", `[{"jsonrpc":"2.0","method":"x"}]` + "\n", message, strings.Repeat("z", 100) + "\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = append(b, '\n')
		before, err := mcphost.ReadAll(bytes.NewReader(b), 80)
		if errors.Is(err, durable.ErrTooLarge) {
			return
		}
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		after, err := mcphost.ReadAll(strings.NewReader(string(b)+message), 80)
		if after != before+1 || !errors.Is(err, io.EOF) {
			t.Errorf("%d messages, with one more %d, %v", before, after, err)
		}
	})
}

// FuzzName makes names that every provider takes, different ones for different
// tools of a server.
func FuzzName(f *testing.F) {
	f.Add("fs", "read_file", "read.file")
	f.Add("a", "b_c", strings.Repeat("x", 100))
	good := regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	f.Fuzz(func(t *testing.T, server, tool, other string) {
		if tool == other {
			return
		}
		servers := []string{server, "a_b", server + "_" + tool}
		a, b := mcphost.ExposedName(servers, server, tool, ""), mcphost.ExposedName(servers, server, other, "")
		if !good.MatchString(a) || !good.MatchString(b) || a == b {
			t.Errorf("%q and %q", a, b)
		}
	})
}
