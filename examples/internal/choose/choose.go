// Package choose is the flags that the examples have in common: which model,
// which configuration, and what to ask.
package choose

import (
	"cmp"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/mcpagent/mcpagent"
	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/llm/anthropic"
	"github.com/mcpagent/mcpagent/llm/llmtest"
	"github.com/mcpagent/mcpagent/llm/openai"
)

// Options parses the command line. A model "script:FILE" plays a script instead
// of a model, and says so. What to ask is what is left of the command line, or
// the question.
func Options(question string) (*mcpagent.Options, string) {
	model := flag.String("model", "", "ask `PROVIDER:MODEL`, ollama:qwen3 say; script:FILE plays a script instead of a model")
	config := flag.String("config", "", "the configuration `FILE`; empty: mcp_agent.config.yaml, found as usual")
	flag.Parse()
	opts := &mcpagent.Options{File: *config, Models: agent.Models{anthropic.New(nil), openai.New(nil), openai.Ollama(nil), openai.LMStudio(nil)}}
	if file, ok := strings.CutPrefix(*model, "script:"); ok {
		s, err := llmtest.Open(file)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Fprintf(os.Stderr, "no model is asked: the answers are those of %s\n", file)
		opts.Models, *model = agent.Models{s}, ""
	}
	opts.Configure = func(c *mcpagent.Config) { c.Models.Default = cmp.Or(*model, c.Models.Default) }
	return opts, cmp.Or(strings.Join(flag.Args(), " "), question)
}
