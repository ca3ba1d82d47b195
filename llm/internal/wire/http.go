// Package wire is what providers have in common: requests and answers over
// HTTP, whole and streamed, the schemas that they demand, and errors.
package wire

import (
	"errors"
	"io"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/llm"
)

// maxAnswer is what an answer may be long. Nobody means to send more, and a
// program should not die of one that does.
const maxAnswer = 64 << 20

// ErrTooLarge is that of an answer that never ends.
var ErrTooLarge = errors.New("the answer has more than 64 MB")

// bounded is the body of an answer.
type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, ErrTooLarge
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}

// RetryAfter is when a provider wants to be asked again: its headers say it, or
// its words. 0: it does not say.
func RetryAfter(h http.Header, text string) time.Duration {
	if d, ok := number(h.Get("Retry-After-Ms"), time.Millisecond); ok {
		return d
	}
	if v := h.Get("Retry-After"); v != "" {
		if d, ok := number(v, time.Second); ok {
			return d
		}
		if at, err := http.ParseTime(v); err == nil {
			now := time.Now()
			if sent, err := http.ParseTime(h.Get("Date")); err == nil {
				now = sent // the provider's clock, which the other time is of too
			}
			return max(0, at.Sub(now))
		}
	}
	var longest time.Duration
	for _, of := range []string{"Requests", "Tokens"} {
		if h.Get("X-Ratelimit-Remaining-"+of) == "0" {
			d, err := time.ParseDuration(h.Get("X-Ratelimit-Reset-" + of))
			if err == nil {
				longest = max(longest, d)
			}
		}
	}
	if longest > 0 {
		return longest
	}
	if m := tryAgain.FindStringSubmatch(text); m != nil {
		if d, err := time.ParseDuration(m[1]); err == nil {
			return max(0, d)
		}
		if d, ok := number(m[2], time.Second); ok {
			return d
		}
	}
	return 0
}

// tryAgain finds "Please try again in 6m0s", "try again in 20 seconds",
// "retry after 1.5s".
var tryAgain = regexp.MustCompile(`(?i)(?:try again in|retry (?:after|in)) (?:((?:\d+(?:\.\d+)?(?:ms|h|m|s))+)|(\d+(?:\.\d+)?) ?sec)`)

func number(s string, unit time.Duration) (time.Duration, bool) {
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || math.IsNaN(f) || f < 0 {
		return 0, false
	}
	if f *= float64(unit); f > float64(365*24*time.Hour) {
		return 365 * 24 * time.Hour, true
	}
	return time.Duration(f), true
}

// Class is what a status of HTTP means.
func Class(status int) llm.Class {
	switch status {
	case 401, 407:
		return llm.Auth
	case 402:
		return llm.Quota
	case 403:
		return llm.Permission
	case 404:
		return llm.NotFound
	case 413:
		return llm.TooLong
	case 429:
		return llm.RateLimit
	case 503, 529:
		return llm.Overloaded
	case 408, 409, 425:
		return llm.Server
	}
	switch {
	case status >= 500:
		return llm.Server
	case status >= 400:
		return llm.Invalid
	}
	return llm.Malformed
}

// maxMessage is how much of a provider's words an error has.
const maxMessage = 1000

// login finds the user and the password in a URL.
var login = regexp.MustCompile(`://[^\s"'@]+@`)

var keys = regexp.MustCompile(`\b(?:sk|pk|rk|xai|gsk|key)-[A-Za-z0-9_*.-]{4,}|(?i:bearer) +[A-Za-z0-9_*.~+/=-]{4,}`)

// Words are those of a provider, as an error may show them: without anything
// that is, or looks like, a credential, and not for ever.
func Words(text string, secrets ...string) string {
	for _, s := range secrets {
		if len(s) >= 4 {
			text = strings.ReplaceAll(text, s, "(secret)")
		}
	}
	text = keys.ReplaceAllString(strings.TrimSpace(text), "(secret)")
	text = login.ReplaceAllString(text, "://(secret)@")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + " …"
	}
	return text
}
