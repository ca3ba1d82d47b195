package agent_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/worker"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
	"github.com/mcpagent/mcpagent/internal/temporaltest"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

// cluster is the address of a server that the package's tests share: what each
// leaves there has ids and task queues of its own. It ends with this process.
func cluster(t *testing.T) string {
	t.Helper()
	if addr := os.Getenv("TEMPORAL_ADDRESS"); addr != "" {
		return addr
	}
	s, err := startCluster()
	if err != nil {
		t.Fatal(err)
	}
	return s.Addr()
}

var startCluster = sync.OnceValues(func() (*temporaltest.Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute) // the first build is long
	defer cancel()
	return temporaltest.Start(ctx, nil)
})

// store is where runs are kept while the engines that execute them come and go,
// in real time: in memory, in a file, or on a cluster.
type store struct {
	t    *testing.T
	ctx  context.Context // ends what hangs
	open func(defs ...durable.Definer) (*durable.Engine, error)
	eng  *durable.Engine // nil while there is none
}

// busy are the options of engines on a machine that is busy with other tests,
// which is no reason to call a run blocked.
var busy = durable.Options{Logger: quiet, Watchdog: 30 * time.Second}

// onStores plays a test on a store of each kind, side by side.
func onStores(t *testing.T, test func(t *testing.T, s *store)) {
	t.Helper()
	for kind, open := range map[string]func(t *testing.T) func(defs ...durable.Definer) (*durable.Engine, error){
		"memory": func(*testing.T) func(defs ...durable.Definer) (*durable.Engine, error) {
			kept := durabletest.NewSurvivor()
			return func(defs ...durable.Definer) (*durable.Engine, error) {
				return kept.Open(context.Background(), &busy, nil, defs...)
			}
		},
		"local": func(t *testing.T) func(defs ...durable.Definer) (*durable.Engine, error) {
			path := filepath.Join(t.TempDir(), "a.db")
			return func(defs ...durable.Definer) (*durable.Engine, error) {
				return localengine.Open(context.Background(), path, &localengine.Options{Engine: busy}, defs...)
			}
		},
		"temporal": func(t *testing.T) func(defs ...durable.Definer) (*durable.Engine, error) {
			o := temporalengine.Options{Engine: busy, HostPort: cluster(t), TaskQueue: "agent-" + rand.Text()[:8],
				Worker: worker.Options{StickyScheduleToStartTimeout: time.Second, WorkerStopTimeout: time.Second}}
			return func(defs ...durable.Definer) (*durable.Engine, error) {
				return temporalengine.Open(context.Background(), &o, defs...)
			}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			s := &store{t: t, ctx: ctx, open: open(t)}
			defer s.end()
			test(t, s)
		})
	}
}

// begin is a process that begins.
func (s *store) begin(defs ...durable.Definer) {
	s.t.Helper()
	e, err := s.open(defs...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.eng = e
}

// end is its end.
func (s *store) end() {
	s.t.Helper()
	if s.eng == nil {
		return
	}
	if err := s.eng.Close(context.Background()); err != nil {
		s.t.Error(err)
	}
	s.eng = nil
}

// start starts a run.
func (s *store) start(r agent.Runner) *durable.Run {
	s.t.Helper()
	run, err := agent.Start(s.ctx, s.eng, r, nil, "Go.")
	if err != nil {
		s.t.Fatal(err)
	}
	return run
}

// result waits for the end of a run, which another process may have started.
func (s *store) result(run *durable.Run) (*agent.Result, error) {
	return agent.ResultOf(s.ctx, s.eng.Run(run.WorkflowID, run.RunID))
}

// until waits until a run is as it should be.
func (s *store) until(run *durable.Run, is func(d *durable.Description) bool) *durable.Description {
	s.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		d, err := s.eng.Run(run.WorkflowID, run.RunID).Describe(s.ctx)
		if err != nil {
			s.t.Fatal(err)
		}
		if is(d) {
			return d
		}
		<-tick.C
	}
}

// asked waits for a question of a run.
func (s *store) asked(run *durable.Run) *durable.QuestionInfo {
	s.t.Helper()
	return s.until(run, func(d *durable.Description) bool { return len(d.Questions) > 0 }).Questions[0]
}

// failing reports whether a run waits to make a call again that failed.
func failing(d *durable.Description) bool {
	return slices.ContainsFunc(d.Waiting, func(w durable.Wait) bool { return w.Failure != nil })
}

// overloaded is a provider that is busy once, and notes when it was asked.
type overloaded struct {
	wait time.Duration
	mu   sync.Mutex
	at   []time.Time
}

func (o *overloaded) answer(context.Context, *llm.Request) (*llm.Response, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.at = append(o.at, time.Now()); len(o.at) == 1 {
		return nil, &llm.Error{Class: llm.RateLimit, Status: 429, RetryAfter: o.wait}
	}
	return reply(llm.Part{Text: "two"}), nil
}

// once fails the test if it was not asked twice, with its wait between.
func (o *overloaded) once(t *testing.T) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.at) != 2 {
		t.Fatalf("%d requests", len(o.at))
	}
	waited := o.at[1].Sub(o.at[0])
	t.Logf("it was left alone for %v", waited)
	if waited < o.wait || waited > o.wait+20*time.Second {
		t.Errorf("it was to be left alone for %v", o.wait)
	}
}

// TestABusyProviderIsLeftAloneThroughARestart waits once, for as long as the
// provider said, though the process that heard it is gone, and for a part of
// the time there is none.
func TestABusyProviderIsLeftAloneThroughARestart(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, s *store) {
		provider := &overloaded{wait: 2 * time.Second}
		a := agent.New("adder", agent.Config{})
		script := llmtest.New(llmtest.Answer{Always: true, Func: provider.answer})
		s.begin(a, agent.Models{script})
		run := s.start(a)
		s.until(run, failing)
		s.end()
		<-time.After(provider.wait / 4)
		s.begin(a, agent.Models{script})
		if res, err := s.result(run); err != nil || res.Text() != "two" {
			t.Errorf("%+v, %v", res, err)
		}
		provider.once(t)
		sound(t, script)
	})
}

// TestAKeyIsMendedAfterARestart: the question of a run whose key is refused
// outlives the process that asked it, and so does the rest of the run.
func TestAKeyIsMendedAfterARestart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config agent.Config
		answer *agent.Repair // nil: nobody is asked
		want   string        // the result, or words of the error
		asked  int           // requests
	}{
		"mended":   {agent.Config{}, &agent.Repair{}, "two", 3},
		"given up": {agent.Config{}, &agent.Repair{GiveUp: true}, "auth (401)", 2},
		"fails":    {agent.Config{FailOnKey: true}, nil, "auth (401)", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onStores(t, func(t *testing.T, s *store) {
				c.config.Tools = []*agent.Tool{sum}
				a := agent.New("adder", c.config)
				script := llmtest.New(llmtest.Call("sum", `{"a":1,"b":1}`), llmtest.Fail(llm.Auth, 0), llmtest.Say("two"))
				models := func() durable.Definer { return &agent.ModelSet{Providers: agent.Models{script}, AskKey: true} }
				s.begin(a, models())
				run := s.start(a)
				if c.answer != nil {
					q := s.asked(run)
					if q.Kind != "repair" || !strings.Contains(q.Text, "Mend that, then answer, and adder goes on") {
						t.Errorf("question: %+v", q)
					}
					s.end()
					s.begin(a, models())
					if again := s.asked(run); again.ID != q.ID {
						t.Errorf("question %s became %s", q.ID, again.ID)
					}
					if err := agent.Repairs.Answer(s.ctx, s.eng, q.ID, *c.answer, nil); err != nil {
						t.Fatal(err)
					}
				}
				res, err := s.result(run)
				if got := fmt.Sprint(err); err != nil && !strings.Contains(got, c.want) || err == nil && res.Text() != c.want || (err != nil) != (c.answer == nil || c.answer.GiveUp) {
					t.Errorf("%+v, %v", res, err)
				}
				if n := len(script.Requests()); n != c.asked {
					t.Errorf("%d requests, not %d", n, c.asked)
				}
				sound(t, script)
			})
		})
	}
}
