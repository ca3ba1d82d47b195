package journal

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOneIsMemory: for a single run, packed or not, One is what Memory is.
func TestOneIsMemory(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		one, mem := &One{}, NewMemory()
		last := map[Store]*Run{}
		commit := func(tx func(run Run) *Tx) {
			var errs []error
			for _, st := range []Store{one, mem} {
				run := Run{RID: 1, WorkflowID: "wf", RunID: "r", Chain: "r", Name: "flow", State: "running", From: -1}
				if last[st] != nil {
					run = *last[st]
				}
				x := tx(run)
				errs = append(errs, st.Commit(t.Context(), x))
				if errs[len(errs)-1] == nil && len(x.Writes) > 0 {
					last[st] = x.Writes[0].Run
				}
			}
			if errs[0] != errs[1] {
				t.Fatalf("seed %d: Commit: %v, and in memory %v", seed, errs[0], errs[1])
			}
		}
		row := func(rid int64, kind, text string) *Row {
			r, err := Encode(rid, kind, &Entry{At: 1, Events: []*Event{{Kind: Signaled, Name: text, Payload: Payload(text)}}})
			if err != nil {
				t.Fatal(err)
			}
			if rnd.IntN(3) == 0 {
				r.Data = nil
			}
			return r
		}
		data := func(text string) func() *Row { // the same for both
			k, n := KindTurn, rnd.Uint64()
			return func() *Row {
				rnd = rand.New(rand.NewPCG(n, 0))
				return row(1, k, text)
			}
		}
		first := data("first")
		commit(func(run Run) *Tx {
			return &Tx{Writes: []Write{{New: true, Run: &run, Before: []*Row{first()}, Row: first()}}}
		})
		for i := range 30 {
			text := fmt.Sprint("seed ", seed, " step ", i)
			more, n := data(text), rnd.IntN(8)
			switch n {
			case 0:
				one.Pack()
			case 1:
				commit(func(run Run) *Tx {
					run.Status = []byte(text)
					return &Tx{Writes: []Write{{Run: &run}}}
				})
			case 2:
				state := []string{"open", "answered"}[rnd.IntN(2)]
				id := fmt.Sprint("ask", rnd.IntN(3))
				commit(func(Run) *Tx { return &Tx{Asks: []*Ask{{ID: id, RID: 1, State: state, Text: text}}} })
			case 3:
				commit(func(Run) *Tx {
					return &Tx{Items: []*Item{{RID: 1, Name: "s", Offset: int64(i), Data: Payload(text)}}, Blobs: []*Blob{{Digest: text[:7], Chain: "r", Data: []byte(text)}}}
				})
			default:
				commit(func(run Run) *Tx {
					if run.Turns++; n == 4 {
						run.From = -1
					}
					return &Tx{Writes: []Write{{Run: &run, Row: more()}}}
				})
			}
		}
		look := func(st Store) (out []any) {
			see := func(v any, err error) { out = append(out, v, err) }
			run, err := st.Run(1)
			see(run, err)
			for _, from := range []int64{0, run.From, run.Last, run.Last + 1} {
				rows, err := st.Rows(run.Last, from)
				see(rows, err)
			}
			for _, ref := range [][2]string{{"wf", ""}, {"wf", "r"}, {"", "r"}, {"wf", "no"}, {"no", "r"}, {"no", ""}} {
				r, err := st.Find(ref[0], ref[1])
				see(r, err)
			}
			for _, f := range []*Filter{{}, {Workflow: "flow"}, {Workflow: "no"}, {States: []string{"failed"}}, {Before: 1}, {Before: 2}} {
				rs, err := st.List(f)
				see(rs, err)
			}
			for _, open := range []bool{true, false} {
				as, err := st.Asks(1, open)
				see(as, err)
			}
			for _, id := range []string{"ask0", "ask1", "no"} {
				a, err := st.Ask(id)
				see(a, err)
			}
			items, err := st.Items(1, "s", 5, 3)
			see(items, err)
			ends, err := st.StreamEnds(1)
			see(ends, err)
			b, err := st.Blob(fmt.Sprint("seed ", seed, " step")[:7])
			see(b, err)
			_, err = st.Rows(1<<40, 0)
			see(nil, err)
			top, err := st.MaxRID()
			see(top, err)
			_, err = st.FindKey("")
			see(nil, err)
			var open []string
			see(nil, st.Unfinished(func(r *Run) error { open = append(open, r.RunID); return nil }))
			see(open, nil)
			return out
		}
		same := cmp.Comparer(func(a, b error) bool { return a == b })
		if d := cmp.Diff(look(mem), look(one), same, cmp.AllowUnexported(Row{})); d != "" {
			t.Fatalf("seed %d: in memory (-), here (+): %s", seed, d)
		}
	}
}
