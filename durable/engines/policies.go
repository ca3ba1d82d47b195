package engines

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

const policiesKey = "workflow_task_retry_policies"

// policy is one retry policy as a file has it.
type policy struct {
	// MaximumAttempts is how often a step is tried. 0: no limit.
	MaximumAttempts *int `yaml:"maximum_attempts"`
	// InitialInterval is the wait before the second attempt.
	InitialInterval *time.Duration `yaml:"initial_interval" default:"1"`
	// BackoffCoefficient is the factor from one wait to the next.
	BackoffCoefficient *float64 `yaml:"backoff_coefficient" default:"2"`
	// MaximumInterval is the longest wait. Default: 100 times the initial one.
	MaximumInterval *time.Duration `yaml:"maximum_interval"`
	// NonRetryableErrorTypes are types of errors that fail a step at once.
	NonRetryableErrorTypes *[]string `yaml:"non_retryable_error_types"`
}

// noLimit is what "no limit" is where 0 means that nothing is said.
const noLimit = math.MaxInt32

// policies decodes the section.
func (d *decoder) policies(n *node, v reflect.Value, key string) {
	var read map[string]*policy
	before := len(d.problems)
	d.value(n, reflect.ValueOf(&read).Elem(), key, "")
	out := durable.Policies{}
	for pattern, p := range read {
		if p == nil || *p == (policy{}) {
			if len(d.problems) > before {
				continue // it may be empty for that
			}
			d.warnings.add(d.at[key+"."+pattern], key+"."+pattern, "the policy is empty and says nothing; a less specific one holds")
			continue
		}
		r := durable.Retry{}
		if p.MaximumAttempts != nil {
			if r.MaxAttempts = *p.MaximumAttempts; r.MaxAttempts == 0 {
				r.MaxAttempts = noLimit
			}
		}
		if p.InitialInterval != nil {
			r.Initial = max(*p.InitialInterval, 1) // 0 is "at once", not "nothing is said"
		}
		if p.BackoffCoefficient != nil {
			if r.Backoff = *p.BackoffCoefficient; r.Backoff == 0 {
				r.Backoff = math.SmallestNonzeroFloat64 // refused, as other values below 1
			}
		}
		if p.MaximumInterval != nil {
			r.Max = max(*p.MaximumInterval, 1)
		}
		if p.NonRetryableErrorTypes != nil {
			r.NonRetryable = append([]string{}, *p.NonRetryableErrorTypes...)
		}
		out[pattern] = r
	}
	v.Set(reflect.ValueOf(out))
}

func checkPolicy(pattern string, r durable.Retry) error {
	switch name := strings.TrimSuffix(pattern, "*"); {
	case pattern == "":
		return errors.New("a pattern is a step's name, a dotted suffix of it, a prefix with a star, or a star")
	case strings.Contains(name, "*"):
		return errors.New("a star stands at the end of a pattern, or alone")
	case r.MaxAttempts < 0:
		return fmt.Errorf("maximum_attempts %d is negative", r.MaxAttempts)
	case r.Initial < 0 || r.Max < 0:
		return errors.New("an interval is negative")
	case r.Backoff != 0 && r.Backoff < 1 || math.IsNaN(r.Backoff) || math.IsInf(r.Backoff, 0):
		return errors.New("backoff_coefficient is below 1")
	case r.Max != 0 && r.Initial > r.Max:
		return fmt.Errorf("initial_interval %v is longer than maximum_interval %v", r.Initial, r.Max)
	}
	return nil
}

// The Python project's names of tasks, which stand for our steps in retry
// policies.
const (
	pythonLLM    = "mcp_agent.workflows.llm.augmented_llm_"
	pythonAgents = "mcp_agent.agents.agent.AgentTasks."
)

// pythonClasses are the classes of tasks that call the models of a provider:
// module and class.
var pythonClasses = map[string][]string{
	"openai":    {"openai.OpenAICompletionTasks"},
	"anthropic": {"anthropic.AnthropicCompletionTasks"},
	"azure":     {"azure.AzureCompletionTasks", "azure.AzureOpenAICompletionTasks"},
	"google":    {"google.GoogleCompletionTasks"},
	"bedrock":   {"bedrock.BedrockCompletionTasks"},
	"ollama":    {"ollama.OllamaCompletionTasks"},
}

// pythonTasks are the tasks that talk to MCP servers.
var pythonTasks = map[string]string{
	"mcp.connect":          "initialize_aggregator_task",
	"mcp.close":            "shutdown_aggregator_task",
	"mcp.list_tools":       "list_tools_task",
	"mcp.call_tool":        "call_tool_task",
	"mcp.list_prompts":     "list_prompts_task",
	"mcp.get_prompt":       "get_prompt_task",
	"mcp.get_capabilities": "get_capabilities_task",
	"mcp.list_resources":   "list_resources_task",
	"mcp.read_resource":    "read_resource_task",
}

// aliases are the names of the Python project's tasks that a step answers to.
func aliases(step string) []string {
	if task, ok := pythonTasks[step]; ok {
		return []string{pythonAgents + task}
	}
	rest, ok := strings.CutPrefix(step, "llm.")
	provider, is := strings.CutSuffix(rest, ".call")
	if !ok || !is {
		return nil
	}
	var out []string
	for _, class := range pythonClasses[provider] {
		out = append(out, pythonLLM+class+".request_completion_task", pythonLLM+class+".request_structured_completion_task")
	}
	return out
}

// Line is a line of retry policies.
type Line struct {
	Pattern string
	Pos     Pos    // where it stands; zero for one that was set in Go
	Alias   string // the step's name in the Python project, if it matched that
}

func (l Line) String() string {
	if l.Pattern == "" {
		return "no line"
	}
	s := fmt.Sprintf("%q", l.Pattern)
	if p := l.Pos.String(); p != "" {
		s = p + " " + s
	} else {
		s += " (set in Go)"
	}
	if l.Alias != "" {
		s += ", as " + l.Alias
	}
	return s
}

// grade is how well a pattern matches a name: 0 not at all; an exact name is
// better than a dotted suffix, that is better than a prefix.
func grade(pattern, name string) int {
	prefix, star := strings.CutSuffix(pattern, "*")
	switch {
	case pattern == name:
		return 3
	case !star && strings.HasSuffix(name, "."+pattern):
		return 2
	case star && strings.HasPrefix(name, prefix):
		return 1
	}
	return 0
}

// matching lists the patterns that match a step, the one that wins first: the
// better grade, then the longer pattern, then the step's own name.
func matching(patterns []string, step string) []Line {
	type scored struct {
		Line
		grade int
	}
	var all []scored
	for _, p := range patterns {
		best := scored{Line{Pattern: p}, grade(p, step)}
		for _, alias := range aliases(step) {
			if g := grade(p, alias); g > best.grade {
				best = scored{Line{Pattern: p, Alias: alias}, g}
			}
		}
		if best.grade > 0 {
			all = append(all, best)
		}
	}
	slices.SortFunc(all, func(a, b scored) int {
		return cmp.Or(b.grade-a.grade, len(b.Pattern)-len(a.Pattern), cmp.Compare(a.Alias, b.Alias), cmp.Compare(a.Pattern, b.Pattern))
	})
	lines := make([]Line, len(all))
	for i, s := range all {
		lines[i] = s.Line
	}
	return lines
}

// merged are the policies of the configuration, and over them those of the
// program.
func (c *Config) merged(o *Options) durable.Policies {
	all := maps.Clone(c.Policies)
	if all == nil {
		all = durable.Policies{}
	}
	if o != nil {
		maps.Copy(all, o.Engine.Policies)
	}
	return all
}

// effective are the policies for an engine: by the exact name of every step
// that the program has, so that names of the Python project count; and as they
// are, for what is left. unmatched are patterns that match no step.
func (c *Config) effective(o *Options, d *durable.Definitions) (out durable.Policies, unmatched []string) {
	all := c.merged(o)
	patterns := slices.Sorted(maps.Keys(all))
	used := map[string]bool{}
	out = maps.Clone(all)
	for _, i := range d.Infos() {
		if i.Kind != durable.KindStep {
			continue
		}
		lines := matching(patterns, i.Name)
		for _, l := range lines {
			used[l.Pattern] = true
		}
		if len(lines) > 0 {
			out[i.Name] = all[lines[0].Pattern]
		} else if len(all) > 0 {
			out[i.Name] = durable.Retry{}
		}
	}
	for _, p := range patterns {
		if !used[p] && p != "*" {
			unmatched = append(unmatched, p)
		}
	}
	return out, unmatched
}

// StepPolicy is how a step runs, and why.
type StepPolicy struct {
	Step    string
	Options durable.StepOptions // with every default filled in
	Won     Line                // the line that is laid over what the step declares; zero: none matches
	Also    []Line              // that match too, and lost
	From    map[string]string   // by key of a policy: who says its value
}

// Explain tells how each step of a program runs under a configuration, by
// name. [durable.Engine.Definitions] has the definitions of an open engine.
func Explain(c *Config, o *Options, d *durable.Definitions) ([]StepPolicy, error) {
	if c == nil {
		c = &Config{}
	}
	if o == nil {
		o = &Options{}
	}
	all := c.merged(o)
	patterns := slices.Sorted(maps.Keys(all))
	engine := durable.Options{StepTimeout: c.stepTimeout(o)}
	engine.Policies, _ = c.effective(o, d)
	var out []StepPolicy
	for _, i := range d.Infos() {
		if i.Kind != durable.KindStep {
			continue
		}
		declared, _ := d.Step(i.Name)
		resolved, err := engine.ResolveStep(i.Name, declared)
		if err != nil {
			return nil, fmt.Errorf("step %q: %w", i.Name, err)
		}
		p := StepPolicy{Step: i.Name, Options: resolved}
		for n, l := range matching(patterns, i.Name) {
			if _, code := o.Engine.Policies[l.Pattern]; !code {
				l.Pos = c.at[policiesKey+"."+l.Pattern]
			}
			if n == 0 {
				p.Won = l
			} else {
				p.Also = append(p.Also, l)
			}
		}
		p.From = origins(p.Won, all[p.Won.Pattern], declared)
		out = append(out, p)
	}
	return out, nil
}

// origins tells for each field of a policy who says it.
func origins(won Line, over durable.Retry, declared durable.StepOptions) map[string]string {
	base := durable.Retry{}
	if declared.Retry != nil {
		base = *declared.Retry
	}
	who := func(configured, said bool) string {
		switch {
		case configured:
			return won.String()
		case said:
			return "the step"
		}
		return "the default"
	}
	from := map[string]string{
		"maximum_attempts":          who(over.MaxAttempts != 0, base.MaxAttempts != 0),
		"initial_interval":          who(over.Initial != 0, base.Initial != 0),
		"backoff_coefficient":       who(over.Backoff != 0, base.Backoff != 0),
		"maximum_interval":          who(over.Max != 0, base.Max != 0),
		"non_retryable_error_types": who(over.NonRetryable != nil, base.NonRetryable != nil),
	}
	if declared.AtMostOnce {
		from["maximum_attempts"] = "the step, which is at most once"
	}
	return from
}

// String writes the policy as a table.
func (p StepPolicy) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", p.Step)
	r := p.Options.Retry
	attempts := "no limit"
	if r.MaxAttempts != 0 && r.MaxAttempts != noLimit {
		attempts = fmt.Sprint(r.MaxAttempts)
	}
	types := "none"
	if len(r.NonRetryable) > 0 {
		types = strings.Join(r.NonRetryable, ", ")
	}
	for _, row := range [][2]string{
		{"maximum_attempts", attempts}, {"initial_interval", r.Initial.String()}, {"backoff_coefficient", fmt.Sprint(r.Backoff)},
		{"maximum_interval", r.Max.String()}, {"non_retryable_error_types", types},
	} {
		fmt.Fprintf(&b, "  %-26s %-12s %s\n", row[0], row[1], p.From[row[0]])
	}
	fmt.Fprintf(&b, "  won: %s\n", p.Won)
	for _, l := range p.Also {
		fmt.Fprintf(&b, "  matches too: %s\n", l)
	}
	return b.String()
}
