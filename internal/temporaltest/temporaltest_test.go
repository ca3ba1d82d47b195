package temporaltest_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/internal/temporaltest"
)

// call calls the server through its web interface, which speaks JSON.
func call(t *testing.T, method, url, body string) map[string]any {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "none") // not a browser: no token against forged requests
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s: %v: %s", method, url, resp.Status, err, text)
	}
	return got
}

func TestRunsOutliveTheServer(t *testing.T) {
	t.Parallel()
	s := temporaltest.New(t, &temporaltest.Options{
		File: filepath.Join(t.TempDir(), "temporal.db"),
		Args: []string{"-namespace", "shop", "-ui-port", "0"},
	})
	if s.Namespace() != "shop" {
		t.Errorf("namespace %q", s.Namespace())
	}
	call(t, "POST", s.UI()+"/api/v1/namespaces/shop/workflows/order-7",
		`{"workflowType": {"name": "Order"}, "taskQueue": {"name": "nobody"}}`)
	address := s.Addr()
	end := []func() error{
		func() error { s.Kill(); return nil },
		s.Stop,
	}
	for _, end := range end {
		if err := s.Restart(t.Context()); err == nil {
			t.Fatal("a running server was restarted")
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.Addr() != address {
			t.Errorf("the address was %s and is %s", address, s.Addr())
		}
		got := call(t, "GET", s.UI()+"/api/v1/namespaces/shop/workflows/order-7", "")
		info, _ := got["workflowExecutionInfo"].(map[string]any)
		if info["status"] != "WORKFLOW_EXECUTION_STATUS_RUNNING" {
			t.Errorf("after a restart the run is %v", got)
		}
	}
}

func TestStartSaysWhatTheServerSays(t *testing.T) {
	t.Parallel()
	_, err := temporaltest.Start(t.Context(), &temporaltest.Options{Args: []string{"-synchronous", "perhaps"}})
	if err == nil || !strings.Contains(err.Error(), `option Synchronous: "perhaps"`) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("no time")
	cancel(why)
	if _, err := temporaltest.Start(ctx, nil); !errors.Is(err, context.Canceled) && !errors.Is(err, why) {
		t.Errorf("with a context that has ended: %v", err)
	}
}
