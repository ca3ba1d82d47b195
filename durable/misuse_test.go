package durable_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

func TestAStuckRunCanBeTerminated(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		gate := make(chan struct{})
		stuck := durable.NewWorkflow("stuck", func(ctx context.Context, _ struct{}) (string, error) {
			<-gate
			return "too late", durable.Sleep(ctx, time.Minute)
		}, nil)
		e := open(stuck)
		s := must[*durable.Run](t)(stuck.Start(t.Context(), e, struct{}{}, nil))
		time.Sleep(2 * time.Second)
		var b *durable.BlockedError
		if err := s.Cancel(t.Context(), ""); !errors.As(err, &b) || b.Problem.Kind != "deadlock" {
			t.Errorf("cancel of a stuck run: %v", err)
		}
		if _, err := s.Query(t.Context(), "q", nil); !errors.As(err, &b) {
			t.Errorf("query of a stuck run: %v", err)
		}
		if err := s.Terminate(t.Context(), "stuck"); err != nil {
			t.Fatal(err)
		}
		_, err := stuck.Result(t.Context(), s)
		var re *durable.RunError
		if !errors.As(err, &re) || re.State != durable.Terminated {
			t.Errorf("result: %v", err)
		}
		close(gate)
		synctest.Wait()
		if d := must[*durable.Description](t)(s.Describe(t.Context())); d.State != durable.Terminated || d.Failure.Message != "stuck" {
			t.Errorf("description after the code came back: %+v", d)
		}
	})
}

// A run that is terminated while its code is stuck asks nobody any more.
func TestTheQuestionsOfAStuckRunGoWithIt(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		gate := make(chan struct{})
		ask := durable.NewQuestion[bool]("ask")
		stuck := durable.NewWorkflow("stuck", func(ctx context.Context, _ struct{}) (string, error) {
			g, ctx := durable.NewGroup(ctx, nil)
			g.Go(func(ctx context.Context) error { _, err := ask.Ask(ctx, "?", nil); return err })
			if err := durable.Sleep(ctx, time.Minute); err != nil {
				return "", err
			}
			<-gate
			return "", g.Wait()
		}, nil)
		e := open(stuck, ask)
		s := must[*durable.Run](t)(stuck.Start(t.Context(), e, struct{}{}, nil))
		time.Sleep(30 * time.Second)
		if qs := must[[]*durable.QuestionInfo](t)(e.Questions(t.Context(), nil)); len(qs) != 1 {
			t.Fatalf("open questions before: %d, want 1", len(qs))
		}
		time.Sleep(time.Minute)
		if err := s.Terminate(t.Context(), "stuck"); err != nil {
			t.Fatal(err)
		}
		if qs := must[[]*durable.QuestionInfo](t)(e.Questions(t.Context(), nil)); len(qs) != 0 {
			t.Errorf("open questions after: %d, want none", len(qs))
		}
		close(gate)
	})
}
