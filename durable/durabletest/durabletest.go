// Package durabletest tests workflows: in virtual time, replayed after every
// turn, and killed at every commit.
//
//	func TestBuy(t *testing.T) {
//		durabletest.Modes(t, func(t *testing.T, open durabletest.Open) {
//			eng := open(buy, pay.Bind(fakePay))
//			run, err := buy.Start(t.Context(), eng, order, nil)
//			…
//			time.Sleep(5 * 24 * time.Hour) // takes no time
//		})
//	}
//
// [Modes] runs a test as the engine usually works, and with every run put away
// and replayed after every turn: code that is not deterministic shows itself
// there. [Sweep] lets the process die at every commit, before and after it is
// kept, also while it recovers, and holds each outcome against the one of an
// undisturbed life.
//
// Both run in a bubble of testing/synctest: time stands still while anything
// works, and jumps to the next timer when everything waits.
//
// [Replay] holds today's code against histories of production.
//
// # For those who make engines
//
// [TestEngine] plays the contract of engines, rule by rule: each [Scenario] is a
// program and its clients, played in each of [ContractModes]. What an engine
// cannot do it says in Engine.Lacks; there is nothing else to leave out. The
// scenarios say time in hours, which are virtual or as long as Engine.Hour, so
// that they can be played on a server; and their programs are functions of an
// [Env] that crosses processes, so that another process can execute them:
//
//	func TestMain(m *testing.M) {
//		durabletest.Serve(engine) // where Engine.Client is given
//		os.Exit(m.Run())
//	}
//
//	func TestContract(t *testing.T) { durabletest.TestEngine(t, engine) }
//
// docs/contract.md lists the rules with their scenarios.
package durabletest

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/internal/pace"
)

// Open makes an engine for a test, in memory, and closes it at its end. Steps
// that do not stop then, and code of runs that does not come back, fail the
// test.
type Open func(defs ...durable.Definer) *durable.Engine

// Mode is a way in which runs are executed.
type Mode struct {
	Name    string
	Options durable.Options

	pace pace.Pace
}

// All are the modes that [Modes] uses: runs stay awake while they wait, and
// paranoid, where each is put away and replayed after every turn.
func All() []Mode {
	quiet := slog.New(slog.DiscardHandler)
	return []Mode{
		{Name: "awake", Options: durable.Options{Logger: quiet}},
		{Name: "paranoid", Options: durable.Options{Logger: quiet, MaxAwake: -1}},
	}
}

// Modes runs fn as a subtest in each mode, in a bubble where time is virtual.
func Modes(t *testing.T, fn func(t *testing.T, open Open)) {
	t.Helper()
	for _, m := range All() {
		t.Run(m.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fn(t, func(defs ...durable.Definer) *durable.Engine {
					t.Helper()
					return open(t, m.Options, defs...)
				})
			})
		})
	}
}

func open(t *testing.T, o durable.Options, defs ...durable.Definer) *durable.Engine {
	t.Helper()
	e, err := durable.NewMemory(t.Context(), &o, defs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			t.Errorf("close the engine: %v", err)
		}
	})
	return e
}
