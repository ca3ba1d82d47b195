package mcpserve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mcpagent/mcpagent/durable"
)

const (
	maxChain      = 1000 // runs that continue one another
	maxDepth      = 32   // parents of a run
	maxCandidates = 10   // listed in an error
)

// scope says which runs a tool may touch.
type scope struct {
	s     *Server
	what  string          // for errors: `question "approve"`
	names map[string]bool // workflows; nil: those that were added, and what belongs to their runs
}

// served is the scope of run control.
func (s *Server) served() scope { return scope{s: s, what: "run control"} }

// accepting is the scope of a message: the workflows that declare it.
func (s *Server) accepting(info durable.Info) scope {
	sc := scope{s: s, what: fmt.Sprintf("%s %q", info.Kind, info.Name), names: map[string]bool{}}
	for _, w := range s.eng.Definitions().Infos() {
		if w.Kind == durable.KindWorkflow && slices.ContainsFunc(w.Accepts, func(a durable.Info) bool { return a.Kind == info.Kind && a.Name == info.Name }) {
			sc.names[w.Name] = true
		}
	}
	return sc
}

// workflows lists the names whose runs the scope consists of.
func (sc scope) workflows() []string {
	if sc.names != nil {
		return slices.Sorted(maps.Keys(sc.names))
	}
	sc.s.mu.Lock()
	defer sc.s.mu.Unlock()
	return slices.Sorted(maps.Keys(sc.s.flows))
}

// has reports whether a run is in the scope.
func (sc scope) has(ctx context.Context, d *durable.Description) bool {
	if sc.names != nil {
		return sc.names[d.Workflow]
	}
	for range maxDepth {
		sc.s.mu.Lock()
		_, ok := sc.s.flows[d.Workflow]
		sc.s.mu.Unlock()
		if ok {
			return true
		}
		if d.Parent == nil {
			return false
		}
		up, err := sc.s.eng.Run(d.Parent.WorkflowID, d.Parent.RunID).Describe(ctx)
		if err != nil {
			return false
		}
		d = up
	}
	return false
}

// follow describes a run, at the end of its chain.
func (s *Server) follow(ctx context.Context, workflowID, runID string) (*durable.Description, error) {
	for range maxChain {
		d, err := s.eng.Run(workflowID, runID).Describe(ctx)
		if err != nil {
			return nil, err
		}
		if d.State != durable.Continued || d.Next == "" {
			return d, nil
		}
		workflowID, runID = d.WorkflowID, d.Next
	}
	return nil, fmt.Errorf("run %q: its chain has more than %d runs", workflowID, maxChain)
}

// run finds the run that a call means: by ids, or the only one that it could
// mean. active asks for one that has not ended.
func (sc scope) run(ctx context.Context, workflowID, runID string, active bool) (*durable.Description, error) {
	if workflowID != "" || runID != "" {
		d, err := sc.s.follow(ctx, workflowID, runID)
		if errors.Is(err, durable.ErrNotFound) || err == nil && sc.names == nil && !sc.has(ctx, d) {
			return nil, &toolError{Type: "not_found", WorkflowID: workflowID, RunID: runID,
				Message: fmt.Sprintf("there is no run %s here; %s", naming(workflowID, runID), sc.s.lister())}
		}
		if err != nil {
			return nil, err
		}
		if !sc.has(ctx, d) {
			return nil, about(&toolError{Type: "not_accepted",
				Message: fmt.Sprintf("run %s is of workflow %q, which does not have the %s; give the ids of a run of %s", naming(d.WorkflowID, d.RunID), d.Workflow, sc.what, quoted(sc.workflows()))}, d)
		}
		return d, nil
	}
	found, err := sc.list(ctx, durable.Running, durable.Paused)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 && !active {
		if found, err = sc.list(ctx); err != nil {
			return nil, err
		}
	}
	switch len(found) {
	case 0:
		return nil, &toolError{Type: "not_found", Message: fmt.Sprintf("no run of %s is there; start one first", quoted(sc.workflows()))}
	case 1:
		return sc.s.follow(ctx, found[0].WorkflowID, found[0].RunID)
	}
	e := &toolError{Type: "ambiguous", Message: "several runs could be meant; give workflow_id or run_id of one"}
	for _, d := range found[:min(len(found), maxCandidates)] {
		e.Candidates = append(e.Candidates, candidate{WorkflowID: d.WorkflowID, RunID: d.RunID, Workflow: d.Workflow, Status: published(d)})
	}
	if len(found) > maxCandidates {
		e.Message += fmt.Sprintf(" (the first %d are listed)", maxCandidates)
	}
	e.Message += ": " + e.listed()
	return nil, e
}

// list lists runs of the scope, a few more than fit into an error.
func (sc scope) list(ctx context.Context, states ...durable.State) ([]*durable.Description, error) {
	var out []*durable.Description
	for _, name := range sc.workflows() {
		page, err := sc.s.eng.List(ctx, &durable.Filter{Workflow: name, States: states, Limit: maxCandidates + 1})
		if err != nil {
			return nil, err
		}
		for _, d := range page.Runs {
			if d.State != durable.Continued {
				out = append(out, d)
			}
		}
	}
	return out, nil
}

// question finds the open question that a call means.
func (sc scope) question(ctx context.Context, name, workflowID, runID, questionID string) (*durable.QuestionInfo, error) {
	filter := &durable.QuestionFilter{Name: name}
	var d *durable.Description
	if workflowID != "" || runID != "" {
		var err error
		if d, err = sc.run(ctx, workflowID, runID, true); err != nil {
			return nil, err
		}
		filter.WorkflowID, filter.RunID = d.WorkflowID, d.RunID
	}
	all, err := sc.s.eng.Questions(ctx, filter)
	if err != nil {
		return nil, err
	}
	var open []*durable.QuestionInfo
	for _, q := range all {
		if q.State == "open" && (questionID == "" || q.ID == questionID) && sc.sees(ctx, q) {
			open = append(open, q)
		}
	}
	oldestFirst(open)
	switch len(open) {
	case 0:
		return nil, sc.noQuestion(ctx, name, questionID, d)
	case 1:
		return open[0], nil
	}
	e := &toolError{Type: "ambiguous", Message: "several questions could be meant; give workflow_id, run_id or question_id of one"}
	for _, q := range open[:min(len(open), maxCandidates)] {
		e.Candidates = append(e.Candidates, candidate{WorkflowID: q.WorkflowID, RunID: q.RunID, Workflow: q.Workflow, QuestionID: q.ID, Question: q.Name, Text: q.Text})
	}
	e.Message += ": " + e.listed()
	return nil, e
}

// sees reports whether a question is asked by a run of the scope.
func (sc scope) sees(ctx context.Context, q *durable.QuestionInfo) bool {
	if sc.names != nil {
		return sc.names[q.Workflow]
	}
	sc.s.mu.Lock()
	_, flow := sc.s.flows[q.Workflow]
	_, asked := sc.s.asks[q.Name]
	sc.s.mu.Unlock()
	if flow || asked {
		return true
	}
	d, err := sc.s.eng.Run(q.WorkflowID, q.RunID).Describe(ctx)
	return err == nil && sc.has(ctx, d)
}

// noQuestion says why there is nothing to answer.
func (sc scope) noQuestion(ctx context.Context, name, questionID string, d *durable.Description) error {
	what := "question"
	if name != "" {
		what = fmt.Sprintf("question %q", name)
	}
	if d == nil {
		e := &toolError{Type: "not_found", Message: fmt.Sprintf("no %s is open", what)}
		if questionID != "" {
			e.Message = fmt.Sprintf("no %s with the id %q is open; it may have been answered or have expired", what, questionID)
		}
		return e
	}
	run := fmt.Sprintf("run %s (%s, %s)", naming(d.WorkflowID, d.RunID), d.State, published(d))
	closed, err := sc.s.eng.Questions(ctx, &durable.QuestionFilter{WorkflowID: d.WorkflowID, RunID: d.RunID, Name: name, All: true})
	if err == nil && len(closed) > 0 {
		q := closed[len(closed)-1]
		switch q.State {
		case "answered":
			by := ""
			if q.By != "" {
				by = " by " + q.By
			}
			return about(&toolError{Type: "already_answered", Details: q.Answer,
				Message: fmt.Sprintf("%s of %s was answered%s with %s; nothing was changed", what, run, by, q.Answer)}, d)
		case "expired":
			return about(&toolError{Type: "expired", Message: fmt.Sprintf("%s of %s expired at %s", what, run, q.Expires.Format("2006-01-02 15:04:05Z07:00"))}, d)
		}
	}
	if d.State.Done() {
		return about(&toolError{Type: "finished", Message: fmt.Sprintf("%s has ended and asks nothing", run)}, d)
	}
	return about(&toolError{Type: "not_asked", Message: fmt.Sprintf("%s does not ask %s now; look at its status and try again once it does", run, what)}, d)
}

// listed is the candidates as text, for clients that show only that.
func (e *toolError) listed() string {
	var b strings.Builder
	for i, c := range e.Candidates {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s", naming(c.WorkflowID, c.RunID))
		if c.Text != "" {
			fmt.Fprintf(&b, " asks %q (question_id %s)", c.Text, c.QuestionID)
		} else {
			fmt.Fprintf(&b, " (%s)", c.Status)
		}
	}
	return b.String()
}

// lister says how to find out which runs there are.
func (s *Server) lister() string {
	if s.offers(ControlRuns) {
		return ControlRuns + " lists the runs there are"
	}
	return "check the ids"
}

// naming names a run in a text.
func naming(workflowID, runID string) string {
	switch {
	case runID == "":
		return fmt.Sprintf("%q", workflowID)
	case workflowID == "":
		return "with run_id " + runID
	}
	return fmt.Sprintf("%q (run_id %s)", workflowID, runID)
}

func quoted(names []string) string {
	if len(names) == 0 {
		return "any workflow"
	}
	var out []string
	for _, n := range names {
		out = append(out, fmt.Sprintf("%q", n))
	}
	return strings.Join(out, ", ")
}
