package temporalengine

import (
	"context"
	"log/slog"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// idleDrives are drives of runs that wait for a signal, of one engine.
func idleDrives(t *testing.T, n, mostAwake int) []*drive {
	t.Helper()
	line := durable.NewSignal[string]("line")
	flow := durable.NewWorkflow("idle", func(ctx context.Context, _ int) (int, error) {
		for {
			if _, err := line.Receive(ctx); err != nil {
				return 0, err
			}
		}
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{line}})
	h, err := prepare(&Options{Engine: durable.Options{MaxAwake: mostAwake, Logger: slog.New(slog.DiscardHandler)}}, []durable.Definer{flow})
	if err != nil {
		t.Fatal(err)
	}
	out := make([]*drive, n)
	for i := range out {
		run, err := h.host.Begin(still{}, &durable.HostedStart{WorkflowID: "w", RunID: "r", Chain: "r", Workflow: "idle", Created: time.Now().UnixMicro(), Input: []byte("0")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(run.Close)
		out[i] = &drive{h: h, in: &inbound{}, run: run}
		out[i].enter()
		run.Start()
		out[i].leave()
	}
	return out
}

// rests looks whether a run is put away, without touching it.
func (d *drive) rests() bool {
	d.idle.mu.Lock()
	defer d.idle.mu.Unlock()
	return d.run.Away()
}

func TestIdleRunIsPutAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := idleDrives(t, 3, 0)
		used, long, d := all[0], all[1], all[2]
		is := func(d *drive, want bool) {
			t.Helper()
			if got := d.rests(); got != want {
				t.Errorf("put away: %v, want %v", got, want)
			}
		}
		used.enter() // a query, say
		long.enter()
		for range 1000 {
			long.run.Deliver([]*durable.StoredEvent{{Kind: "signaled", Name: "line", Payload: []byte(`""`)}})
		}
		long.leave()
		time.Sleep(idleAfter / 2)
		is(d, false)
		d.enter()
		d.leave()
		time.Sleep(idleAfter * 3 / 4)
		is(d, false) // it was used meanwhile
		time.Sleep(idleAfter / 2)
		is(d, true)
		is(long, false)
		time.Sleep(1000 * idleTurn)
		is(long, true)
		is(used, false)
		used.leave()
		is(used, false)
		time.Sleep(idleAfter * 5 / 4)
		is(used, true)
		time.Sleep(idleAfter)
		h := d.h
		h.idlers.mu.Lock()
		defer h.idlers.mu.Unlock()
		if h.idlers.timer != nil || h.idlers.list.Len() != 0 {
			t.Errorf("with nobody awake, the timer is %v, and the list has %d", h.idlers.timer, h.idlers.list.Len())
		}
	})
}

// TestMaxAwake: the one that is idle longest makes room for the next.
func TestMaxAwake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := idleDrives(t, 3, 2)
		if !all[0].rests() || all[1].rests() || all[2].rests() {
			t.Errorf("put away: %v, %v, %v; want the first only", all[0].rests(), all[1].rests(), all[2].rests())
		}
		all[0].enter()
		all[0].run.Deliver([]*durable.StoredEvent{{Kind: "signaled", Name: "line", Payload: []byte(`""`)}})
		all[0].leave()
		if all[0].rests() || !all[1].rests() || all[2].rests() {
			t.Errorf("put away: %v, %v, %v; want the second only", all[0].rests(), all[1].rests(), all[2].rests())
		}
		if all = idleDrives(t, 1, -1); !all[0].rests() {
			t.Error("with none to stay awake, one does")
		}
	})
}

// TestAside: what ends a function that is run aside ends its caller.
func TestAside(t *testing.T) {
	t.Parallel()
	var a asides
	defer a.close()
	for range 3 {
		ended := false
		a.run(func() { runtime.LockOSThread(); ended = true })
		if !ended {
			t.Error("it did not run")
		}
	}
	died := func(fn func()) (p any) {
		defer func() { p = recover() }()
		a.run(fn)
		return nil
	}
	if p := died(func() { panic("now") }); p != "now" {
		t.Errorf("the panic is %v", p)
	}
	if p, ok := died(func() { (&testing.T{}).FailNow() }).(string); !ok || len(p) < len(problemMark) {
		t.Errorf("the problem is %q", p)
	}
	if a.run(func() {}); len(a.free) != 1 {
		t.Errorf("%d stacks are kept", len(a.free))
	}
}
