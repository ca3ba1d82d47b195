package durable_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/mcpagent/mcpagent/durable"
)

type small struct {
	ID     string  `json:"id"`
	Amount float64 `json:"amount"`
	Tags   []int   `json:"tags"`
}

// BenchmarkMemoryStep is one step of a run on the memory engine; compare with
// BenchmarkLimit, which is what no engine can do without.
func BenchmarkMemoryStep(b *testing.B) {
	step := durable.NewStep("step", func(_ context.Context, s small) (small, error) { return s, nil }, nil)
	n := 0
	wf := durable.NewWorkflow("wf", func(ctx context.Context, s small) (small, error) {
		var err error
		for range n {
			if s, err = step.Do(ctx, s); err != nil {
				return s, err
			}
		}
		return s, nil
	}, nil)
	e, err := durable.NewMemory(b.Context(), nil, wf, step)
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close(context.Background())
	b.ReportAllocs()
	n = b.N
	r, err := wf.Start(b.Context(), e, small{ID: "a", Amount: 12.5, Tags: []int{1, 2, 3}}, nil)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := wf.Result(b.Context(), r); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkLimit is four JSON passes of the same value and one hand-over
// between goroutines.
func BenchmarkLimit(b *testing.B) {
	in, out := make(chan []byte), make(chan []byte)
	go func() {
		for x := range in {
			out <- x
		}
		close(out)
	}()
	s := small{ID: "a", Amount: 12.5, Tags: []int{1, 2, 3}}
	b.ReportAllocs()
	for b.Loop() {
		for range 2 {
			raw, err := json.Marshal(s)
			if err != nil {
				b.Fatal(err)
			}
			if err := json.Unmarshal(raw, &s); err != nil {
				b.Fatal(err)
			}
		}
		in <- nil
		<-out
	}
	close(in)
}
