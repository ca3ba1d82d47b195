package durable_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// opener opens engines over one store, one after the other.
type opener struct {
	t  *testing.T
	st journal.Store
	o  durable.Options
}

// lives runs fn in each mode with a store that outlives engines.
func lives(t *testing.T, fn func(t *testing.T, op *opener)) {
	t.Helper()
	for _, m := range durabletest.All() {
		t.Run(m.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := m.Options
				o.Logger = slog.New(slog.DiscardHandler)
				fn(t, &opener{t, journal.NewMemory(), o})
			})
		})
	}
}

func (op *opener) open(defs ...durable.Definer) *durable.Engine {
	op.t.Helper()
	return op.openOn(op.st, defs...)
}

func (op *opener) openOn(st journal.Store, defs ...durable.Definer) *durable.Engine {
	op.t.Helper()
	d, err := durable.NewDefinitions(defs...)
	if err != nil {
		op.t.Fatal(err)
	}
	o := op.o
	b, err := durable.NewExecutor(op.t.Context(), st, d, &o)
	if err != nil {
		op.t.Fatal(err)
	}
	e := durable.NewEngine(b, d, &o)
	op.t.Cleanup(func() { op.close(e) })
	return e
}

func (op *opener) close(e *durable.Engine) {
	op.t.Helper()
	if err := e.Close(context.Background()); err != nil {
		op.t.Errorf("Close: %v", err)
	}
}

// kill ends an engine as a power cut does: nothing more is written.
func (op *opener) kill(e *durable.Engine, m *wire) {
	op.t.Helper()
	m.cut.Store(true)
	op.close(e)
}

// wire is a way to the store that can be cut.
type wire struct {
	journal.Store
	cut atomic.Bool
}

func (w *wire) Commit(ctx context.Context, tx *journal.Tx) error {
	if w.cut.Load() {
		return errors.New("power cut")
	}
	return w.Store.Commit(ctx, tx)
}

func (op *opener) wire() *wire { return &wire{Store: op.st} }

func TestAStepThatIsNotDefinedWaitsVisiblyAndUsesUpNothing(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		sig := durable.NewSignal[int]("s")
		var at atomic.Int32
		first := durable.NewStep("first", func(context.Context, none) (int, error) { return 1, nil }, nil)
		step := durable.NewStep("step", func(ctx context.Context, _ none) (int, error) {
			i, _ := durable.StepInfoOf(ctx)
			at.Store(int32(i.Attempt))
			if i.Attempt == 1 {
				return 0, errors.New("x")
			}
			return i.Attempt, nil
		}, &durable.StepOptions{Retry: &durable.Retry{Initial: time.Hour, MaxAttempts: 2}})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			if _, err := first.Do(ctx, none{}); err != nil {
				return 0, err
			}
			f := step.Start(ctx, none{})
			n, err := sig.Receive(ctx)
			if err != nil {
				return 0, err
			}
			k, err := f.Get(ctx)
			return n + k, err
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := op.open(wf, first, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		time.Sleep(time.Minute)
		op.close(e)
		for i := range 5 {
			e = op.open(wf)
			time.Sleep(2 * time.Hour)
			h := e.Run(r.WorkflowID, "")
			if i == 2 { // the run is replayed without the definitions of its steps
				if err := sig.Send(t.Context(), h, 10, nil); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			d := must[*durable.Description](t)(h.Describe(t.Context()))
			if d.State != durable.Running || d.Problem != nil || len(d.Waiting) == 0 || !strings.Contains(d.Waiting[0].Text, "step") || !strings.Contains(d.Waiting[0].Text, "define") {
				t.Errorf("life %d without the step: %s, problem %+v, waiting %+v", i, d.State, d.Problem, d.Waiting)
			}
			op.close(e)
		}
		e = op.open(wf, first, step)
		if got, err := wf.Result(t.Context(), e.Run(r.WorkflowID, "")); err != nil || got != 12 || at.Load() != 2 {
			t.Errorf("got %d, %v on attempt %d", got, err, at.Load())
		}
		op.close(e)
	})
}

func TestAWaitingStepThatIsNotDefinedCanBeCancelled(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		step := durable.NewStep("step", func(ctx context.Context, _ none) (int, error) { return 0, ended(ctx) }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) { return step.Do(ctx, none{}) }, nil)
		e := op.open(wf, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		time.Sleep(time.Minute)
		op.close(e)
		e = op.open(wf)
		h := e.Run(r.WorkflowID, "")
		time.Sleep(time.Minute)
		if err := h.Cancel(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := wf.Result(ctx, h)
		var re *durable.RunError
		if !errors.As(err, &re) {
			t.Errorf("result: %v, want an ended run", err)
		}
		op.close(e)
	})
}

func TestTimersAndDeadlinesKeepTheirTimeWhileNobodyRuns(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		ask := durable.NewQuestion[int]("q")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, d time.Duration) (string, error) {
			began := durable.Now(ctx)
			in, cancel := durable.WithTimeout(ctx, 3*time.Hour)
			defer cancel()
			g, _ := durable.NewGroup(ctx, nil)
			var out [3]string
			g.Go(func(ctx context.Context) error {
				err := durable.Sleep(ctx, d)
				out[0] = fmt.Sprint(err, durable.Now(ctx).Sub(began))
				return nil
			})
			g.Go(func(ctx context.Context) error {
				_, err := ask.Ask(ctx, "?", &durable.AskOptions{Expires: 2 * time.Hour})
				out[1] = fmt.Sprint(errors.Is(err, durable.ErrExpired), durable.Now(ctx).Sub(began))
				return nil
			})
			g.Go(func(context.Context) error {
				err := durable.Sleep(in, 100*time.Hour)
				out[2] = fmt.Sprint(err, durable.Now(ctx).Sub(began))
				return nil
			})
			err := g.Wait()
			return strings.Join(out[:], "; "), err
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{ask}, Timeout: 20 * time.Hour})
		e := op.open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, 5*time.Hour, nil))
		late := must[*durable.Run](t)(wf.Start(t.Context(), e, 50*time.Hour, nil))
		delayed := must[*durable.Run](t)(wf.Start(t.Context(), e, time.Hour, &durable.StartOptions{Delay: 30 * time.Hour, Timeout: 100 * time.Hour}))
		time.Sleep(time.Hour)
		op.close(e)
		time.Sleep(3*time.Hour + 30*time.Minute) // 2 h and 3 h pass meanwhile
		e = op.open(wf)
		got, err := wf.Result(t.Context(), e.Run(r.WorkflowID, ""))
		if want := "<nil> 5h0m0s; true 4h30m0s; context deadline exceeded 4h30m0s"; err != nil || got != want {
			t.Errorf("got  %q, %v\nwant %q", got, err, want)
		}
		op.close(e)
		time.Sleep(20 * time.Hour)
		e = op.open(wf)
		synctest.Wait()
		if d := must[*durable.Description](t)(e.Run(late.WorkflowID, "").Describe(t.Context())); d.State != durable.TimedOut {
			t.Errorf("a run past its timeout is %s", d.State)
		}
		got, err = wf.Result(t.Context(), e.Run(delayed.WorkflowID, ""))
		if want := "<nil> 1h0m0s; true 2h0m0s; context deadline exceeded 3h0m0s"; err != nil || got != want {
			t.Errorf("delayed: got  %q, %v\nwant %q", got, err, want)
		}
		op.close(e)
	})
}

// xor is a codec that is easy to see through and refuses what is not its own.
type xor byte

func (x xor) Encode(b []byte) ([]byte, error) {
	out := []byte{0xC0, byte(x)}
	for _, c := range b {
		out = append(out, c^byte(x))
	}
	return out, nil
}

func (x xor) Decode(b []byte) ([]byte, error) {
	if len(b) < 2 || b[0] != 0xC0 || b[1] != byte(x) {
		return nil, errors.New("made with another key")
	}
	out := []byte{}
	for _, c := range b[2:] {
		out = append(out, c^byte(x))
	}
	return out, nil
}

// spy keeps all that is committed, as text.
type spy struct {
	journal.Store
	mu   sync.Mutex // guards seen
	seen bytes.Buffer
}

func (s *spy) Commit(ctx context.Context, tx *journal.Tx) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range tx.Writes {
		row := *w.Run
		fmt.Fprintf(&s.seen, "%s %s %s %s %s ", row.Status, row.Memo, row.Config, row.Result, row.Problem)
		if row.Failure != nil {
			b, _ := json.Marshal(row.Failure)
			s.seen.Write(b)
		}
		if w.Row != nil {
			s.seen.Write(w.Row.Head)
			s.seen.Write(w.Row.Data)
		}
	}
	for _, a := range tx.Asks {
		fmt.Fprintf(&s.seen, "%s %s ", a.Answer, a.Context)
	}
	for _, it := range tx.Items {
		s.seen.Write(it.Data)
	}
	for _, b := range tx.Blobs {
		s.seen.Write(b.Data)
	}
	return s.Store.Commit(ctx, tx)
}

func TestCodecEverythingStoredIsEncoded(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		op.o.Codec = xor(0x5A)
		sp := &spy{Store: op.st}
		const secret = "SECRET"
		sig := durable.NewSignal[string]("s")
		u := durable.NewUpdate[string, string]("u")
		q := durable.NewQuery[none, string]("q")
		ask := durable.NewQuestion[string]("ask")
		status := durable.NewStatus[string]("status")
		str := durable.NewStream[string]("str")
		step := durable.NewStep("step", func(ctx context.Context, s string) (string, error) {
			_ = durable.Heartbeat(ctx, s+" beat")
			sum, err := durable.PutBlob(ctx, []byte(s+" blob"))
			if err != nil {
				return "", err
			}
			b, err := durable.GetBlob(ctx, sum)
			if err != nil || string(b) != s+" blob" {
				return "", fmt.Errorf("blob %q: %w", b, err)
			}
			if i, _ := durable.StepInfoOf(ctx); i.Attempt == 1 {
				return "", errors.New("again")
			}
			hb, _ := durable.LastHeartbeat[string](ctx)
			return hb, nil
		}, nil)
		kid := durable.NewWorkflow("kid", func(_ context.Context, s string) (string, error) { return s + " kid", nil }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, in string) (string, error) {
			if strings.HasPrefix(in, "again ") {
				s, err := sig.Receive(ctx) // carried over
				return in + s, err
			}
			status.Set(ctx, in+" status")
			_ = q.Handle(ctx, func(none) (string, error) { return in + " query", nil })
			_ = u.Handle(ctx, func(_ context.Context, s string) (string, error) { return s + " answer", nil }, nil)
			if err := str.Append(ctx, in+" item"); err != nil {
				return "", err
			}
			if _, err := durable.PutBlob(ctx, []byte(in+" blob of the workflow")); err != nil {
				return "", err
			}
			side, err := durable.SideEffect(ctx, func() string { return in + " side" })
			if err != nil {
				return "", err
			}
			a, err := step.Do(ctx, side)
			if err != nil {
				return "", err
			}
			b, err := kid.Run(ctx, a)
			if err != nil {
				return "", err
			}
			c, err := ask.Ask(ctx, "?", &durable.AskOptions{Context: json.RawMessage(`"` + in + ` context"`)})
			if err != nil {
				return "", err
			}
			return "", durable.ContinueAsNew("again " + b + c.Value)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig, u, q, ask, status, str}})
		e := op.openOn(sp, wf, kid, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, secret+" in", &durable.StartOptions{Memo: json.RawMessage(`"` + secret + ` memo"`)}))
		time.Sleep(time.Minute)
		if err := sig.Send(t.Context(), r, secret+" signal", nil); err != nil {
			t.Fatal(err)
		}
		if got := must[string](t)(u.Send(t.Context(), r, secret, nil)); got != secret+" answer" {
			t.Errorf("update = %q", got)
		}
		if got := must[string](t)(q.Ask(t.Context(), r, none{})); got != secret+" in query" {
			t.Errorf("query = %q", got)
		}
		d := must[*durable.Description](t)(r.Describe(t.Context()))
		if string(d.Status["status"]) != `"SECRET in status"` || string(d.Memo) != `"SECRET memo"` || len(d.Questions) != 1 || string(d.Questions[0].Context) != `"SECRET in context"` {
			t.Errorf("description: status %s, memo %s, questions %+v", d.Status, d.Memo, d.Questions)
		}
		if err := ask.Answer(t.Context(), e, d.Questions[0].ID, secret+" answered", nil); err != nil {
			t.Fatal(err)
		}
		want := "again SECRET in side beat kidSECRET answeredSECRET signal"
		if got, err := wf.Result(t.Context(), r); err != nil || got != want {
			t.Errorf("result = %q, %v; want %q", got, err, want)
		}
		for it, err := range str.Read(t.Context(), r, 0) {
			if err != nil || it.Value != secret+" in item" {
				t.Errorf("stream: %q, %v", it.Value, err)
			}
		}
		h, _ := json.Marshal(must[[]*durable.Record](t)(r.History(t.Context())))
		if !strings.Contains(string(h), "SECRET in side") {
			t.Error("the history of an engine with the codec does not show what was recorded")
		}
		op.close(e)
		all := sp.seen.String()
		for i := strings.Index(all, secret); i >= 0; i = strings.Index(all, secret) {
			t.Errorf("stored in the clear: …%s…", all[max(0, i-80):min(len(all), i+60)])
			all = all[i+len(secret):]
		}
	})
}

func TestAWrongCodecLosesNothing(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		sig := durable.NewSignal[string]("s")
		status := durable.NewStatus[string]("st")
		var n atomic.Int32
		step := durable.NewStep("step", func(ctx context.Context, s string) (string, error) {
			if n.Add(1) == 1 {
				return "", ended(ctx)
			}
			return s + "!", nil
		}, &durable.StepOptions{Retry: &durable.Retry{MaxAttempts: 2}})
		kid := durable.NewWorkflow("kid", func(ctx context.Context, s string) (string, error) { return s + "?", durable.Sleep(ctx, 2*time.Hour) }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, in string) (string, error) {
			status.Set(ctx, "at work")
			f := step.Start(ctx, in)
			c, err := kid.Child(ctx, in, nil)
			if err != nil {
				return "", err
			}
			s, err := sig.Receive(ctx)
			if err != nil {
				return "", err
			}
			a, err := f.Get(ctx)
			if err != nil {
				return "", err
			}
			b, err := c.Get(ctx)
			return a + b + s, err
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig, status}})
		op.o.Codec = xor(1)
		e := op.open(wf, kid, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, "in", nil))
		time.Sleep(time.Minute)
		if err := sig.Send(t.Context(), r, "sig", nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		op.close(e)
		for range 3 {
			op.o.Codec = xor(2)
			e = op.open(wf, kid, step)
			time.Sleep(time.Hour)
			h := e.Run(r.WorkflowID, "")
			d := must[*durable.Description](t)(h.Describe(t.Context()))
			if d.State != durable.Running || d.Problem == nil || d.Problem.Kind != "payload" || !strings.Contains(d.Problem.Text, "another key") {
				t.Errorf("with a wrong key: %s, %+v", d.State, d.Problem)
			}
			var b *durable.BlockedError
			if _, err := wf.Result(t.Context(), h); !errors.As(err, &b) {
				t.Errorf("result with a wrong key: %v", err)
			}
			op.close(e)
		}
		op.o.Codec = xor(1)
		e = op.open(wf, kid, step)
		time.Sleep(3 * time.Hour)
		if got, err := wf.Result(t.Context(), e.Run(r.WorkflowID, "")); err != nil || got != "in!in?sig" {
			t.Errorf("with the right key again: %q, %v", got, err)
		}
		op.close(e)
	})
}

func TestBlobsLiveAsLongAsARunThatStoredThem(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (string, error) {
			sum, err := durable.PutBlob(ctx, []byte("the same"))
			if err != nil {
				return "", err
			}
			if b, err := durable.GetBlob(ctx, sum); err != nil || string(b) != "the same" {
				return "", fmt.Errorf("blob in its own turn: %q, %v", b, err)
			}
			if err := durable.Sleep(ctx, time.Duration(n)*time.Hour); err != nil {
				return "", err
			}
			b, err := durable.GetBlob(ctx, sum)
			if err != nil || string(b) != "the same" {
				return "", fmt.Errorf("blob later: %q, %v", b, err)
			}
			return sum, nil
		}, nil)
		e := op.open(wf)
		a := must[*durable.Run](t)(wf.Start(t.Context(), e, 1, nil))
		b := must[*durable.Run](t)(wf.Start(t.Context(), e, 5, nil))
		sum := must[string](t)(wf.Result(t.Context(), a))
		if n, err := op.st.Prune(t.Context(), time.Now().Add(time.Minute).UnixMicro(), 0); n != 1 || err != nil {
			t.Fatalf("pruned %d runs, %v", n, err)
		}
		if got, err := e.GetBlob(t.Context(), sum); err != nil || string(got) != "the same" {
			t.Errorf("after the first run was pruned: %q, %v", got, err)
		}
		if got, err := wf.Result(t.Context(), b); err != nil || got != sum {
			t.Errorf("second run: %q, %v", got, err)
		}
		x := must[string](t)(e.PutBlob(t.Context(), b, nil))
		if got, err := e.GetBlob(t.Context(), x); err != nil || len(got) != 0 {
			t.Errorf("empty blob: %q, %v", got, err)
		}
		if _, err := e.GetBlob(t.Context(), strings.Repeat("0", 64)); !errors.Is(err, durable.ErrNotFound) {
			t.Errorf("unknown blob: %v", err)
		}
		if _, err := op.st.Prune(t.Context(), time.Now().Add(time.Minute).UnixMicro(), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := e.GetBlob(t.Context(), sum); !errors.Is(err, durable.ErrNotFound) {
			t.Errorf("blob after the last run that stored it: %v", err)
		}
		op.close(e)
	})
}

// Once nothing can be recorded any more, nothing will happen to a run in this
// process: nobody waits for it.
func TestNobodyWaitsForABrokenStore(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		sig := durable.NewSignal[int]("s")
		says := durable.NewStream[int]("says")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (int, error) {
			if n > 0 {
				return n, nil
			}
			return sig.Receive(ctx)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig, says}})
		broken := fmt.Errorf("the disk is gone: %w", durable.ErrUnavailable)
		var dead atomic.Bool
		e := op.openOn(hooked{op.wire(), func(_ *journal.Tx, commit func() error) error {
			if dead.Load() {
				return broken
			}
			return commit()
		}}, wf, says)
		ended := must[*durable.Run](t)(wf.Start(t.Context(), e, 7, nil))
		synctest.Wait()
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, 0, nil))
		heard := make(chan error)
		go func() {
			_, err := r.Result(t.Context())
			heard <- err
		}()
		go func() {
			for _, err := range says.Read(t.Context(), r, 0) {
				heard <- err
			}
		}()
		synctest.Wait()
		dead.Store(true)
		if err := sig.Send(t.Context(), r, 1, nil); !errors.Is(err, durable.ErrUnavailable) {
			t.Errorf("the signal: %v", err)
		}
		for range 2 {
			if err := <-heard; !errors.Is(err, durable.ErrUnavailable) {
				t.Errorf("who waited heard %v", err)
			}
		}
		if _, err := r.Result(t.Context()); !errors.Is(err, durable.ErrUnavailable) {
			t.Errorf("who comes later hears %v", err)
		}
		if n := must[int](t)(wf.Result(t.Context(), ended)); n != 7 {
			t.Errorf("a run that had ended gave %d", n)
		}
	})
}
