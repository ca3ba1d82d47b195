package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/mcpagent/mcpagent/durable"
)

// byHand is the agent's loop as a program would write it without package
// agent: OpenAI's protocol by net/http and encoding/json, a step for each call
// of the model, which gets the whole conversation, and one for each call of the
// tool. It has no events, limits, approvals or checks.
type byHand struct {
	m    *mock
	c    *http.Client
	ask  *durable.Step[[]handMessage, handMessage]
	sum  *durable.Step[handNumbers, int]
	loop *durable.Workflow[string, string]
}

type handMessage struct {
	Role       string     `json:"role"`
	Content    string     `json:"content"`
	ToolCalls  []handCall `json:"tool_calls,omitempty"`
	ToolCallID string     `json:"tool_call_id,omitempty"`
}

type handCall struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

type handNumbers struct {
	A int `json:"a"`
	B int `json:"b"`
}

// handTools are what the agent's own request says of the tool.
const handTools = `[{"type":"function","function":{"name":"sum","description":"adds","parameters":{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"required":["a","b"],"additionalProperties":false}}}]`

func newByHand(m *mock) *byHand {
	h := &byHand{m: m, c: &http.Client{Transport: m}}
	h.ask = durable.NewStep("hand.ask", h.call, nil)
	h.sum = durable.NewStep("hand.sum", func(_ context.Context, n handNumbers) (int, error) { return n.A + n.B, nil }, &durable.StepOptions{AtMostOnce: true})
	h.loop = durable.NewWorkflow("hand.loop", h.run, nil)
	return h
}

func (h *byHand) run(ctx context.Context, text string) (string, error) {
	talk := []handMessage{{Role: "system", Content: "Add."}, {Role: "user", Content: text}}
	for {
		said, err := h.ask.Do(ctx, talk)
		if err != nil || len(said.ToolCalls) == 0 {
			return said.Content, err
		}
		talk = append(talk, said)
		for _, c := range said.ToolCalls {
			var n handNumbers
			if err := json.Unmarshal([]byte(c.Function.Arguments), &n); err != nil {
				return "", err
			}
			sum, err := h.sum.Do(ctx, n)
			if err != nil {
				return "", err
			}
			talk = append(talk, handMessage{Role: "tool", Content: fmt.Sprint(sum), ToolCallID: c.ID})
		}
	}
}

// call is one call of the model.
func (h *byHand) call(ctx context.Context, talk []handMessage) (handMessage, error) {
	body, err := json.Marshal(map[string]any{"model": "m", "messages": talk, "tools": json.RawMessage(handTools)})
	if err != nil {
		return handMessage{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.m.url+h.m.path, bytes.NewReader(body))
	if err != nil {
		return handMessage{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer bench")
	res, err := h.c.Do(req)
	if err != nil {
		return handMessage{}, err
	}
	defer res.Body.Close()
	var answer struct {
		Choices []struct {
			Message handMessage `json:"message"`
		} `json:"choices"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return handMessage{}, err
	}
	if len(answer.Choices) == 0 {
		return handMessage{}, fmt.Errorf("the answer is empty: %s", res.Status)
	}
	return answer.Choices[0].Message, nil
}

// converse runs the loop to its end.
func (h *byHand) converse(ctx context.Context, e *durable.Engine) error {
	run, err := h.loop.Start(ctx, e, "Go.", nil)
	if err != nil {
		return err
	}
	text, err := h.loop.Result(ctx, run)
	if err == nil && text != "done" {
		err = fmt.Errorf("the answer by hand is %q", text)
	}
	return err
}
