package peers

import (
	"encoding/json"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

// kit is the contract of models, and the requests that it led to.
type kit struct {
	mu    sync.Mutex
	lines []*line
}

// run plays the contract with the models that open gives.
func (k *kit) run(t *testing.T, open func(t *testing.T, l *line) llm.Model) {
	t.Helper()
	t.Run("contract", func(t *testing.T) {
		llmtest.TestModel(t, func(t *testing.T, s *llmtest.Script) llm.Model {
			l := lineTo(t, llmtest.Serve(t, s).URL)
			k.mu.Lock()
			k.lines = append(k.lines, l)
			k.mu.Unlock()
			return open(t, l)
		})
	})
}

// known holds the requests to what an SDK makes of them when it reads and
// writes them, but for some members. It has to lose something of the one that
// is wrong.
func (k *kit) known(t *testing.T, again func(body []byte) ([]byte, error), wrong string, but ...string) {
	t.Helper()
	n, seen := 0, map[string]bool{}
	for _, l := range k.lines {
		for _, s := range l.sent {
			if n++; !seen[string(s.body)] {
				seen[string(s.body)] = true
				b, err := again(s.body)
				if err != nil {
					t.Errorf("%v: %s", err, s.body)
					continue
				}
				want, got := value(t, s.body, nil), value(t, b, nil)
				drop(want, but)
				drop(got, but)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("our request (-), and what the SDK knows of it (+):\n%s", diff)
				}
			}
		}
	}
	if len(seen) < 10 {
		t.Errorf("the contract made %d requests, %d of them different", n, len(seen))
	}
	b, err := again([]byte(wrong))
	if err != nil {
		t.Fatal(err)
	}
	var before, after any
	if err := json.Unmarshal([]byte(wrong), &before); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &after); err != nil {
		t.Fatal(err)
	}
	if cmp.Equal(before, after) {
		t.Errorf("the SDK knows %s", wrong)
	}
}

// drop takes members away.
func drop(v any, names []string) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			drop(e, names)
		}
	case map[string]any:
		for _, name := range names {
			delete(v, name)
		}
		for _, e := range v {
			drop(e, names)
		}
	}
}
