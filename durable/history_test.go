package durable_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
)

var keep = flag.Bool("keep", false, "write the histories of testdata/histories that are not there yet")

// story is a workflow that uses all that a history can hold.
type story struct {
	go1    *durable.Signal[string]
	add    *durable.Update[int, int]
	ok     *durable.Question[bool]
	log    *durable.Stream[string]
	wf     *durable.Workflow[int, string]
	defs   durable.Set
	change func(ctx context.Context, at string) error // for another version of the code; nil: none
	salt   string
	token  string
}

func newStory() *story {
	s := &story{
		go1: durable.NewSignal[string]("go"), add: durable.NewUpdate[int, int]("add"), ok: durable.NewQuestion[bool]("ok"),
		log: durable.NewStream[string]("log"),
	}
	flaky := durable.NewStep("flaky", func(ctx context.Context, in string) (string, error) {
		if i, _ := durable.StepInfoOf(ctx); i.Attempt == 1 {
			return "", errors.New("not yet")
		}
		return "did " + in, nil
	}, nil)
	bad := durable.NewStep("bad", func(context.Context, int) (int, error) { return 0, durable.Permanent(errors.New("never")) }, nil)
	once := durable.NewStep("once", func(context.Context, string) (string, error) { return "<&>", nil }, &durable.StepOptions{AtMostOnce: true})
	gone := durable.NewStep("gone", func(context.Context, int) (int, error) { return 0, nil }, nil)
	kid := durable.NewWorkflow("kid", func(ctx context.Context, n int) (int, error) {
		if err := durable.Sleep(ctx, time.Duration(n)*time.Second); err != nil {
			return 0, err
		}
		if n == 2 {
			return 0, errors.New("two")
		}
		return n * n, nil
	}, nil)
	s.wf = durable.NewWorkflow("story", func(ctx context.Context, round int) (string, error) {
		change := func(at string) error {
			if s.change == nil {
				return nil
			}
			return s.change(ctx, at)
		}
		sum := 0
		if err := s.add.Handle(ctx, func(ctx context.Context, n int) (int, error) {
			sum += n
			return sum, durable.Sleep(ctx, time.Second)
		}, nil); err != nil {
			return "", err
		}
		if err := change("begin"); err != nil {
			return "", err
		}
		var out []string
		say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
		v := durable.Version(ctx, "v", 3)
		id := durable.UUID(ctx, "id")
		blob, err := durable.PutBlob(ctx, []byte("some content "+id))
		if err != nil {
			return "", err
		}
		_, refused := gone.Do(ctx, 1)
		a, err := flaky.Do(ctx, id+s.salt)
		if err != nil {
			return "", err
		}
		_, berr := bad.Do(ctx, 1)
		squares, kerr := durable.Map(ctx, []int{1, 2, 3}, kid.Run, nil)
		side, err := durable.SideEffect(ctx, func() string { return "a <b> & c" })
		if err != nil {
			return "", err
		}
		say("v%d %v %v %s %v %v %q", v, errors.Is(refused, durable.ErrNotDefined), strings.HasSuffix(a, id), berr, squares, kerr != nil, side)
		cb, err := durable.NewCallback[int](ctx)
		if err != nil {
			return "", err
		}
		s.token = cb.Token()
		o, err := once.Do(ctx, cb.Token())
		if err != nil {
			return "", err
		}
		if err := s.log.Append(ctx, o); err != nil {
			return "", err
		}
		if err := change("middle"); err != nil {
			return "", err
		}
		content, err := durable.GetBlob(ctx, blob)
		if err != nil {
			return "", err
		}
		first, err := s.go1.Receive(ctx)
		if err != nil {
			return "", err
		}
		_, none := s.go1.ReceiveTimeout(ctx, time.Second)
		ans, err := s.ok.Ask(ctx, "OK?", nil)
		if err != nil {
			return "", err
		}
		tctx, stop := durable.WithTimeout(ctx, time.Minute)
		n, err := cb.Wait(tctx)
		stop()
		say("%s %s %v %v %d %v %d", first, content[:4], errors.Is(none, durable.ErrTimeout), ans.Value, n, err, sum)
		if round == 0 {
			if err := durable.Sleep(ctx, time.Hour); err != nil {
				return "", err
			}
			return "", durable.ContinueAsNew(1)
		}
		return strings.Join(out, "; "), change("end")
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{s.go1, s.add, s.ok, s.log}})
	s.defs = durable.Set{s.wf, kid, flaky, bad, once}
	return s
}

// tell plays the story on an engine and gives the histories of its two runs
// at several moments.
func (s *story) tell(t *testing.T, e *durable.Engine) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	r := must[*durable.Run](t)(s.wf.Start(t.Context(), e, 0, &durable.StartOptions{ID: "story"}))
	export := func(name, id string) {
		t.Helper()
		synctest.Wait()
		if id == "" {
			d := must[*durable.Description](t)(e.Run("story", "").Describe(t.Context()))
			id = d.RunID
		}
		out[name] = must[[]byte](t)(e.Run("story", id).Export(t.Context()))
	}
	export("begun", "")
	for round := range 2 {
		time.Sleep(time.Minute)
		if _, err := s.add.Send(t.Context(), r, 7, nil); err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			export("waits", "")
		}
		if err := s.go1.Send(t.Context(), r, fmt.Sprint("go ", round), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		qs := must[[]*durable.QuestionInfo](t)(e.Questions(t.Context(), nil))
		if len(qs) != 1 {
			t.Fatalf("%d questions", len(qs))
		}
		if err := s.ok.Answer(t.Context(), e, qs[0].ID, true, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := e.Complete(t.Context(), s.token, json.RawMessage("5")); err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			if err := s.go1.Send(t.Context(), r, "early", nil); err != nil { // carried over
				t.Fatal(err)
			}
			time.Sleep(2 * time.Hour)
		}
	}
	got := must[string](t)(s.wf.Result(t.Context(), r))
	want := `v3 true true step bad failed: never [1 0 9] true "a <b> & c"; early some true true 5 <nil> 7`
	if got != want {
		t.Errorf("result:\n got %s\nwant %s", got, want)
	}
	export("continued", r.RunID)
	export("completed", "")
	return out
}

func TestExportedHistoriesReplay(t *testing.T) {
	for _, codec := range []durable.Codec{nil, xorCodec{}} {
		with := func(o *durable.Options) { quietly(o); o.Codec = codec }
		scenarioWith(t, with, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
			s := newStory()
			for name, h := range s.tell(t, open(s.defs)) {
				fresh := newStory()
				rep, err := durable.Replay(t.Context(), h, fresh.defs)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if len(rep.Drift) > 0 {
					t.Errorf("%s: drift %q", name, rep.Drift)
				}
				if min := map[string]int{"begun": 1, "waits": 10, "continued": 15, "completed": 15}[name]; rep.Turns < min {
					t.Errorf("%s: %d turns", name, rep.Turns)
				}
				durabletest.Replay(t, fresh.defs, h)
				if s.token != "" && bytes.Contains(h, []byte(s.token[strings.LastIndexByte(s.token, '/')+1:])) {
					t.Errorf("%s: the token of a callback is in it", name)
				}
				if !bytes.Contains(h, []byte(`"a <b> & c"`)) && name != "begun" {
					t.Errorf("%s: not readable:\n%s", name, h)
				}
				if *keep && codec == nil && strings.HasSuffix(t.Name(), "awake") {
					path := filepath.Join("testdata", "histories", name+".json")
					if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
						if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, h, 0o644)); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
		})
	}
}

// xorCodec hides what is stored.
type xorCodec struct{}

func (xorCodec) Encode(b []byte) ([]byte, error) {
	out := []byte{0xff}
	for _, c := range b {
		out = append(out, c^0x55)
	}
	return out, nil
}

func (c xorCodec) Decode(b []byte) ([]byte, error) {
	if len(b) == 0 || b[0] != 0xff {
		return nil, errors.New("not ours")
	}
	out, err := c.Encode(b[1:])
	return out[1:], err
}

// TestKeptHistoriesReplay is the promise that newer code reads what older code
// wrote: a file is added for each change of the format, and none is changed.
func TestKeptHistoriesReplay(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/histories/*.json")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d histories, %v", len(files), err)
	}
	for _, f := range files {
		h, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		rep, err := durable.Replay(t.Context(), h, newStory().defs)
		if err != nil || len(rep.Drift) > 0 || rep.Turns == 0 {
			t.Errorf("%s: %+v, %v", f, rep, err)
		}
	}
}

// TestReplayFindsWhatDoesNotFit: what a deploy would block, Replay says, with
// the place in the history.
func TestReplayFindsWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	h, err := os.ReadFile("testdata/histories/completed.json")
	if err != nil {
		t.Fatal(err)
	}
	again := durable.NewStep("again", func(context.Context, int) (int, error) { return 0, nil }, nil)
	for _, c := range []struct {
		name string
		make func(s *story)
		kind string
		want []string
	}{
		{"a call more", func(s *story) {
			s.change = func(ctx context.Context, at string) error {
				if at == "middle" {
					_, err := again.Do(ctx, 1)
					return err
				}
				return nil
			}
		}, "mismatch", []string{`the call 0/8 (step "again")`, "at the outcome of the call 0/7"}},
		{"a call at the start", func(s *story) {
			s.change = func(ctx context.Context, at string) error {
				if at == "begin" {
					return durable.Sleep(ctx, time.Second)
				}
				return nil
			}
		}, "mismatch", []string{`the call 0/1 (timer "sleep")`, `the history has 0/1 (step "gone")`, "turn 1, at the start"}},
		{"an end too early", func(s *story) {
			s.change = func(_ context.Context, at string) error {
				if at == "middle" {
					return errors.New("too early")
				}
				return nil
			}
		}, "mismatch", []string{`the history has the call 0/8 (timer "receive go"), which the code does not make`}},
		{"a panic", func(s *story) {
			s.change = func(context.Context, string) error { panic("boom") }
		}, "panic", []string{"boom"}},
		{"no such workflow", func(s *story) { s.defs = durable.Set{again} }, "not_defined", []string{`"story"`}},
		{"code that waits outside", func(s *story) {
			s.change = func(context.Context, string) error { <-make(chan int); return nil }
		}, "deadlock", []string{"does not come back"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			if c.kind == "deadlock" {
				cancel()
			}
			defer cancel()
			s := newStory()
			c.make(s)
			_, err := durable.Replay(ctx, h, s.defs, again)
			var b *durable.BlockedError
			if !errors.As(err, &b) || b.Problem.Kind != c.kind {
				t.Fatalf("got %v, want a problem of kind %s", err, c.kind)
			}
			for _, w := range c.want {
				if !strings.Contains(b.Problem.Text, w) {
					t.Errorf("%q is not in: %s", w, b.Problem.Text)
				}
			}
			rec := &recorder{TB: t}
			if c.kind != "deadlock" {
				durabletest.Replay(rec, durable.Set{s.defs, again}, h)
				if !strings.Contains(rec.text, "the code does not fit it") {
					t.Errorf("durabletest says %q", rec.text)
				}
			}
		})
	}
	t.Run("drift", func(t *testing.T) {
		t.Parallel()
		s := newStory()
		s.salt = "!"
		s.change = func(_ context.Context, at string) error {
			if at == "end" {
				return errors.New("it fails now")
			}
			return nil
		}
		rep, err := durable.Replay(t.Context(), h, s.defs)
		if err != nil || len(rep.Drift) != 2 || !strings.Contains(rep.Drift[0], `0/2 (step "flaky")`) || !strings.Contains(rep.Drift[1], "completed") {
			t.Errorf("got %+v, %v", rep, err)
		}
	})
	t.Run("no history", func(t *testing.T) {
		t.Parallel()
		for _, bad := range []string{"", "{}", "[]", "null", `{"format":"durable history","version":99}`, string(h[:len(h)/2]),
			strings.Replace(string(h), `{"id":`, `{"id":9999`, 1)} {
			if _, err := durable.Replay(t.Context(), []byte(bad), newStory().defs); !errors.Is(err, durable.ErrHistory) {
				t.Errorf("%.40q: %v", bad, err)
			}
		}
	})
}

// recorder is a test that keeps what it is told.
type recorder struct {
	testing.TB
	text string
}

func (r *recorder) Errorf(format string, args ...any) { r.text += fmt.Sprintf(format, args...) }
func (r *recorder) Helper()                           {}

// FuzzReplay: whatever is given for a history, Replay comes to an end.
func FuzzReplay(f *testing.F) {
	files, err := filepath.Glob("testdata/histories/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		h, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(h)
	}
	f.Fuzz(func(t *testing.T, h []byte) {
		rep, err := durable.Replay(t.Context(), h, newStory().defs)
		var b *durable.BlockedError
		if err != nil && !errors.Is(err, durable.ErrHistory) && !errors.As(err, &b) {
			t.Errorf("got %v", err)
		}
		if err == nil && rep.Workflow != "story" {
			t.Errorf("replayed a %q", rep.Workflow)
		}
	})
}
