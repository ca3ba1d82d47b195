package wire

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/plainjson"
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

// BaseURL reads a provider's base URL.
func BaseURL(provider, base string) (*url.URL, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		shown, _, _ := strings.Cut(base, "?")
		if i := strings.LastIndex(shown, "@"); i >= 0 {
			shown = "(secret)" + shown[i:]
		}
		return nil, fmt.Errorf("%s: the base URL is %q, want https://…: write %s.base_url", provider, Words(shown), provider)
	}
	return u, nil
}

// Endpoint is where a provider's requests go. It is not changed after its
// header is complete.
type Endpoint struct {
	URL    string
	Client *http.Client // nil: one with the defaults of net/http
	// Read takes from the body of an error what the provider says in it.
	Read func(e *llm.Error, body []byte) (text string)

	header  http.Header
	secrets []string // in all forms in which they come back, the longest first
}

// NewEndpoint makes the endpoint of a URL, whose password and keys no error has.
func NewEndpoint(u *url.URL, client *http.Client, read func(e *llm.Error, body []byte) (text string)) Endpoint {
	e := Endpoint{URL: u.String(), Client: client, Read: read}
	if password, ok := u.User.Password(); ok {
		e.hide(password)
		e.hide(base64.StdEncoding.EncodeToString([]byte(u.User.Username() + ":" + password)))
	}
	for name, values := range u.Query() {
		if keyName.MatchString(name) {
			e.hide(values...)
		}
	}
	return e
}

// keyName is what a parameter of a URL is called that is a secret.
var keyName = regexp.MustCompile(`(?i)key|token|secret|auth|passw|sig`)

// hide adds secrets, in the forms in which they come back: without what stands
// before a token, in JSON, and in a URL.
func (e *Endpoint) hide(secrets ...string) {
	for _, s := range secrets {
		if s == "" {
			continue
		}
		e.secrets = append(e.secrets, s, url.QueryEscape(s), url.PathEscape(s))
		if quoted, err := json.Marshal(s); err == nil {
			e.secrets = append(e.secrets, string(quoted[1:len(quoted)-1]))
		}
		if _, token, ok := strings.Cut(s, " "); ok && len(token) >= 8 { // Bearer TOKEN
			e.hide(token)
		}
	}
	slices.SortFunc(e.secrets, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) }) // one may be a part of another
	e.secrets = slices.Compact(e.secrets)
}

// Header adds one that is sent with each request.
func (e *Endpoint) Header(name, value string) {
	if e.header == nil {
		e.header = http.Header{}
	}
	e.header.Set(name, value)
}

// Secret adds a header whose value no error has: the prefix and the secret.
func (e *Endpoint) Secret(name, prefix string, secret durable.Secret) {
	e.hide(secret.Reveal())
	e.Header(name, prefix+secret.Reveal())
}

// Secrets reports whether requests have any.
func (e *Endpoint) Secrets() bool { return len(e.secrets) > 0 }

// Same reports whether requests go to the same place, with the same headers.
func (e *Endpoint) Same(o *Endpoint) bool {
	return e.URL == o.URL && maps.EqualFunc(e.header, o.header, slices.Equal)
}

// transport is that of net/http, with as many idle connections to an endpoint
// as a program may have agents: two would be opened anew all the time.
var transport = sync.OnceValue(func() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport // somebody put his own there
	}
	t = t.Clone()
	t.MaxIdleConnsPerHost = t.MaxIdleConns
	return t
})

// post sends a request. What it gives without an error is an answer.
func (c Caller) post(ctx context.Context, body []byte, accept string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.At.URL, bytes.NewReader(body))
	if err != nil {
		return nil, c.failure(ctx, nil, err, nil)
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {accept}, "User-Agent": {"mcpagent"}}
	maps.Copy(req.Header, c.At.header)
	client := http.Client{Transport: transport()}
	if c.At.Client != nil {
		client = *c.At.Client
	}
	// Who is sent elsewhere would take the keys and the conversation there.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Do(req)
	if err != nil {
		return nil, c.failure(ctx, nil, err, nil)
	}
	res.Body = &bounded{res.Body, maxAnswer}
	if res.StatusCode >= 300 {
		defer res.Body.Close()
		return nil, c.failure(ctx, res, nil, nil)
	}
	return res, nil
}

// Ask sends a request and decodes the whole answer, which it gives too: as
// [Stream.Whole] does.
func (c Caller) Ask(ctx context.Context, body []byte, answer any) ([]byte, error) {
	res, err := c.post(ctx, body, "application/json")
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var raw []byte
	if n := res.ContentLength; n > 0 && n < maxAnswer {
		raw = make([]byte, n)
		_, err = io.ReadFull(res.Body, raw)
	} else {
		raw, err = io.ReadAll(res.Body)
	}
	return raw, c.read(ctx, res, raw, err, answer)
}

// read decodes an answer that came, or came with an error. One that is nothing
// but an error is that of a call that failed.
func (c Caller) read(ctx context.Context, res *http.Response, raw []byte, err error, answer any) error {
	if err == nil {
		err = decode(raw, answer)
	}
	if err != nil {
		return c.failure(ctx, res, err, nil)
	}
	if f, ok := answer.(interface{ Failed() bool }); ok && f.Failed() {
		return c.failure(ctx, res, nil, raw)
	}
	return nil
}

// decode reads JSON. What is of another type than it should be is left out:
// endpoints have their own ideas of what nobody here looks at twice.
func decode(b []byte, v any) error {
	if r, ok := v.(plainjson.Readable); ok {
		if plain, ok := plainjson.Plain(b); ok {
			if p := plainjson.NewParser(plain); r.ReadJSON(p) && p.End() {
				return nil
			}
			reflect.ValueOf(v).Elem().SetZero()
		}
	}
	err := json.Unmarshal(b, v)
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) && kind.Field != "" {
		return nil
	}
	return err
}
