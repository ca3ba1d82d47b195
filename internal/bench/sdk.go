package main

import (
	"context"
	"net"

	sdkanthropic "github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	sdkopenai "github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"
)

func listen() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

// sdk makes the same calls by the vendor's SDK alone. What its parameters are
// made of is not counted.
func (m *mock) sdk(requests [][]byte) error {
	if m.params == nil {
		for _, body := range requests {
			if m.vendor == "openai" {
				var p sdkopenai.ChatCompletionNewParams
				if err := p.UnmarshalJSON(body); err != nil {
					return err
				}
				m.params = append(m.params, p)
				continue
			}
			var p sdkanthropic.MessageNewParams
			if err := p.UnmarshalJSON(body); err != nil {
				return err
			}
			m.params = append(m.params, p)
		}
		m.openai = sdkopenai.NewChatCompletionService(openaioption.WithBaseURL(m.url), openaioption.WithAPIKey("bench"), openaioption.WithMaxRetries(0))
		m.anthropic = sdkanthropic.NewMessageService(anthropicoption.WithBaseURL(m.url), anthropicoption.WithAPIKey("bench"), anthropicoption.WithMaxRetries(0), anthropicoption.WithoutOpenTelemetry())
	}
	for _, p := range m.params {
		var err error
		switch p := p.(type) {
		case sdkopenai.ChatCompletionNewParams:
			_, err = m.openai.New(context.Background(), p)
		case sdkanthropic.MessageNewParams:
			_, err = m.anthropic.New(context.Background(), p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
