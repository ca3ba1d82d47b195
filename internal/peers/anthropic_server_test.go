package peers

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/anthropics/anthropic-sdk-go/packages/ssestream"
	"github.com/anthropics/anthropic-sdk-go/shared"
	"github.com/google/go-cmp/cmp"
	"github.com/mcpagent/mcpagent/llm"
	ouranthropic "github.com/mcpagent/mcpagent/llm/anthropic"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

func anthropicClient(l *line, opts ...option.RequestOption) anthropic.Client {
	return anthropic.NewClient(append([]option.RequestOption{
		option.WithoutEnvironmentDefaults(), option.WithEnvironmentProduction(), option.WithAPIKey(key), option.WithHTTPClient(l.client()), option.WithMaxRetries(0),
	}, opts...)...)
}

// anthropicAsk asks by the SDK, and gives what it finds wrong with the answer
// too.
func anthropicAsk(t *testing.T, c anthropic.Client, p anthropic.MessageNewParams, streamed bool) (out said, wrong []string, err error) {
	t.Helper()
	if !streamed {
		res, err := c.Messages.New(t.Context(), p)
		if err != nil {
			return said{}, nil, err
		}
		return anthropicSaid(res), lacks(res), nil
	}
	return anthropicRead(c.Messages.NewStreaming(t.Context(), p))
}

func anthropicRead(s *ssestream.Stream[anthropic.MessageStreamEventUnion]) (out said, wrong []string, err error) {
	var acc anthropic.Message
	for s.Next() {
		e := s.Current()
		wrong = append(wrong, lacks(e)...)
		if err := acc.Accumulate(e); err != nil {
			return anthropicSaid(&acc), wrong, errors.Join(err, s.Close())
		}
	}
	return anthropicSaid(&acc), wrong, errors.Join(s.Err(), s.Close())
}

func anthropicHello() anthropic.MessageNewParams {
	return anthropic.MessageNewParams{Model: "m", MaxTokens: 100, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("x"))}}
}

// TestAnthropicUnderstandsTheServer has Anthropic's client talk to the script's
// server.
func TestAnthropicUnderstandsTheServer(t *testing.T) {
	t.Parallel()
	stops := map[string]string{"end": "end_turn", "stop": "stop_sequence", "tools": "tool_use", "length": "max_tokens", "filter": "refusal"}
	for _, c := range answers {
		for _, streamed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, streamed %t", c.name, streamed), func(t *testing.T) {
				t.Parallel()
				l := lineTo(t, llmtest.Serve(t, llmtest.New(c.answer)).URL)
				theirs, wrong, err := anthropicAsk(t, anthropicClient(l), anthropicHello(), streamed)
				if err != nil || len(wrong) > 0 {
					t.Errorf("%v; for an answer of Anthropic's: %q", err, wrong)
				}
				res, err := ask(t, anthropicModel(t, l, "m", ouranthropic.Options{}), &llm.Request{Messages: []llm.Message{llm.User("x")}}, streamed)
				if err != nil {
					t.Fatal(err)
				}
				understood(t, theirs, res, c.want, stops[c.want.Stop], c.want.Stop)
			})
		}
	}
}

// TestAnthropicKnowsTheFailures has Anthropic's client fail as the script says.
func TestAnthropicKnowsTheFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		class  llm.Class
		status int
		kind   shared.ErrorType
	}{
		{llm.Auth, 401, shared.ErrorTypeAuthenticationError},
		{llm.NotFound, 404, shared.ErrorTypeNotFoundError},
		{llm.TooLong, 413, "request_too_large"},
		{llm.RateLimit, 429, shared.ErrorTypeRateLimitError},
		{llm.Quota, 402, shared.ErrorTypeBillingError},
		{llm.Invalid, 400, shared.ErrorTypeInvalidRequestError},
		{llm.Permission, 403, shared.ErrorTypePermissionError},
		{llm.Server, 500, shared.ErrorTypeAPIError},
		{llm.Overloaded, 529, shared.ErrorTypeOverloadedError},
	} {
		for _, streamed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, streamed %t", c.class, streamed), func(t *testing.T) {
				t.Parallel()
				l := lineTo(t, llmtest.Serve(t, llmtest.New(llmtest.Fail(c.class, 2*time.Second))).URL)
				_, _, err := anthropicAsk(t, anthropicClient(l), anthropicHello(), streamed)
				theirs, ok := errors.AsType[*anthropic.Error](err)
				if !ok {
					t.Fatalf("the SDK's error is %v", err)
				}
				if theirs.StatusCode != c.status || theirs.Type() != c.kind || theirs.Response.Header.Get("Retry-After") != "2" {
					t.Errorf("the SDK's error is %d %q after %q", theirs.StatusCode, theirs.Type(), theirs.Response.Header.Get("Retry-After"))
				}
				var body shared.ErrorResponse
				if err := body.UnmarshalJSON([]byte(theirs.RawJSON())); err != nil || body.Error.Message != "by the script" {
					t.Errorf("the SDK's error says %s: %v", theirs.RawJSON(), err)
				}
				var unknown []string
				if c.class == llm.TooLong { // the API's pages have that type, and the SDK has not
					unknown = []string{".error"}
				}
				if wrong := lacks(body, unknown...); len(wrong) > 0 {
					t.Errorf("for an error of Anthropic's: %q", wrong)
				}
				_, err = ask(t, anthropicModel(t, l, "m", ouranthropic.Options{}), &llm.Request{Messages: []llm.Message{llm.User("x")}}, streamed)
				if e := failure(t, err); e.Class != c.class || e.Status != c.status || e.Message != "by the script" || c.class.Retriable() && e.RetryAfter != 2*time.Second {
					t.Errorf("our error is %+v", e)
				}
			})
		}
	}
}

// TestAnthropicTriesAgain has Anthropic's client wait as long as the server
// wants.
func TestAnthropicTriesAgain(t *testing.T) {
	t.Parallel()
	l := lineTo(t, llmtest.Serve(t, llmtest.New(llmtest.Fail(llm.RateLimit, time.Millisecond), llmtest.Fail(llm.Overloaded, time.Millisecond), llmtest.Say("x"))).URL)
	out, _, err := anthropicAsk(t, anthropicClient(l, option.WithMaxRetries(2)), anthropicHello(), false)
	if err != nil || out.Text != "x" || len(l.sent) != 3 {
		t.Errorf("%+v after %d requests, %v", out, len(l.sent), err)
	}
}

// TestAnthropicBreaksOff has an answer fail when half of it came.
func TestAnthropicBreaksOff(t *testing.T) {
	t.Parallel()
	for class, kind := range map[llm.Class]shared.ErrorType{
		llm.Overloaded: shared.ErrorTypeOverloadedError, llm.Server: shared.ErrorTypeAPIError, llm.RateLimit: shared.ErrorTypeRateLimitError, llm.Network: "",
	} {
		t.Run(string(class), func(t *testing.T) {
			t.Parallel()
			a := llmtest.Fail(class, 0)
			a.Text = "one two three"
			l := lineTo(t, llmtest.Serve(t, llmtest.New(a)).URL)
			out, wrong, err := anthropicAsk(t, anthropicClient(l), anthropicHello(), true)
			var told shared.ErrorType
			if e, ok := errors.AsType[*anthropic.Error](err); ok {
				told = e.Type()
			}
			if err == nil || told != kind || out.Text != a.Text || len(wrong) > 0 {
				t.Errorf("the SDK has %+v, %q, %v", out, wrong, err)
			}
			_, err = ask(t, anthropicModel(t, l, "m", ouranthropic.Options{}), &llm.Request{Messages: []llm.Message{llm.User("x")}}, true)
			if e := failure(t, err); e.Class != class {
				t.Error(cmp.Diff(class, e.Class))
			}
		})
	}
}
