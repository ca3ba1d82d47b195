package agent

import (
	"context"

	"github.com/mcpagent/mcpagent/llm"
)

// Conversation is a dialogue with a [Runner]: the messages so far, tool calls
// and results included, held by whoever holds the Conversation. In a workflow
// it lives as long as the run, and is there again after a replay; nothing of it
// is stored twice. It is not safe for concurrent use.
type Conversation struct {
	r        Runner
	messages []llm.Message
}

// NewConversation begins a dialogue, or goes on with one from its messages.
func NewConversation(r Runner, messages ...llm.Message) *Conversation {
	return &Conversation{r: r, messages: messages}
}

// Say says something and gives the answer. After an error the conversation is
// what it was before. Runs in the workflow.
func (c *Conversation) Say(ctx context.Context, content ...any) (*Result, error) {
	said, err := Say(content...)
	if err != nil {
		return nil, err
	}
	in := *said
	in.Messages = append(c.messages[:len(c.messages):len(c.messages)], said.Messages...)
	res, err := c.r.Run(ctx, &in)
	if err != nil {
		return nil, err
	}
	c.messages = append(in.Messages, res.Messages()...)
	return res, nil
}

// Messages are what was said so far.
func (c *Conversation) Messages() []llm.Message { return c.messages }
