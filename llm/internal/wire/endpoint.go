package wire

import (
	"fmt"
	"net/url"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
)

// FirstKey is the first secret that is there; the zero one if none is.
func FirstKey(keys ...durable.Secret) durable.Secret {
	for _, k := range keys {
		if !k.IsZero() {
			return k
		}
	}
	return durable.Secret{}
}

// Endpoint reads a provider's base URL.
func Endpoint(provider, base string) (*url.URL, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%s: the base URL is %q, want https://…: write %s.base_url", provider, Words(base), provider)
	}
	return u, nil
}

// NoKey is the failure of a call for which there is no key. The variable is
// that of the environment.
func NoKey(provider, model, variable string) error {
	return &llm.Error{Provider: provider, Model: model, Class: llm.Auth,
		Message: "there is no key: write " + provider + ".api_key into the secrets file, or set " + variable}
}
