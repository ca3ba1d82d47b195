package llm

import (
	"fmt"
	"strings"
	"time"
)

// Class is what kind of failure an [Error] is: what the caller can do.
type Class string

// The classes, and what to do.
const (
	Invalid    Class = "invalid"    // mend the request; it will fail again
	TooLong    Class = "too_long"   // shorten the conversation
	Auth       Class = "auth"       // mend the key
	Permission Class = "permission" // ask for access to this model
	NotFound   Class = "not_found"  // mend the model's name
	Quota      Class = "quota"      // money is needed; waiting does not help
	RateLimit  Class = "rate_limit" // wait, and try again
	Overloaded Class = "overloaded" // the same, and it is not our doing
	Server     Class = "server"     // try again
	Network    Class = "network"    // try again: no answer, or half of one
	Filter     Class = "filter"     // the provider won't answer that
	Malformed  Class = "malformed"  // an answer that makes no sense; try again
)

// Retriable reports whether the same request may succeed later.
func (c Class) Retriable() bool {
	switch c {
	case RateLimit, Overloaded, Server, Network, Malformed:
		return true
	}
	return false
}

// Error is the failure of a call.
type Error struct {
	Provider, Model string
	Class           Class
	Status          int    // of HTTP; 0 if there was no answer
	Code            string // the provider's own name for it
	Message         string // the provider's words; never a credential
	// RetryAfter is when the provider wants to be asked again. 0: it did not say.
	RetryAfter time.Duration
	RequestID  string // for the provider's support
	Err        error  // what it came from
}

// Error names the model, what happened, and what to do.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%s: %s", e.Provider, e.Model, strings.ReplaceAll(string(e.Class), "_", " "))
	if e.Status != 0 {
		fmt.Fprintf(&b, " (%d", e.Status)
		if e.Code != "" {
			fmt.Fprintf(&b, " %s", e.Code)
		}
		b.WriteString(")")
	}
	if e.Message != "" {
		fmt.Fprintf(&b, ": %s", e.Message)
	} else if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	if r := e.remedy(); r != "" {
		fmt.Fprintf(&b, "; %s", r)
	}
	return b.String()
}

func (e *Error) remedy() string {
	switch e.Class {
	case Auth:
		return "mend " + e.Provider + ".api_key"
	case NotFound:
		return "mend the model's name"
	case TooLong:
		return "shorten the conversation"
	case Quota:
		return "waiting does not help: look at the account"
	}
	if e.RetryAfter > 0 {
		return fmt.Sprintf("try again in %v", e.RetryAfter)
	}
	return ""
}

// Unwrap gives what it came from.
func (e *Error) Unwrap() error { return e.Err }

// Type is the failure's name in the Python project's retry policies
// (non_retryable_error_types), which are those of its providers' SDKs.
func (e *Error) Type() string {
	switch e.Class {
	case Invalid, TooLong, Filter:
		if e.Status == 422 {
			return "UnprocessableEntityError"
		}
		return "BadRequestError"
	case Auth:
		return "AuthenticationError"
	case Permission:
		return "PermissionDeniedError"
	case NotFound:
		return "NotFoundError"
	case RateLimit, Quota:
		return "RateLimitError"
	case Network:
		return "APIConnectionError"
	}
	return "InternalServerError"
}
