package durable_test

import (
	"context"
	"errors"
	"testing"

	"github.com/mcpagent/mcpagent/durable"
)

type rate struct{ cents int }

func (r *rate) Define(d *durable.Definitions) { d.Provide(r) }

func TestWithGivesPlainGoItsDefinitions(t *testing.T) {
	t.Parallel()
	price := durable.NewStep[string, int]("price", nil, nil)
	ctx := durable.With(t.Context(), &rate{7}, price.Bind(func(ctx context.Context, sum string) (int, error) {
		b, err := durable.GetBlob(ctx, sum)
		r, _ := durable.Provided[*rate](ctx)
		return len(b) * r.cents, err
	}))
	sum, err := durable.LendBlob(ctx, []byte("12345"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := price.Do(ctx, sum); got != 35 || err != nil {
		t.Errorf("price = %d, %v", got, err)
	}
	if r, ok := durable.Provided[*rate](ctx); !ok || r.cents != 7 {
		t.Errorf("Provided = %v, %t", r, ok)
	}
	if _, err := durable.GetBlob(ctx, durable.BlobDigest(nil)); !errors.Is(err, durable.ErrNotFound) {
		t.Errorf("a blob that nobody lent: %v", err)
	}
	if _, err := price.Do(t.Context(), sum); !errors.Is(err, durable.ErrNotDefined) {
		t.Errorf("without With: %v", err)
	}
	if _, err := durable.LendBlob(t.Context(), nil); !errors.Is(err, durable.ErrNoEngine) {
		t.Errorf("LendBlob without With: %v", err)
	}
	if r, ok := durable.Provided[*rate](t.Context()); ok {
		t.Errorf("Provided without With = %v", r)
	}
}

func TestWithReportsMistakes(t *testing.T) {
	t.Parallel()
	a, b := durable.NewStep[int, int]("same", nil, nil), durable.NewStep[int, int]("same", nil, nil)
	ctx := durable.With(t.Context(), a, b, &rate{1}, &rate{2})
	if _, err := a.Do(ctx, 1); !errors.Is(err, durable.ErrDefinedTwice) {
		t.Errorf("two steps of one name: %v", err)
	}
	if _, err := durable.NewMemory(t.Context(), nil, &rate{1}, &rate{2}); !errors.Is(err, durable.ErrDefinedTwice) {
		t.Errorf("two values of one type: %v", err)
	}
}
