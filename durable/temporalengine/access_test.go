package temporalengine_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/api/serviceerror"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
)

// bytesCodec passes messages on as they are.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }
func (bytesCodec) Unmarshal(b []byte, v any) error { *v.(*[]byte) = b; return nil }
func (bytesCodec) Name() string                    { return "proto" }

// gate is a server before the server, with TLS, that lets in who has the API
// key, as Temporal Cloud does: a key that it does not know is unauthenticated,
// one of another namespace is denied.
type gate struct {
	addr  string
	trust *tls.Config
	key   atomic.Value
}

func newGate(t *testing.T, key string) *gate {
	t.Helper()
	to, err := grpc.NewClient(anyServer(t), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = to.Close() })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	known := httptest.NewTLSServer(nil) // for its certificate
	known.Close()
	roots := x509.NewCertPool()
	roots.AddCert(known.Certificate())
	g := &gate{addr: l.Addr().String(), trust: &tls.Config{RootCAs: roots}}
	g.key.Store(key)
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: known.TLS.Certificates})), grpc.ForceServerCodec(bytesCodec{}),
		grpc.UnknownServiceHandler(func(_ any, in grpc.ServerStream) error {
			method, _ := grpc.MethodFromServerStream(in)
			md, _ := metadata.FromIncomingContext(in.Context())
			switch got := strings.Join(md.Get("authorization"), ","); got {
			case "Bearer " + g.key.Load().(string):
			case "Bearer of-another-namespace":
				return grpcstatus.Error(codes.PermissionDenied, "Request unauthorized.")
			default:
				return grpcstatus.Error(codes.Unauthenticated, "Jwt is not valid")
			}
			var req, reply []byte
			if err := in.RecvMsg(&req); err != nil {
				return err
			}
			if err := to.Invoke(metadata.NewOutgoingContext(in.Context(), md), method, &req, &reply, grpc.ForceCodec(bytesCodec{})); err != nil {
				return err
			}
			return in.SendMsg(&reply)
		}))
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		<-served
	})
	return g
}

// TestWrongKey: a key that the cluster does not take is what Open and each
// operation say, soon; with the right one the same program works.
func TestWrongKey(t *testing.T) {
	t.Parallel()
	g := newGate(t, "right")
	flow := durable.NewWorkflow("flow", func(ctx context.Context, n int) (int, error) { return n + 1, nil }, nil)
	for name, tt := range map[string]struct {
		o    temporalengine.Options
		code codes.Code
		want []string
	}{
		"an unknown key":          {temporalengine.Options{APIKey: "wrong"}, codes.Unauthenticated, []string{"with this API key", "Jwt is not valid", "Options.APIKey, temporal.api_key"}},
		"another namespace's key": {temporalengine.Options{APIKey: "of-another-namespace"}, codes.PermissionDenied, []string{"with this API key", "Request unauthorized", "allowed on the namespace"}},
		"no key":                  {temporalengine.Options{}, codes.Unauthenticated, []string{"without credentials", "set an API key"}},
		"a certificate alone":     {temporalengine.Options{TLS: &tls.Config{Certificates: make([]tls.Certificate, 1)}}, codes.Unauthenticated, []string{"with this certificate", "one that the namespace trusts"}},
		"an unknown authority":    {temporalengine.Options{APIKey: "right", TLS: &tls.Config{}}, codes.Unavailable, []string{"check the certificates", "temporal.tls"}},
		"an expired certificate": {temporalengine.Options{APIKey: "right", TLS: &tls.Config{Time: func() time.Time { return time.Now().AddDate(100, 0, 0) }}}, codes.Unavailable,
			[]string{"expired", "check the certificates"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := tt.o
			if o.HostPort, o.TaskQueue, o.Engine.Logger = g.addr, queue(t), quietLog; o.TLS == nil {
				o.TLS = g.trust
			} else if name != "an unknown authority" {
				o.TLS.RootCAs = g.trust.RootCAs
			}
			began := time.Now()
			e, err := temporalengine.Open(t.Context(), &o, flow)
			if err == nil {
				_ = e.Close(t.Context())
				t.Fatal("it was let in")
			}
			t.Logf("after %v: %v", time.Since(began), err)
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("it took %v", took)
			}
			for _, want := range append(tt.want, g.addr) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in: %v", want, err)
				}
			}
			var denied *serviceerror.PermissionDenied
			if got := grpcstatus.Code(err); tt.code == codes.Unauthenticated && got != tt.code || tt.code == codes.PermissionDenied && !errors.As(err, &denied) {
				t.Errorf("%v is a %v, want %v", err, got, tt.code)
			}
		})
	}
	t.Run("the right key, until it is withdrawn", func(t *testing.T) {
		g := newGate(t, "right")
		ctx := within(t, 30*time.Second)
		e := on(t, temporalengine.Options{HostPort: g.addr, APIKey: "right", TLS: g.trust, Engine: durable.Options{Logger: quietLog}}, flow)
		run, err := flow.Start(ctx, e, 1, &durable.StartOptions{ID: id(t)})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := flow.Result(ctx, run); err != nil || got != 2 {
			t.Errorf("%d, %v", got, err)
		}
		g.key.Store("another one")
		began := time.Now()
		_, err = run.Describe(ctx)
		if err == nil || !strings.Contains(err.Error(), "with this API key") || grpcstatus.Code(err) != codes.Unauthenticated || time.Since(began) > 5*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		h, err := e.Health(ctx)
		if err != nil || h.OK || !strings.Contains(h.Text, "with this API key") {
			t.Errorf("health: %+v, %v", h, err)
		}
	})
}

// TestWrongNamespace: the server says that it is not there, and Open says that
// soon.
func TestWrongNamespace(t *testing.T) {
	t.Parallel()
	addr := anyServer(t)
	began := time.Now()
	_, err := temporalengine.Open(t.Context(), &temporalengine.Options{HostPort: addr, Namespace: "nowhere", Engine: durable.Options{Logger: quietLog}}, takeOrder, charge)
	var none *serviceerror.NamespaceNotFound
	if !errors.As(err, &none) || time.Since(began) > 5*time.Second {
		t.Fatalf("after %v: %v", time.Since(began), err)
	}
	for _, want := range []string{addr, `namespace "nowhere" is not there`, "create it, or name another one"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
}
