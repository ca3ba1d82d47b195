package engines

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
)

// certificate makes one and its key, as PEM.
func certificate(t *testing.T, until time.Time) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: until.Add(-time.Hour * 1000), NotAfter: until, IsCA: true, BasicConstraintsValid: true}
	c, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b}))
}

// write puts files into a new directory.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestTemporalOptions follows every key of the section into the engine.
func TestTemporalOptions(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t, time.Now().Add(time.Hour))
	dir := write(t, map[string]string{"client.pem": cert, "client.key": key, "mcp_agent.config.yaml": `
execution_engine: temporal
temporal:
  host: temporal.example.com
  port: 7443
  namespace: invoices
  task_queue: queue
  identity: worker-1
  api_key: env:API
  tls: {cert: client.pem, key: client.key, ca: env:CA, server_name: inner}
  rpc_metadata: {x-team: payments}
  connect_timeout_seconds: 3
  max_concurrent_activities: 10
  max_concurrent_workflow_tasks: 20
  max_activity_pollers: 3
  max_workflow_task_pollers: 4
  max_activities_per_second: 2.5
  max_task_queue_activities_per_second: 10
  stop_timeout_seconds: 15
  heartbeat_seconds: 12
  timeout_seconds: 60
  id_reuse_policy: allow_duplicate
  codec_key: ` + strings.Repeat("ab", 32) + `
  max_payload: 1MB
  warn_payload: 1KB
  external_storage: {directory: blobs, threshold: 128KB}
  versioning: {deployment: invoices, build_id: "7", behavior: auto_upgrade}
workflow_task_retry_policies: {"*": {maximum_attempts: 2}}
`})
	c, err := Load("", &LoadOptions{Dir: dir, Env: []string{"API=key", "CA=" + cert}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := durable.NewDefinitions()
	if err != nil {
		t.Fatal(err)
	}
	engine, _, err := c.options(&Options{}, d)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.temporalOptions(&Options{Client: true}, engine)
	if err != nil {
		t.Fatal(err)
	}
	if got.TLS == nil || len(got.TLS.Certificates) != 1 || got.TLS.RootCAs == nil || got.TLS.ServerName != "inner" {
		t.Errorf("TLS: %+v", got.TLS)
	}
	if got.Engine.Codec == nil {
		t.Error("no codec")
	}
	got.TLS, got.Engine.Codec = nil, nil
	want := &temporalengine.Options{
		Engine: durable.Options{StepTimeout: time.Minute, Reuse: durable.ReuseAllow, MaxPayload: 1 << 20, WarnPayload: 1 << 10,
			Policies: durable.Policies{"*": {MaxAttempts: 2}}},
		HostPort: "temporal.example.com:7443", Namespace: "invoices", TaskQueue: "queue", Identity: "worker-1", APIKey: "key",
		Metadata: map[string]string{"x-team": "payments"}, ClientOnly: true, DialTimeout: 3 * time.Second, Heartbeat: 12 * time.Second,
		Blobs: temporalengine.Dir(filepath.Join(dir, "blobs")), Threshold: 128 << 10,
	}
	want.Worker.MaxConcurrentActivityExecutionSize = 10
	want.Worker.MaxConcurrentWorkflowTaskExecutionSize = 20
	want.Worker.MaxConcurrentActivityTaskPollers = 3
	want.Worker.MaxConcurrentWorkflowTaskPollers = 4
	want.Worker.WorkerActivitiesPerSecond = 2.5
	want.Worker.TaskQueueActivitiesPerSecond = 10
	want.Worker.WorkerStopTimeout = 15 * time.Second
	want.Versioned("invoices", "7", true)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t, time.Now().Add(time.Hour))
	old, oldKey := certificate(t, time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC))
	dir := write(t, map[string]string{"empty.pem": ""})
	secret := durable.NewSecret
	for name, test := range map[string]struct {
		tls  *TLS
		want string // of the error
		on   bool
	}{
		"none":        {nil, "", false},
		"off":         {&TLS{Off: true}, "", false},
		"on":          {&TLS{}, "", true},
		"a pair":      {&TLS{Cert: cert, Key: secret(key), CA: cert}, "", true},
		"expired":     {&TLS{Cert: old, Key: secret(oldKey)}, "temporal.tls.cert: the certificate expired on 2020-01-02T03:04:05Z: renew it", false},
		"mismatched":  {&TLS{Cert: cert, Key: secret(oldKey)}, "temporal.tls.cert: it does not go with the key: tls: private key does not match public key", false},
		"not there":   {&TLS{Cert: filepath.Join(dir, "x"), Key: secret("canary"), CA: filepath.Join(dir, "y")}, "temporal.tls.ca: open: no such file or directory (write a path, or PEM text)\ntemporal.tls.cert: open: no such file or directory (write a path, or PEM text)\ntemporal.tls.key: open: no such file or directory (write a path, or PEM text)", false},
		"empty":       {&TLS{CA: filepath.Join(dir, "empty.pem")}, "temporal.tls.ca: the file is empty", false},
		"no CA in it": {&TLS{CA: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}, "temporal.tls.ca: it holds no certificate", false},
	} {
		got, err := (&Config{Temporal: Temporal{TLS: test.tls}}).tls()
		switch {
		case test.want == "" && err != nil, test.want != "" && (err == nil || err.Error() != test.want):
			t.Errorf("%s: %v, want %q", name, err, test.want)
		case err == nil && (got != nil) != test.on:
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestHostPort(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		host string
		port int
		want string
	}{
		{"", 0, "127.0.0.1:7233"},
		{"", 7000, "127.0.0.1:7000"},
		{"h", 0, "h:7233"},
		{"h", 7000, "h:7000"},
		{"h:1", 0, "h:1"},
		{"h:1", 1, "h:1"},
		{"::1", 0, "[::1]:7233"},
		{"[::1]", 5, "[::1]:5"},
		{"[::1]:6", 0, "[::1]:6"},
		{"10.0.0.1", 0, "10.0.0.1:7233"},
		{"dns:///h:1", 0, "dns:///h:1"},
	} {
		c := &Temporal{Host: test.host, Port: test.port}
		if got := c.HostPort(); got != test.want {
			t.Errorf("%q and %d: %s, want %s", test.host, test.port, got, test.want)
		}
	}
}

// TestMatchingIsTheEngines holds the order of lines, for steps without other
// names, against what an engine does with the same lines.
func TestMatchingIsTheEngines(t *testing.T) {
	t.Parallel()
	patterns := []string{"*", "a*", "a.*", "a.b*", "a.b", "b", "b.c", "c", "a.b.c", "x.a.b", "ab"}
	steps := []string{"a", "b", "c", "a.b", "b.c", "a.b.c", "x.a.b", "ab", "a.bc", "z", "z.c", "z.b.c", "aa.b"}
	for set := range 1 << len(patterns) {
		p := durable.Policies{}
		var have []string
		for i, pattern := range patterns {
			if set&(1<<i) != 0 {
				p[pattern] = durable.Retry{MaxAttempts: i + 1}
				have = append(have, pattern)
			}
		}
		for _, step := range steps {
			_, want, _ := p.Match(step)
			got := ""
			if lines := matching(have, step); len(lines) > 0 {
				got = lines[0].Pattern
			}
			if got != want {
				t.Fatalf("%v: step %s: %q, the engine takes %q", have, step, got, want)
			}
		}
	}
}

func TestProblemsHideThePEM(t *testing.T) {
	t.Parallel()
	_, err := pemText("-not-a-begin-canary")
	if err == nil || bytes.Contains([]byte(err.Error()), []byte("canary")) {
		t.Errorf("%v", err)
	}
}
