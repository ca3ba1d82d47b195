package engines

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
)

// openTemporal opens the engine temporal.
func openTemporal(ctx context.Context, c *Config, o *Options, engine *durable.Options, defs []durable.Definer) (*durable.Engine, error) {
	t, err := c.temporalOptions(o, engine)
	if err != nil {
		return nil, err
	}
	switch n := c.Temporal.MaxCachedWorkflows; {
	case n > 0:
		temporalengine.CacheSize(n)
	case n < 0:
		temporalengine.CacheSize(0)
	}
	return temporalengine.Open(ctx, t, defs...)
}

// temporalOptions are the settings of the section for the engine.
func (c *Config) temporalOptions(o *Options, engine *durable.Options) (*temporalengine.Options, error) {
	t := &c.Temporal
	out := &temporalengine.Options{
		Engine: *engine, HostPort: t.HostPort(), Namespace: t.Namespace, TaskQueue: t.TaskQueue, Identity: t.Identity,
		APIKey: t.APIKey.Reveal(), ClientOnly: o.Client, DialTimeout: t.ConnectTimeout, Heartbeat: t.Heartbeat,
	}
	for name, value := range t.RPCMetadata {
		if out.Metadata == nil {
			out.Metadata = map[string]string{}
		}
		out.Metadata[name] = value.Reveal()
	}
	var err error
	if out.TLS, err = c.tls(); err != nil {
		return nil, err
	}
	w := &out.Worker
	w.MaxConcurrentActivityExecutionSize = t.MaxConcurrentActivities
	w.MaxConcurrentWorkflowTaskExecutionSize = t.MaxConcurrentWorkflowTasks
	w.MaxConcurrentActivityTaskPollers = t.MaxActivityPollers
	w.MaxConcurrentWorkflowTaskPollers = t.MaxWorkflowTaskPollers
	w.WorkerActivitiesPerSecond = t.MaxActivitiesPerSecond
	w.TaskQueueActivitiesPerSecond = t.MaxTaskQueueActivitiesPerSecond
	w.WorkerStopTimeout = t.StopTimeout
	if v := t.Versioning; v != nil {
		out.Versioned(v.Deployment, v.BuildID, v.Behavior == "auto_upgrade")
	}
	if s := t.ExternalStorage; s != nil {
		out.Blobs = temporalengine.Dir(s.Directory)
		out.Threshold = s.Threshold
	}
	return out, nil
}

// tls is nil where the connection has none, or what an API key switches on.
func (c *Config) tls() (*tls.Config, error) {
	t := c.Temporal.TLS
	if t == nil || t.Off {
		return nil, nil
	}
	var p Problems
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	read := func(key, value string) []byte {
		b, err := pemText(value)
		if err != nil {
			p.add(c.pos("temporal.tls."+key), "temporal.tls."+key, "%v", err)
		}
		return b
	}
	if ca := read("ca", t.CA); len(ca) > 0 {
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(ca) {
			p.add(c.pos("temporal.tls.ca"), "temporal.tls.ca", "it holds no certificate")
		}
	}
	cert, key := read("cert", t.Cert), read("key", t.Key.Reveal())
	if len(cert) > 0 && len(key) > 0 {
		pair, err := tls.X509KeyPair(cert, key)
		switch {
		case err != nil:
			p.add(c.pos("temporal.tls.cert"), "temporal.tls.cert", "it does not go with the key: %v", err)
		case time.Now().After(pair.Leaf.NotAfter):
			p.add(c.pos("temporal.tls.cert"), "temporal.tls.cert", "the certificate expired on %s: renew it", pair.Leaf.NotAfter.Format(time.RFC3339))
		default:
			out.Certificates = []tls.Certificate{pair}
		}
	}
	return out, p.err()
}

// pemText is what a PEM setting holds, read if it is a path.
func pemText(s string) ([]byte, error) {
	if s == "" || strings.Contains(s, "-----BEGIN ") {
		return []byte(s), nil
	}
	b, err := os.ReadFile(s)
	if err == nil && len(b) == 0 {
		err = errors.New("the file is empty")
	}
	var path *os.PathError
	if errors.As(err, &path) {
		err = fmt.Errorf("%s: %w (write a path, or PEM text)", path.Op, path.Err) // a key by mistake is no path to show
	}
	return b, err
}
