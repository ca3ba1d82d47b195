package durable_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

type spanKey struct{}

// guide is an observer that knows places: the text of a span in a context.
type guide struct {
	eyes
	content bool
}

func (g *guide) WantsContent() bool { return g.content }

func (g *guide) Caller(ctx context.Context) string {
	s, _ := ctx.Value(spanKey{}).(string)
	return s
}

func (g *guide) Place(ctx context.Context, o durable.Observation) context.Context {
	s := o.Trace + ">" + o.Call
	if o.Attempt > 0 {
		s += fmt.Sprint("#", o.Attempt, o.Since.IsZero())
	}
	if o.RunID == "" || o.Chain == "" {
		s += "?"
	}
	return context.WithValue(ctx, spanKey{}, s)
}

// seen lists the observations of a kind.
func (o *eyes) seen(kind string, text func(durable.Observation) string) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []string
	for _, x := range o.all {
		if x.Kind == kind {
			out = append(out, text(x))
		}
	}
	return out
}

func TestTracerPlacesRunsMessagesAndSteps(t *testing.T) {
	g := &guide{}
	scenarioWith(t, func(o *durable.Options) { g = &guide{}; o.Observer = g }, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[string]("sig")
		step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
			i, _ := durable.StepInfoOf(ctx)
			return fmt.Sprint(ctx.Value(spanKey{}), " ", durable.TraceOf(ctx), " ", i.Trace), nil
		}, nil)
		kid := durable.NewWorkflow("kid", func(ctx context.Context, to durable.Ref) (string, error) {
			if err := sig.Send(ctx, durable.Address(to.WorkflowID, to.RunID), "hello", nil); err != nil {
				return "", err
			}
			return durable.TraceOf(ctx), nil
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			a, err := step.Do(ctx, none{})
			if err != nil {
				return "", err
			}
			i, _ := durable.InfoOf(ctx)
			b, err := kid.Run(ctx, durable.Ref{WorkflowID: i.WorkflowID, RunID: i.RunID})
			if err != nil {
				return "", err
			}
			for range 2 {
				if _, err := sig.Receive(ctx); err != nil {
					return "", err
				}
			}
			return a + " " + b, nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := open(wf, kid, step)
		ctx := context.WithValue(durable.WithTrace(t.Context(), "given"), spanKey{}, "span")
		r := must[*durable.Run](t)(wf.Start(ctx, e, none{}, nil))
		synctest.Wait()
		if err := sig.Send(durable.WithTrace(t.Context(), "given"), r, "x", nil); err != nil {
			t.Fatal(err)
		}
		got := must[string](t)(wf.Result(t.Context(), r))
		if want := "span>0/1#1 false span>0/1#1 false span span>0/2"; got != want {
			t.Errorf("contexts of step and child\n got %s\nwant %s", got, want)
		}
		links := g.seen("message", func(o durable.Observation) string { return o.Wait + " " + o.Name + " " + o.Link })
		slices.Sort(links)
		if got, want := strings.Join(links, ", "), "signal sig given, signal sig span>0/2>0/1"; got != want {
			t.Errorf("links of signals\n got %s\nwant %s", got, want)
		}
	})
}

func TestObserverKnowsWaitsFromBeginningToEnd(t *testing.T) {
	g := &guide{}
	scenarioWith(t, func(o *durable.Options) { g = &guide{}; o.Observer = g }, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[int]("sig")
		step := durable.NewStep("step", func(ctx context.Context, _ none) (int, error) {
			if i, _ := durable.StepInfoOf(ctx); i.Attempt < 3 {
				return 0, errors.New("not yet")
			}
			return 1, nil
		}, &durable.StepOptions{Retry: &durable.Retry{Initial: time.Second, Backoff: 1}})
		kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (int, error) { return 0, durable.Sleep(ctx, 100*time.Hour) }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			if _, err := step.Do(ctx, none{}); err != nil {
				return 0, err
			}
			if _, err := kid.Child(ctx, none{}, &durable.ChildOptions{ParentClose: durable.ParentCloseCancel}); err != nil {
				return 0, err
			}
			for range 2 {
				if _, err := sig.Receive(ctx); err != nil {
					return 0, err
				}
			}
			_, err := sig.ReceiveTimeout(ctx, time.Hour)
			return 0, err
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := open(wf, kid, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, &durable.StartOptions{ID: "wf"}))
		for i := range 2 {
			time.Sleep(time.Minute)
			if err := sig.Send(t.Context(), r, i, nil); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := wf.Result(t.Context(), r); err == nil {
			t.Error("no error at the timeout")
		}
		synctest.Wait()
		var waits []string
		for _, s := range g.seen("wait.ended", func(o durable.Observation) string {
			if o.Workflow != "wf" {
				return ""
			}
			s := fmt.Sprintf("%s %s %v", o.Wait, o.Name, o.At.Sub(o.Since))
			if o.Attempt > 0 {
				s += fmt.Sprint(" in ", o.Attempt)
			}
			if o.Dropped {
				s += " dropped"
			}
			return s
		}) {
			if s != "" {
				waits = append(waits, s)
			}
		}
		slices.Sort(waits)
		want := []string{
			"child kid 1h1m58s dropped",
			"signal sig 1h0m0s",
			"signal sig 1m0s",
			"signal sig 58s",
			"step step 2s in 3",
			"timer receive sig 1h0m0s",
		}
		if !slices.Equal(waits, want) {
			t.Errorf("waits\n got %q\nwant %q", waits, want)
		}
		ends := g.seen("run.ended", func(o durable.Observation) string {
			return fmt.Sprintf("%s %s %v", o.Workflow, o.State, o.At.Sub(o.Since))
		})
		slices.Sort(ends)
		if got, want := strings.Join(ends, ", "), "kid cancelled 1h1m58s, wf failed 1h2m0s"; got != want {
			t.Errorf("ends\n got %s\nwant %s", got, want)
		}
	})
}

func TestObserverSeesTheEndOfARunThatDoesNotComeBack(t *testing.T) {
	g := &guide{}
	scenarioWith(t, func(o *durable.Options) {
		g = &guide{}
		o.Observer, o.Logger = g, slog.New(slog.DiscardHandler)
	}, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		hold := make(chan struct{})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) { <-hold; return 0, nil }, nil)
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		time.Sleep(time.Minute)
		if err := r.Terminate(t.Context(), "it is stuck"); err != nil {
			t.Fatal(err)
		}
		ended := func() []string {
			return g.seen("run.ended", func(o durable.Observation) string { return string(o.State) })
		}
		if got := ended(); !slices.Equal(got, []string{"terminated"}) {
			t.Errorf("ends while the code is stuck: %v", got)
		}
		close(hold)
		synctest.Wait()
		if got := ended(); !slices.Equal(got, []string{"terminated"}) {
			t.Errorf("ends after it came back: %v", got)
		}
	})
}

func TestContentIsForObserversThatWantIt(t *testing.T) {
	for _, wants := range []bool{false, true} {
		g := &guide{}
		scenarioWith(t, func(o *durable.Options) {
			g = &guide{content: wants}
			o.Observer, o.Codec = g, xorCodec{}
		}, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
			step := durable.NewStep("step", func(ctx context.Context, in string) (string, error) { return in + "!", nil }, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, in string) (string, error) { return step.Do(ctx, in) }, nil)
			e := open(wf, step)
			r := must[*durable.Run](t)(wf.Start(t.Context(), e, "secret", nil))
			must[string](t)(wf.Result(t.Context(), r))
			synctest.Wait()
			var got []string
			for _, x := range g.all {
				for _, c := range []json.RawMessage{x.Input, x.Output} {
					if c != nil {
						got = append(got, x.Kind+" "+string(c))
					}
				}
			}
			want := []string(nil)
			if wants {
				want = []string{`run.started "secret"`, `wait.started "secret"`, `wait.ended "secret!"`, `run.ended "secret!"`}
			}
			if !slices.Equal(got, want) {
				t.Errorf("wants content %v: got %q, want %q", wants, got, want)
			}
		})
	}
}

func TestHealthCountsPausedRuns(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) { return 0, durable.Sleep(ctx, time.Hour) }, nil)
		e := open(wf)
		var runs []*durable.Run
		for range 3 {
			runs = append(runs, must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil)))
		}
		paused := func(want int) {
			t.Helper()
			if h := must[*durable.Health](t)(e.Health(t.Context())); h.Paused != want {
				t.Errorf("%d paused, want %d", h.Paused, want)
			}
		}
		for _, r := range runs[:2] {
			for range 2 {
				if err := r.Pause(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		paused(2)
		if err := runs[0].Resume(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		paused(1)
		if err := runs[1].Terminate(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		paused(0)
	})
}

// A child whose outcome ends its parent was reported as ended twice.
func TestObserverSeesTheEndOfAChildOnce(t *testing.T) {
	g := &guide{}
	scenarioWith(t, func(o *durable.Options) { g = &guide{}; o.Observer = g }, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (int, error) { return 1, nil }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) { return kid.Run(ctx, none{}) }, nil)
		e := open(wf, kid)
		must[int](t)(wf.Result(t.Context(), must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))))
		synctest.Wait()
		if got := g.seen("wait.ended", func(o durable.Observation) string { return fmt.Sprint(o.Name, " ", o.Dropped) }); !slices.Equal(got, []string{"kid false"}) {
			t.Errorf("ends of waits: %q", got)
		}
	})
}
