// Package anthropic is Anthropic's models, by their Messages API.
//
//	anthropic.New(nil) // section anthropic, or ANTHROPIC_API_KEY
//
// A call is one attempt.
//
// # What is sent
//
// Text, images and documents (PDF and text), also in the results of tools. What
// the model thought goes back as it came, signatures and all, as the API
// demands; that of another provider stays here. An answer has at most
// [DefaultMaxTokens] if the request does not say, since the API wants a number.
// Effort makes a model think as its kind does: adaptively, or with a budget.
//
// The schema of an answer binds the model where it can (no open objects, no
// recursion, no old model); elsewhere the model answers by calling a tool of
// that schema, which callers don't see.
//
// The prompt is cached: breakpoints stand after the tools, after the
// instruction, and after the last two messages to the model, so that each turn
// of a conversation reads the one before. See [Options].Cache.
//
// # Errors
//
// They are [*llm.Error]s.
//
//	no key, a wrong one                    llm.Auth
//	what the API has no place for          llm.Invalid, before it is sent: Seed, sounds, media of the model
//	the conversation is too long           llm.TooLong
//	429                                    llm.RateLimit, with RetryAfter; an empty account is llm.Quota
//	529                                    llm.Overloaded
//	no connection, half an answer          llm.Network
//	an answer that is none                 llm.Malformed
//	the model refuses                      llm.StopFilter, and no error
package anthropic

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/internal/wire"
)

// Options are what a program says in Go. The zero value of a field is what the
// configuration says, and then the default. What is set wins.
type Options struct {
	// APIKey is the provider's. Default: ANTHROPIC_API_KEY.
	APIKey durable.Secret
	// BaseURL is that of a proxy. Default: ANTHROPIC_BASE_URL, and then
	// Anthropic's.
	BaseURL string
	// DefaultModel is the model of who names none.
	DefaultModel string
	// Cache is how long the provider keeps the prompt for the next request:
	// "5m", "1h", or "off". Default: 5m.
	Cache string
	// Headers are sent with each request.
	Headers map[string]durable.Secret
	// HTTPClient makes the requests. Default: one with the defaults of net/http.
	HTTPClient *http.Client
}

const (
	// DefaultModel is the model, if nobody names one.
	DefaultModel = "claude-sonnet-5-5"
	// DefaultMaxTokens is how long an answer may be, if the request does not
	// say. What the model thinks counts.
	DefaultMaxTokens = 16384
)

const defaultURL = "https://api.anthropic.com"

// Provider is Anthropic, or a proxy of it. It is safe for concurrent use.
type Provider struct {
	opts    Options
	section section
	schemas wire.Cache

	held wire.Held[*settings]
}

// section is that of the configuration.
type section struct {
	// APIKey is the provider's.
	APIKey durable.Secret `yaml:"api_key"`
	// BaseURL is that of a proxy.
	BaseURL string `yaml:"base_url"`
	// DefaultModel is the model of agents that name none.
	DefaultModel string `yaml:"default_model"`
	// Provider is where the models are. This package has Anthropic's own.
	Provider string `yaml:"provider" enum:"anthropic,bedrock,vertexai"`
	// Project is that of Vertex AI.
	Project string `yaml:"project"`
	// Location is that of Vertex AI.
	Location string `yaml:"location"`
	// AccessKeyID is that of AWS.
	AccessKeyID durable.Secret `yaml:"aws_access_key_id"`
	// SecretAccessKey is that of AWS.
	SecretAccessKey durable.Secret `yaml:"aws_secret_access_key"`
	// SessionToken is that of AWS.
	SessionToken durable.Secret `yaml:"aws_session_token"`
	// Region is that of AWS.
	Region string `yaml:"aws_region"`
	// Profile is one of the AWS configuration files.
	Profile string `yaml:"profile"`
}

// settings are what holds.
type settings struct {
	wire.Settings
	cache string
}

// New makes the provider "anthropic". Nil is fine.
func New(o *Options) *Provider {
	p := &Provider{}
	if o != nil {
		p.opts = *o
	}
	return p
}

// Provider is "anthropic".
func (p *Provider) Provider() string { return "anthropic" }

// Section is a pointer to its section of the configuration.
func (p *Provider) Section() any { return &p.section }

// Ready implements [llm.Ready]: Anthropic's own endpoint needs a key.
func (p *Provider) Ready() error {
	return p.now().Ready("anthropic", "ANTHROPIC_API_KEY")
}

// Model gives a model; without a name, the default.
func (p *Provider) Model(name string) (llm.Model, error) {
	s := p.now()
	if s.Err != nil {
		return nil, s.Err
	}
	return &model{wire.Caller{Provider: "anthropic", Model: cmp.Or(name, s.Model), At: &s.At}, p, s}, nil
}

// now is what holds.
func (p *Provider) now() *settings {
	return p.held.Now(func() *settings { return p.resolve(&p.section) })
}

// Renew implements [llm.Renewing].
func (p *Provider) Renew(sec any) bool { return p.held.Renew(p.resolve(sec.(*section))) }

// resolve finds out what holds: what the program set, the section, the
// environment, the default.
func (p *Provider) resolve(sec *section) *settings {
	s := &settings{}
	if where := sec.Provider; where != "" && where != "anthropic" {
		s.Err = fmt.Errorf("anthropic: anthropic.provider is %s, and this provider has Anthropic's own API only: take the line away, or use the provider of that cloud", where)
		return s
	}
	switch s.cache = cmp.Or(p.opts.Cache, "5m"); s.cache {
	case "5m", "1h", "off":
	default:
		s.Err = fmt.Errorf("anthropic: Cache is %q, want 5m, 1h or off", s.cache)
		return s
	}
	s.Key = wire.FirstKey(p.opts.APIKey, sec.APIKey, durable.NewSecret(os.Getenv("ANTHROPIC_API_KEY")))
	base := cmp.Or(p.opts.BaseURL, sec.BaseURL, os.Getenv("ANTHROPIC_BASE_URL"), defaultURL)
	s.Model = cmp.Or(p.opts.DefaultModel, sec.DefaultModel, DefaultModel)
	u, err := wire.BaseURL("anthropic", base)
	if err != nil {
		s.Err = err
		return s
	}
	s.Official = u.Hostname() == "api.anthropic.com"
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/v1") // it stands in many settings
	s.At = wire.NewEndpoint(u.JoinPath("v1/messages"), p.opts.HTTPClient, read)
	s.At.Header("Anthropic-Version", "2023-06-01")
	if !s.Key.IsZero() {
		s.At.Secret("X-Api-Key", "", s.Key)
	}
	for name, value := range p.opts.Headers {
		s.At.Secret(name, "", value)
	}
	return s
}
