package durable

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Secret is a text that must not be seen: a key, a password, a token. However
// it is printed, formatted or logged, also inside of another value, it shows
// that there is a secret and not which. It refuses to be encoded, so that it
// gets into no input, result, history or file by mistake: what crosses into a
// step is the name of a secret, and the step's worker knows the text.
//
// The zero value is no secret. It is safe for concurrent use.
type Secret struct {
	// A function, so that nothing that walks a value by reflection gets at it.
	text func() string
}

// NewSecret makes a secret of a text; of an empty one, the zero value.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{func() string { return text }}
}

// Reveal gives the text, empty if there is none. What the caller does with it
// is no longer watched.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return s.text()
}

// IsZero tells that there is no secret.
func (s Secret) IsZero() bool { return s.text == nil }

// Equal compares two secrets in a time that does not depend on where they
// differ.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

// String tells whether there is a secret.
func (s Secret) String() string {
	if s.IsZero() {
		return "(no secret)"
	}
	return "(secret)"
}

// GoString implements [fmt.GoStringer].
func (s Secret) GoString() string { return s.String() }

// Format implements [fmt.Formatter], for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

var errSecretEncoded = errors.New("a secret is not encoded: pass its name on, and look the text up where it is needed")

// MarshalJSON refuses.
func (Secret) MarshalJSON() ([]byte, error) { return nil, errSecretEncoded }

// MarshalText refuses.
func (Secret) MarshalText() ([]byte, error) { return nil, errSecretEncoded }

// MarshalBinary refuses, and so does encoding/gob by it.
func (Secret) MarshalBinary() ([]byte, error) { return nil, errSecretEncoded }

// MarshalYAML refuses, for the packages that look for this method.
func (Secret) MarshalYAML() (any, error) { return nil, errSecretEncoded }

// UnmarshalText takes a text as it is.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}
