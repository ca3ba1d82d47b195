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
	url      string
	listener net.Listener
	conn     *grpc.ClientConn // nil until it serves
	server   *http.Server
	served   chan error
}

// openUI takes the port.
func openUI(o *Options) (*ui, error) {
	port, err := checkPort(o.IP, o.UIPort)
	if err != nil {
		return nil, fmt.Errorf("listen for the web interface: %w", err)
	}
	address := net.JoinHostPort(o.IP, strconv.Itoa(port))
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for the web interface: %w", err)
	}
	return &ui{url: "http://" + address, listener: listener}, nil
}

// serve begins to serve. The frontend has to listen by now: a connection that
// is refused is not tried again for a second.
func (u *ui) serve(o *Options, frontend string) error {
	handler, err := u.handler(o, frontend)
	if err != nil {
		return fmt.Errorf("web interface: %w", err)
	}
	u.server = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
	}
	u.served = make(chan error, 1)
	go func() { u.served <- u.server.Serve(u.listener) }()
	return nil
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
		return nil, err
	}
	route.SetRenderRoute(e, "")
	return e, nil
}

func (u *ui) close() error {
	var errs []error
	if u.conn != nil {
		errs = append(errs, u.conn.Close())
	}
	if u.server == nil {
		return errors.Join(append(errs, u.listener.Close())...)
	}
	errs = append(errs, u.server.Close())
	if err := <-u.served; !errors.Is(err, http.ErrServerClosed) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
