package temporalserver

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/temporalio/ui-server/v2/server/api"
	"github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/csrf"
	"github.com/temporalio/ui-server/v2/server/headers"
	"github.com/temporalio/ui-server/v2/server/route"
	assets "github.com/temporalio/ui-server/v2/ui"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
)

// ui serves the web interface. It is put together from the parts of Temporal's
// own server for it, because that one ends the process when its port is taken.
type ui struct {
	url    string
	server *http.Server
	conn   *grpc.ClientConn
	served chan error
}

func openUI(o *Options, frontend string) (*ui, error) {
	port, err := checkPort(o.IP, o.UIPort)
	if err != nil {
		return nil, fmt.Errorf("listen for the web interface: %w", err)
	}
	address := net.JoinHostPort(o.IP, strconv.Itoa(port))
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for the web interface: %w", err)
	}
	u := &ui{url: "http://" + address, served: make(chan error, 1)}
	handler, err := u.handler(o, frontend)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("web interface: %w", err), listener.Close())
	}
	u.server = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
	}
	go func() { u.served <- u.server.Serve(listener) }()
	return u, nil
}

func (u *ui) handler(o *Options, frontend string) (http.Handler, error) {
	c, err := config.NewConfigProviderWithRefresh(&config.Config{
		TemporalGRPCAddress: frontend,
		DefaultNamespace:    o.Namespace,
		EnableUI:            true,
		DisableNewsFetch:    true,
		HideLogs:            true,
		CORS:                config.CORS{CookieInsecure: true},
	})
	if err != nil {
		return nil, err
	}
	files, err := assets.Assets()
	if err != nil {
		return nil, err
	}
	if files, err = fs.Sub(files, "local"); err != nil {
		return nil, err
	}
	if u.conn, err = api.CreateGRPCConnection(c); err != nil {
		return nil, err
	}

	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.Use(middleware.Recover(), middleware.Gzip(), middleware.Secure(),
		csrf.EnsureTokenCookie(false), middleware.CSRFWithConfig(csrf.MiddlewareConfig(c, false)))
	route.SetHealthRoute(e)
	calls := e.Group("/api/v1")
	calls.GET("/settings", api.GetSettings(c))
	calls.GET(api.WorkflowRawHistoryUrl, api.WorkflowRawHistoryHandler(workflowservice.NewWorkflowServiceClient(u.conn)))
	forward := []api.Middleware{headers.WithForwardHeaders([]string{"Caller-Type"})}
	calls.Match([]string{"GET", "POST", "PUT", "PATCH", "DELETE"}, "/*", api.TemporalAPIHandler(c, forward, u.conn))
	if err := route.SetUIRoutes(e, "", files); err != nil {
		return nil, errors.Join(err, u.conn.Close())
	}
	route.SetRenderRoute(e, "")
	return e, nil
}

func (u *ui) close() error {
	err := errors.Join(u.server.Close(), u.conn.Close())
	if served := <-u.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
