package main

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// setting is a number from the environment.
func setting(t *testing.T, name string, none int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return none
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// Each engine does what the model says, in a slice of all programs.
// SIMULATE_SEED makes other ones, SIMULATE_PROGRAMS more; SIMULATE_SHRINK is
// how many tries a failing one is given to become smaller.
func TestEnginesDoWhatTheModelSays(t *testing.T) {
	t.Parallel()
	seed, programs := setting(t, "SIMULATE_SEED", 1), setting(t, "SIMULATE_PROGRAMS", 200)
	t.Logf("SIMULATE_SEED=%d SIMULATE_PROGRAMS=%d", seed, programs)
	for _, e := range []struct {
		name  string
		share int
	}{{"memory", 1}, {"paranoid", 2}, {"local", 10}} {
		t.Run(e.name, func(t *testing.T) {
			c := &campaign{programs: programs / e.share, seed: uint64(seed), engines: []string{e.name}, workers: 2, dir: t.TempDir(), tries: setting(t, "SIMULATE_SHRINK", 4000)}
			r := c.run(t)
			if r.failure != "" {
				t.Error(r.failure)
			}
			if r.unclear*4 > r.programs {
				t.Errorf("the contract leaves %d of %d programs open: too many to tell anything", r.unclear, r.programs)
			}
			t.Logf("%d programs, %d open", r.programs, r.unclear)
		})
	}
}

// What programs consist of comes up often enough.
func TestProgramsHaveEverything(t *testing.T) {
	t.Parallel()
	ops, does, outcomes := map[Op]int{}, map[Do]int{}, map[string]int{}
	for n := range uint64(1000) {
		p := generate(1, n)
		var count func(body []*Stmt)
		count = func(body []*Stmt) {
			for _, s := range body {
				ops[s.Op]++
				count(s.Body)
				for _, m := range s.Members {
					count(m)
				}
			}
		}
		for _, f := range p.Flows {
			count(f.Body)
		}
		for _, a := range p.Script {
			does[a.Do]++
		}
		want, _ := predict(p)
		for line := range strings.Lines(want) {
			for _, w := range strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '(' || r == '×' || r == ')' || r == '\n' }) {
				outcomes[w]++
			}
		}
	}
	for _, o := range []Op{OpStep, OpChild, OpGet, OpSleep, OpGroup, OpSelect, OpAwait, OpReceive, OpTry, OpAdd, OpAsk, OpCallback, OpWithin, OpScope,
		OpCancel, OpShield, OpVersion, OpUUID, OpSide, OpStatus, OpTell, OpStop, OpLock, OpFail, OpContinue, OpReturn, OpWhileLess} {
		if ops[o] < 20 {
			t.Errorf("%d statements %s in 1,000 programs", ops[o], o)
		}
	}
	for _, d := range []Do{DoStart, DoSignal, DoUpdate, DoQuery, DoPause, DoResume, DoCancel, DoTerminate, DoAnswer, DoComplete, DoFailCall, DoDescribe, DoRestart, DoDie} {
		if does[d] < 20 {
			t.Errorf("%d actions %s in 1,000 programs", does[d], d)
		}
	}
	for _, o := range []string{"BOOM", "timeout", "canceled", "deadline", "unknown", "lost", "panic", "expired", "id_taken", "not_found", "finished",
		"existing", "rejected", "paused", "no_handler", "answered", "closed",
		"completed", "failed", "cancelled", "terminated", "timed_out", "continued", "running"} {
		if outcomes[o] == 0 {
			t.Errorf("no outcome %q in 1,000 programs", o)
		}
	}
}

// The same seed makes the same program, and the model says the same of it.
func TestGenerateIsDeterministic(t *testing.T) {
	t.Parallel()
	for n := range uint64(200) {
		a, b := generate(7, n), generate(7, n)
		if a.String() != b.String() {
			t.Fatalf("program %d came out twice as two", n)
		}
		x, _ := predict(a)
		y, _ := predict(b)
		if x != y {
			t.Fatalf("program %d: two predictions:\n%s", n, difference(x, y))
		}
	}
}

// No two times of a program are the same, nor is one of them zero.
func TestTimesDiffer(t *testing.T) {
	t.Parallel()
	same := 0
	for n := range uint64(500) {
		p := generate(3, n)
		seen := map[time.Duration]bool{}
		see := func(ds ...time.Duration) {
			for _, d := range ds {
				if d > 0 && seen[d] {
					same++
				}
				seen[d] = true
			}
		}
		var walk func(body []*Stmt)
		walk = func(body []*Stmt) {
			for _, s := range body {
				see(s.D)
				if p := s.Step; p != nil {
					see(p.Takes, p.Wind, p.Initial, p.After, p.Timeout, p.Total)
				}
				walk(s.Body)
				for _, m := range s.Members {
					walk(m)
				}
			}
		}
		for _, f := range p.Flows {
			walk(f.Body)
		}
		if !slices.IsSortedFunc(p.Script, func(a, b *Action) int { return int(a.At - b.At) }) {
			t.Fatalf("program %d: actions out of order", n)
		}
	}
	if same > 50 {
		t.Errorf("%d times in 500 programs came twice", same)
	}
}
