package durable_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

func TestCallbacks(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		token := durable.NewStatus[string]("token")
		kind := durable.NewErrorType("REFUSED")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			cb, err := durable.NewCallback[decision](ctx)
			if err != nil {
				return "", err
			}
			token.Set(ctx, cb.Token())
			in, cancel := durable.WithTimeout(ctx, time.Minute)
			defer cancel()
			if _, err := cb.Wait(in); !errors.Is(err, context.DeadlineExceeded) {
				return "", fmt.Errorf("first wait: %v", err)
			}
			v, err := cb.Wait(ctx) // may be waited for again
			if errors.Is(err, kind) {
				return "refused", nil
			}
			return fmt.Sprint(v.Approved), err
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{token}})
		e := open(wf)
		begin := func() (*durable.Run, string) {
			r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
			time.Sleep(2 * time.Minute)
			tok, ok, err := token.Of(t.Context(), r)
			if !ok || err != nil || tok == "" {
				t.Fatalf("token %q, %v, %v", tok, ok, err)
			}
			return r, tok
		}
		r, tok := begin()
		r2, tok2 := begin()
		// A token can't be guessed from what is visible, or from another one.
		parts, parts2 := strings.Split(tok, "/"), strings.Split(tok2, "/")
		for _, bad := range []string{"", "x", "/", r.RunID, r.RunID + "/0/1/", r.RunID + "/0/1/" + parts2[len(parts2)-1], tok + "0", tok[:len(tok)-1], "/" + tok} {
			if err := e.Complete(t.Context(), bad, []byte(`{"approved":true}`)); !errors.Is(err, durable.ErrNotFound) {
				t.Errorf("token %q: %v, want ErrNotFound", bad, err)
			}
		}
		h, _ := json.Marshal(must[[]*durable.Record](t)(r.History(t.Context())))
		if strings.Contains(string(h), parts[len(parts)-1]) {
			t.Error("the history shows the secret of the token")
		}
		if err := e.Complete(t.Context(), tok, []byte(`{`)); !errors.Is(err, durable.ErrBadInput) {
			t.Errorf("not JSON: %v", err)
		}
		if err := e.Complete(t.Context(), tok, []byte(`{"approved":true}`)); err != nil {
			t.Fatal(err)
		}
		if err := e.Complete(t.Context(), tok, []byte(`{"approved":false}`)); !errors.Is(err, durable.ErrAnswered) && !errors.Is(err, durable.ErrFinished) {
			t.Errorf("a second completion: %v", err)
		}
		if got := must[string](t)(wf.Result(t.Context(), r)); got != "true" {
			t.Errorf("got %q", got)
		}
		if err := e.Complete(t.Context(), tok, []byte(`1`)); !errors.Is(err, durable.ErrFinished) {
			t.Errorf("completion after the end: %v", err)
		}
		if err := e.Complete(t.Context(), r.RunID+"/0/1/xyz", []byte(`1`)); !errors.Is(err, durable.ErrNotFound) {
			t.Errorf("a wrong token of a finished run: %v, want ErrNotFound", err)
		}
		if err := e.Fail(t.Context(), tok2, kind.New("no")); err != nil {
			t.Fatal(err)
		}
		if got := must[string](t)(wf.Result(t.Context(), r2)); got != "refused" {
			t.Errorf("got %q", got)
		}
	})
}

func TestUpdatesThatAreRefusedOrRepeated(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		u := durable.NewUpdate[int, int]("u")
		late := durable.NewUpdate[int, int]("late")
		kind := durable.NewErrorType("ODD")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			total := 0
			_ = u.Handle(ctx, func(ctx context.Context, n int) (int, error) {
				if err := durable.Sleep(ctx, time.Hour); err != nil {
					return 0, err
				}
				if n%2 == 1 {
					return 0, kind.New("%d is odd", n)
				}
				total += n
				return total, nil
			}, func(n int) error {
				if n == 0 {
					return errors.New("zero")
				}
				if n == 4 {
					return durable.Sleep(ctx, time.Hour) // read-only: refused
				}
				return nil
			})
			if err := durable.Sleep(ctx, 24*time.Hour); err != nil {
				return 0, err
			}
			_ = late.Handle(ctx, func(_ context.Context, n int) (int, error) { return n, nil }, nil)
			if err := durable.Sleep(ctx, 24*time.Hour); err != nil {
				return 0, err
			}
			return total, nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{u, late}})
		bare := durable.NewWorkflow("bare", func(ctx context.Context, _ none) (int, error) { return 0, durable.Sleep(ctx, time.Hour) }, nil)
		e := open(wf, bare)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		if _, err := late.Send(t.Context(), r, 1, nil); !errors.Is(err, durable.ErrNoHandler) {
			t.Errorf("no handler yet: %v", err)
		}
		if _, err := u.Send(t.Context(), e.Run("nobody", ""), 1, nil); !errors.Is(err, durable.ErrNotFound) {
			t.Errorf("no run: %v", err)
		}
		b := must[*durable.Run](t)(bare.Start(t.Context(), e, none{}, nil))
		if _, err := u.Send(t.Context(), b, 1, nil); !errors.Is(err, durable.ErrNotAccepted) {
			t.Errorf("not accepted: %v", err)
		}
		if _, err := u.Send(t.Context(), r, 0, &durable.SendOptions{ID: "x"}); !errors.Is(err, durable.ErrRejected) || !strings.Contains(err.Error(), "zero") {
			t.Errorf("rejected: %v", err)
		}
		if _, err := r.Update(t.Context(), "u", []byte(`"a"`), nil); !errors.Is(err, durable.ErrBadInput) {
			t.Errorf("does not fit: %v", err)
		}
		if _, err := u.Send(t.Context(), r, 4, nil); !errors.Is(err, durable.ErrRejected) || !errors.Is(err, durable.ErrReadOnly) && !strings.Contains(err.Error(), durable.ErrReadOnly.Error()) {
			t.Errorf("a validator that makes a durable call: %v", err)
		}
		// A rejection leaves no trace and frees its id. While one is at work
		// the same id waits for the same answer.
		h0 := len(must[[]*durable.Record](t)(r.History(t.Context())))
		answers := make(chan string, 4)
		for range 4 {
			go func() {
				n, err := u.Send(t.Context(), r, 2, &durable.SendOptions{ID: "x"})
				answers <- fmt.Sprint(n, err)
			}()
		}
		began := time.Now()
		for range 4 {
			if got := <-answers; got != "2 <nil>" {
				t.Errorf("one of four under one id: %s", got)
			}
		}
		if d := time.Since(began); d != time.Hour {
			t.Errorf("took %v", d)
		}
		if got := must[int](t)(u.Send(t.Context(), r, 2, &durable.SendOptions{ID: "x"})); got != 2 {
			t.Errorf("the same id again = %d", got)
		}
		for range 2 {
			if _, err := u.Send(t.Context(), r, 1, &durable.SendOptions{ID: "odd"}); !errors.Is(err, kind) {
				t.Errorf("an update that fails: %v", err)
			}
		}
		h1 := must[[]*durable.Record](t)(r.History(t.Context()))
		asked := 0
		for _, rec := range h1 {
			for _, ev := range rec.Events {
				if ev.Kind == "asked" {
					asked++
				}
			}
		}
		if asked != 2 || h0 != 2 {
			t.Errorf("history: %d updates accepted, %d records before", asked, h0)
		}
		time.Sleep(30 * time.Hour)
		if got := must[int](t)(late.Send(t.Context(), r, 5, nil)); got != 5 {
			t.Errorf("late = %d", got)
		}
		if got := must[int](t)(wf.Result(t.Context(), r)); got != 2 {
			t.Errorf("total = %d, want 2", got)
		}
		if _, err := late.Send(t.Context(), r, 5, nil); !errors.Is(err, durable.ErrFinished) {
			t.Errorf("update of a finished run: %v", err)
		}
	})
}

func TestEndOfARunAndItsUpdateHandlers(t *testing.T) {
	cases := []struct {
		name   string
		ret    error
		cancel bool
		want   string
	}{
		{"return waits", nil, false, "42 <nil> 1h0m0s"},
		{"failure waits", errors.New("x"), false, "42 <nil> 1h0m0s"},
		{"cancel does not", nil, true, "cut 1m0s"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
				u := durable.NewUpdate[none, int]("u")
				wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
					_ = u.Handle(ctx, func(ctx context.Context, _ none) (int, error) {
						return 42, durable.Sleep(durable.WithoutCancel(ctx), time.Hour)
					}, nil)
					if err := durable.Sleep(ctx, 2*time.Minute); err != nil {
						return 0, err
					}
					return 0, c.ret
				}, &durable.WorkflowOptions{Accepts: []durable.Accepted{u}})
				e := open(wf)
				r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
				ch := make(chan string, 1)
				go func() {
					began := time.Now()
					n, err := u.Send(t.Context(), r, none{}, nil)
					s := fmt.Sprint(n, err)
					if errors.Is(err, durable.ErrFinished) {
						s = "cut"
					}
					ch <- fmt.Sprint(s, " ", time.Since(began))
				}()
				time.Sleep(time.Minute)
				if c.cancel {
					if err := r.Cancel(t.Context(), ""); err != nil {
						t.Fatal(err)
					}
				}
				if got := <-ch; got != c.want {
					t.Errorf("update: %s, want %s", got, c.want)
				}
				_, _ = wf.Result(t.Context(), r)
			})
		})
	}
}

func TestAnUpdateWhoseHandlerPanicsIsAProblemAndDoesNotStickToItsSender(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		u := durable.NewUpdate[int, int]("u")
		sig := durable.NewSignal[int]("s")
		var broken atomic.Bool
		broken.Store(true)
		var leave context.CancelFunc
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			_ = u.Handle(ctx, func(_ context.Context, n int) (int, error) {
				if broken.Load() {
					leave()
					panic("bad day")
				}
				return n, nil
			}, nil)
			return sig.Receive(ctx)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{u, sig}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		for range 3 { // impatient senders
			ctx, cancel := context.WithCancel(t.Context())
			leave = cancel
			_, err := u.Send(ctx, r, 1, &durable.SendOptions{ID: "u1"})
			var b *durable.BlockedError
			if !errors.Is(err, context.Canceled) && !errors.As(err, &b) {
				t.Errorf("update: %v", err)
			}
			cancel()
			synctest.Wait()
			if err := r.Resume(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		broken.Store(false)
		if err := r.Resume(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got := must[int](t)(u.Send(t.Context(), r, 1, &durable.SendOptions{ID: "u1"})); got != 1 {
			t.Errorf("update after the repair = %d", got)
		}
		if err := sig.Send(t.Context(), r, 5, nil); err != nil {
			t.Fatal(err)
		}
		if got := must[int](t)(wf.Result(t.Context(), r)); got != 5 {
			t.Errorf("result = %d", got)
		}
	})
}

func TestQueriesOnEveryKindOfRun(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		q := durable.NewQuery[string, string]("q")
		none2 := durable.NewQuery[none, int]("unset")
		sig := durable.NewSignal[string]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			last := "nothing"
			_ = q.Handle(ctx, func(in string) (string, error) {
				switch in {
				case "panic":
					panic("bad query")
				case "error":
					return "", errors.New("bad question")
				}
				return in + last, nil
			})
			for {
				s, err := sig.Receive(ctx)
				if err != nil {
					return "", err
				}
				switch s {
				case "panic":
					panic("bad day")
				case "end":
					return last, nil
				case "fail":
					return "", errors.New("failed")
				}
				last = s
			}
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{q, none2, sig}})
		e := open(wf)
		send := func(r *durable.Run, s ...string) {
			t.Helper()
			for _, s := range s {
				if err := sig.Send(t.Context(), r, s, nil); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
		}
		check := func(name string, r *durable.Run, want string) {
			t.Helper()
			before := len(must[[]*durable.Record](t)(r.History(t.Context())))
			if got, err := q.Ask(t.Context(), r, "last: "); err != nil || got != want {
				t.Errorf("query of a %s run: %q, %v; want %q", name, got, err, want)
			}
			if _, err := q.Ask(t.Context(), r, "panic"); err == nil || !strings.Contains(err.Error(), "bad query") {
				t.Errorf("query that panics, %s run: %v", name, err)
			}
			if _, err := q.Ask(t.Context(), r, "error"); err == nil || !strings.Contains(err.Error(), "bad question") {
				t.Errorf("query that fails, %s run: %v", name, err)
			}
			if _, err := none2.Ask(t.Context(), r, none{}); !errors.Is(err, durable.ErrNoHandler) {
				t.Errorf("query without handler, %s run: %v", name, err)
			}
			if _, err := r.Query(t.Context(), "undeclared", nil); !errors.Is(err, durable.ErrNotAccepted) {
				t.Errorf("query that is not accepted, %s run: %v", name, err)
			}
			if _, err := r.Query(t.Context(), "q", []byte(`1`)); !errors.Is(err, durable.ErrBadInput) {
				t.Errorf("query that does not fit, %s run: %v", name, err)
			}
			if after := len(must[[]*durable.Record](t)(r.History(t.Context()))); after != before {
				t.Errorf("queries of a %s run added %d records", name, after-before)
			}
		}
		fresh := func() *durable.Run {
			defer synctest.Wait()
			return must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		}
		waiting := fresh()
		check("new", waiting, "last: nothing")
		send(waiting, "a", "b")
		check("waiting", waiting, "last: b")
		if err := waiting.Pause(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		send(waiting, "c")
		check("paused", waiting, "last: b")
		blocked := fresh()
		send(blocked, "x", "panic", "y")
		if d := must[*durable.Description](t)(blocked.Describe(t.Context())); d.Problem == nil {
			t.Errorf("not blocked: %+v", d)
		}
		check("blocked", blocked, "last: x")
		done := fresh()
		send(done, "z", "end")
		check("finished", done, "last: z")
		failed := fresh()
		send(failed, "w", "fail")
		check("failed", failed, "last: w")
		gone := fresh()
		send(gone, "v")
		if err := gone.Terminate(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		check("terminated", gone, "last: v")
	})
}

func TestQuestionsTheirDigestValidationAndWithdrawal(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		q := durable.NewQuestion[vote]("vote")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			in, cancel := durable.WithCancel(ctx)
			g, _ := durable.NewGroup(ctx, nil)
			var first error
			g.Go(func(context.Context) error { _, first = q.Ask(in, "withdrawn", nil); return nil })
			g.Go(func(ctx context.Context) error {
				defer cancel()
				a, err := q.Ask(ctx, "real", &durable.AskOptions{Digest: "d1", Kind: "approval", Audience: "boss", Context: json.RawMessage(`{"a":1}`)})
				if err != nil {
					return err
				}
				if a.Value.Points != 3 || a.By != "ann" || a.Note != "fine" || a.At.IsZero() {
					return fmt.Errorf("answer: %+v", a)
				}
				return nil
			})
			err := g.Wait()
			return fmt.Sprint(errors.Is(first, context.Canceled)), err
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{q}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		qs := must[[]*durable.QuestionInfo](t)(e.Questions(t.Context(), &durable.QuestionFilter{Name: "vote"}))
		if len(qs) != 2 || qs[1].Kind != "approval" || qs[1].Audience != "boss" || string(qs[1].Context) != `{"a":1}` || qs[0].Kind != "question" {
			t.Fatalf("questions: %+v", qs)
		}
		ctx := durable.WithActor(t.Context(), durable.Actor{Name: "ann"})
		for _, o := range []*durable.AnswerOptions{nil, {Digest: "d2"}} {
			if err := q.Answer(ctx, e, qs[1].ID, vote{3}, o); !errors.Is(err, durable.ErrBadInput) {
				t.Errorf("answer with digest %+v: %v", o, err)
			}
		}
		if err := q.Answer(ctx, e, qs[1].ID, vote{11}, &durable.AnswerOptions{Digest: "d1"}); !errors.Is(err, durable.ErrBadInput) {
			t.Errorf("an answer that Validate refuses: %v", err)
		}
		if err := q.Answer(ctx, e, "nobody/0/1", vote{3}, nil); !errors.Is(err, durable.ErrNotFound) {
			t.Errorf("an unknown question: %v", err)
		}
		if err := q.Answer(ctx, e, qs[1].ID, vote{3}, &durable.AnswerOptions{Digest: "d1", Note: "fine"}); err != nil {
			t.Fatal(err)
		}
		if got := must[string](t)(wf.Result(t.Context(), r)); got != "true" {
			t.Errorf("got %q", got)
		}
		if err := q.Answer(ctx, e, qs[0].ID, vote{3}, nil); !errors.Is(err, durable.ErrFinished) {
			t.Errorf("answer to a withdrawn question: %v", err)
		}
		all := must[[]*durable.QuestionInfo](t)(e.Questions(t.Context(), &durable.QuestionFilter{WorkflowID: r.WorkflowID, All: true}))
		if len(all) != 2 || all[0].State != "withdrawn" || all[1].State != "answered" || all[1].By != "ann" || string(all[1].Answer) != `{"points":3}` {
			t.Errorf("closed questions: %+v %+v", all[0], all[1])
		}
	})
}

type vote struct {
	Points int `json:"points"`
}

func (v *vote) Validate() error {
	if v.Points > 10 {
		return errors.New("at most 10 points")
	}
	return nil
}

func TestTwoThousandSignals(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		const n = 2000
		sig := durable.NewSignal[int]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			if err := durable.Sleep(ctx, time.Hour); err != nil {
				return 0, err
			}
			for i := range n {
				k, err := sig.Receive(ctx)
				if err != nil || k != i {
					return i, fmt.Errorf("signal %d is %d: %v", i, k, err)
				}
			}
			return n, nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		if err := r.Pause(t.Context(), nil); err != nil { // no turn for each
			t.Fatal(err)
		}
		for i := range n {
			if err := sig.Send(t.Context(), r, i, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Resume(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got := must[int](t)(wf.Result(t.Context(), r)); got != n {
			t.Errorf("got %d", got)
		}
	})
}

func TestReceiveTimeoutPrefersTheMessageAndTakesEachOnce(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[int]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			_, e0 := sig.ReceiveTimeout(ctx, 0)
			_, ok0, _ := sig.TryReceive(ctx)
			f, _ := durable.NewGroup(ctx, nil)
			var got int
			var e1 error
			f.Go(func(ctx context.Context) error { got, e1 = sig.ReceiveTimeout(ctx, time.Hour); return nil })
			if err := f.Wait(); err != nil {
				return "", err
			}
			n, ok, err := sig.TryReceive(ctx)
			return fmt.Sprint(errors.Is(e0, durable.ErrTimeout), ok0, got, e1, n, ok, err), nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		if err := r.Pause(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		for i := range 2 { // one before the time is up, one after
			if err := sig.Send(t.Context(), r, i+1, nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Hour)
		}
		if err := r.Resume(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got, want := must[string](t)(wf.Result(t.Context(), r)), "true false 1 <nil> 0 false <nil>"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

func TestStreamsAreReadWhileTheyGrow(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		str := durable.NewStream[int]("n")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			for i := range 5 {
				if err := durable.Sleep(ctx, time.Minute); err != nil {
					return 0, err
				}
				for k := range 2 {
					if err := str.Append(ctx, 2*i+k); err != nil {
						return 0, err
					}
				}
			}
			return 0, nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{str}})
		e := open(wf)
		began := time.Now()
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		var got []string
		for it, err := range str.Read(t.Context(), r, 3) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(it.Offset, "=", it.Value, "@", it.At.Sub(began)))
		}
		want := "[3=3@2m0s 4=4@3m0s 5=5@3m0s 6=6@4m0s 7=7@4m0s 8=8@5m0s 9=9@5m0s]"
		if fmt.Sprint(got) != want {
			t.Errorf("got  %v\nwant %s", got, want)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		n := 0
		for _, err := range str.Read(ctx, r, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == 4 {
				break
			}
		}
		if n != 4 {
			t.Errorf("read %d entries before the break", n)
		}
	})
}

// A caller that lost the reply asks again with the same id. That its run has
// ended meanwhile must not turn its success into an error.
func TestAMessageSentAgainAfterTheEndHasTheAnswerItHad(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[int]("s")
		u := durable.NewUpdate[int, int]("u")
		kind := durable.NewErrorType("ODD")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			_ = u.Handle(ctx, func(_ context.Context, n int) (int, error) {
				if n == 1 {
					return 0, kind.New("1")
				}
				return 10 * n, nil
			}, nil)
			return sig.Receive(ctx)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig, u}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		for range 2 { // before and after the end
			if got := must[int](t)(u.Send(t.Context(), r, 2, &durable.SendOptions{ID: "u2"})); got != 20 {
				t.Errorf("update = %d", got)
			}
			if _, err := u.Send(t.Context(), r, 1, &durable.SendOptions{ID: "u1"}); !errors.Is(err, kind) {
				t.Errorf("update that fails: %v", err)
			}
			if err := sig.Send(t.Context(), r, 1, &durable.SendOptions{ID: "s1"}); err != nil {
				t.Errorf("signal: %v", err)
			}
			must[int](t)(wf.Result(t.Context(), r))
		}
		if err := sig.Send(t.Context(), r, 1, &durable.SendOptions{ID: "s2"}); !errors.Is(err, durable.ErrFinished) {
			t.Errorf("a new signal: %v", err)
		}
		if _, err := u.Send(t.Context(), r, 2, nil); !errors.Is(err, durable.ErrFinished) {
			t.Errorf("a new update: %v", err)
		}
	})
}
