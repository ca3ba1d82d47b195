package temporalengine_test

import (
	"context"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
)

// TestVersioning: two builds of a deployment work side by side. A run that is
// pinned stays with the build that it began on, one that upgrades goes on with
// the current one; new runs begin there.
func TestVersioning(t *testing.T) {
	t.Parallel()
	for name, autoUpgrade := range map[string]bool{"pinned": false, "auto_upgrade": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := within(t, time.Minute)
			again := durable.NewSignal[string]("again")
			flows := map[string]*durable.Workflow[string, string]{}
			deployment := "orders-" + name
			build := func(id string) *durable.Engine {
				which := durable.NewStep("which", func(_ context.Context, s string) (string, error) { return s + " " + id, nil }, nil)
				flows[id] = durable.NewWorkflow("flow", func(ctx context.Context, s string) (string, error) {
					s, err := which.Do(ctx, s)
					if err != nil {
						return "", err
					}
					if _, err := again.Receive(ctx); err != nil {
						return "", err
					}
					return which.Do(ctx, s)
				}, &durable.WorkflowOptions{Accepts: []durable.Accepted{again}})
				o := temporalengine.Options{Engine: durable.Options{Logger: quietLog}}
				o.Versioned(deployment, id, autoUpgrade)
				return on(t, o, flows[id], which)
			}
			d := dial(t, anyServer(t)).WorkerDeploymentClient().GetHandle(deployment)
			current := func(id string) {
				t.Helper()
				if err := persist(ctx, func() error { // the server has to hear of the build's worker
					_, err := d.SetCurrentVersion(ctx, client.WorkerDeploymentSetCurrentVersionOptions{BuildID: id})
					return err
				}); err != nil {
					t.Fatal(err)
				}
			}
			waiting := func(r *durable.Run) {
				t.Helper()
				describes(t, ctx, r, func(d *durable.Description) bool { return len(d.Waiting) > 0 && d.Waiting[0].Kind == "signal" })
			}
			begin := func(e *durable.Engine, input string) *durable.Run {
				t.Helper()
				r, err := flows["1"].Start(ctx, e, input, &durable.StartOptions{ID: id(t) + "/" + input})
				if err != nil {
					t.Fatal(err)
				}
				waiting(r)
				return r
			}
			end := func(r *durable.Run, want string) {
				t.Helper()
				if err := again.Send(ctx, r, "", nil); err != nil {
					t.Fatal(err)
				}
				if got, err := flows["1"].Result(ctx, r); err != nil || got != want {
					t.Errorf("got %q, %v, want %q", got, err, want)
				}
			}
			first := build("1")
			current("1")
			old := begin(first, "old")
			build("2")
			current("2")
			end(begin(first, "new"), "new 2 2")
			if autoUpgrade {
				end(old, "old 1 2")
			} else {
				end(old, "old 1 1")
			}
		})
	}
}
