package localengine_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
)

// The runs of testdata/schema1.db.gz, a file that the first schema's code
// wrote, were made by these definitions.
type oldOrder struct {
	Item   string `json:"item"`
	Amount int    `json:"amount"`
}

var (
	oldOK     = durable.NewQuestion[bool]("ok")
	oldGo     = durable.NewSignal[string]("go")
	oldState  = durable.NewStatus[string]("state")
	oldLog    = durable.NewStream[string]("log")
	oldTotal  = durable.NewUpdate[int, int]("total")
	oldReads  = durable.NewQuery[struct{}, string]("reads")
	oldPrice  = durable.NewStep("price", func(_ context.Context, o oldOrder) (int, error) { return 3 * o.Amount, nil }, nil)
	oldPay    = durable.NewStep("pay", func(_ context.Context, n int) (string, error) { return "paid", nil }, &durable.StepOptions{AtMostOnce: true})
	oldParcel = durable.NewWorkflow("parcel", func(ctx context.Context, item string) (string, error) {
		s, err := oldGo.Receive(ctx)
		return item + " " + s, err
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{oldGo}})
	oldBuy = durable.NewWorkflow("buy", func(ctx context.Context, o oldOrder) (string, error) {
		sum := 0
		if err := oldTotal.Handle(ctx, func(_ context.Context, n int) (int, error) { sum += n; return sum, nil }, nil); err != nil {
			return "", err
		}
		if err := oldReads.Handle(ctx, func(struct{}) (string, error) { return o.Item, nil }); err != nil {
			return "", err
		}
		oldState.Set(ctx, "pricing")
		price, err := oldPrice.Do(ctx, o)
		if err != nil {
			return "", err
		}
		box, err := oldParcel.Child(ctx, o.Item, &durable.ChildOptions{ID: "parcel of " + o.Item})
		if err != nil {
			return "", err
		}
		if err := oldLog.Append(ctx, durable.UUID(ctx, "receipt")); err != nil {
			return "", err
		}
		oldState.Set(ctx, "asking")
		a, err := oldOK.Ask(ctx, "Buy "+o.Item+"?", &durable.AskOptions{Expires: 100 * 365 * 24 * time.Hour})
		if err != nil || !a.Value {
			return "no", err
		}
		paid, err := oldPay.Do(ctx, price+sum)
		if err != nil {
			return "", err
		}
		sent, err := box.Get(ctx)
		if err != nil {
			return "", err
		}
		if err := oldLog.Append(ctx, durable.UUID(ctx, "receipt")); err != nil {
			return "", err
		}
		return paid + " " + sent + " " + durable.UUID(ctx, "end"), nil
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{oldOK, oldGo, oldState, oldLog, oldTotal, oldReads}})
	oldDefs = durable.Set{oldBuy, oldParcel, oldPrice, oldPay}
)

// oldFile unpacks testdata/schema1.db.gz.
func oldFile(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("testdata/schema1.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	db, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "old.db")
	if err := os.WriteFile(path, db, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestFilesOfTheFirstSchema: they are read as they are, migrated by who
// executes, and their runs go on: to their ends, with the random numbers that
// they would have had.
func TestFilesOfTheFirstSchema(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path := oldFile(t)
	for _, o := range []*localengine.Options{{ReadOnly: true}, {Client: true}} {
		if _, err := localengine.Open(ctx, path, o, oldDefs); !errors.Is(err, localengine.ErrOlder) {
			t.Errorf("only to look: %v", err)
		}
	}
	check := func(e *durable.Engine, want string) {
		t.Helper()
		p, err := e.List(ctx, &durable.Filter{Workflow: "buy"})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range p.Runs {
			got = append(got, r.WorkflowID+" "+string(r.State)+" "+string(r.Status["state"]))
		}
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("runs:\n got %s\nwant %s", s, want)
		}
		if all, err := e.Schedules(ctx); err != nil || len(all) != 0 {
			t.Errorf("%d schedules, %v", len(all), err)
		}
	}
	const before = `done completed "asking", milk paused "asking", tea running "asking"`
	// A death before the migration is committed leaves the file as it was.
	died := errors.New("the process died")
	var o localengine.Options
	o.SetClaimHook(func() error { return died })
	for range 2 {
		if _, err := localengine.Open(ctx, path, &o, oldDefs); !errors.Is(err, died) {
			t.Fatalf("open: %v", err)
		}
		if v := schemaOf(t, path); v != 1 {
			t.Errorf("after a death the file has schema %d", v)
		}
	}
	e, err := localengine.Open(ctx, path, nil, oldDefs)
	if err != nil {
		t.Fatal(err)
	}
	check(e, before)
	if err := e.CreateSchedule(ctx, &durable.Schedule{ID: "yearly", Workflow: "buy", Input: json.RawMessage(`{}`), Cron: "0 0 1 1 *"}); err != nil {
		t.Error(err)
	}
	if err := e.Run("milk", "").Resume(ctx, nil); err != nil {
		t.Error(err)
	}
	for _, item := range []string{"tea", "milk"} {
		qs, err := e.Questions(ctx, &durable.QuestionFilter{WorkflowID: item})
		if err != nil || len(qs) != 1 {
			t.Fatalf("%s: %d questions, %v", item, len(qs), err)
		}
		if err := oldOK.Answer(ctx, e, qs[0].ID, true, nil); err != nil {
			t.Fatal(err)
		}
		if err := e.Run("parcel of "+item, "").Signal(ctx, "go", json.RawMessage(`"off"`), nil); err != nil {
			t.Fatal(err)
		}
		got, err := oldBuy.Result(ctx, e.Run(item, ""))
		if want := "paid " + item + " off "; err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, %v", item, got, err)
		}
	}
	for id, first := range map[string]string{ // what the old code made
		"done": "c51238d7-0f82-41a5-a52f-d220ed8dd9b5",
		"tea":  "5b0e3db9-486f-4366-8e8f-e3e6abafaf36",
		"milk": "85908b09-3aca-4871-bd26-9d6ef7d566f3",
	} {
		var receipts []string
		for it, err := range oldLog.Read(ctx, e.Run(id, ""), 0) {
			if err != nil {
				t.Fatal(err)
			}
			receipts = append(receipts, it.Value)
		}
		if len(receipts) != 2 || receipts[0] != first || receipts[1] == first {
			t.Errorf("receipts of %s: %q", id, receipts)
		}
		h, err := e.Run(id, "").Export(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if rep, err := durable.Replay(ctx, h, oldDefs); err != nil || len(rep.Drift) > 0 {
			t.Errorf("replay of %s: %+v, %v", id, rep, err)
		}
	}
	if err := e.Close(ctx); err != nil {
		t.Error(err)
	}
	if v := schemaOf(t, path); v != 2 {
		t.Errorf("the file has schema %d", v)
	}
	if e, err = localengine.Open(ctx, path, nil, oldDefs); err != nil {
		t.Fatal(err)
	}
	if s, err := e.Schedule(ctx, "yearly"); err != nil || len(s.Next) == 0 || s.Next[0].Month() != time.January {
		t.Errorf("the schedule: %+v, %v", s, err)
	}
	if err := e.Close(ctx); err != nil {
		t.Error(err)
	}
}

func schemaOf(t *testing.T, path string) int64 {
	t.Helper()
	v, err := localengine.FileNumber(path, "PRAGMA user_version")
	if err != nil {
		t.Fatal(err)
	}
	return v
}
