package mcphost

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
)

// hider takes a server's configured secrets out of everything that comes back
// from it: a server may print its environment, and what it prints would stand
// in errors, logs, journals and prompts.
//
// A value of less than minSecret bytes is no secret, nor is a path to
// something that exists: results are full of both.
type hider struct{ r *strings.Replacer } // nil: nothing to hide

const (
	minSecret = 8
	hidden    = "(secret)"
)

// keyName is what a parameter of a URL is called that is a secret.
var keyName = regexp.MustCompile(`(?i)key|token|secret|auth|passw|sig`)

func newHider(s *Server) *hider {
	var found []string
	add := func(v durable.Secret) {
		if t := v.Reveal(); len(t) >= minSecret && !isPath(t) {
			found = append(found, t)
		}
	}
	for _, v := range s.Env {
		add(v)
	}
	for _, v := range s.Headers {
		add(v)
		// Authorization: Bearer TOKEN
		if _, token, ok := strings.Cut(v.Reveal(), " "); ok {
			add(durable.NewSecret(token))
		}
	}
	add(s.APIKey)
	if u, err := url.Parse(s.URL); err == nil {
		password, _ := u.User.Password()
		add(durable.NewSecret(password))
		add(durable.NewSecret(u.RawQuery))
		for name, values := range u.Query() {
			for _, v := range values {
				if keyName.MatchString(name) { // any other value may be an ordinary word
					add(durable.NewSecret(v))
					add(durable.NewSecret(url.QueryEscape(v)))
				}
			}
		}
	}
	if len(found) == 0 {
		return &hider{}
	}
	// The longest first, since one may be a part of another.
	slices.SortFunc(found, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	var pairs []string
	for _, t := range slices.Compact(found) {
		pairs = append(pairs, t, hidden)
		if q, err := json.Marshal(t); err == nil {
			if in := string(q[1 : len(q)-1]); in != t {
				pairs = append(pairs, in, hidden)
			}
		}
	}
	return &hider{strings.NewReplacer(pairs...)}
}

// shown is what may be seen of an address that can't be read: nothing before an
// @, and no parameters.
func shown(address string) string {
	address, _, _ = strings.Cut(address, "?")
	if i := strings.LastIndex(address, "@"); i >= 0 {
		address = hidden + address[i:]
	}
	return address
}

// isPath reports whether a value names something in the file system.
func isPath(v string) bool {
	if !filepath.IsAbs(v) {
		return false
	}
	if _, err := os.Lstat(v); err == nil {
		return true
	}
	dir := filepath.Dir(v)
	_, err := os.Lstat(dir)
	return err == nil && dir != filepath.Dir(dir)
}

func (h *hider) text(s string) string {
	if h.r == nil || s == "" {
		return s
	}
	return h.r.Replace(s)
}

func (h *hider) json(raw json.RawMessage) json.RawMessage {
	if h.r == nil || len(raw) == 0 {
		return raw
	}
	return json.RawMessage(h.r.Replace(string(raw)))
}

func (h *hider) parts(parts []llm.Part) {
	if h.r == nil {
		return
	}
	for i := range parts {
		parts[i].Text = h.text(parts[i].Text)
		if m := parts[i].Media; m != nil {
			m.URL, m.Name = h.text(m.URL), h.text(m.Name)
			if strings.HasPrefix(m.Type, "text/") && !bytes.Equal(m.Data, nil) {
				m.Data = []byte(h.text(string(m.Data)))
			}
		}
	}
}

// err is an error whose text shows no secret. What it answers to stays.
func (h *hider) err(err error) error {
	if h.r == nil || err == nil {
		return err
	}
	text := err.Error()
	if clean := h.r.Replace(text); clean != text {
		return &cleaned{clean, err}
	}
	return err
}

// cleaned is an error with another text. It gives the sentinels of what it
// came from, and not that itself, which would show the text again.
type cleaned struct {
	text string
	err  error
}

func (e *cleaned) Error() string { return e.text }

func (e *cleaned) Is(target error) bool { return errors.Is(e.err, target) }

// As finds a kind of error, which has no text of its own.
func (e *cleaned) As(target any) bool {
	kind, ok := target.(**durable.ErrorType)
	return ok && errors.As(e.err, kind)
}
