package mcphost

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// section is the configuration's section mcp, with the Python project's keys.
type section struct {
	Servers map[string]serverSection `yaml:"servers"`
}

type serverSection struct {
	Name             string                    `yaml:"name"`
	Description      string                    `yaml:"description"`
	Transport        string                    `yaml:"transport" enum:"stdio,sse,streamable_http,websocket"` // empty: by what is there
	Command          string                    `yaml:"command"`
	Args             []string                  `yaml:"args"`
	Cwd              string                    `yaml:"cwd" as:"path"`
	Env              map[string]durable.Secret `yaml:"env"`
	URL              string                    `yaml:"url"`
	Headers          map[string]durable.Secret `yaml:"headers"`
	HTTPTimeout      time.Duration             `yaml:"http_timeout_seconds"`
	ReadTimeout      time.Duration             `yaml:"read_timeout_seconds"`
	TerminateOnClose *bool                     `yaml:"terminate_on_close"` // nil: true
	Auth             authSection               `yaml:"auth"`
	Roots            []rootSection             `yaml:"roots"`
	AllowedTools     []string                  `yaml:"allowed_tools"`
	Required         *bool                     `yaml:"required"` // nil: true
	Deny             []string                  `yaml:"deny"`
	Timeouts         timeoutsSection           `yaml:"timeouts"`
	Pin              string                    `yaml:"pin" enum:"2024-11-05,2025-03-26,2025-06-18,2025-11-25,2026-07-28"`
}

type timeoutsSection struct {
	Connect time.Duration `yaml:"connect"`
	Request time.Duration `yaml:"request"`
	Idle    time.Duration `yaml:"idle"`
	Close   time.Duration `yaml:"close"`
}

type rootSection struct {
	URI   string `yaml:"uri"`
	Name  string `yaml:"name"`
	Alias string `yaml:"server_uri_alias"`
}

type authSection struct {
	APIKey durable.Secret `yaml:"api_key"`
	OAuth  oauthSection   `yaml:"oauth"`
}

type oauthSection struct {
	Enabled              bool                      `yaml:"enabled"`
	Scopes               []string                  `yaml:"scopes"`
	Resource             string                    `yaml:"resource"`
	AuthorizationServer  string                    `yaml:"authorization_server"`
	ClientID             string                    `yaml:"client_id"`
	ClientSecret         durable.Secret            `yaml:"client_secret"`
	AccessToken          durable.Secret            `yaml:"access_token"`
	RefreshToken         durable.Secret            `yaml:"refresh_token"`
	ExpiresAt            float64                   `yaml:"expires_at"`
	TokenType            string                    `yaml:"token_type"`
	RedirectURIs         []string                  `yaml:"redirect_uri_options"`
	ExtraAuthorizeParams map[string]string         `yaml:"extra_authorize_params"`
	ExtraTokenParams     map[string]durable.Secret `yaml:"extra_token_params"`
	UseInternalCallback  bool                      `yaml:"use_internal_callback"`
	IncludeResource      bool                      `yaml:"include_resource_parameter"`
}

// Check is asked when the configuration is loaded.
func (s *section) Check() error {
	var all []error
	for _, name := range slices.Sorted(maps.Keys(s.Servers)) {
		c := s.Servers[name]
		v, err := c.server()
		if err == nil {
			err = v.check()
		}
		for _, e := range unjoin(err) {
			all = append(all, fmt.Errorf("mcp.servers.%s%w", name, e))
		}
	}
	return errors.Join(all...)
}

// server is what the section says, in Go.
func (c *serverSection) server() (Server, error) {
	s := Server{
		Description: c.Description, Command: c.Command, Args: c.Args, Dir: c.Cwd, Env: c.Env,
		URL: c.URL, Headers: c.Headers, APIKey: c.Auth.APIKey, SSE: c.Transport == "sse", KeepSession: c.TerminateOnClose != nil && !*c.TerminateOnClose,
		Allow: c.AllowedTools, Deny: c.Deny, Optional: c.Required != nil && !*c.Required, Pin: c.Pin,
		Timeouts: Timeouts{Connect: c.Timeouts.Connect, Request: c.Timeouts.Request, Idle: c.Timeouts.Idle, Close: c.Timeouts.Close, HTTP: c.HTTPTimeout},
	}
	if s.Timeouts.Idle == 0 {
		s.Timeouts.Idle = c.ReadTimeout
	}
	for _, r := range c.Roots {
		s.Roots = append(s.Roots, Root(r))
	}
	var all []error
	switch {
	case c.Transport == "websocket":
		all = append(all, errors.New(".transport: websocket is not part of the protocol; write streamable_http"))
	case c.Transport == "stdio" && c.URL != "":
		all = append(all, errors.New(".transport: a server with a url needs streamable_http, or sse"))
	case c.Transport != "" && c.Transport != "stdio" && c.Command != "":
		all = append(all, fmt.Errorf(".transport: a server with a command is reached by stdio, not by %s", c.Transport))
	}
	if c.Auth.OAuth.Enabled {
		if c.Auth.OAuth.AccessToken.IsZero() {
			all = append(all, errors.New(".auth.oauth.enabled: getting a token is not supported yet; give access_token, or auth.api_key"))
		} else if kind := c.Auth.OAuth.TokenType; kind != "" && !strings.EqualFold(kind, "Bearer") {
			all = append(all, fmt.Errorf(".auth.oauth.token_type: %q is not supported; write Bearer", kind))
		} else {
			s.APIKey = c.Auth.OAuth.AccessToken
		}
	}
	return s, errors.Join(all...)
}

// unjoin gives the errors that were joined.
func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		return all.Unwrap()
	}
	return []error{err}
}
