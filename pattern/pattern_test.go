package pattern_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
	"github.com/mcpagent/mcpagent/pattern"
)

// play runs a pattern in each mode of the engine, with a script that is made
// anew, and holds its requests to the rules.
func play(t *testing.T, script func() *llmtest.Script, r agent.Runner, test func(t *testing.T, s *llmtest.Script, res *agent.Result, err error)) {
	t.Helper()
	durabletest.Modes(t, func(t *testing.T, open durabletest.Open) {
		s := script()
		e := open(r.(durable.Definer), agent.Models{s})
		run, err := agent.Start(t.Context(), e, r, nil, "What is a boat?")
		if err != nil {
			t.Fatal(err)
		}
		res, err := agent.ResultOf(t.Context(), run)
		test(t, s, res, err)
		if err := s.Problems(); err != nil {
			t.Error(err)
		}
	})
}

// does is a runner that says what it is told to say, and counts how many of
// them work at once.
type crew struct{ now, most int }

func (c *crew) member(name string, say func(in *agent.Input) (string, error)) agent.Runner {
	return agent.Do(name, "does "+name, func(ctx context.Context, in *agent.Input) (*agent.Result, error) {
		c.now++
		c.most = max(c.most, c.now)
		err := durable.Sleep(ctx, time.Hour)
		c.now--
		if err != nil {
			return nil, err
		}
		text, err := say(in)
		if err != nil {
			return nil, err
		}
		res := agent.Answer(text)
		res.Turns, res.Calls, res.Usage = 1, 2, llm.Usage{Input: 10, Output: 1}
		return res, nil
	})
}

func says(text string) func(*agent.Input) (string, error) {
	return func(*agent.Input) (string, error) { return text, nil }
}

func fails(*agent.Input) (string, error) { return "", errors.New("no paper") }

func TestParallel(t *testing.T) {
	t.Parallel()
	none := func() *llmtest.Script { return llmtest.New() }
	c := &crew{}
	workers := []agent.Runner{c.member("a", says("floats")), c.member("b", says("sails")), c.member("c", says("sinks"))}
	t.Run("all answers", func(t *testing.T) {
		play(t, none, pattern.NewParallel("p", pattern.ParallelConfig{Workers: workers}), func(t *testing.T, _ *llmtest.Script, res *agent.Result, err error) {
			if err != nil {
				t.Fatal(err)
			}
			if want := "<answer name=\"a\">\nfloats\n</answer>\n<answer name=\"b\">\nsails\n</answer>\n<answer name=\"c\">\nsinks\n</answer>\n"; res.Text() != want {
				t.Errorf("answer %s, want %s", res.Text(), want)
			}
			if res.Turns != 3 || res.Calls != 6 || res.Usage.Input != 30 {
				t.Errorf("cost: %+v", res)
			}
		})
	})
	t.Run("limit", func(t *testing.T) {
		p := pattern.NewParallel("p", pattern.ParallelConfig{Workers: workers, Limit: 2})
		play(t, none, p, func(t *testing.T, _ *llmtest.Script, _ *agent.Result, err error) {
			if err != nil {
				t.Error(err)
			}
		})
		c.now, c.most = 0, 0
		if _, err := agent.Text(durable.With(t.Context()), pattern.NewParallel("p", pattern.ParallelConfig{Limit: 1, Workers: []agent.Runner{
			agent.Do("x", "", func(context.Context, *agent.Input) (*agent.Result, error) {
				c.now++
				c.most = max(c.most, c.now)
				c.now--
				return agent.Answer("x"), nil
			}),
			agent.Do("y", "", func(context.Context, *agent.Input) (*agent.Result, error) {
				c.now++
				c.most = max(c.most, c.now)
				c.now--
				return agent.Answer("y"), nil
			}),
		}}), "Go."); err != nil || c.most != 1 {
			t.Errorf("%d at once, %v", c.most, err)
		}
	})
	t.Run("join", func(t *testing.T) {
		join := agent.New("join", agent.Config{Instruction: "Join."})
		p := pattern.NewParallel("p", pattern.ParallelConfig{Workers: workers, Join: join})
		play(t, func() *llmtest.Script { return llmtest.New(llmtest.Say("all of it")) }, p, func(t *testing.T, s *llmtest.Script, res *agent.Result, err error) {
			if err != nil || res.Text() != "all of it" || res.Turns != 4 || res.Calls != 6 {
				t.Fatalf("%+v, %v", res, err)
			}
			if asked := s.Requests()[0].Messages[0].Text(); !strings.Contains(asked, "What is a boat?") || !strings.Contains(asked, "sails") {
				t.Errorf("it was asked %s", asked)
			}
		})
	})
	broken := []agent.Runner{workers[0], c.member("d", fails)}
	t.Run("a failure", func(t *testing.T) {
		play(t, none, pattern.NewParallel("p", pattern.ParallelConfig{Workers: broken}), func(t *testing.T, _ *llmtest.Script, _ *agent.Result, err error) {
			if err == nil || !strings.Contains(err.Error(), "d: no paper") {
				t.Errorf("error = %v", err)
			}
		})
	})
	t.Run("partial", func(t *testing.T) {
		play(t, none, pattern.NewParallel("p", pattern.ParallelConfig{Workers: broken, Partial: true}), func(t *testing.T, _ *llmtest.Script, res *agent.Result, err error) {
			if err != nil || !strings.Contains(res.Text(), "floats") || !strings.Contains(res.Text(), "<failed name=\"d\">\nd: no paper") {
				t.Errorf("%+v, %v", res, err)
			}
		})
		play(t, none, pattern.NewParallel("p", pattern.ParallelConfig{Workers: broken[1:], Partial: true}), func(t *testing.T, _ *llmtest.Script, _ *agent.Result, err error) {
			if err == nil || !strings.Contains(err.Error(), "no worker has an answer") {
				t.Errorf("error = %v", err)
			}
		})
	})
}

func TestOrchestrator(t *testing.T) {
	t.Parallel()
	c := &crew{}
	note := func(in *agent.Input) (string, error) {
		_, task, _ := strings.Cut(in.Messages[0].Text(), "nothing else: ")
		return "did " + task, nil
	}
	o := pattern.NewOrchestrator("report", pattern.OrchestratorConfig{Workers: []agent.Runner{c.member("finder", note), c.member("writer", note)}, MaxSteps: 2, MaxTasks: 2})
	good := `{"steps":[{"description":"look","tasks":[{"worker":"finder","task":"find boats"},{"worker":"finder","task":"find ships"}]},{"description":"write","tasks":[{"worker":"writer","task":"write it"}]}]}`
	script := func(plans ...string) func() *llmtest.Script {
		return func() *llmtest.Script {
			var scenes []llmtest.Scene
			for i, p := range plans {
				words := "Make a plan"
				if i > 0 {
					words = "can't be carried out: " + strings.Split(p, "|")[0]
				}
				scenes = append([]llmtest.Scene{{System: "You plan", User: words, Answers: []llmtest.Answer{llmtest.Say(p[strings.Index(p, "|")+1:])}}}, scenes...)
			}
			return llmtest.NewScenes(append(scenes, llmtest.Scene{System: "results of work", Answers: []llmtest.Answer{llmtest.Say("A boat floats.")}})...)
		}
	}
	t.Run("a plan", func(t *testing.T) {
		play(t, script(good), o, func(t *testing.T, s *llmtest.Script, res *agent.Result, err error) {
			if err != nil || res.Text() != "A boat floats." || res.Turns != 5 || res.Calls != 6 {
				t.Fatalf("%+v, %v", res, err)
			}
			last := s.Requests()[1].Messages[0].Text()
			for _, want := range []string{"find boats", "did find boats", "did find ships", "did write it", "What is a boat?"} {
				if !strings.Contains(last, want) {
					t.Errorf("the synthesizer does not hear %q: %s", want, last)
				}
			}
		})
	})
	t.Run("a plan that is sent back", func(t *testing.T) {
		play(t, script(`|{"steps":[{"description":"x","tasks":[{"worker":"nobody","task":"x"}]}]}`, `step 1: there is no worker "nobody"|`+good), o, func(t *testing.T, _ *llmtest.Script, res *agent.Result, err error) {
			if err != nil || res.Text() != "A boat floats." || res.Turns != 6 {
				t.Errorf("%+v, %v", res, err)
			}
		})
	})
	t.Run("no plan", func(t *testing.T) {
		play(t, func() *llmtest.Script { return llmtest.New(llmtest.Answer{Always: true, Text: `{"steps":[]}`}) }, o, func(t *testing.T, s *llmtest.Script, _ *agent.Result, err error) {
			if !errors.Is(err, pattern.ErrPlan) || len(s.Requests()) != 3 {
				t.Errorf("%d requests: %v", len(s.Requests()), err)
			}
		})
	})
}

func TestEvaluatorOptimizer(t *testing.T) {
	t.Parallel()
	writer := agent.New("writer", agent.Config{Instruction: "Write."})
	script := func(verdicts ...string) func() *llmtest.Script {
		return func() *llmtest.Script {
			var scenes []llmtest.Scene
			for i, v := range verdicts {
				var as []llmtest.Answer
				for _, a := range strings.Split(v, "|") {
					as = append(as, llmtest.Say(a))
				}
				scenes = append(scenes, llmtest.Scene{System: "You judge", User: fmt.Sprint("draft ", i+1), Answers: as})
				scenes = append([]llmtest.Scene{{System: "Write", User: fmt.Sprint("draft ", i+1), Answers: []llmtest.Answer{llmtest.Say(fmt.Sprint("draft ", i+2))}}}, scenes...)
			}
			return llmtest.NewScenes(append(scenes, llmtest.Scene{System: "Write", Answers: []llmtest.Answer{llmtest.Say("draft 1")}})...)
		}
	}
	for name, c := range map[string]struct {
		min      pattern.Rating
		verdicts []string
		want     string
		turns    int
	}{
		"good at once":         {"", []string{`{"rating":"GOOD","feedback":""}`}, "draft 1", 2},
		"the best":             {pattern.Excellent, []string{`{"rating":"FAIR","feedback":"longer"}`, `{"rating":"GOOD","feedback":"shorter"}`, `{"rating":"POOR","feedback":"?"}`}, "draft 2", 6},
		"a rating sent back":   {"", []string{`{"rating":"so so","feedback":""}|{"rating":"EXCELLENT","feedback":""}`}, "draft 1", 3},
		"lower case is enough": {"good", []string{`{"rating":"POOR","feedback":"no"}`, `{"rating":"EXCELLENT","feedback":""}`}, "draft 2", 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := pattern.NewEvaluatorOptimizer("draft", pattern.EvaluatorConfig{Writer: writer, Criteria: "Short.", MinRating: c.min, Rounds: 3})
			play(t, script(c.verdicts...), e, func(t *testing.T, _ *llmtest.Script, res *agent.Result, err error) {
				if err != nil || res.Text() != c.want || res.Turns != c.turns {
					t.Errorf("%+v, %v", res, err)
				}
			})
		})
	}
}

func TestPatternsGoIntoOneAnother(t *testing.T) {
	t.Parallel()
	c := &crew{}
	finder := c.member("finder", says("a fact"))
	draft := pattern.NewEvaluatorOptimizer("draft", pattern.EvaluatorConfig{Writer: c.member("writer", says("a draft")), Evaluator: c.member("judge", says(`{"rating":"GOOD"}`))})
	both := pattern.NewParallel("both", pattern.ParallelConfig{Workers: []agent.Runner{finder, draft}})
	plan := `{"steps":[{"description":"s","tasks":[{"worker":"both","task":"x"},{"worker":"finder","task":"y"}]}]}`
	o := pattern.NewOrchestrator("whole", pattern.OrchestratorConfig{Workers: []agent.Runner{both, finder}, Planner: c.member("planner", says(plan)),
		Synthesizer: c.member("end", func(in *agent.Input) (string, error) { return in.Messages[0].Text(), nil })})
	boss := agent.New("boss", agent.Config{Tools: []*agent.Tool{agent.AsTool(o)}})
	play(t, func() *llmtest.Script {
		return llmtest.New(llmtest.Call("whole", `{"message":"Go."}`), llmtest.Say("done"))
	}, boss, func(t *testing.T, s *llmtest.Script, res *agent.Result, err error) {
		if err != nil || res.Text() != "done" || res.Turns != 2+6 || res.Calls != 1+12 {
			t.Fatalf("%+v, %v", res, err)
		}
		heard := s.Requests()[1].Messages[2].Parts[0].Result.Text()
		if !strings.Contains(heard, "a draft") || !strings.Contains(heard, "a fact") {
			t.Errorf("the boss heard %s", heard)
		}
	})
}

func TestMistakesAreReportedByOpen(t *testing.T) {
	t.Parallel()
	a := agent.New("a", agent.Config{})
	for want, d := range map[string]durable.Definer{
		"no workers":                         pattern.NewParallel("p", pattern.ParallelConfig{}),
		"it has no workers":                  pattern.NewOrchestrator("p", pattern.OrchestratorConfig{}),
		"member 2 is nil":                    pattern.NewParallel("p", pattern.ParallelConfig{Workers: []agent.Runner{a, nil}}),
		`two workers are called "a"`:         pattern.NewOrchestrator("p", pattern.OrchestratorConfig{Workers: []agent.Runner{a, a}}),
		"neither Criteria nor an Evaluator":  pattern.NewEvaluatorOptimizer("p", pattern.EvaluatorConfig{Writer: a}),
		`MinRating "best" is none of`:        pattern.NewEvaluatorOptimizer("p", pattern.EvaluatorConfig{Writer: a, Criteria: "c", MinRating: "best"}),
		"member 1 is nil":                    pattern.NewEvaluatorOptimizer("p", pattern.EvaluatorConfig{Criteria: "c"}),
		`workflow "a": defined twice`:        durable.Set{a, agent.New("a", agent.Config{})},
		`agent "b c"`:                        agent.New("b c", agent.Config{}),
		`two tools are called "a"`:           agent.New("b", agent.Config{Tools: []*agent.Tool{agent.AsTool(a), agent.AsTool(a)}}),
		"a tool is nil":                      agent.New("b", agent.Config{Tools: []*agent.Tool{nil}}),
		"model provider 1 is nil":            agent.Models{nil},
		`"other:m" is of provider "other"`:   &agent.ModelSet{Providers: agent.Models{llmtest.New()}, Default: "other:m"},
		`"openai" is of provider "openai"`:   &agent.ModelSet{Providers: agent.Models{llmtest.New()}, Names: map[string]string{"fast": "openai"}},
		`two model providers are called "sc`: agent.Models{llmtest.New(), llmtest.New()},
	} {
		if _, err := durable.NewDefinitions(d); err == nil || strings.Count(err.Error(), want) != 1 {
			t.Errorf("error = %v, want %s once", err, want)
		}
	}
}
