package durable_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// open is what a program does in main, with an engine on a file instead.
func open(defs ...durable.Definer) (*durable.Engine, func()) {
	e, err := durable.NewMemory(context.Background(), nil, defs...)
	if err != nil {
		log.Fatal(err)
	}
	return e, func() { _ = e.Close(context.Background()) }
}

// A workflow calls a step, which does I/O and is retried.
func Example() {
	ctx := context.Background()
	attempts := 0
	fetch := durable.NewStep("fetch", func(ctx context.Context, city string) (int, error) {
		if attempts++; attempts < 3 {
			return 0, errors.New("the service is down")
		}
		return 21, nil
	}, &durable.StepOptions{Retry: &durable.Retry{Initial: time.Millisecond}})
	weather := durable.NewWorkflow("weather", func(ctx context.Context, city string) (string, error) {
		degrees, err := fetch.Do(ctx, city)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%d degrees in %s", degrees, city), nil
	}, nil)

	eng, done := open(weather, fetch)
	defer done()
	run, err := weather.Start(ctx, eng, "Oslo", &durable.StartOptions{ID: "weather-oslo"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(weather.Result(ctx, run))
	// Output: 21 degrees in Oslo <nil>
}

// A run asks a person; anybody answers, from the list of open questions.
func ExampleQuestion() {
	ctx := context.Background()
	type Decision struct {
		Approved bool `json:"approved"`
	}
	decide := durable.NewQuestion[Decision]("approve")
	buy := durable.NewWorkflow("buy", func(ctx context.Context, what string) (string, error) {
		a, err := decide.Ask(ctx, "Buy "+what+"?", &durable.AskOptions{Expires: 5 * 24 * time.Hour})
		switch {
		case errors.Is(err, durable.ErrExpired):
			return "nobody answered", nil
		case err != nil:
			return "", err
		}
		return fmt.Sprintf("%s says %v", a.By, a.Value.Approved), nil
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{decide}})

	eng, done := open(buy)
	defer done()
	run, err := buy.Start(ctx, eng, "a boat", nil)
	if err != nil {
		log.Fatal(err)
	}
	var open []*durable.QuestionInfo
	for len(open) == 0 {
		if open, err = eng.Questions(ctx, nil); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(open[0].Text)
	alex := durable.WithActor(ctx, durable.Actor{Name: "alex"})
	if err := decide.Answer(alex, eng, open[0].ID, Decision{Approved: true}, nil); err != nil {
		log.Fatal(err)
	}
	fmt.Println(buy.Result(ctx, run))
	// Output:
	// Buy a boat?
	// alex says true <nil>
}

// Children work side by side; Map keeps the order and joins the errors.
func ExampleMap() {
	ctx := context.Background()
	line := durable.NewWorkflow("line", func(ctx context.Context, n int) (int, error) {
		if err := durable.Sleep(ctx, time.Duration(10-n)*time.Millisecond); err != nil {
			return 0, err
		}
		return n * n, nil
	}, nil)
	all := durable.NewWorkflow("all", func(ctx context.Context, in []int) ([]int, error) {
		return durable.Map(ctx, in, line.Run, nil)
	}, nil)

	eng, done := open(all, line)
	defer done()
	run, err := all.Start(ctx, eng, []int{1, 2, 3}, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(all.Result(ctx, run))
	// Output: [1 4 9] <nil>
}

// Signals wait in the run's mailbox until it takes them, also over
// ContinueAsNew, which gives a run that never ends a fresh history.
func ExampleContinueAsNew() {
	ctx := context.Background()
	add := durable.NewSignal[int]("add")
	sum := durable.NewWorkflow("sum", func(ctx context.Context, total int) (int, error) {
		for range 2 {
			n, err := add.Receive(ctx)
			if err != nil {
				return 0, err
			}
			if n == 0 {
				return total, nil
			}
			total += n
		}
		return 0, durable.ContinueAsNew(total)
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{add}})

	eng, done := open(sum)
	defer done()
	run, err := sum.Start(ctx, eng, 0, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, n := range []int{1, 2, 3, 4, 5, 0} {
		if err := add.Send(ctx, run, n, nil); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(sum.Result(ctx, run))
	// Output: 15 <nil>
}

// An update changes a run and answers; a query only looks.
func ExampleUpdate() {
	ctx := context.Background()
	put := durable.NewUpdate[string, int]("put")
	list := durable.NewQuery[struct{}, []string]("list")
	cart := durable.NewWorkflow("cart", func(ctx context.Context, _ struct{}) ([]string, error) {
		var items []string
		if err := list.Handle(ctx, func(struct{}) ([]string, error) { return items, nil }); err != nil {
			return nil, err
		}
		err := put.Handle(ctx, func(_ context.Context, item string) (int, error) {
			items = append(items, item)
			return len(items), nil
		}, func(item string) error {
			if item == "" {
				return errors.New("the item has no name")
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		err = durable.Await(ctx, func() bool { return len(items) == 2 })
		return items, err
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{put, list}})

	eng, done := open(cart)
	defer done()
	run, err := cart.Start(ctx, eng, struct{}{}, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(put.Send(ctx, run, "milk", nil))
	_, err = put.Send(ctx, run, "", nil)
	fmt.Println(errors.Is(err, durable.ErrRejected))
	fmt.Println(list.Ask(ctx, run, struct{}{}))
	fmt.Println(put.Send(ctx, run, "bread", nil))
	fmt.Println(cart.Result(ctx, run))
	// Output:
	// 1 <nil>
	// true
	// [milk] <nil>
	// 2 <nil>
	// [milk bread] <nil>
}

// A callback is completed by whoever has its token: a webhook, say. A stream
// is read while the run works, and after it.
func ExampleCallback() {
	ctx := context.Background()
	tokens := make(chan string, 1)
	order := durable.NewStep("order", func(_ context.Context, token string) (string, error) {
		tokens <- token // give it to the supplier
		return "ordered", nil
	}, nil)
	events := durable.NewStream[string]("events")
	supply := durable.NewWorkflow("supply", func(ctx context.Context, _ struct{}) (string, error) {
		cb, err := durable.NewCallback[string](ctx)
		if err != nil {
			return "", err
		}
		s, err := order.Do(ctx, cb.Token())
		if err != nil {
			return "", err
		}
		if err := events.Append(ctx, s); err != nil {
			return "", err
		}
		s, err = cb.Wait(ctx)
		if err != nil {
			return "", err
		}
		return "done", events.Append(ctx, s)
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{events}})

	eng, done := open(supply, order)
	defer done()
	run, err := supply.Start(ctx, eng, struct{}{}, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := eng.Complete(ctx, <-tokens, []byte(`"delivered"`)); err != nil {
		log.Fatal(err)
	}
	for e, err := range events.Read(ctx, run, 0) {
		fmt.Println(e.Offset, e.Value, err)
	}
	// Output:
	// 0 ordered <nil>
	// 1 delivered <nil>
}

// At most once: when nobody can know whether the step took effect, the run is
// told so instead of doing it again.
func ExampleStepOptions_atMostOnce() {
	ctx := context.Background()
	send := durable.NewStep("send", func(_ context.Context, to string) (string, error) {
		return "", durable.OutcomeUnknown(errors.New("the connection broke after the request was sent"))
	}, &durable.StepOptions{AtMostOnce: true})
	mail := durable.NewWorkflow("mail", func(ctx context.Context, to string) (string, error) {
		_, err := send.Do(ctx, to)
		if errors.Is(err, durable.ErrOutcomeUnknown) {
			return "ask " + to + " whether it came", nil
		}
		return "sent", err
	}, nil)

	eng, done := open(mail, send)
	defer done()
	run, err := mail.Start(ctx, eng, "alex", nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(mail.Result(ctx, run))
	// Output: ask alex whether it came <nil>
}

// Version lets a workflow be changed while runs of it are under way.
func ExampleVersion() {
	ctx := context.Background()
	greet := durable.NewWorkflow("greet", func(ctx context.Context, name string) (string, error) {
		if durable.Version(ctx, "polite", 1) >= 1 {
			return "Good day, " + name, nil // runs that started after the change
		}
		return "Hi " + name, nil
	}, nil)
	eng, done := open(greet)
	defer done()
	run, err := greet.Start(ctx, eng, "Ada", nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(greet.Result(ctx, run))
	// Output: Good day, Ada <nil>
}
