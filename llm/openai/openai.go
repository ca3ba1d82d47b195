// Package openai is OpenAI's models, and every endpoint that speaks their
// protocol (Chat Completions): a server on this machine, a proxy, another
// vendor.
//
//	openai.New(nil)                                       // section openai, or OPENAI_API_KEY
//	openai.Ollama(nil)                                    // http://localhost:11434/v1
//	openai.LMStudio(nil)                                  // http://localhost:1234/v1
//	openai.Compatible("groq", &openai.Options{BaseURL: "https://api.groq.com/openai/v1", APIKey: key})
//
// A call is one attempt.
//
// # What is sent
//
// Text, images, PDF documents and audio; a document of text is sent as text.
// Media in the result of a tool follow the results in a message of their own,
// since the protocol has text there only. Schemas of tools are brought into
// the form that the endpoint takes; the schema of an answer is binding (strict)
// where it can be. Reasoning of another provider stays here; that of an
// endpoint goes back to it with the calls that it led to.
//
// # Errors
//
// They are [*llm.Error]s.
//
//	no key, a wrong one                       llm.Auth
//	what this protocol has no place for       llm.Invalid, before it is sent
//	the conversation is too long              llm.TooLong
//	429                                       llm.RateLimit, with RetryAfter; llm.Quota if the account is empty
//	no connection, half an answer             llm.Network
//	an answer that is none                    llm.Malformed
//	the answer was held back                  llm.Filter; during the answer llm.StopFilter, and no error
package openai

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
	// APIKey is the provider's. Default: OPENAI_API_KEY for [New], none for
	// the others.
	APIKey durable.Secret
	// BaseURL is the endpoint's, with its version: https://…/v1. Default:
	// OPENAI_BASE_URL for [New], and then OpenAI's.
	BaseURL string
	// DefaultModel is the model of who names none.
	DefaultModel string
	// Effort is for requests that say none, to models that think first: none,
	// low, medium or high. Default: the provider's.
	Effort string
	// User is for requests that say none.
	User string
	// Headers are sent with each request.
	Headers map[string]durable.Secret
	// HTTPClient makes the requests. Default: one with the defaults of net/http.
	HTTPClient *http.Client
}

// DefaultModel is the model of [New], if nobody names one.
const DefaultModel = "gpt-5.5"

const defaultURL = "https://api.openai.com/v1"

// Provider is an endpoint. It is safe for concurrent use.
type Provider struct {
	name    string
	opts    Options
	own     Options // defaults of this endpoint
	environ bool    // OPENAI_API_KEY and OPENAI_BASE_URL are for it
	section section
	schemas wire.Cache

	held wire.Held[*settings]
}

// section is that of the configuration.
type section struct {
	// APIKey is the provider's.
	APIKey durable.Secret `yaml:"api_key"`
	// BaseURL is that of a compatible endpoint.
	BaseURL string `yaml:"base_url"`
	// DefaultModel is the model of agents that name none.
	DefaultModel string `yaml:"default_model"`
	// ReasoningEffort is for models that think first.
	ReasoningEffort string `yaml:"reasoning_effort" enum:"none,low,medium,high"`
	// User is sent with each request.
	User string `yaml:"user"`
	// DefaultHeaders are sent with each request.
	DefaultHeaders map[string]durable.Secret `yaml:"default_headers"`
}

// settings are what holds.
type settings struct {
	wire.Settings
	effort string
	user   string
}

// New makes the provider "openai". Nil is fine.
func New(o *Options) *Provider {
	return provider("openai", o, Options{BaseURL: defaultURL, DefaultModel: DefaultModel}, true)
}

// Compatible makes a provider of an endpoint that speaks OpenAI's protocol,
// with the name that models are named by and that its section has. The endpoint
// gets no key of the environment: write the options, or its section.
func Compatible(name string, o *Options) *Provider { return provider(name, o, Options{}, false) }

// Ollama makes the provider "ollama", by default the server on this machine.
func Ollama(o *Options) *Provider {
	return provider("ollama", o, Options{BaseURL: "http://localhost:11434/v1"}, false)
}

// LMStudio makes the provider "lm_studio", by default the server on this
// machine.
func LMStudio(o *Options) *Provider {
	return provider("lm_studio", o, Options{BaseURL: "http://localhost:1234/v1"}, false)
}

func provider(name string, o *Options, own Options, environ bool) *Provider {
	p := &Provider{name: name, own: own, environ: environ}
	if o != nil {
		p.opts = *o
	}
	return p
}

// Provider is its name.
func (p *Provider) Provider() string { return p.name }

// Section is a pointer to its section of the configuration.
func (p *Provider) Section() any { return &p.section }

// Ready implements [llm.Ready]: OpenAI's own endpoints need a key.
func (p *Provider) Ready() error {
	return p.now().Ready(p.name, "OPENAI_API_KEY")
}

// Model gives a model; without a name, the default.
func (p *Provider) Model(name string) (llm.Model, error) {
	s := p.now()
	if s.Err != nil {
		return nil, s.Err
	}
	if name = cmp.Or(name, s.Model); name == "" {
		return nil, fmt.Errorf("%s: no model is named: name one as %s:NAME, or write %s.default_model", p.name, p.name, p.name)
	}
	return &model{wire.Caller{Provider: p.name, Model: name, At: &s.At}, p, s}, nil
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
	var envKey durable.Secret
	var envURL string
	if p.environ {
		envKey, envURL = durable.NewSecret(os.Getenv("OPENAI_API_KEY")), os.Getenv("OPENAI_BASE_URL")
	}
	s := &settings{}
	base := cmp.Or(p.opts.BaseURL, sec.BaseURL, envURL, p.own.BaseURL)
	s.Model = cmp.Or(p.opts.DefaultModel, sec.DefaultModel, p.own.DefaultModel)
	s.effort = cmp.Or(p.opts.Effort, sec.ReasoningEffort)
	s.user = cmp.Or(p.opts.User, sec.User)
	s.Key = wire.FirstKey(p.opts.APIKey, sec.APIKey, envKey)
	u, err := wire.BaseURL(p.name, base)
	if err != nil {
		s.Err = err
		return s
	}
	s.Official = u.Hostname() == "api.openai.com" || strings.HasSuffix(u.Hostname(), ".openai.azure.com")
	s.At = wire.NewEndpoint(u.JoinPath("chat/completions"), p.opts.HTTPClient, read)
	if !s.Key.IsZero() {
		s.At.Secret("Authorization", "Bearer ", s.Key)
	}
	for _, headers := range []map[string]durable.Secret{sec.DefaultHeaders, p.opts.Headers} {
		for name, value := range headers {
			s.At.Secret(name, "", value)
		}
	}
	return s
}
