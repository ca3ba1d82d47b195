package telemetry_test

import (
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/telemetry"
)

func TestTraceparents(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		caller:                                  caller,
		strings.TrimSuffix(caller, "1") + "0":   strings.TrimSuffix(caller, "1") + "0",
		strings.TrimSuffix(caller, "01") + "03": caller, // flags that we don't know
		"01" + caller[2:] + "-more":             caller, // a later version
		"01" + caller[2:]:                       caller,
		"":                                      "",
		"00-t":                                  "",
		caller + "-more":                        "",
		"01" + caller[2:] + "x":                 "",
		"ff" + caller[2:]:                       "",
		strings.ToUpper(caller):                 "",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01": "",
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01": "",
		"00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01": "",
		"00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01": "",
	} {
		if got := telemetry.Reparse(s); got != want {
			t.Errorf("%q gives %q, want %q", s, got, want)
		}
	}
}

func FuzzTraceparent(f *testing.F) {
	f.Add(caller)
	f.Add("01" + caller[2:] + "-more")
	f.Fuzz(func(t *testing.T, s string) {
		if got := telemetry.Reparse(s); got != "" && (len(got) != 55 || got[3:52] != s[3:52] || telemetry.Reparse(got) != got) {
			t.Errorf("%q gives %q", s, got)
		}
	})
}
