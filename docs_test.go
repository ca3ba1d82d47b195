package mcpagent_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent"
	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/anthropic"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

// The code of README.md, docs/quickstart.md and docs/coming-from-python.md that
// is in no example, compiled. TestDocuments holds them against each other.

var finder = agent.New("finder", agent.Config{
	Instruction: "Use filesystem and fetch to answer questions.",
	Servers:     []string{"filesystem", "fetch"}, // names from mcp_agent.config.yaml
})

func main() {
	ctx := context.Background()
	app, err := mcpagent.Open(ctx, &mcpagent.Options{Models: agent.Models{anthropic.New(nil)}}, finder)
	if err != nil {
		log.Fatal(err)
	}
	defer app.Close()
	res, err := app.Run(ctx, finder, "Summarize README.md in two sentences.")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Text())
}

func attach(ctx context.Context, app *mcpagent.App) error {
	run, err := app.Start(ctx, finder, &durable.StartOptions{ID: "summary-2026-11-21"}, "Summarize README.md in two sentences.")
	if err != nil {
		return err
	}
	res, err := agent.ResultOf(ctx, run)
	if err != nil {
		return err
	}
	fmt.Println(res.Text())
	return nil
}

func watch(ctx context.Context, app *mcpagent.App) error {
	for ev, err := range app.Stream(ctx, finder, "Summarize README.md in two sentences.") {
		if err != nil {
			return err
		}
		switch ev.Kind {
		case agent.EventDelta:
			fmt.Print(ev.Text)
		case agent.EventRetract: // what was said in this turn does not count: the call is made again
			fmt.Println()
		case agent.EventCall:
			fmt.Println("calls", ev.Call.Name)
		}
	}
	return nil
}

func goOn(ctx context.Context, app *mcpagent.App) error {
	open, err := app.Engine().Questions(ctx, nil)
	if err != nil {
		return err
	}
	for _, q := range open {
		fmt.Println(q.WorkflowID, q.Text)
		switch q.Kind {
		case "repair": // the key is mended
			err = agent.Repairs.Answer(ctx, app.Engine(), q.ID, agent.Repair{}, nil)
		case "approval": // the call may be made; the digest says which one was looked at
			err = agent.Approvals.Answer(ctx, app.Engine(), q.ID, agent.Approval{Approve: true}, &durable.AnswerOptions{Digest: q.Digest})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

type Question struct {
	Question string `json:"question" jsonschema:"what to ask the person"`
}

var (
	input   = durable.NewQuestion[string]("human_input")
	ask     = durable.NewWorkflow("ask_human", askHuman, &durable.WorkflowOptions{Description: "Asks the person.", Accepts: []durable.Accepted{input}})
	greeter = agent.New("greeter", agent.Config{
		Instruction: "Ask for the person's name, and greet them.",
		Tools:       []*agent.Tool{agent.Workflow(ask, nil)},
	})
)

func askHuman(ctx context.Context, q Question) (string, error) {
	a, err := input.Ask(ctx, q.Question, &durable.AskOptions{Expires: 5 * 24 * time.Hour})
	if err != nil {
		return "", err
	}
	return a.Value, nil
}

type Grade struct {
	Grade  int    `json:"grade" jsonschema:"from 1 to 5"`
	Reason string `json:"reason"`
}

var (
	grader    = agent.New("grader", agent.Config{Instruction: "You grade short stories.", Params: agent.Params{MaxTokens: 2000}})
	load      = durable.NewStep("stories.load", loadStory, &durable.StepOptions{Timeout: 30 * time.Second, Retry: &durable.Retry{MaxAttempts: 5}})
	gradeFile = durable.NewWorkflow("grade_file", gradeStory, &durable.WorkflowOptions{Accepts: agent.Accepts()})
)

func loadStory(_ context.Context, path string) (string, error) {
	b, err := os.ReadFile(path)
	return string(b), err
}

func gradeStory(ctx context.Context, path string) (Grade, error) {
	story, err := load.Do(ctx, path)
	if err != nil {
		return Grade{}, err
	}
	return agent.Object[Grade](ctx, grader, "Grade this story.", story)
}

var _ = []any{main, attach, watch}

// TestAnAgentAsksAPerson by the tool of docs/coming-from-python.md.
func TestAnAgentAsksAPerson(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	app := open(t, "memory", llmtest.New(llmtest.Call("ask_human", `{"question":"What is your name?"}`), llmtest.Say("Hello, Ada.")), greeter)
	run, err := app.Start(ctx, greeter, nil, "Greet me.")
	if err != nil {
		t.Fatal(err)
	}
	var open []*durable.QuestionInfo
	for len(open) == 0 && err == nil {
		open, err = app.Engine().Questions(ctx, nil)
	}
	if err == nil {
		err = input.Answer(ctx, app.Engine(), open[0].ID, "Ada", nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	if res, err := agent.ResultOf(ctx, run); err != nil || res.Text() != "Hello, Ada." {
		t.Errorf("got %v, %v", res, err)
	}
}

// TestARunGoesOnWhenTheKeyIsMended as docs/quickstart.md shows.
func TestARunGoesOnWhenTheKeyIsMended(t *testing.T) {
	t.Parallel()
	app := open(t, "local", llmtest.New(llmtest.Fail(llm.Auth, 0), llmtest.Say("It is noon.")), teller)
	run, err := app.Start(t.Context(), teller, nil, "What time is it?")
	if err != nil {
		t.Fatal(err)
	}
	for {
		d, err := run.Describe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Questions) > 0 || d.State != durable.Running {
			break
		}
	}
	if err := goOn(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	if res, err := agent.ResultOf(t.Context(), run); err != nil || res.Text() != "It is noon." {
		t.Errorf("got %v, %v", res, err)
	}
}

// TestAWorkflowGetsAValueOfAModel as docs/coming-from-python.md shows.
func TestAWorkflowGetsAValueOfAModel(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/story.md"
	if err := os.WriteFile(file, []byte("Once upon a time."), 0o600); err != nil {
		t.Fatal(err)
	}
	app := open(t, "memory", llmtest.New(llmtest.Say(`{"grade":4,"reason":"short"}`)), durable.Set{gradeFile, load, grader})
	run, err := gradeFile.Start(t.Context(), app.Engine(), file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if g, err := gradeFile.Result(t.Context(), run); err != nil || g != (Grade{4, "short"}) {
		t.Errorf("got %+v, %v", g, err)
	}
}
