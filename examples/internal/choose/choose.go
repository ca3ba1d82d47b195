// Package choose is the flags that the examples have in common: which model,
// which configuration, and what to ask.
package choose

import (
	"cmp"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mcpagent/mcpagent"
	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/anthropic"
	"github.com/mcpagent/mcpagent/llm/llmtest"
	"github.com/mcpagent/mcpagent/llm/openai"
)

const file = "mcp_agent.config.yaml"

// Options parses the command line of an example. A model "script:FILE" plays a
// script instead of a model, and says so. What to ask is what is left of the
// command line, or the question.
func Options(example, question string) (*mcpagent.Options, string) {
	model := flag.String("model", "", "ask `PROVIDER:MODEL`, ollama:qwen3 say; script:FILE plays a script instead of a model")
	config := flag.String("config", "", "the configuration `FILE`; empty: "+file+", found as usual")
	flag.Parse()
	opts := &mcpagent.Options{File: cmp.Or(*config, own(example))}
	keyed := agent.Models{anthropic.New(nil), openai.New(nil)}
	opts.Models = append(slices.Clone(keyed), openai.Ollama(nil), openai.LMStudio(nil))
	if file, ok := strings.CutPrefix(*model, "script:"); ok {
		s, err := llmtest.Open(file)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Fprintf(os.Stderr, "no model is asked: the answers are those of %s\n", file)
		keyed, opts.Models, *model = nil, agent.Models{s}, s.Provider()
	}
	opts.Configure = func(c *mcpagent.Config) error {
		m := &c.Models
		if m.Default = cmp.Or(*model, m.Default); m.Default == "" {
			if i := slices.IndexFunc(keyed, hasKey); i >= 0 {
				m.Default = keyed[i].Provider()
			}
		}
		provider, _, _ := strings.Cut(m.Default, ":")
		provider = cmp.Or(m.Names[m.Default].Provider, provider)
		for _, p := range keyed {
			if provider == "" || provider == p.Provider() && !hasKey(p) {
				return fmt.Errorf("no key for %s: set ANTHROPIC_API_KEY or OPENAI_API_KEY, or write the key into mcp_agent.secrets.yaml beside the "+
					"configuration; or take -model ollama:NAME, a model on this machine, or -model script:FILE, none at all", cmp.Or(provider, "a model"))
			}
		}
		return nil
	}
	return opts, cmp.Or(strings.Join(flag.Args(), " "), question)
}

// own is the example's configuration for who stands at the root of the
// repository and has none of their own there.
func own(example string) string {
	path := filepath.Join("examples", example, file)
	for _, name := range []string{file, "mcp-agent.config.yaml"} {
		if _, err := os.Stat(name); err == nil {
			return ""
		}
	}
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

func hasKey(p llm.Provider) bool {
	r, ok := p.(llm.Ready)
	return !ok || r.Ready() == nil
}
