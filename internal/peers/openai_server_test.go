package peers

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
	ouropenai "github.com/mcpagent/mcpagent/llm/openai"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/ssestream"
)

func openaiClient(l *line, opts ...option.RequestOption) openai.Client {
	return openai.NewClient(append([]option.RequestOption{option.WithAPIKey(key), option.WithHTTPClient(l.client()), option.WithMaxRetries(0)}, opts...)...)
}

// openaiAsk asks by the SDK, and gives what it finds wrong with the answer too.
// Servers with other models than OpenAI's tell what these thought, and the
// script's server is one of them.
func openaiAsk(t *testing.T, c openai.Client, p openai.ChatCompletionNewParams, streamed bool) (out said, wrong []string, err error) {
	t.Helper()
	if !streamed {
		res, err := c.Chat.Completions.New(t.Context(), p)
		if err != nil {
			return said{}, nil, err
		}
		return openaiSaid(res), lacks(res, ".message.reasoning_content"), nil
	}
	p.StreamOptions.IncludeUsage = openai.Bool(true)
	s := c.Chat.Completions.NewStreaming(t.Context(), p)
	return openaiRead(t, s)
}

func openaiRead(t *testing.T, s *ssestream.Stream[openai.ChatCompletionChunk]) (out said, wrong []string, err error) {
	t.Helper()
	var acc openai.ChatCompletionAccumulator
	var thought string
	var usage llm.Usage
	for s.Next() {
		chunk := s.Current()
		wrong = append(wrong, lacks(chunk, ".delta.reasoning_content")...)
		if !acc.AddChunk(chunk) {
			wrong = append(wrong, fmt.Sprintf("a chunk that does not fit: %s", chunk.RawJSON()))
		}
		if chunk.JSON.Usage.Valid() {
			usage = openaiUsage(chunk.Usage) // the last is that of the request; the accumulator adds them up
		}
		if len(chunk.Choices) > 0 {
			if f, there := chunk.Choices[0].Delta.JSON.ExtraFields["reasoning_content"]; there {
				thought += text(t, f.Raw())
			}
		}
	}
	out = openaiSaid(&acc.ChatCompletion)
	out.Thought, out.Usage = thought, usage
	return out, wrong, errors.Join(s.Err(), s.Close())
}

// TestOpenAIUnderstandsTheServer has OpenAI's client talk to the script's
// server.
func TestOpenAIUnderstandsTheServer(t *testing.T) {
	t.Parallel()
	stops := map[string]string{"end": "stop", "stop": "stop", "tools": "tool_calls", "length": "length", "filter": "content_filter"}
	for _, c := range answers {
		for _, streamed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, streamed %t", c.name, streamed), func(t *testing.T) {
				t.Parallel()
				l := lineTo(t, llmtest.Serve(t, llmtest.New(c.answer)).URL)
				theirs, wrong, err := openaiAsk(t, openaiClient(l), openai.ChatCompletionNewParams{
					Model: "m", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("x")},
				}, streamed)
				if err != nil || len(wrong) > 0 {
					t.Errorf("%v; for an answer of OpenAI's: %q", err, wrong)
				}
				res, err := ask(t, openaiModel(t, l, "m", ouropenai.Options{}), &llm.Request{Messages: []llm.Message{llm.User("x")}}, streamed)
				if err != nil {
					t.Fatal(err)
				}
				ourStop := c.want.Stop
				if ourStop == "stop" { // the protocol does not tell it from the end
					ourStop = "end"
				}
				understood(t, theirs, res, c.want, stops[c.want.Stop], ourStop)
			})
		}
	}
}

// TestOpenAIStreamsUsageOnDemand asks for a stream without the usage, which
// OpenAI leaves out then.
func TestOpenAIStreamsUsageOnDemand(t *testing.T) {
	t.Parallel()
	l := lineTo(t, llmtest.Serve(t, llmtest.New(llmtest.Say("x"))).URL)
	c := openaiClient(l)
	out, wrong, err := openaiRead(t, c.Chat.Completions.NewStreaming(t.Context(), openai.ChatCompletionNewParams{
		Model: "m", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("x")},
	}))
	if err != nil || len(wrong) > 0 || out.Text != "x" || out.Usage != (llm.Usage{}) {
		t.Errorf("%+v, %q, %v", out, wrong, err)
	}
}

// TestOpenAIKnowsTheFailures has OpenAI's client fail as the script says.
func TestOpenAIKnowsTheFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		class  llm.Class
		status int
		code   string
	}{
		{llm.Auth, 401, "invalid_api_key"},
		{llm.NotFound, 404, "model_not_found"},
		{llm.TooLong, 400, "context_length_exceeded"},
		{llm.RateLimit, 429, "rate_limit_exceeded"},
		{llm.Quota, 429, "insufficient_quota"},
		{llm.Filter, 400, "content_filter"},
		{llm.Invalid, 400, ""},
		{llm.Permission, 403, ""},
		{llm.Server, 500, ""},
		{llm.Overloaded, 503, "overloaded"},
	} {
		for _, streamed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, streamed %t", c.class, streamed), func(t *testing.T) {
				t.Parallel()
				l := lineTo(t, llmtest.Serve(t, llmtest.New(llmtest.Fail(c.class, 2*time.Second))).URL)
				_, _, err := openaiAsk(t, openaiClient(l), openai.ChatCompletionNewParams{
					Model: "m", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("x")},
				}, streamed)
				theirs, ok := errors.AsType[*openai.Error](err)
				if !ok {
					t.Fatalf("the SDK's error is %v", err)
				}
				if theirs.StatusCode != c.status || theirs.Code != c.code || theirs.Message != "by the script" || theirs.Response.Header.Get("Retry-After") != "2" {
					t.Errorf("the SDK's error is %d %q %q after %q", theirs.StatusCode, theirs.Code, theirs.Message, theirs.Response.Header.Get("Retry-After"))
				}
				if wrong := lacks(theirs); len(wrong) > 0 {
					t.Errorf("for an error of OpenAI's: %q", wrong)
				}
				_, err = ask(t, openaiModel(t, l, "m", ouropenai.Options{}), &llm.Request{Messages: []llm.Message{llm.User("x")}}, streamed)
				if e := failure(t, err); e.Class != c.class || e.Status != c.status || e.Message != "by the script" || c.class.Retriable() && e.RetryAfter != 2*time.Second {
					t.Errorf("our error is %+v", e)
				}
			})
		}
	}
}

// TestOpenAITriesAgain has OpenAI's client wait as long as the server wants.
func TestOpenAITriesAgain(t *testing.T) {
	t.Parallel()
	l := lineTo(t, llmtest.Serve(t, llmtest.New(llmtest.Fail(llm.RateLimit, time.Millisecond), llmtest.Fail(llm.Overloaded, time.Millisecond), llmtest.Say("x"))).URL)
	out, _, err := openaiAsk(t, openaiClient(l, option.WithMaxRetries(2)), openai.ChatCompletionNewParams{
		Model: "m", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("x")},
	}, false)
	if err != nil || out.Text != "x" || len(l.sent) != 3 {
		t.Errorf("%+v after %d requests, %v", out, len(l.sent), err)
	}
}

// TestOpenAIBreaksOff has an answer fail when half of it came.
func TestOpenAIBreaksOff(t *testing.T) {
	t.Parallel()
	for _, class := range []llm.Class{llm.Overloaded, llm.Server, llm.RateLimit, llm.Network} {
		t.Run(string(class), func(t *testing.T) {
			t.Parallel()
			a := llmtest.Fail(class, 0)
			a.Text = "one two three"
			l := lineTo(t, llmtest.Serve(t, llmtest.New(a)).URL)
			out, wrong, err := openaiAsk(t, openaiClient(l), openai.ChatCompletionNewParams{
				Model: "m", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("x")},
			}, true)
			_, told := errors.AsType[*ssestream.StreamError](err)
			if err == nil || told != (class != llm.Network) || out.Text != a.Text || len(wrong) > 0 {
				t.Errorf("the SDK has %+v, %q, %v", out, wrong, err)
			}
			_, err = ask(t, openaiModel(t, l, "m", ouropenai.Options{}), &llm.Request{Messages: []llm.Message{llm.User("x")}}, true)
			if e := failure(t, err); e.Class != class {
				t.Error(cmp.Diff(class, e.Class))
			}
		})
	}
}

// TestScriptWithoutAnswer asks for what the script does not have: nobody should
// ask again.
func TestScriptWithoutAnswer(t *testing.T) {
	t.Parallel()
	l := lineTo(t, llmtest.Serve(t, llmtest.New()).URL)
	_, _, err := openaiAsk(t, openaiClient(l, option.WithMaxRetries(2)), openai.ChatCompletionNewParams{
		Model: "m", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("x")},
	}, false)
	if e, ok := errors.AsType[*openai.Error](err); !ok || e.StatusCode != 400 || len(l.sent) != 1 {
		t.Errorf("%v after %d requests", err, len(l.sent))
	}
}
