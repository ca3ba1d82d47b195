// Command report is patterns composed: a plan for a finder and a writer, whose
// drafts are judged and written again. It answers, or is an MCP server with one
// tool.
//
//	go run ./examples/report -model script:examples/report/script.yaml "Why do cats purr?"   # no model, no key
//	go run ./examples/report "Why do cats purr?"
//	go run ./examples/report                       # serves MCP over standard input and output
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/mcpagent/mcpagent"
	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/examples/internal/choose"
	"github.com/mcpagent/mcpagent/pattern"
)

var (
	finder = agent.New("finder", agent.Config{Description: "Finds facts.", Instruction: "Use filesystem and fetch to find facts. Say where each is from.", Servers: []string{"filesystem", "fetch"}})
	writer = agent.New("writer", agent.Config{Description: "Writes texts.", Instruction: "Write plain, correct English."})
	draft  = pattern.NewEvaluatorOptimizer("draft", pattern.EvaluatorConfig{Writer: writer, Criteria: "Correct, under 400 words.", MinRating: pattern.Good})
	report = pattern.NewOrchestrator("report", pattern.OrchestratorConfig{Description: "Researches a topic.", Workers: []agent.Runner{finder, draft}})
)

func main() {
	ctx := context.Background()
	opts, question := choose.Options("report", "")
	app, err := mcpagent.Open(ctx, opts, report)
	if err != nil {
		log.Fatal(err)
	}
	defer app.Close()
	if question == "" {
		srv := app.Server(nil)
		srv.Add(report, nil)
		if err := srv.ServeStdio(ctx); err != nil {
			log.Fatal(err)
		}
		return
	}
	res, err := app.Run(ctx, report, question)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Text())
}
