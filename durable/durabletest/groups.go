package durabletest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mcpagent/mcpagent/durable"
)

func oneLine(err error) string { return strings.ReplaceAll(fmt.Sprint(err), "\n", ", ") }

var groups = []Scenario{
	solo("groups/wait-joins-in-spawn-order", "Group",
		"A group waits for all members and joins their errors in spawn order.", "e1, e2, e3 after 3",
		func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			return func(ctx context.Context) (string, error) {
				began := durable.Now(ctx)
				g, _ := durable.NewGroup(ctx, nil)
				for i := range 3 {
					g.Go(func(ctx context.Context) error {
						if err := durable.Sleep(ctx, env.Hours(float64(3-i))); err != nil {
							return err
						}
						return fmt.Errorf("e%d", i+1)
					})
				}
				err := g.Wait()
				return fmt.Sprintf("%s after %d", oneLine(err), env.Since(ctx, began)), nil
			}, nil
		}),
	solo("groups/siblings-go-on", "Group",
		"An error of one member does not cancel the others.", "boom, others <nil> after 3",
		func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			return func(ctx context.Context) (string, error) {
				began := durable.Now(ctx)
				g, gctx := durable.NewGroup(ctx, nil)
				g.Go(func(ctx context.Context) error { return durable.Sleep(ctx, env.Hours(3)) })
				g.Go(func(ctx context.Context) error {
					if err := durable.Sleep(ctx, env.Hours(1)); err != nil {
						return err
					}
					return errors.New("boom")
				})
				err := g.Wait()
				return fmt.Sprintf("%v, others %v after %d", err, gctx.Err(), env.Since(ctx, began)), nil
			}, nil
		}),
	solo("groups/cancel-on-error", "Group",
		"With CancelOnError the first error cancels the others, and not the run.", "canceled boom, run <nil> after 1",
		func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			return func(ctx context.Context) (string, error) {
				began := durable.Now(ctx)
				g, _ := durable.NewGroup(ctx, &durable.GroupOptions{CancelOnError: true})
				how := ""
				g.Go(func(ctx context.Context) error {
					err := durable.Sleep(ctx, env.Hours(100))
					how = says(err)
					return nil
				})
				g.Go(func(ctx context.Context) error {
					if err := durable.Sleep(ctx, env.Hours(1)); err != nil {
						return err
					}
					return errors.New("boom")
				})
				err := g.Wait()
				return fmt.Sprintf("%s %v, run %v after %d", how, err, ctx.Err(), env.Since(ctx, began)), nil
			}, nil
		}),
	solo("groups/limit", "Group",
		"At most Limit members are under way; Go waits beyond it.", "2 at once, 6 in all",
		func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			return func(ctx context.Context) (string, error) {
				now, most, all := 0, 0, 0
				g, _ := durable.NewGroup(ctx, &durable.GroupOptions{Limit: 2})
				for range 6 {
					g.Go(func(ctx context.Context) error {
						now++
						all++
						most = max(most, now)
						defer func() { now-- }()
						return durable.Sleep(ctx, env.Hours(1))
					})
				}
				err := g.Wait()
				return fmt.Sprintf("%d at once, %d in all", most, all), err
			}, nil
		}),
	{
		Name: "groups/default-limit",
		Row:  "Group",
		Rule: "The limit of a group is 1,000 members by default.",
		New: func(env *Env) *Play {
			wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (string, error) {
				now, most := 0, 0
				g, _ := durable.NewGroup(ctx, nil)
				for range n {
					g.Go(func(ctx context.Context) error {
						now++
						most = max(most, now)
						err := durable.Await(ctx, func() bool { return most >= 1000 })
						now--
						return err
					})
				}
				err := g.Wait()
				return fmt.Sprint(most, " ", now), err
			}, nil)
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				result(t, wf, start(t, wf, 1010, "r"), "1000 0")
			}}
		},
	},
	solo("groups/outer-context", "Who blocks",
		"The coroutine that calls is the one that blocks, whatever context it passes: an outer one in a group is right.",
		"012 after 5", func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			return func(ctx context.Context) (string, error) {
				began := durable.Now(ctx)
				outer, order := ctx, ""
				var m durable.Mutex
				g, _ := durable.NewGroup(ctx, nil)
				for i := range 3 {
					g.Go(func(context.Context) error {
						if _, err := echo.Do(outer, fmt.Sprint(i)); err != nil {
							return err
						}
						if err := durable.Sleep(outer, env.Hours(float64(i+1))); err != nil {
							return err
						}
						if err := m.Lock(outer); err != nil {
							return err
						}
						defer m.Unlock()
						order += fmt.Sprint(i)
						return durable.Sleep(outer, env.Hours(1.5))
					})
				}
				err := g.Wait()
				return fmt.Sprintf("%s after %d", order, env.Since(ctx, began)), err
			}, durable.Set{echo}
		}),
	solo("groups/map-keeps-order", "Group",
		"Map gives results in the order of the items, the good ones also beside errors.",
		"[1 0 9 16 0], item 1: step square failed: bad 2, item 4: step square failed: bad 5; [] <nil>",
		func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			square := durable.NewStep("square", func(_ context.Context, n int) (int, error) {
				if n%3 == 2 {
					return 0, durable.Permanent(fmt.Errorf("bad %d", n))
				}
				return n * n, nil
			}, nil)
			return func(ctx context.Context) (string, error) {
				out, err := durable.Map(ctx, []int{1, 2, 3, 4, 5}, square.Do, &durable.GroupOptions{Limit: 3})
				empty, eerr := durable.Map(ctx, nil, square.Do, nil)
				return fmt.Sprint(out, ", ", oneLine(err), "; ", empty, " ", eerr), nil
			}, durable.Set{square}
		}),
	solo("groups/used-again", "Group",
		"A group may be used again after Wait.", "3 <nil> <nil> <nil>",
		func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			return func(ctx context.Context) (string, error) {
				g, _ := durable.NewGroup(ctx, &durable.GroupOptions{Limit: 1})
				n := 0
				add := func(ctx context.Context) error {
					n++
					return durable.Sleep(ctx, env.Hours(0.1))
				}
				if err := g.Wait(); err != nil {
					return "", err
				}
				g.Go(add)
				g.Go(add)
				e1 := g.Wait()
				g.Go(add)
				e2, e3 := g.Wait(), g.Wait()
				return fmt.Sprint(n, " ", e1, " ", e2, " ", e3), nil
			}, nil
		}),
	{
		Name: "groups/call-ids",
		Row:  "Call id",
		Rule: "A call id is the path of its coroutine and an ordinal; Now, Rand, UUID, Version, a status, a stream and a log line take none.",
		New: func(env *Env) *Play {
			where := durable.NewStep("where", func(ctx context.Context, _ none) (string, error) {
				i, _ := durable.StepInfoOf(ctx)
				return i.Call, nil
			}, nil)
			u := durable.NewUpdate[none, string]("u")
			st := durable.NewStatus[int]("st")
			str := durable.NewStream[int]("str")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				got := map[string]bool{}
				call := func(ctx context.Context) error {
					s, err := where.Do(ctx, none{})
					got[s] = true
					return err
				}
				_ = u.Handle(ctx, func(ctx context.Context, _ none) (string, error) { return where.Do(ctx, none{}) }, nil)
				if err := call(ctx); err != nil { // 0/1
					return "", err
				}
				_ = durable.Now(ctx)
				_ = durable.UUID(ctx, "x")
				_ = durable.Rand(ctx, "x").Int()
				_ = durable.Version(ctx, "x", 1)
				st.Set(ctx, 1)
				_ = str.Append(ctx, 1)
				durable.Logger(ctx).Info("takes no ordinal")
				if err := durable.Sleep(ctx, 0); err != nil {
					return "", err
				}
				g, gctx := durable.NewGroup(ctx, nil) // 0/2
				for range 2 {
					g.Go(func(ctx context.Context) error {
						if err := call(ctx); err != nil {
							return err
						}
						h, hctx := durable.NewGroup(ctx, nil)
						h.Go(func(context.Context) error { return call(hctx) })
						h.Go(func(context.Context) error { return errors.Join(call(gctx), call(ctx)) })
						return h.Wait()
					})
				}
				if err := g.Wait(); err != nil {
					return "", err
				}
				if err := call(ctx); err != nil { // 0/3
					return "", err
				}
				missing := ""
				for _, id := range strings.Fields("0/1 0/2.1/1 0/2.1/2.1/1 0/2.1/2.2/1 0/2.1/2.2/2 0/2.2/1 0/2.2/2.1/1 0/2.2/2.2/1 0/2.2/2.2/2 0/3") {
					if !got[id] {
						missing += id + " "
					}
				}
				return fmt.Sprint(len(got), " ids, missing: ", missing), durable.Sleep(ctx, env.Hours(1))
			}, takes(u, st, str))
			return &Play{Defs: durable.Set{wf, where}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Waits(r, "timer")
				t.Equal("call of an update handler", try(u.Send(t.Context(), r, none{}, &durable.SendOptions{ID: "u7"})).or(t, "update"), "u/u7/1")
				result(t, wf, r, "10 ids, missing: ")
			}}
		},
	},
}

var selects = []Scenario{
	{
		Name: "select/first-in-history",
		Row:  "Select, Await",
		Rule: "Select gives the first of futures, signals and timers in the order of history, then in the order of the cases.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("s")
			step := durable.NewStep("step", func(ctx context.Context, h float64) (int, error) { return 1, durable.Sleep(ctx, env.Hours(h)) },
				&durable.StepOptions{Timeout: env.Hours(100)})
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) ([]int, error) {
				var got []int
				var failed error
				sel := func(cases ...durable.Case) {
					i, err := durable.Select(ctx, cases...)
					got = append(got, i)
					failed = errors.Join(failed, err)
				}
				a, b, c := step.Start(ctx, 4), step.Start(ctx, 1), step.Start(ctx, 50)
				sel(durable.Of(a), durable.Of(b), durable.Elapsed(env.Hours(9)), durable.Arrival(sig)) // b: 1
				sel(durable.Of(a), durable.Elapsed(env.Hours(1)), durable.Of(c))                       // time: 1
				failed = errors.Join(failed, durable.Sleep(ctx, env.Hours(4)))
				sel(durable.Of(a), durable.Of(b))      // both are there, b came first: 1
				sel(durable.Elapsed(0), durable.Of(a)) // what is there beats no time at all: 1
				sel(durable.Elapsed(0), durable.Of(c)) // nothing is there: 0
				env.Note("waits for the signal")
				sel(durable.Arrival(sig), durable.Of(c))                                                         // the signal: 0
				sel(durable.Elapsed(0), durable.Arrival(sig))                                                    // it is still there: 1
				sel(durable.Arrival(sig), durable.Of(b))                                                         // b came long before: 1
				sel(durable.Elapsed(env.Hours(3)), durable.Elapsed(env.Hours(1)), durable.Elapsed(env.Hours(5))) // 1
				return got, failed
			}, takes(sig))
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.OK("wait", t.Wait(t.Context(), "waits for the signal", 1))
				t.Pass(1)
				t.OK("send", sig.Send(t.Context(), r, 7, nil))
				result(t, wf, r, []int{1, 1, 1, 1, 0, 0, 1, 1, 1})
			}}
		},
	},
	{
		Name: "select/leaves-the-signal",
		Row:  "Select, Await",
		Rule: "Select takes nothing: a signal stays in its mailbox, a future stays ready.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("s")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				f := echo.Start(ctx, "x")
				if _, err := f.Get(ctx); err != nil {
					return "", err
				}
				if _, err := durable.Select(ctx, durable.Arrival(sig)); err != nil {
					return "", err
				}
				if _, err := durable.Select(ctx, durable.Arrival(sig)); err != nil {
					return "", err
				}
				n, ok, err := sig.TryReceive(ctx)
				if err != nil {
					return "", err
				}
				_, again, err := sig.TryReceive(ctx)
				i, serr := durable.Select(ctx, durable.Of(f))
				return fmt.Sprint(n, ok, again, i), errors.Join(err, serr)
			}, takes(sig))
			return &Play{Defs: durable.Set{wf, echo}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.OK("send", sig.Send(t.Context(), r, 7, nil))
				result(t, wf, r, "7 true false 0")
			}}
		},
	},
	{
		Name: "select/losers-are-cancelled",
		Row:  "Select, Await",
		Rule: "Timers of cases that lost are given up at once.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("s")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
				i, err := durable.Select(ctx, durable.Elapsed(env.Hours(100)), durable.Elapsed(env.Hours(1)))
				if err != nil {
					return 0, err
				}
				_, err = sig.Receive(ctx)
				return i, err
			}, takes(sig))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Waits(r, "signal")
				for _, w := range t.Describe(r).Waiting {
					if w.Kind == "timer" {
						t.Errorf("the run still waits for a timer that lost: %+v", w)
					}
				}
				t.OK("send", sig.Send(t.Context(), r, 7, nil))
				result(t, wf, r, 1)
			}}
		},
	},
	solo("select/errors", "Select, Await",
		"Select of nothing, of a signal that is not declared, and under a scope that ends, say so.", "bad input, not accepted, deadline",
		func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			undeclared := durable.NewSignal[int]("undeclared")
			return func(ctx context.Context) (string, error) {
				_, e1 := durable.Select(ctx)
				_, e2 := durable.Select(ctx, durable.Arrival(undeclared))
				in, cancel := durable.WithTimeout(ctx, env.Hours(1))
				defer cancel()
				_, e3 := durable.Select(in, durable.Elapsed(env.Hours(100)))
				return says(e1) + ", " + says(e2) + ", " + says(e3), nil
			}, nil
		}),
	solo("await/checked-after-each-event", "Select, Await",
		"The condition of Await is checked after each event.", "3 at 3, timeout at 3, ok at 4",
		func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			return func(ctx context.Context) (string, error) {
				began := durable.Now(ctx)
				x := 0
				g, _ := durable.NewGroup(ctx, nil)
				g.Go(func(ctx context.Context) error {
					for range 6 {
						if err := durable.Sleep(ctx, env.Hours(1)); err != nil {
							return err
						}
						x++
					}
					return nil
				})
				if err := durable.Await(ctx, func() bool { return x >= 3 }); err != nil {
					return "", err
				}
				n, at := x, env.Since(ctx, began)
				e1 := durable.AwaitTimeout(ctx, env.Hours(0.25), func() bool { return x >= 4 })
				t1 := env.Since(ctx, began)
				e2 := durable.AwaitTimeout(ctx, env.Hours(50), func() bool { return x >= 4 })
				return fmt.Sprintf("%d at %d, %s at %d, %s at %d", n, at, says(e1), t1, says(e2), env.Since(ctx, began)), g.Wait()
			}, nil
		}),
	solo("await/true-beats-no-time", "Select, Await",
		"A condition that holds is met, also with no time or under a scope that has ended; one that does not is not.", "ok timeout ok canceled",
		func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			return func(ctx context.Context) (string, error) {
				in, cancel := durable.WithCancel(ctx)
				cancel()
				yes, no := func() bool { return true }, func() bool { return false }
				return fmt.Sprint(says(durable.AwaitTimeout(ctx, 0, yes)), " ", says(durable.AwaitTimeout(ctx, 0, no)), " ",
					says(durable.Await(ctx, yes)), " ", says(durable.Await(in, no))), nil
			}, nil
		}),
	solo("mutex/keeps-out-in-order", "Select, Await",
		"A Mutex keeps coroutines out over durable waits, first come first served; a Semaphore lets in as many as it has places.",
		"0123 one, two at most", func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			return func(ctx context.Context) (string, error) {
				var m durable.Mutex
				s := durable.NewSemaphore(2)
				order, in, most, inS, mostS := "", 0, 0, 0, 0
				g, _ := durable.NewGroup(ctx, nil)
				for i := range 4 {
					g.Go(func(ctx context.Context) error {
						if err := m.Lock(ctx); err != nil {
							return err
						}
						order += fmt.Sprint(i)
						in++
						most = max(most, in)
						err := durable.Sleep(ctx, env.Hours(0.2))
						in--
						m.Unlock()
						if err != nil {
							return err
						}
						if err := s.Acquire(ctx); err != nil {
							return err
						}
						defer s.Release()
						inS++
						mostS = max(mostS, inS)
						err = durable.Sleep(ctx, env.Hours(1))
						inS--
						return err
					})
				}
				names := []string{"none", "one", "two", "three", "four"}
				err := g.Wait()
				return fmt.Sprintf("%s %s, %s at most", order, names[most], names[mostS]), err
			}, nil
		}),
	solo("mutex/ends-with-its-context", "Select, Await",
		"Waiting for a lock ends with its scope, and takes no place then.", "deadline ok",
		func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			return func(ctx context.Context) (string, error) {
				var m durable.Mutex
				if err := m.Lock(ctx); err != nil {
					return "", err
				}
				in, cancel := durable.WithTimeout(ctx, env.Hours(1))
				defer cancel()
				e1 := m.Lock(in)
				m.Unlock()
				e2 := m.Lock(ctx)
				return says(e1) + " " + says(e2), nil
			}, nil
		}),
	solo("mutex/released-too-often", "Select, Await",
		"Releasing what was not acquired is a typed panic.", "Mutex",
		func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			return func(ctx context.Context) (out string, err error) {
				func() {
					defer func() {
						if m, ok := recover().(*durable.Misuse); ok {
							out = m.Call
						}
					}()
					var m durable.Mutex
					m.Unlock()
				}()
				return out, nil
			}, nil
		}),
}
