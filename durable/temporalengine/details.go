package temporalengine

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"go.temporal.io/sdk/workflow"

	"github.com/mcpagent/mcpagent/durable"
)

// maxShown is how many waits, and how many questions, the details have; moment
// is how they write a time.
const (
	maxShown = 5
	moment   = time.DateTime + " UTC"
)

// detail says what the run waits for in its "current details", a bit of
// Markdown that Temporal's web UI shows. They are no event of the history: a
// worker has them in memory, for whoever looks. With a codec they are without
// values and texts, since nothing would encode them.
func (d *drive) detail(asks []*durable.QuestionInfo) {
	row := d.run.Row()
	if durable.State(row.State).Done() {
		workflow.SetCurrentDetails(d.ctx, "")
		return
	}
	var parts []string
	if p := row.Paused; len(p) > 0 {
		parts = append(parts, "**Paused** "+paused(p))
	}
	if waits := d.waits(); len(waits) > 0 {
		parts = append(parts, "Waits for "+few(waits, ", "))
	}
	var questions []string
	for _, q := range asks {
		s := "**Question** " + code(q.Name)
		if d.h.opts.Engine.Codec == nil {
			s += ": " + words(q.Text)
		}
		questions = append(questions, s)
	}
	if len(questions) > 0 {
		parts = append(parts, few(questions, "\n\n"))
	}
	if len(row.Status) > 0 && d.h.opts.Engine.Codec == nil {
		var status map[string]json.RawMessage
		_ = json.Unmarshal(row.Status, &status)
		var values []string
		for _, k := range slices.Sorted(maps.Keys(status)) {
			values = append(values, "**"+words(k)+"** "+code(string(status[k])))
		}
		parts = append(parts, few(values, ", "))
	}
	workflow.SetCurrentDetails(d.ctx, strings.Join(parts, "\n\n"))
}

// waits are what the run waits for, beside answers to its questions.
func (d *drive) waits() []string {
	var out []string
	for _, c := range d.open {
		switch {
		case c.Kind == "question":
		case c.Kind == "timer":
			out = append(out, time.UnixMicro(c.Due).UTC().Format(moment)+" ("+words(c.Name)+")")
		default:
			out = append(out, c.Kind+" "+code(c.Name))
		}
		if len(out) > maxShown {
			break
		}
	}
	for _, w := range d.run.Waits() {
		out = append(out, words(strings.TrimPrefix(w.Text, "for ")))
	}
	return out
}

func paused(row []byte) string {
	var p durable.Pause
	_ = json.Unmarshal(row, &p)
	s := "since " + p.Since.UTC().Format(moment)
	if p.By != "" {
		s = "by " + words(p.By) + " " + s
	}
	return s
}

// few joins some texts, and says so where there are more.
func few(texts []string, sep string) string {
	if len(texts) > maxShown {
		texts = append(texts[:maxShown:maxShown], "…")
	}
	return strings.Join(texts, sep)
}

// words is a text in Markdown that has no meaning there, in one line.
func words(s string) string { return markdown.Replace(short(s)) }

var markdown = func() *strings.Replacer {
	var pairs []string
	for _, c := range "\\`*_[]<>#!|~" {
		pairs = append(pairs, string(c), "\\"+string(c))
	}
	return strings.NewReplacer(pairs...)
}()

// code is a text in Markdown as it is, in one line.
func code(s string) string { return "`" + strings.ReplaceAll(short(s), "`", "'") + "`" }

// short cuts a text to a line that fits.
func short(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	const most = 200
	if len(s) <= most {
		return s
	}
	n := most
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
