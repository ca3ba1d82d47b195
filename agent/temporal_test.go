package agent_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

// TestOnTemporal plays the parts that matter on a server, in real time: what
// other tests play in virtual time on the engines of this process.
func TestOnTemporal(t *testing.T) {
	t.Parallel()
	var removed, panicked atomic.Int32
	a := remover(&removed, agent.Config{}, agent.Func("panics", "", func(context.Context, struct{}) (string, error) { panicked.Add(1); panic("ouch") }, nil),
		agent.Func("fails", "", func(context.Context, struct{}) (string, error) { return "", errors.New("disk full") }, nil),
		agent.Func("odd", "", func(context.Context, struct{}) (any, error) { return func() {}, nil }, &agent.FuncOptions{ReadOnly: true}))
	wrong := func(tool, args string) (out []llmtest.Answer) {
		for n := range 5 {
			out = append(out, llmtest.Call(tool, fmt.Sprintf(args, n)))
		}
		return out
	}
	sorry := func(answers []llmtest.Answer) []llmtest.Answer { return append(answers[:4:4], llmtest.Say("sorry")) }
	for name, c := range map[string]struct {
		answers []llmtest.Answer
		person  any   // answers the one question
		fails   error // what becomes of the run
		want    string
		turns   int // requests, where nothing is asked twice
	}{
		"calls and mistakes": {[]llmtest.Answer{llmtest.Calls("sum", `{"a":2,"b":3}`, "nothing", "{}", "sum", `{"a":"x"}`, "sum", `{`), echo}, nil, nil, "false 5\n", 2},
		"approval":           {[]llmtest.Answer{llmtest.Calls("remove", `{"path":"a"}`, "sum", `{"a":1,"b":1}`), echo}, agent.Approval{Approve: true}, nil, "removed a", 2},
		"denial":             {[]llmtest.Answer{llmtest.Call("remove", `{"path":"b"}`), echo}, agent.Approval{Note: "never"}, nil, "denied the call of remove: never", 2},
		"key":                {[]llmtest.Answer{llmtest.Call("sum", `{"a":1,"b":1}`), llmtest.Fail(llm.Auth, 0), llmtest.Say("two")}, agent.Repair{}, nil, "two", 2},
		"busy":               {[]llmtest.Answer{llmtest.Fail(llm.RateLimit, 2*time.Second), llmtest.Say("two")}, nil, nil, "two", 1},

		"no such tool":           {wrong("nothing", `{"n":%d}`), nil, agent.ErrMistakes, `there is no tool "nothing"`, 5},
		"no such tool, mended":   {sorry(wrong("nothing", `{"n":%d}`)), nil, nil, "sorry", 5},
		"schema":                 {wrong("sum", `{"a":"%d","b":1}`), nil, agent.ErrMistakes, "do not fit", 5},
		"schema, mended":         {sorry(wrong("sum", `{"a":"%d","b":1}`)), nil, nil, "sorry", 5},
		"bad JSON":               {wrong("sum", `{"a":%d`), nil, agent.ErrMistakes, "do not fit", 5},
		"bad JSON, mended":       {sorry(wrong("sum", `{"a":%d`)), nil, nil, "sorry", 5},
		"no object":              {wrong("sum", `[%d]`), nil, agent.ErrMistakes, "do not fit", 5},
		"no object, mended":      {sorry(wrong("sum", `[%d]`)), nil, nil, "sorry", 5},
		"the same call for ever": {[]llmtest.Answer{{Always: true, Calls: []llm.ToolCall{call("", "sum", `{"a":1,"b":1}`)}}}, nil, agent.ErrLoop, `sum {"a":1,"b":1}`, 6},
		"panic":                  {[]llmtest.Answer{llmtest.Call("panics", "{}"), echo}, nil, nil, "true panics panicked: ouch", 2},
		"failure":                {[]llmtest.Answer{llmtest.Call("fails", "{}"), echo}, nil, nil, "true fails failed: disk full", 2},
		"no JSON":                {[]llmtest.Answer{llmtest.Call("odd", "{}"), echo}, nil, nil, "odd did its work, and what it gave can't be written as JSON", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script := llmtest.New(c.answers...)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			e, err := temporalengine.Open(ctx, &temporalengine.Options{Engine: busy, HostPort: cluster(t), TaskQueue: "agent-" + rand.Text()[:8]},
				a, &agent.ModelSet{Providers: agent.Models{script}, AskKey: true})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := e.Close(context.Background()); err != nil {
					t.Error(err)
				}
			}()
			w := &world{t: t, script: script, eng: e, ctx: ctx}
			run := w.start(a, "Go.")
			for asked := c.person == nil; !asked; {
				d, err := run.Describe(ctx)
				if err != nil {
					t.Fatal(err)
				}
				for _, q := range d.Questions {
					w.answer(q, c.person)
					asked = true
				}
			}
			res, err := agent.ResultOf(ctx, run)
			switch {
			case c.fails != nil:
				if !errors.Is(err, c.fails) || !strings.Contains(err.Error(), c.want) || len(script.Requests()) != c.turns {
					t.Errorf("%d requests: %+v, %v", len(script.Requests()), res, err)
				}
			case err != nil || !strings.Contains(res.Text(), c.want) || res.Turns != c.turns:
				t.Errorf("%+v, %v", res, err)
			}
			sound(t, script)
		})
	}
	t.Cleanup(func() {
		if n := panicked.Load(); n != 1 {
			t.Errorf("%d calls of the function that panics", n)
		}
	})
}
