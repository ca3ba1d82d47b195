package durable_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// TestManyRunsOfWhichFewStayAwake: runs are put away and woken all the time
// while signals, updates, queries, pauses and steps reach them.
func TestManyRunsOfWhichFewStayAwake(t *testing.T) {
	for _, awake := range []int{-1, 1, 3} {
		t.Run(fmt.Sprint("awake ", awake), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const runs, each = 12, 15
				sig := durable.NewSignal[int]("add")
				upd := durable.NewUpdate[int, int]("now")
				get := durable.NewQuery[none, int]("get")
				step := durable.NewStep("step", func(ctx context.Context, n int) (int, error) {
					return n, durable.Sleep(ctx, time.Duration(n%7)*time.Millisecond)
				}, nil)
				wf := durable.NewWorkflow("wf", func(ctx context.Context, want int) (int, error) {
					sum, seen := 0, 0
					_ = get.Handle(ctx, func(none) (int, error) { return sum, nil })
					_ = upd.Handle(ctx, func(ctx context.Context, n int) (int, error) {
						k, err := step.Do(ctx, n)
						return sum + k, err
					}, nil)
					for ; seen < want; seen++ {
						n, err := sig.Receive(ctx)
						if err != nil {
							return sum, err
						}
						k, err := step.Do(ctx, n)
						if err != nil {
							return sum, err
						}
						sum += k
					}
					return sum, nil
				}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig, upd, get}})
				o := durable.Options{MaxAwake: awake, MaxSteps: 4, Logger: slog.New(slog.DiscardHandler)}
				e := must[*durable.Engine](t)(durable.NewMemory(t.Context(), &o, wf, step))
				var wg sync.WaitGroup
				var failures atomic.Int32
				for i := range runs {
					wg.Go(func() {
						rnd := rand.New(rand.NewPCG(1, uint64(i)))
						r, err := wf.Start(t.Context(), e, each, &durable.StartOptions{ID: fmt.Sprint("r", i)})
						if err != nil {
							t.Error(err)
							return
						}
						for k := range each {
							if err := sig.Send(t.Context(), r, k, nil); err != nil {
								failures.Add(1)
								t.Errorf("signal: %v", err)
							}
							switch rnd.IntN(5) {
							case 0:
								if _, err := get.Ask(t.Context(), r, none{}); err != nil {
									t.Errorf("query: %v", err)
								}
							case 1:
								if _, err := upd.Send(t.Context(), r, k, nil); err != nil && !errors.Is(err, durable.ErrFinished) {
									t.Errorf("update: %v", err)
								}
							case 2:
								time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond)
							case 3:
								if k < each-1 {
									if err := errors.Join(r.Pause(t.Context(), nil), r.Resume(t.Context(), nil)); err != nil {
										t.Errorf("pause and resume: %v", err)
									}
								}
							}
						}
						if got, err := wf.Result(t.Context(), r); err != nil || got != each*(each-1)/2 {
							t.Errorf("run %d: %d, %v; want %d", i, got, err, each*(each-1)/2)
						}
					})
				}
				wg.Wait()
				synctest.Wait()
				if h := must[*durable.Health](t)(e.Health(t.Context())); h.Running != 0 || h.Awake != 0 || h.Steps != 0 || h.Queued != 0 {
					t.Errorf("health after all have ended: %+v", h)
				}
				if err := e.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestWhatWasAcknowledgedIsThereAfterAClose: engines are closed in the middle
// of traffic and opened again; what was acknowledged counts exactly once.
func TestWhatWasAcknowledgedIsThereAfterAClose(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		sig := durable.NewSignal[string]("s")
		str := durable.NewStream[string]("got")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (int, error) {
			for range 10 {
				s, err := sig.Receive(ctx)
				if err != nil {
					return n, err
				}
				if s == "end" {
					return n, nil
				}
				if err := str.Append(ctx, s); err != nil {
					return 0, err
				}
				n++
			}
			return 0, durable.ContinueAsNew(n)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig, str}})
		e := op.open(wf)
		first := must[*durable.Run](t)(wf.Start(t.Context(), e, 0, &durable.StartOptions{ID: "w"}))
		acked := map[string]bool{}
		for life := range 6 {
			var wg sync.WaitGroup
			var mu sync.Mutex
			for c := range 4 {
				wg.Go(func() {
					for k := range 50 {
						id := fmt.Sprint(life, "-", c, "-", k)
						err := sig.Send(t.Context(), e.Run("w", ""), id, &durable.SendOptions{ID: id})
						if err == nil {
							mu.Lock()
							acked[id] = true
							mu.Unlock()
						} else if !errors.Is(err, durable.ErrClosed) {
							t.Errorf("signal: %v", err)
						}
						time.Sleep(time.Millisecond)
					}
				})
			}
			time.Sleep(time.Duration(10+life) * time.Millisecond)
			op.close(e)
			wg.Wait()
			e = op.open(wf)
		}
		if err := sig.Send(t.Context(), e.Run("w", ""), "end", nil); err != nil {
			t.Fatal(err)
		}
		n, err := wf.Result(t.Context(), e.Run("w", first.RunID))
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{}
		for it, err := range str.Read(t.Context(), e.Run("w", first.RunID), 0) {
			if err != nil {
				t.Fatal(err)
			}
			seen[it.Value]++
		}
		if n != len(seen) || len(acked) < 100 {
			t.Errorf("%d signals counted, %d in the stream, %d acknowledged", n, len(seen), len(acked))
		}
		for id := range acked {
			if seen[id] != 1 {
				t.Errorf("signal %s was acknowledged and came %d times", id, seen[id])
			}
		}
		for id, k := range seen {
			if k != 1 {
				t.Errorf("signal %s came %d times", id, k)
			}
		}
	})
}

// slow is a store whose commits take their time and fail now and then.
type slow struct {
	journal.Store
	n     atomic.Int64
	every int64
}

func (s *slow) Commit(ctx context.Context, tx *journal.Tx) error {
	time.Sleep(time.Millisecond)
	if n := s.n.Add(1); s.every > 0 && n%s.every == 0 {
		return errors.New("a commit that failed")
	}
	return s.Store.Commit(ctx, tx)
}

// TestACommitThatFailsIsNotAcknowledgedAndTheRunInMemoryIsNotUsed: the same
// request again goes through, and what was refused has left nothing.
func TestACommitThatFailsIsNotAcknowledgedAndTheRunInMemoryIsNotUsed(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		sig := durable.NewSignal[int]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) ([]int, error) {
			var got []int
			for range n {
				k, err := sig.Receive(ctx)
				if err != nil {
					return got, err
				}
				got = append(got, k)
			}
			return got, nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		st := &slow{Store: op.st, every: 4}
		e := op.openOn(st, wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, 20, nil))
		failed := 0
		for i := range 20 {
			for try := 0; ; try++ {
				err := sig.Send(t.Context(), r, i, &durable.SendOptions{ID: fmt.Sprint(i)})
				if err == nil {
					break
				}
				failed++
				if try > 5 {
					t.Fatalf("signal %d: %v", i, err)
				}
			}
		}
		st.every = 0
		// The store is well again: another event lets the run go on.
		_ = sig.Send(t.Context(), r, 99, &durable.SendOptions{ID: "99"})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		got, err := wf.Result(ctx, r)
		if want := "[0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19]"; err != nil || fmt.Sprint(got) != want {
			t.Errorf("got %v, %v\nwant %s", got, err, want)
		}
		if failed == 0 {
			t.Error("no commit failed")
		}
	})
}
