package mcpserve

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/mcpagent/mcpagent/durable"
)

// requestState is what an input_required answer gives a client to bring back.
// It holds names and no rights: it is not signed, so that any process may take
// the next call, after any number of restarts, and so whatever it names is
// looked up and checked like the arguments of a call.
type requestState struct {
	WorkflowID string      `json:"w"`
	RunID      string      `json:"r"`
	Question   string      `json:"q"`
	Asker      durable.Ref `json:"a"`           // the run that asks: this one, or a child
	Arguments  string      `json:"d"`           // digest of the call's arguments
	Rounds     int         `json:"n,omitempty"` // input_required answers so far
	Tries      int         `json:"t,omitempty"` // answers that did not fit
	Existing   bool        `json:"e,omitempty"` // the call found the run
}

// statePrefix carries the version of the format.
const statePrefix = "q1."

const maxState = 8 << 10

func (s *requestState) encode() string {
	return statePrefix + base64.RawURLEncoding.EncodeToString(mustJSON(s))
}

func decodeState(text string) (*requestState, error) {
	if len(text) > maxState {
		return nil, badState("it is too long")
	}
	if len(text) < len(statePrefix) || text[:len(statePrefix)] != statePrefix {
		return nil, badState("it is not one of this server's")
	}
	raw, err := base64.RawURLEncoding.DecodeString(text[len(statePrefix):])
	if err != nil {
		return nil, badState("it was changed on the way")
	}
	s := new(requestState)
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, badState("it was changed on the way")
	}
	if s.WorkflowID == "" || s.RunID == "" || s.Question == "" || s.Asker.WorkflowID == "" || s.Asker.RunID == "" || s.Rounds < 0 || s.Tries < 0 {
		return nil, badState("it is not complete")
	}
	return s, nil
}

func badState(why string) error {
	return &toolError{Type: "bad_request_state", Message: fmt.Sprintf("requestState: %s; call the tool again without it", why)}
}

// argumentsDigest is the same for arguments that mean the same: a client may
// write them differently when it calls again.
func argumentsDigest(raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		raw = json.RawMessage("{}")
	}
	sum := sha256.Sum256(canonical(raw))
	return hex.EncodeToString(sum[:8])
}
