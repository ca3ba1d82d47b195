package agent_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/internal/npmtest"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

var (
	kills    = flag.Int("kills", 5, "how often an agent's process is killed, on each engine")
	killSeed = flag.Uint64("killseed", 1, "of the points and moments at which it is; 0: the clock")
)

const (
	killsAtOnce = 4                // in one run, at most: fewer than attempts at what may be repeated, since each may hit the same one
	goneWithin  = 10 * time.Second // what a process that was killed leaves behind
	playWithin  = 5 * time.Minute  // one run with its deaths
)

// TestKillSweep kills the process of an agent by SIGKILL, at points of its life
// and at random moments, and starts another one, until the run has ended: with
// published MCP servers and one of ours, a model behind a provider's protocol,
// on a file and on a cluster. For more, one engine at a time:
//
//	go test ./agent -run TestKillSweep/local -turns 10 -kills 100 -killseed 7 -v -timeout 1h
func TestKillSweep(t *testing.T) {
	t.Parallel()
	seed := *killSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	for _, name := range []string{"local", "temporal"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := ""
			if name == "temporal" {
				addr = cluster(t)
			}
			var total tally
			chosen := 0
			began := time.Now()
			undisturbed := map[string]*history{}
			for i := uint64(0); total.kills < *kills && !t.Failed(); i++ {
				provider, stream := []string{"openai", "anthropic"}[(seed+i)%2], (seed+i)/2%2 == 1
				kind := fmt.Sprint(provider, ", streams ", stream)
				calm := undisturbed[kind] // tells which points there are
				if calm == nil {
					t.Run(kind, func(t *testing.T) {
						calm = newHistory(t, provider, stream, addr)
						total.add(calm.play(nil, 0))
					})
					if undisturbed[kind] = calm; t.Failed() {
						break
					}
				}
				t.Run(fmt.Sprint("seed ", seed+i), func(t *testing.T) {
					h := newHistory(t, provider, stream, addr)
					h.took, h.rnd = calm.took, mathrand.New(mathrand.NewPCG(seed+i, 3))
					n := min(*kills-total.kills, killsAtOnce)
					points := choose(h.rnd, calm.points, n-n/3, chosen)
					chosen += len(points)
					total.add(h.play(points, n/3))
				})
			}
			t.Logf("%s, %d turns, seed %d: %v in %v", name, *turns, seed, &total, time.Since(began).Round(time.Second))
		})
	}
}

// tally is what was seen.
type tally struct {
	runs, lives, points, kills, moments int
	asked, again, paid                  int // requests; those of them for an answer that died with the process, and for one that was recorded
	calls, lost, doubled                int
	unknown, unfounded                  int // outcomes: of calls that took effect, and of calls that did not
	slowest                             time.Duration
	died                                map[string]bool
}

func (s *tally) add(o *tally) {
	s.runs++
	s.lives += o.lives
	s.points = max(s.points, o.points)
	s.kills += o.kills
	s.moments += o.moments
	s.asked += o.asked
	s.again += o.again
	s.paid += o.paid
	s.calls += o.calls
	s.lost += o.lost
	s.doubled += o.doubled
	s.unknown += o.unknown
	s.unfounded += o.unfounded
	s.slowest = max(s.slowest, o.slowest)
	if s.died == nil {
		s.died = map[string]bool{}
	}
	maps.Copy(s.died, o.died)
}

func (s *tally) String() string {
	return fmt.Sprintf("%d runs, %d lives; %d points, %d visited; %d kills, %d of them at random moments; %d requests of models, %d again for an answer that died unheard, %d for a recorded one; "+
		"%d tool calls: %d lost, %d doubled, unknown %d truly and %d falsely; all processes were gone within %v",
		s.runs, s.lives, s.points, len(s.died), s.kills, s.moments, s.asked, s.again, s.paid, s.calls, s.lost, s.doubled, s.unknown, s.unfounded, s.slowest.Round(time.Millisecond))
}

var digits = regexp.MustCompile(`[0-9/-]+`)

// telling are the points that nobody should do without: an effect of which
// nobody has heard, an answer that is not recorded, and what comes before.
var telling = []string{"count # is done", "model # has answered", "count # begins", "model # is asked"}

// choose chooses points to die at, after others that were: what happens there
// comes first, so that the many of one kind don't crowd out the others.
func choose(r *mathrand.Rand, points []string, n, had int) map[string]bool {
	kinds := map[string][]string{}
	for _, p := range points {
		k := digits.ReplaceAllString(p, "#")
		kinds[k] = append(kinds[k], p)
	}
	names := slices.Sorted(maps.Keys(kinds))
	out := map[string]bool{}
	for n = min(n, len(points)); len(out) < n; {
		of := kinds[names[r.IntN(len(names))]]
		if i := had + len(out); i < len(telling) {
			of = kinds[telling[i]]
		}
		out[of[r.IntN(len(of))]] = true
	}
	return out
}

// history is one run of an agent and all processes that live it, with the world
// outside of them.
type history struct {
	t    *testing.T
	part part
	dir  string // what the filesystem server may touch
	errs string // the file for standard error
	rnd  *mathrand.Rand
	took time.Duration // of an undisturbed one

	mu       sync.Mutex // guards what follows
	points   []string   // come by, in their order
	dieAt    map[string]bool
	life     *life
	asked    map[int]int  // requests, by turn
	recorded map[int]bool // answers
	turn     int          // the newest that was asked for
	talk     []string     // the newest transcript
	last     []llm.Message
	effects  map[string][]string // their keys
	deaths   []death
	result   string
	wrong    []string
	sum      tally
}

// death is one of a process, at a point or atMoment.
type death struct {
	at   string
	turn int
}

const atMoment = "a moment"

// life is a process.
type life struct {
	cmd    *exec.Cmd
	killed bool
	dead   chan struct{} // closed when it has ended
}

func newHistory(t *testing.T, provider string, stream bool, cluster string) *history {
	const published = "../mcphost/testdata/servers"
	const scripts = "@modelcontextprotocol/server-"
	h := &history{t: t, asked: map[int]int{}, recorded: map[int]bool{}, turn: -1, effects: map[string][]string{}, errs: filepath.Join(t.TempDir(), "stderr")}
	var err error
	if h.dir, err = filepath.EvalSymlinks(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	h.part = part{Mark: rand.Text(), Provider: provider, Stream: stream}
	h.part.ID = "sweep-" + h.part.Mark
	h.part.Node, h.part.Filesystem = npmtest.Node(t, published, scripts+"filesystem/dist/index.js")
	h.part.Filesystem = append(h.part.Filesystem, h.dir)
	_, h.part.Everything = npmtest.Node(t, published, scripts+"everything/dist/index.js")
	if h.part.Temporal = cluster; cluster == "" {
		h.part.Local = filepath.Join(t.TempDir(), "runs.db")
	}
	for n := range *turns {
		h.write(fmt.Sprint("edited-", n), "end\n")
	}
	h.write("read", "what is read")

	model := llmtest.Serve(t, llmtest.New(llmtest.Answer{Always: true, Func: h.model}))
	world := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		switch r.URL.Path {
		case "/point":
			h.record(q.Get("recorded"))
			h.point(q.Get("at"))
		case "/effect":
			h.mu.Lock()
			h.effects[q.Get("what")] = append(h.effects[q.Get("what")], q.Get("key"))
			h.mu.Unlock()
		case "/done":
			h.mu.Lock()
			h.result = q.Get("result")
			h.mu.Unlock()
		default:
			// The whole answer is with the process when the point comes.
			answer := httptest.NewRecorder()
			model.ServeHTTP(answer, r)
			maps.Copy(w.Header(), answer.Header())
			w.Header().Set("Content-Length", strconv.Itoa(answer.Body.Len()))
			w.WriteHeader(answer.Code)
			_, _ = io.Copy(w, answer.Body) // the process may be dead
			w.(http.Flusher).Flush()
			h.mu.Lock()
			turn := h.turn
			h.mu.Unlock()
			h.point(fmt.Sprintf("model %d has answered", turn))
		}
	}))
	t.Cleanup(world.Close)
	h.part.World = outer(world.URL)
	return h
}

func (h *history) write(name, text string) {
	if err := os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *history) bad(format string, args ...any) {
	h.wrong = append(h.wrong, fmt.Sprintf(format, args...))
}

// point is where a process may die: the one that is told so does not hear the
// answer.
func (h *history) point(at string) {
	h.mu.Lock()
	if !slices.Contains(h.points, at) {
		h.points = append(h.points, at)
	}
	if !h.dieAt[at] || h.life.killed { // what is left of it comes by, too
		h.mu.Unlock()
		return
	}
	delete(h.dieAt, at)
	dead := h.kill(at)
	h.mu.Unlock()
	<-dead
}

// kill kills the process. h.mu is held.
func (h *history) kill(at string) (dead <-chan struct{}) {
	if !h.life.killed && h.life.cmd.Process.Kill() == nil { // it has not ended by itself
		h.life.killed = true
		h.deaths = append(h.deaths, death{at, h.turn})
	}
	return h.life.dead
}

// record notes that an answer of the model is recorded.
func (h *history) record(turn string) {
	if n, err := strconv.Atoi(turn); err == nil {
		h.mu.Lock()
		h.recorded[n] = true
		h.mu.Unlock()
	}
}

// toolCalls are those of a turn: two that may be made once at most, which the
// world can count, and three and sometimes four that may be repeated.
func (h *history) toolCalls(n int) (out []llm.ToolCall) {
	add := func(tool, format string, args ...any) {
		out = append(out, call(fmt.Sprintf("call_%d_%d", n, len(out)), tool, fmt.Sprintf(format, args...)))
	}
	add("own_count", `{"n":"%d"}`, n)
	// Arguments as long as these are lent to the step.
	add("fs_edit_file", `{"path":%q,"edits":[{"oldText":"end","newText":"done\n%s\nend"}]}`, filepath.Join(h.dir, fmt.Sprint("edited-", n)), strings.Repeat("long ", 200))
	add("fs_read_text_file", `{"path":%q}`, filepath.Join(h.dir, "read"))
	add("all_echo", `{"message":"echo %d"}`, n)
	add("own_again", `{"n":"%d"}`, n)
	if n%3 == 1 {
		add("all_trigger-long-running-operation", `{"duration":0.3,"steps":3}`)
	}
	return out
}

// model answers a request that has passed the provider's rules.
func (h *history) model(_ context.Context, r *llm.Request) (*llm.Response, error) {
	n := 0
	var talk []string
	for _, m := range r.Messages {
		if m.Role == llm.RoleModel {
			n++
		}
		b, err := json.Marshal(m)
		if err != nil {
			return nil, err
		}
		talk = append(talk, string(b))
	}
	h.mu.Lock()
	deaths := 0
	for _, d := range h.deaths {
		if d.turn == n {
			deaths++
		}
	}
	switch h.asked[n]++; {
	case n < h.turn:
		h.sum.paid++
		h.bad("turn %d is asked for after turn %d", n, h.turn)
	case h.recorded[n]:
		h.sum.paid++
		h.bad("turn %d is asked for, and its answer was recorded", n)
	case h.asked[n] > 1+deaths:
		h.bad("turn %d is asked for %d times, with %d deaths in it", n, h.asked[n], deaths)
	}
	for i := range h.turn {
		h.recorded[i] = true
	}
	if had := h.talk; len(talk) < len(had) || !slices.Equal(talk[:len(had)], had) {
		h.bad("turn %d has another past than turn %d:\n%s\n%s", n, h.turn, talk, had)
	}
	h.turn, h.talk, h.last = n, talk, r.Messages
	h.mu.Unlock()
	h.point(fmt.Sprintf("model %d is asked", n))
	var parts []llm.Part
	if n == *turns-1 {
		parts = []llm.Part{{Text: "done"}}
	} else {
		for _, c := range h.toolCalls(n) {
			parts = append(parts, llm.Part{Call: &c})
		}
	}
	res := reply(parts...)
	res.ID, res.Model = fmt.Sprint("answer_", n), "some"
	return res, nil
}

// play lets processes live the run, one after the other, until it has ended:
// they die at points, and at random moments.
func (h *history) play(dieAt map[string]bool, moments int) *tally {
	h.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(h.t.Context(), playWithin)
	defer cancel()
	h.dieAt = dieAt
	for h.result == "" && len(h.wrong) == 0 {
		h.sum.lives++
		l, err := h.begin(ctx)
		if err != nil {
			h.t.Fatal(err)
		}
		var moment <-chan time.Time
		if h.sum.moments < moments {
			moment = time.After(time.Duration(h.rnd.Int64N(int64(h.took))))
		}
		select {
		case <-l.dead:
		case <-moment:
			h.mu.Lock()
			h.kill(atMoment)
			h.mu.Unlock()
			<-l.dead
		}
		h.mu.Lock()
		if l.killed && h.deaths[len(h.deaths)-1].at == atMoment {
			h.sum.moments++
		}
		h.gone()
		if !l.killed && (h.result == "" || !l.cmd.ProcessState.Success()) {
			said, _ := os.ReadFile(h.errs)
			h.bad("life %d ended by itself: %v, %v\n%s", h.sum.lives, l.cmd.ProcessState, context.Cause(ctx), said[max(0, len(said)-4000):])
		}
		h.mu.Unlock()
	}
	h.took = time.Since(began)
	h.examine()
	if h.wrong != nil {
		h.t.Errorf("%s\ndeaths: %+v", strings.Join(h.wrong, "\n"), h.deaths)
	}
	return &h.sum
}

func (h *history) begin(ctx context.Context) (*life, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l, err := begin(ctx, &h.part, h.errs)
	h.life = l
	return l, err
}

// begin begins a life of a part, with a file for its standard error.
func begin(ctx context.Context, p *part, stderr string) (*life, error) {
	told, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	// A file, so that nothing that is left of the process holds a pipe.
	errs, err := os.Create(stderr)
	if err != nil {
		return nil, err
	}
	defer errs.Close()
	l := &life{cmd: exec.CommandContext(ctx, os.Args[0]), dead: make(chan struct{})}
	l.cmd.Env = append(os.Environ(), lifeVar+"="+string(told), markVar+"="+p.Mark)
	l.cmd.Stderr = errs
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = l.cmd.Wait() // ProcessState has it
		close(l.dead)
	}()
	return l, nil
}

// gone looks that nothing of a process is left.
func (h *history) gone() {
	began := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		left := marked(h.part.Mark)
		took := time.Since(began)
		if len(left) == 0 {
			h.sum.slowest = max(h.sum.slowest, took)
			return
		}
		if took > goneWithin {
			h.bad("life %d has left %q", h.sum.lives, left)
			return
		}
		<-tick.C
	}
}

// marked are the processes of a history that run, in the table of processes.
func marked(mark string) (found []string) {
	tables, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		panic(err)
	}
	for _, file := range tables {
		if env, err := os.ReadFile(file); err == nil && bytes.Contains(env, []byte(markVar+"="+mark)) {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline")) // it may have ended
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// examine holds what the model was told last against the world.
func (h *history) examine() {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.sum
	s.points, s.kills, s.died = len(h.points), len(h.deaths), map[string]bool{}
	dead := map[int]bool{}
	for _, d := range h.deaths {
		dead[d.turn] = true
		if d.at != atMoment {
			s.died[d.at] = true
		}
	}
	for _, n := range h.asked {
		s.asked += n
		s.again += n - 1
	}
	s.again -= s.paid
	for what, keys := range h.effects {
		if len(keys) > 1 && strings.HasPrefix(what, "count") {
			s.doubled++
			h.bad("%q took effect %d times", what, len(keys))
		}
		if keys = slices.Compact(keys); len(keys) > 1 || keys[0] == "" {
			h.bad("%q has the effect keys %q", what, keys)
		}
	}
	results := map[string]*llm.ToolResult{}
	for _, m := range h.last {
		for _, p := range m.Parts {
			if p.Result != nil {
				results[p.Result.ID] = p.Result
			}
		}
	}
	calls := 0
	for n := range *turns - 1 {
		for _, c := range h.toolCalls(n) {
			calls++
			res := results[c.ID]
			if res == nil {
				h.bad("call %s has no result", c.ID)
				continue
			}
			h.hold(n, &c, res, dead[n])
		}
	}
	s.calls += calls
	if want := fmt.Sprint("done ", *turns, " ", calls); h.result != want && h.wrong == nil {
		h.bad("the result is %q, want %q", h.result, want)
	}
}

// hold holds the result of a call against what happened.
func (h *history) hold(turn int, c *llm.ToolCall, res *llm.ToolResult, died bool) {
	times := -1 // not counted
	want := ""
	switch c.Name {
	case "own_count":
		times, want = len(h.effects[fmt.Sprint("count ", turn)]), "count"
	case "fs_edit_file":
		text, err := os.ReadFile(filepath.Join(h.dir, fmt.Sprint("edited-", turn)))
		if err != nil {
			h.bad("%v", err)
		}
		if times = bytes.Count(text, []byte("done")); times > 1 {
			h.sum.doubled++
			h.bad("the file of turn %d was edited %d times", turn, times)
		}
	case "fs_read_text_file":
		want = "what is read"
	case "all_echo":
		want = fmt.Sprint("echo ", turn)
	case "own_again":
		want = "again"
	default:
		want = "completed"
	}
	switch unknown := strings.Contains(res.Text(), "outcome unknown"); {
	case unknown && times >= 0 && died:
		h.sum.unknown += min(times, 1)
		h.sum.unfounded += 1 - min(times, 1)
	case unknown:
		h.bad("call %s: unknown, without reason: %s", c.ID, res.Text())
	case res.Error || !strings.Contains(res.Text(), want):
		h.bad("call %s: %s", c.ID, cmp.Or(res.Text(), "nothing"))
	case times == 0:
		h.sum.lost++
		h.bad("call %s has a result, and took no effect", c.ID)
	}
}
