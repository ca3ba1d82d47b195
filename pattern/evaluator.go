package pattern

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/llm"
)

// Rating is how good an answer is.
type Rating string

// The ratings, from bad to good.
const (
	Poor      Rating = "POOR"
	Fair      Rating = "FAIR"
	Good      Rating = "GOOD"
	Excellent Rating = "EXCELLENT"
)

// rank orders ratings; 0 is none of them.
func (r Rating) rank() int {
	for i, s := range []Rating{Poor, Fair, Good, Excellent} {
		if strings.EqualFold(string(r), string(s)) {
			return i + 1
		}
	}
	return 0
}

// EvaluatorOptimizer has a draft written, judged, and written again with what
// the judge says, until it is good enough.
type EvaluatorOptimizer struct {
	base
	c    EvaluatorConfig
	eval agent.Runner
}

// EvaluatorConfig says what an [EvaluatorOptimizer] is.
type EvaluatorConfig struct {
	Description string
	// Writer writes the drafts.
	Writer agent.Runner
	// Evaluator judges them: its answer is a Verdict. Nil: an agent that judges
	// by the Criteria.
	Evaluator agent.Runner
	// Criteria are what the agent judges by.
	Criteria string
	// Model is the agent's. Empty: the program's default.
	Model string
	// MinRating is good enough. Empty: Good.
	MinRating Rating
	// Rounds is how many drafts are written at most; the best one is the
	// result. 0: 5.
	Rounds int
}

// Verdict is what a judge says about a draft.
type Verdict struct {
	Rating   Rating `json:"rating"`
	Feedback string `json:"feedback"` // what to change; empty if nothing
}

// NewEvaluatorOptimizer makes an EvaluatorOptimizer.
func NewEvaluatorOptimizer(name string, c EvaluatorConfig) *EvaluatorOptimizer {
	e := &EvaluatorOptimizer{c: c, eval: c.Evaluator}
	if e.c.MinRating == "" {
		e.c.MinRating = Good
	}
	if e.c.Rounds == 0 {
		e.c.Rounds = 5
	}
	if e.eval == nil {
		e.eval = agent.New(name+"_evaluator", agent.Config{
			Model:       c.Model,
			Description: "Judges drafts.",
			Instruction: "You judge a draft by criteria. Be strict and concrete.\n\nCriteria: " + c.Criteria,
		})
	}
	e.begin(e, name, c.Description, c.Writer, e.eval)
	switch {
	case e.err != nil:
	case c.Criteria == "" && c.Evaluator == nil:
		e.err = fmt.Errorf("pattern %q: it has neither Criteria nor an Evaluator", name)
	case e.c.MinRating.rank() == 0:
		e.err = fmt.Errorf("pattern %q: MinRating %q is none of POOR, FAIR, GOOD, EXCELLENT", name, c.MinRating)
	}
	if e.card.Description == "" && e.err == nil {
		e.card.Description = c.Writer.Card().Description
	}
	return e
}

// Run implements [agent.Runner].
func (e *EvaluatorOptimizer) Run(ctx context.Context, in *agent.Input) (*agent.Result, error) {
	if e.err != nil {
		return nil, e.err
	}
	var best *agent.Result
	var top int
	cost := agent.Result{}
	ask := in
	for round := 1; ; round++ {
		draft, err := e.c.Writer.Run(ctx, ask)
		if err != nil {
			return nil, err
		}
		cost.Count(draft)
		v, judged, err := e.judge(ctx, in, draft)
		if err != nil {
			return nil, err
		}
		cost.Count(judged)
		if rank := v.Rating.rank(); best == nil || rank > top {
			best, top = draft, rank
		}
		if top >= e.c.MinRating.rank() || round >= e.c.Rounds {
			out := *best
			out.Usage, out.Turns, out.Calls = cost.Usage, cost.Turns, cost.Calls
			return &out, nil
		}
		var text strings.Builder
		section(&text, "request", "", question(in))
		section(&text, "draft", "", draft.Text())
		section(&text, "feedback", string(v.Rating), v.Feedback)
		text.WriteString("\nWrite the draft again so that it meets the feedback. Give the whole text and nothing else.")
		ask = say(text.String())
		ask.Schema = in.Schema
	}
}

func (e *EvaluatorOptimizer) judge(ctx context.Context, in *agent.Input, draft *agent.Result) (Verdict, *agent.Result, error) {
	var text strings.Builder
	section(&text, "request", "", question(in))
	section(&text, "draft", "", draft.Text())
	text.WriteString("\nJudge the draft.")
	ask := say(text.String())
	ask.Schema = &llm.Schema{Name: "verdict", Schema: verdict}
	var v Verdict
	res, err := e.eval.Run(ctx, ask)
	if err != nil {
		return v, nil, err
	}
	if err := json.Unmarshal([]byte(res.Text()), &v); err != nil {
		return v, nil, fmt.Errorf("%s: %w: %w", e.eval.Card().Name, agent.ErrAnswer, err)
	}
	if v.Rating.rank() == 0 {
		return v, nil, fmt.Errorf("%s: %w: the rating %q is none of POOR, FAIR, GOOD, EXCELLENT", e.eval.Card().Name, agent.ErrAnswer, v.Rating)
	}
	return v, res, nil
}

// verdict is the schema of a [Verdict]: the ratings are no others, so that an
// agent that judges has another one sent back.
var verdict = json.RawMessage(`{"type":"object","properties":{"rating":{"type":"string","enum":["POOR","FAIR","GOOD","EXCELLENT"]},"feedback":{"type":"string","description":"what to change, concretely; empty if nothing"}},"required":["rating","feedback"],"additionalProperties":false}`)
