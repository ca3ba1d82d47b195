package temporalengine

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mcpagent/mcpagent/durable"
)

// untold is what runs have to tell of workflow tasks that the cluster has not
// accepted yet. One that it does not accept is tried again, from a replay, and
// what is done then counts. Nothing is told of what a run did for a query only.
type untold struct {
	mu    sync.Mutex
	tasks map[string]task    // at work, by their tokens
	by    map[string][]*told // by run id
}

// task is a workflow task: of a run, begun with an event.
type task struct {
	run   string
	began int64
}

// told is what one drive has to tell of a task.
type told struct {
	task
	by  *drive
	fns []func()
}

// mostUntold bounds what is kept of a run, and of how many: more is of tasks
// that nobody answered.
const (
	mostUntold = 4
	mostTasks  = 10_000
)

func (u *untold) begin(t *workflowservice.PollWorkflowTaskQueueResponse) {
	if len(t.GetTaskToken()) == 0 || t.GetQuery() != nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.tasks == nil || len(u.tasks) >= mostTasks {
		u.tasks, u.by = map[string]task{}, map[string][]*told{}
	}
	u.tasks[string(t.GetTaskToken())] = task{t.GetWorkflowExecution().GetRunId(), t.GetStartedEventId()}
}

func (u *untold) keep(t task, by *drive, fns []func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := u.by[t.run]
	i := slices.IndexFunc(all, func(o *told) bool { return o.task == t })
	switch {
	case i < 0 && len(all) >= mostUntold:
		all = append(all[1:], &told{t, by, fns})
	case i < 0:
		all = append(all, &told{t, by, fns})
	case all[i].by == by:
		all[i].fns = append(all[i].fns, fns...)
	default:
		all[i] = &told{t, by, fns} // the same, found out once more
	}
	if u.by != nil {
		u.by[t.run] = all
	}
}

// end forgets a task, and gives what there is to tell of it.
func (u *untold) end(token []byte) []func() {
	u.mu.Lock()
	defer u.mu.Unlock()
	t := u.tasks[string(token)]
	delete(u.tasks, string(token))
	all := u.by[t.run]
	i := slices.IndexFunc(all, func(o *told) bool { return o.task == t })
	if i < 0 {
		return nil
	}
	fns := all[i].fns
	if all = slices.Delete(all, i, i+1); len(all) == 0 {
		delete(u.by, t.run)
	} else {
		u.by[t.run] = all
	}
	return fns
}

// listen hears on our own connection which workflow tasks there are, and which
// are accepted. On one of the user's nobody listens: there a run tells before.
func (h *shared) listen(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	switch r := req.(type) {
	case *workflowservice.PollWorkflowTaskQueueRequest:
		if t, ok := reply.(*workflowservice.PollWorkflowTaskQueueResponse); ok && err == nil {
			h.untold.begin(t)
		}
	case *workflowservice.RespondWorkflowTaskCompletedRequest:
		switch status.Code(err) {
		case codes.OK:
			if next, ok := reply.(*workflowservice.RespondWorkflowTaskCompletedResponse); ok {
				h.untold.begin(next.GetWorkflowTask())
			}
			for _, fn := range h.untold.end(r.GetTaskToken()) {
				fn()
			}
		case codes.NotFound, codes.InvalidArgument: // anything else is sent again
			h.untold.end(r.GetTaskToken())
		}
	case *workflowservice.RespondWorkflowTaskFailedRequest:
		h.untold.end(r.GetTaskToken())
	}
	return err
}

// Tell implements [durable.Cluster].
func (d *drive) Tell(fn func()) { d.untold = append(d.untold, fn) }

// tell hands over what there is to tell of a pass over the run.
func (d *drive) tell() {
	fns := d.untold
	d.untold = nil
	if d.live {
		d.h.fine(d.ref.RunID)
	}
	switch {
	case len(fns) == 0:
	case d.h.own:
		info := workflow.GetInfo(d.ctx)
		d.h.untold.keep(task{info.WorkflowExecution.RunID, int64(info.GetCurrentHistoryLength())}, d, fns)
	default:
		for _, fn := range fns {
			fn()
		}
	}
}

// awake notes that the run is where the cluster has it, which ends a replay.
func (d *drive) awake() {
	if d.live || d.Replaying() {
		return
	}
	d.live = true
	d.replayed()
}

// replayed tells the observer of the replay that the drive began with.
func (d *drive) replayed() {
	if !d.replay.IsZero() {
		d.run.Woken(time.Since(d.replay))
	}
	d.replay = time.Time{}
}

// stuck tells the observer of what keeps the run from going on.
func (d *drive) stuck(p *durable.Problem) {
	if d.live {
		d.run.Blocked(d.h.tries(d.ref.RunID, p.Kind+" "+p.Call))
	}
}

// tries is in how many workflow tasks in a row a run had the same problem.
func (h *shared) tries(run, problem string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.troubles == nil || len(h.troubles) >= manyTypes {
		h.troubles = map[string]trouble{}
	}
	t := h.troubles[run]
	if t.problem != problem {
		t = trouble{problem: problem}
	}
	t.tries++
	h.troubles[run] = t
	return t.tries
}

// fine forgets the problem of a run that goes on.
func (h *shared) fine(run string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.troubles, run)
}

// trouble is what keeps a run from going on.
type trouble struct {
	problem string
	tries   int
}
