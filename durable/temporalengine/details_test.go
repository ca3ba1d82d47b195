package temporalengine_test

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
)

// details are what the web interface shows as the current details of a run.
func details(t *testing.T, c client.Client, id string) string {
	t.Helper()
	v, err := c.QueryWorkflow(t.Context(), id, "", "__temporal_workflow_metadata")
	if err != nil {
		t.Fatal(err)
	}
	var m sdkpb.WorkflowMetadata
	if err := v.Get(&m); err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC`).ReplaceAllString(m.CurrentDetails, "TIME")
}

// shown is what a person sees of a run without any code of ours.
func shown(t *testing.T, c client.Client) {
	stage := durable.NewStatus[string]("stage")
	resume := durable.NewSignal[string]("resume")
	approve := durable.NewQuestion[bool]("approve")
	at := make(chan struct{})
	wait := durable.NewStep("wait", func(ctx context.Context, n int) (int, error) {
		select {
		case <-at:
			return n, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}, &durable.StepOptions{Title: "Wait for the bank"})
	flow := durable.NewWorkflow("shown", func(ctx context.Context, steps int) (string, error) {
		stage.Set(ctx, "pays")
		if _, err := durable.Map(ctx, make([]int, steps), wait.Do, nil); err != nil {
			return "", err
		}
		stage.Set(ctx, "done_ so far")
		if _, err := approve.Ask(ctx, "Pay 500 to *ACME*\n[now](http://x)?", nil); err != nil {
			return "", err
		}
		return resume.ReceiveTimeout(ctx, time.Hour)
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{stage, resume, approve}})
	secret, err := durable.NewAESCodec(durable.NewSecret(strings.Repeat("ab", 32)))
	if err != nil {
		t.Fatal(err)
	}
	for _, codec := range []durable.Codec{nil, secret} {
		end := func() { at <- struct{}{} }
		id, queue := id(t), queue(t)
		if codec != nil {
			id, queue = id+"-codec", queue+"-codec"
		}
		e := engine(t, &temporalengine.Options{Client: c, TaskQueue: queue, Engine: durable.Options{Codec: codec}}, flow, wait)
		r, err := flow.Start(t.Context(), e, 7, &durable.StartOptions{ID: id})
		if err != nil {
			t.Fatal(err)
		}
		look := func(want, coded string) {
			t.Helper()
			if codec != nil {
				want = coded
			}
			if got := details(t, c, id); got != want {
				t.Errorf("with codec %v, the details are\n%s\nwant\n%s", codec, got, want)
			}
		}
		const steps = "Waits for step `wait`, step `wait`, step `wait`, step `wait`, step `wait`, …"
		look(steps+"\n\n**stage** `\"pays\"`", steps)
		for range 7 {
			end()
		}
		var asks []*durable.QuestionInfo
		for len(asks) == 0 {
			if asks, err = e.Questions(t.Context(), &durable.QuestionFilter{WorkflowID: id}); err != nil {
				t.Fatal(err)
			}
		}
		look("**Question** `approve`: Pay 500 to \\*ACME\\* \\[now\\](http://x)?\n\n**stage** `\"done_ so far\"`", "**Question** `approve`")
		if err := approve.Answer(t.Context(), e, asks[0].ID, true, nil); err != nil {
			t.Fatal(err)
		}
		look("Waits for TIME (receive resume), the signal \"resume\"\n\n**stage** `\"done_ so far\"`", "Waits for TIME (receive resume), the signal \"resume\"")
		if err := r.Pause(t.Context(), &durable.PauseOptions{Reason: "lunch"}); err != nil {
			t.Fatal(err)
		}
		look("**Paused** since TIME\n\nWaits for TIME (receive resume), the signal \"resume\"\n\n**stage** `\"done_ so far\"`",
			"**Paused** since TIME\n\nWaits for TIME (receive resume), the signal \"resume\"")
		before := events(t, c, id)
		_ = details(t, c, id)
		if n := len(events(t, c, id)) - len(before); n != 0 {
			t.Errorf("a look at the details made %d events", n)
		}
		for _, ev := range before {
			s := ""
			if ev.GetEventType() == enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED {
				if err := converter.GetDefaultDataConverter().FromPayload(ev.GetUserMetadata().GetSummary(), &s); err != nil || s != "Wait for the bank" {
					t.Errorf("summary of a step: %q, %v", s, err)
				}
			}
		}
		if err := r.Resume(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if err := resume.Send(t.Context(), r, "go", nil); err != nil {
			t.Fatal(err)
		}
		if got, err := flow.Result(t.Context(), r); got != "go" || err != nil {
			t.Error(got, err)
		}
		look("", "")
	}
}

func events(t *testing.T, c client.Client, id string) (out []*historypb.HistoryEvent) {
	t.Helper()
	it := c.GetWorkflowHistory(t.Context(), id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		ev, err := it.Next()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, ev)
	}
	return out
}
