package main

import (
	"errors"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(processVar); spec != "" {
		if err := beVictim(spec); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// Each kind of death, with some of the workloads, and each workload with some
// kind. The long version, of all with all, is the command.
func TestEveryKind(t *testing.T) {
	for kind, loads := range map[string][]*workload{
		closing:      {fanout, children},
		memoryDeath:  {invoices, fanout, storm, chain, questions, atMostOnce, children, timers, streams, forks, retention},
		processDeath: {invoices, chain, streams},
		powerCut:     {invoices, storm, questions},
		diskFull:     {fanout, timers},
		failedSync:   {atMostOnce, children},
		killed:       {invoices, storm, chain, atMostOnce, timers},
	} {
		t.Run(strings.ReplaceAll(kind, " ", "_"), func(t *testing.T) {
			s := &sweep{seed: 1, kinds: []string{kind}, workloads: loads, dir: t.TempDir()}
			err := s.run(t.Context(), 0)
			var b strings.Builder
			s.table(&b)
			t.Logf("\n%s", b.String())
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range s.rows {
				switch {
				case kind == killed && r.kills == 0:
					t.Error("nobody was killed")
				case kind != killed && r.points < 10:
					t.Errorf("%s has %d points", r.workload, r.points)
				}
			}
		})
	}
}

// The sweep can fail: with an fsync that does nothing, what was acknowledged
// is lost in a power cut, and only there.
func TestAnFsyncThatLiesIsFound(t *testing.T) {
	s := &sweep{seed: 1, kinds: []string{powerCut}, workloads: []*workload{invoices}, point: "the end", lie: true, dir: t.TempDir()}
	err := s.run(t.Context(), 0)
	var f *failure
	if !errors.As(err, &f) || !strings.Contains(err.Error(), "was acknowledged, and") || f.seed != 1 || f.dir == "" {
		t.Errorf("the sweep says %v", err)
	}
	s = &sweep{seed: 1, kinds: []string{processDeath}, workloads: []*workload{invoices}, lie: true, dir: t.TempDir()}
	if err := s.run(t.Context(), 0); err != nil {
		t.Errorf("the death of a process needs no fsync: %v", err)
	}
}
