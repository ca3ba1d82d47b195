package mcpserve

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// ControlCredentials is the tool that takes credentials. It is offered where
// [Options.Credentials] says what becomes of them.
const ControlCredentials = "workflows-store-credentials"

// Credential is a token that a caller hands over, for a server that its runs
// will talk to. It shows its secrets to nobody who prints or logs it.
type Credential struct {
	ServerName          string
	AccessToken         string
	RefreshToken        string // empty: none
	TokenType           string // empty: Bearer
	Scopes              []string
	AuthorizationServer string    // empty: not said
	Expires             time.Time // zero: not said
}

// String names the credential without its secrets.
func (c Credential) String() string { return fmt.Sprintf("credential for server %q", c.ServerName) }

// GoString is String.
func (c Credential) GoString() string { return c.String() }

// LogValue is String.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalJSON refuses: a secret does not go into a step or a file by accident.
func (c Credential) MarshalJSON() ([]byte, error) {
	return nil, fmt.Errorf("mcpserve: a %v can't be encoded: store it, and pass on its name", c)
}

type credentialArgs struct {
	WorkflowName string  `json:"workflow_name" jsonschema:"the workflow whose runs will use them; one of those that workflows-list lists"`
	Tokens       []token `json:"tokens"`
}

type token struct {
	ServerName          string   `json:"server_name" jsonschema:"the server that it is for"`
	AccessToken         string   `json:"access_token"`
	RefreshToken        string   `json:"refresh_token,omitempty"`
	TokenType           string   `json:"token_type,omitempty"`
	Scopes              []string `json:"scopes,omitempty"`
	AuthorizationServer string   `json:"authorization_server,omitempty"`
	ExpiresAt           float64  `json:"expires_at,omitempty" jsonschema:"seconds since 1970"`
}

type storedTokens struct {
	Success        bool     `json:"success"`
	WorkflowName   string   `json:"workflow_name"`
	StoredTokens   int      `json:"stored_tokens"`
	TotalTokens    int      `json:"total_tokens"`
	Errors         []string `json:"errors,omitempty" jsonschema:"which were not stored, and why"`
	PartialSuccess bool     `json:"partial_success,omitempty"`
}

// storeCredentials hands tokens to the program. They belong to the caller, not
// to the workflow, and are neither kept nor logged here.
func (s *Server) storeCredentials(ctx context.Context, _ *mcp.CallToolRequest, in credentialArgs) (*storedTokens, error) {
	if _, err := s.flow(in.WorkflowName); err != nil {
		return nil, err
	}
	if len(in.Tokens) == 0 {
		return nil, badArguments("tokens: there are none to store")
	}
	out := &storedTokens{WorkflowName: in.WorkflowName, TotalTokens: len(in.Tokens)}
	for i, t := range in.Tokens {
		err := func() error {
			if t.ServerName == "" || t.AccessToken == "" {
				return fmt.Errorf("server_name and access_token are needed")
			}
			c := Credential{ServerName: t.ServerName, AccessToken: t.AccessToken, RefreshToken: t.RefreshToken, TokenType: t.TokenType,
				Scopes: t.Scopes, AuthorizationServer: t.AuthorizationServer}
			if t.ExpiresAt > 0 {
				c.Expires = time.UnixMilli(int64(t.ExpiresAt * 1000)).UTC()
			}
			return s.opts.Credentials(ctx, in.WorkflowName, c)
		}()
		if err != nil {
			out.Errors = append(out.Errors, fmt.Sprintf("tokens[%d] for server %q: %v", i, t.ServerName, err))
			continue
		}
		out.StoredTokens++
	}
	if out.StoredTokens == 0 {
		return nil, &toolError{Type: "not_stored", Message: fmt.Sprintf("none of %d tokens was stored: %s", out.TotalTokens, out.Errors[0]), Details: mustJSON(out.Errors)}
	}
	out.Success = len(out.Errors) == 0
	out.PartialSuccess = !out.Success
	return out, nil
}
