package mcpserve_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/mcpserve"
)

func TestStoreCredentials(t *testing.T) {
	t.Parallel()
	every(t, func(t *testing.T, p peer) {
		m := newMachine()
		var mu sync.Mutex
		var got []string
		srv := mcpserve.New("srv", engine(t, m), &mcpserve.Options{Credentials: func(ctx context.Context, workflow string, c mcpserve.Credential) error {
			if c.ServerName == "broken" {
				return errors.New("the vault is locked")
			}
			mu.Lock()
			defer mu.Unlock()
			got = append(got, fmt.Sprint(workflow, " ", c.ServerName, " ", c.AccessToken, " ", c.RefreshToken, " ", c.Scopes, " ", c.Expires.Format(time.RFC3339), " ", durable.ActorOf(ctx).Name != ""))
			return nil
		}})
		srv.Add(m.workflow, nil)
		cs := connect(t, srv, p)
		good := object{"server_name": "github", "access_token": "s3cret", "refresh_token": "r", "scopes": []string{"repo"}, "expires_at": 1800000000.5}
		out := ok(t, cs, "workflows-store-credentials", object{"workflow_name": "machine", "tokens": []any{good, object{"server_name": "broken", "access_token": "x"}}})
		if out["success"] != false || out["partial_success"] != true || out["stored_tokens"] != 1.0 || out["total_tokens"] != 2.0 ||
			!strings.Contains(fmt.Sprint(out["errors"]), `tokens[1] for server "broken": the vault is locked`) {
			t.Errorf("one good and one bad token: %v", out)
		}
		mu.Lock()
		if want := "[machine github s3cret r [repo] 2027-01-15T08:00:00Z true]"; fmt.Sprint(got) != want {
			t.Errorf("stored %v, want %s", got, want)
		}
		mu.Unlock()
		if out := ok(t, cs, "workflows-store-credentials", object{"workflow_name": "machine", "tokens": []any{good}}); out["success"] != true {
			t.Errorf("a good token: %v", out)
		}
		refused(t, cs, "workflows-store-credentials", object{"workflow_name": "machine", "tokens": []any{object{"server_name": "broken", "access_token": "x"}}}, "not_stored")
		refused(t, cs, "workflows-store-credentials", object{"workflow_name": "machine", "tokens": []any{}}, "bad_arguments")
		refused(t, cs, "workflows-store-credentials", object{"workflow_name": "nobody", "tokens": []any{good}}, "unknown_workflow")
	})
}

func TestACredentialShowsItsSecretsToNobody(t *testing.T) {
	t.Parallel()
	c := mcpserve.Credential{ServerName: "github", AccessToken: "s3cret", RefreshToken: "s3cret"}
	_, err := json.Marshal(c)
	if err == nil {
		t.Error("it can be encoded")
	}
	for _, s := range []string{fmt.Sprint(c), fmt.Sprintf("%+v %#v", c, c), c.LogValue().String(), fmt.Sprint(err)} {
		if strings.Contains(s, "s3cret") {
			t.Errorf("%q has the secret", s)
		}
	}
}
