package temporalserver

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"
	"go.uber.org/fx"
)

// clusterName is what the server calls itself; it is in the database.
const clusterName = "active"

// build makes the server; after it, the server listens and does not serve yet.
func build(o *Options, db *database) (server temporal.Server, err error) {
	ports, err := freePorts(o.IP, 4)
	if err != nil {
		return nil, fmt.Errorf("find ports: %w", err)
	}
	at := func(port int) string { return net.JoinHostPort(o.IP, strconv.Itoa(port)) }
	frontend, http, history, matching, worker := o.Port, ports[0], ports[1], ports[2], ports[3]
	service := func(port int) config.Service {
		return config.Service{RPC: config.RPC{GRPCPort: port, BindOnIP: o.IP}}
	}

	c := &config.Config{
		Persistence: config.Persistence{
			DefaultStore:     "sqlite",
			VisibilityStore:  "sqlite",
			NumHistoryShards: 1,
			DataStores:       map[string]config.DataStore{"sqlite": {SQL: db.config}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10,
			MasterClusterName:        clusterName,
			CurrentClusterName:       clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{clusterName: {
				Enabled:                true,
				InitialFailoverVersion: 1,
				RPCAddress:             at(frontend),
				HTTPAddress:            at(http),
			}},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Services: map[string]config.Service{
			"frontend": {RPC: config.RPC{GRPCPort: frontend, HTTPPort: http, BindOnIP: o.IP}},
			"history":  service(history),
			"matching": service(matching),
			"worker":   service(worker),
		},
		PublicClient: config.PublicClient{HostPort: at(frontend)},
	}
	c.Archival.History.State = "disabled"
	c.Archival.Visibility.State = "disabled"
	c.NamespaceDefaults.Archival.History.State = "disabled"
	c.NamespaceDefaults.Archival.Visibility.State = "disabled"

	settings, err := dynamicConfig(o.DynamicConfig)
	if err != nil {
		return nil, err
	}
	logger := logger{o.Logger}
	authorizer, err := authorization.GetAuthorizerFromConfig(&c.Global.Authorization)
	if err != nil {
		return nil, err
	}
	claims, err := authorization.GetClaimMapperFromConfig(&c.Global.Authorization, logger)
	if err != nil {
		return nil, err
	}
	defer func() {
		// Where the server can't go on it says so to Logger.Fatal, which panics.
		if f, ok := recover().(fatal); ok {
			err = f
		}
	}()
	return temporal.NewServerFx(
		// Without the replacement it would send traces to where the variables of the
		// environment say, which are about the program and not about the server.
		fx.Options(temporal.TopLevelModule, fx.Replace([]trace.SpanExporter{})),
		temporal.WithConfig(c),
		temporal.ForServices(temporal.DefaultServices),
		temporal.WithStaticHosts(map[primitives.ServiceName]static.Hosts{
			primitives.FrontendService: static.SingleLocalHost(at(frontend)),
			primitives.HistoryService:  static.SingleLocalHost(at(history)),
			primitives.MatchingService: static.SingleLocalHost(at(matching)),
			primitives.WorkerService:   static.SingleLocalHost(at(worker)),
		}),
		temporal.WithLogger(logger),
		temporal.WithAuthorizer(authorizer),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return claims }),
		temporal.WithDynamicConfigClient(settings),
	)
}

// settingText is a value as the server reads it in a file.
func settingText(value any) []byte {
	text, err := json.Marshal([]map[string]any{{"value": value}})
	if err != nil {
		return []byte(err.Error()) // which is no setting either
	}
	return text
}
