package durable_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

func portable(o *durable.Options) { quietly(o); o.Portable = true }

// TestPortableValues: what is over 2 MB is refused at the call, wherever it
// crosses a border; a blob may be larger.
func TestPortableValues(t *testing.T) {
	scenarioWith(t, portable, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		big := strings.Repeat("x", durable.PortablePayload)
		step := durable.NewStep("step", func(_ context.Context, s string) (int, error) { return len(s), nil }, nil)
		tries := 0
		grow := durable.NewStep("grow", func(context.Context, none) (string, error) { tries++; return big, nil }, nil)
		kid := durable.NewWorkflow("kid", func(_ context.Context, s string) (string, error) { return big, nil }, nil)
		sig := durable.NewSignal[string]("s")
		upd := durable.NewUpdate[string, string]("u")
		stream := durable.NewStream[string]("log")
		ask := durable.NewQuestion[string]("ask")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ string) (string, error) {
			if err := upd.Handle(ctx, func(_ context.Context, s string) (string, error) { return s + s, nil }, nil); err != nil {
				return "", err
			}
			var bad []string
			refused := func(what string, err error) {
				if !errors.Is(err, durable.ErrTooLarge) {
					bad = append(bad, fmt.Sprintf("%s: %v", what, err))
				}
			}
			_, err := step.Do(ctx, big)
			refused("input of a step", err)
			_, err = grow.Do(ctx, none{})
			refused("result of a step", err)
			_, err = kid.Run(ctx, big)
			refused("input of a child", err)
			_, err = kid.Run(ctx, "")
			refused("result of a child", err)
			refused("signal from a run", sig.Send(ctx, durable.Address("wf", ""), big, nil))
			refused("stream", stream.Append(ctx, big))
			_, err = ask.Ask(ctx, big+"!", nil)
			refused("question", err)
			_, err = durable.SideEffect(ctx, func() string { return big })
			refused("side effect", err)
			refused("continue as new", durable.ContinueAsNew(big))
			if n, err := step.Do(ctx, big[:len(big)-2]); err != nil || n != len(big)-2 {
				bad = append(bad, fmt.Sprintf("2 MB: %d, %v", n, err))
			}
			if _, err := durable.PutBlob(ctx, []byte(big+big)); err != nil {
				bad = append(bad, fmt.Sprintf("blob: %v", err))
			}
			if s, err := sig.Receive(ctx); err != nil || s != "end" {
				bad = append(bad, fmt.Sprintf("signal: %s, %v", s, err))
			}
			return strings.Join(bad, "; "), nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig, upd, stream, ask}})
		e := open(wf, kid, step, grow)
		refused := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, durable.ErrTooLarge) {
				t.Errorf("%s: %v", what, err)
			}
		}
		_, err := wf.Start(t.Context(), e, big, nil)
		refused("start", err)
		raw, _ := json.Marshal(big)
		_, err = wf.Start(t.Context(), e, "", &durable.StartOptions{Memo: raw})
		refused("memo", err)
		_, err = wf.Start(t.Context(), e, "", &durable.StartOptions{Signal: &durable.SignalWithStart{Name: "s", Payload: raw}})
		refused("start with signal", err)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, "", &durable.StartOptions{ID: "wf"}))
		synctest.Wait()
		refused("signal", sig.Send(t.Context(), r, big, nil))
		_, err = upd.Send(t.Context(), r, big, nil)
		refused("update", err)
		_, err = upd.Send(t.Context(), r, big[:len(big)/2+1], nil)
		refused("answer of an update", err)
		_, err = e.PutBlob(t.Context(), r, []byte(big+big))
		if err != nil {
			t.Errorf("blob: %v", err)
		}
		if err := sig.Send(t.Context(), r, "end", nil); err != nil {
			t.Fatal(err)
		}
		if got, err := wf.Result(t.Context(), r); err != nil || got != "" || tries != 1 {
			t.Errorf("in the run: %s, %v; the step with the large result was tried %d times", got, err, tries)
		}
	})
}

// TestPortableNumbers: signals, updates and calls under way are counted per
// run; one too many is refused by name, and the run goes on.
func TestPortableNumbers(t *testing.T) {
	scenarioWith(t, portable, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[int]("s")
		upd := durable.NewUpdate[int, int]("u")
		slow := durable.NewStep("slow", func(_ context.Context, n int) (int, error) { time.Sleep(time.Minute); return n, nil }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			sum := 0
			if err := upd.Handle(ctx, func(_ context.Context, n int) (int, error) { sum += n; return n, nil }, nil); err != nil {
				return "", err
			}
			var all []*durable.Future[int]
			for i := range durable.PortablePending + 1 {
				all = append(all, slow.Start(ctx, i))
			}
			_, over := all[durable.PortablePending].Get(ctx)
			if err := durable.Sleep(ctx, 100*time.Hour); err != nil { // timers do not count
				return "", err
			}
			again, err := slow.Do(ctx, 7)
			if err != nil {
				return "", err
			}
			n := 0
			for {
				if _, ok, _ := sig.TryReceive(ctx); !ok {
					break
				}
				n++
			}
			return fmt.Sprint(errors.Is(over, durable.ErrLimit), again, n, sum), nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig, upd}})
		e := open(wf, slow)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		time.Sleep(10 * time.Hour)
		errs := make(chan error, durable.PortableUpdates+1)
		var wg sync.WaitGroup
		for i := range durable.PortableUpdates + 1 {
			wg.Go(func() {
				_, err := upd.Send(t.Context(), r, 1, &durable.SendOptions{ID: fmt.Sprint("u", i)})
				errs <- err
			})
		}
		wg.Wait()
		close(errs)
		refused := 0
		for err := range errs {
			if errors.Is(err, durable.ErrLimit) {
				refused++
			} else if err != nil {
				t.Error(err)
			}
		}
		if refused != 1 {
			t.Errorf("%d updates were refused, want 1", refused)
		}
		// While it is paused the run is not awake, and counts all the same.
		if err := r.Pause(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		for i := range durable.PortableSignals {
			if err := sig.Send(t.Context(), r, i, &durable.SendOptions{ID: fmt.Sprint("s", i)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := sig.Send(t.Context(), r, 0, nil); !errors.Is(err, durable.ErrLimit) {
			t.Errorf("one signal too many, paused: %v", err)
		}
		if err := r.Resume(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if err := sig.Send(t.Context(), r, 0, nil); !errors.Is(err, durable.ErrLimit) {
			t.Errorf("one signal too many: %v", err)
		}
		if err := sig.Send(t.Context(), r, 0, &durable.SendOptions{ID: "s17"}); err != nil {
			t.Errorf("one that was sent before: %v", err)
		}
		want := fmt.Sprint(true, 7, durable.PortableSignals, durable.PortableUpdates)
		if got, err := wf.Result(t.Context(), r); err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	})
}

// TestRefusalsReplayWhateverIsAllowedLater: what was refused at once is on
// record, so the same call again, the same limits or not, replays alike.
func TestRefusalsReplayWhateverIsAllowedLater(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		step := durable.NewStep("step", func(_ context.Context, s string) (int, error) { return len(s), nil }, nil)
		late := durable.NewStep("late", func(_ context.Context, s string) (string, error) { return "late " + s, nil }, nil)
		stream := durable.NewStream[string]("log")
		sig := durable.NewSignal[string]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ string) (string, error) {
			big := strings.Repeat("x", 200)
			var out []string
			for range 2 {
				_, missing := late.Do(ctx, "a")
				n, large := step.Do(ctx, big)
				app := stream.Append(ctx, big)
				_, blob := durable.PutBlob(ctx, []byte(big))
				_, side := durable.SideEffect(ctx, func() string { return big })
				cont := durable.ContinueAsNew(big)
				bits := ""
				for i, err := range []error{missing, large, app, blob, side, cont} {
					is := durable.ErrTooLarge
					if i == 0 {
						is = durable.ErrNotDefined
					}
					if errors.Is(err, is) {
						bits += "x"
					} else {
						bits += "-"
					}
				}
				out = append(out, fmt.Sprint(bits, n))
				if _, err := sig.Receive(ctx); err != nil {
					return "", err
				}
			}
			return strings.Join(out, " "), nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{stream, sig}})
		op.o.MaxPayload = 100
		e := op.open(wf, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, "", nil))
		time.Sleep(time.Minute)
		op.close(e)
		op.o.MaxPayload = 0
		e = op.open(wf, step, late)
		for range 2 {
			if err := e.Run(r.WorkflowID, "").Signal(t.Context(), "s", json.RawMessage(`"go"`), nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		// ContinueAsNew is not returned, so the second round's counts as accepted and is dropped.
		if got, err := wf.Result(t.Context(), e.Run(r.WorkflowID, "")); err != nil || got != "xxxxxx0 ------200" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// TestTooLargeToContinueAsNew: the code is told, by the call, and goes on.
func TestTooLargeToContinueAsNew(t *testing.T) {
	scenarioWith(t, func(o *durable.Options) { quietly(o); o.MaxPayload = 1000 }, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[string]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, list []string) (string, error) {
			log := ""
			for {
				err := durable.ContinueAsNew(list)
				if len(list) < 3 && err.Error() == durable.ContinueAsNew(nil).Error() {
					// It may be continued; wait for something to do so for.
					s, rerr := sig.Receive(ctx)
					if rerr != nil {
						return "", rerr
					}
					if s == "end" {
						return fmt.Sprint(log, len(list)), nil
					}
					if s == "wait" {
						if rerr := durable.Sleep(ctx, time.Hour); rerr != nil {
							return "", rerr
						}
						continue
					}
					list = append(list, s)
					if err := durable.ContinueAsNew(list); !errors.Is(err, durable.ErrTooLarge) {
						return "", err
					}
					log += "input "
					list = list[:len(list)-1]
					continue
				}
				if !errors.Is(err, durable.ErrTooLarge) {
					return "", err
				}
				// The unread signals are too much.
				log += "signals "
				for {
					if s, ok, _ := sig.TryReceive(ctx); !ok || s == "last" {
						break
					}
				}
			}
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, nil, &durable.StartOptions{ID: "wf"}))
		send := func(s string) {
			t.Helper()
			if err := sig.Send(t.Context(), e.Run("wf", ""), s, nil); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		send(strings.Repeat("a", 600)) // continued as new
		send(strings.Repeat("b", 600)) // too large: it goes on
		send("wait")
		for range 5 {
			send(strings.Repeat("c", 300))
		}
		send("last")
		time.Sleep(2 * time.Hour)
		send("end")
		if got, err := wf.Result(t.Context(), r); err != nil || got != "input signals 1" {
			t.Errorf("got %q, %v", got, err)
		}
		// Who just returns the error fails with it.
		bad := durable.NewWorkflow("bad", func(_ context.Context, n int) (int, error) { return 0, durable.ContinueAsNew("text") }, nil)
		if _, err := runOf(t, open(bad), bad, 1); !errors.Is(err, durable.ErrBadInput) {
			t.Errorf("an input of another type: %v", err)
		}
	})
}

// TestValuesSetInARunCross: a propagator's value that the workflow's code sets
// reaches the steps and children called with it.
func TestValuesSetInARunCross(t *testing.T) {
	with := func(o *durable.Options) { o.Propagators = []durable.Propagator{tenantPropagator{}} }
	scenarioWith(t, with, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		show := func(ctx context.Context) string { return fmt.Sprint(ctx.Value(tenantKey{})) }
		step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
			if i, _ := durable.StepInfoOf(ctx); i.Attempt == 1 {
				return "", errors.New("again")
			}
			return show(ctx), nil
		}, nil)
		kid := durable.NewWorkflow("kid", func(ctx context.Context, n int) (string, error) {
			if n == 0 {
				return "", durable.ContinueAsNew(1)
			}
			s, err := step.Do(ctx, none{})
			return show(ctx) + " " + s, err
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			var out []string
			for _, tenant := range []string{"", "acme", "", "other"} {
				in := ctx
				if tenant != "" {
					in = context.WithValue(ctx, tenantKey{}, tenant)
				}
				s, err := step.Do(in, none{})
				if err != nil {
					return "", err
				}
				k, err := kid.Run(in, 0)
				if err != nil {
					return "", err
				}
				out = append(out, s+" "+k)
			}
			without := context.WithValue(ctx, tenantKey{}, "")
			s, err := step.Do(without, none{})
			return strings.Join(out, ", ") + ", " + s, err
		}, nil)
		e := open(wf, kid, step)
		r := must[*durable.Run](t)(wf.Start(context.WithValue(t.Context(), tenantKey{}, "mine"), e, none{}, nil))
		want := "mine mine mine, acme acme acme, mine mine mine, other other other, <nil>"
		if got, err := wf.Result(t.Context(), r); err != nil || got != want {
			t.Errorf("got  %q, %v\nwant %q", got, err, want)
		}
	})
}
