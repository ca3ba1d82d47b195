package engines

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// The keys of one file belong to many packages, which this one does not know.
// So that a misspelled key is found, whether or not its package is in the
// program, and so that no two packages invent the same key, all of them are
// written down here. A package decodes its section into a type of its own
// ([LoadOptions.Sections]); a key that its type has and this one lacks is
// reported as unknown.

// sections are the top-level keys of other packages.
type sections struct {
	// MCP are the MCP servers that agents use.
	MCP mcpSection `yaml:"mcp"`
	// Models are names for models, with their settings.
	Models modelsSection `yaml:"models"`
	// Anthropic is the provider of that name.
	Anthropic anthropicSection `yaml:"anthropic"`
	// OpenAI is the provider of that name, and every endpoint that speaks its protocol.
	OpenAI openaiSection `yaml:"openai"`
	// Ollama is a server on this machine that speaks OpenAI's protocol.
	Ollama openaiSection `yaml:"ollama"`
	// LMStudio is a server on this machine that speaks OpenAI's protocol.
	LMStudio openaiSection `yaml:"lm_studio"`
	// Azure is OpenAI's models on Azure.
	Azure azureSection `yaml:"azure"`
	// Google is Gemini, by key or on Vertex AI.
	Google googleSection `yaml:"google"`
	// Bedrock is models on AWS.
	Bedrock bedrockSection `yaml:"bedrock"`
	// Cohere is the provider of that name.
	Cohere cohereSection `yaml:"cohere"`
	// Agents are defined in files and here.
	Agents agentsSection `yaml:"agents"`
	// Approvals say which tool calls a person is asked about.
	Approvals approvalsSection `yaml:"approvals"`
	// Budgets bound what a run may spend.
	Budgets budgetSection `yaml:"budgets"`
	// Limits are rate limits by provider.
	Limits map[string]limitSection `yaml:"limits"`
	// Patterns are defaults of the patterns.
	Patterns patternsSection `yaml:"patterns"`
	// Serve is the program as an MCP server.
	Serve serveSection `yaml:"serve"`
	// Authorization protects the program's MCP server.
	Authorization authorizationSection `yaml:"authorization"`
	// OAuth is how the program authorizes itself to MCP servers.
	OAuth oauthSection `yaml:"oauth"`
	// Otel is traces, metrics and logs by OpenTelemetry.
	Otel otelSection `yaml:"otel"`
	// Logger is where log lines go.
	Logger loggerSection `yaml:"logger"`
	// Env are environment variables that a deployment needs: names, or one
	// name with its default.
	Env []envItem `yaml:"env"`
}

type mcpSection struct {
	// Servers are MCP servers by the name that agents use.
	Servers map[string]serverSection `yaml:"servers"`
}

type serverSection struct {
	// Name is the server's, if it is not its key.
	Name string `yaml:"name"`
	// Description is shown to routers and planners.
	Description string `yaml:"description"`
	// Transport is how it is reached.
	Transport string `yaml:"transport" enum:"stdio,sse,streamable_http,websocket" default:"stdio"`
	// Command starts the server, for stdio.
	Command string `yaml:"command"`
	// Args are the command's arguments.
	Args []string `yaml:"args"`
	// Cwd is the command's working directory.
	Cwd string `yaml:"cwd" as:"path"`
	// Env is added to the few variables that the command gets.
	Env map[string]durable.Secret `yaml:"env"`
	// URL is the server's, for the other transports.
	URL string `yaml:"url"`
	// Headers are sent with each request.
	Headers map[string]durable.Secret `yaml:"headers"`
	// HTTPTimeout is for one request.
	HTTPTimeout time.Duration `yaml:"http_timeout_seconds"`
	// ReadTimeout is how long an answer may take.
	ReadTimeout time.Duration `yaml:"read_timeout_seconds"`
	// TerminateOnClose ends the session when the connection is closed.
	TerminateOnClose bool `yaml:"terminate_on_close" default:"true"`
	// Auth is how the program authorizes itself.
	Auth authSection `yaml:"auth"`
	// Roots are directories that the server may see.
	Roots []rootSection `yaml:"roots"`
	// AllowedTools are the only ones that may be called. An empty list: none.
	AllowedTools []string `yaml:"allowed_tools"`
	// Required makes a program without this server fail; one that is not
	// required is named and left out.
	Required bool `yaml:"required" default:"true"`
	// Deny are tools that may not be called, also as globs.
	Deny []string `yaml:"deny"`
	// Timeouts are deadlines.
	Timeouts timeoutsSection `yaml:"timeouts"`
	// Pin is the protocol revision to speak. Default: the newest of both sides.
	Pin string `yaml:"pin" enum:"2024-11-05,2025-03-26,2025-06-18,2025-11-25,2026-07-28"`
}

type timeoutsSection struct {
	// Connect is for the start of the server and its initialize.
	Connect time.Duration `yaml:"connect"`
	// Request is for a call, whatever progress it reports.
	Request time.Duration `yaml:"request"`
	// Idle is for a call that reports no progress.
	Idle time.Duration `yaml:"idle"`
	// Close is for the end of the server.
	Close time.Duration `yaml:"close"`
}

type authSection struct {
	// APIKey is sent as a bearer token.
	APIKey durable.Secret `yaml:"api_key"`
	// OAuth is how a token is got.
	OAuth oauthClientSection `yaml:"oauth"`
}

type oauthClientSection struct {
	// Enabled makes the client get a token.
	Enabled bool `yaml:"enabled"`
	// Scopes are asked for.
	Scopes []string `yaml:"scopes"`
	// Resource is the identifier of the protected resource. Default: the server's URL.
	Resource string `yaml:"resource"`
	// AuthorizationServer is the issuer. Default: the first that the server names.
	AuthorizationServer string `yaml:"authorization_server"`
	// ClientID is what the client is registered as.
	ClientID string `yaml:"client_id"`
	// ClientSecret goes with it.
	ClientSecret durable.Secret `yaml:"client_secret"`
	// AccessToken is one that is there already.
	AccessToken durable.Secret `yaml:"access_token"`
	// RefreshToken goes with it.
	RefreshToken durable.Secret `yaml:"refresh_token"`
	// ExpiresAt is when the access token ends, in seconds since 1970.
	ExpiresAt float64 `yaml:"expires_at"`
	// TokenType is that of the access token.
	TokenType string `yaml:"token_type" default:"Bearer"`
	// RedirectURIs are those that the client is registered with.
	RedirectURIs []string `yaml:"redirect_uri_options"`
	// ExtraAuthorizeParams are added to the authorization request.
	ExtraAuthorizeParams map[string]string `yaml:"extra_authorize_params"`
	// ExtraTokenParams are added to the token request.
	ExtraTokenParams map[string]durable.Secret `yaml:"extra_token_params"`
	// UseInternalCallback takes the program's own server for the callback.
	UseInternalCallback bool `yaml:"use_internal_callback" default:"true"`
	// IncludeResource sends the resource with requests.
	IncludeResource bool `yaml:"include_resource_parameter" default:"true"`
}

type rootSection struct {
	// URI begins with file://.
	URI string `yaml:"uri"`
	// Name is for people.
	Name string `yaml:"name"`
	// Alias is what the server is told instead of the URI.
	Alias string `yaml:"server_uri_alias"`
}

type modelsSection struct {
	// Default is the model of agents that name none.
	Default string `yaml:"default"`
	// Names are models by a name of your own.
	Names map[string]modelSection `yaml:"names"`
}

type modelSection struct {
	// Provider is the section that has its key and address.
	Provider string `yaml:"provider"`
	// Model is the provider's name for it.
	Model string `yaml:"model"`
	// Fallback are names of models to ask when this one can't answer.
	Fallback []string `yaml:"fallback"`
	// MaxTokens is the length of an answer.
	MaxTokens int `yaml:"max_tokens"`
	// Temperature is sent if it is there.
	Temperature *float64 `yaml:"temperature"`
	// ReasoningEffort is for models that think first.
	ReasoningEffort string `yaml:"reasoning_effort" enum:"none,low,medium,high"`
}

type openaiSection struct {
	// APIKey is the provider's.
	APIKey durable.Secret `yaml:"api_key"`
	// BaseURL is that of a compatible endpoint.
	BaseURL string `yaml:"base_url"`
	// DefaultModel is the model of agents that name none.
	DefaultModel string `yaml:"default_model"`
	// ReasoningEffort is for models that think first. Default: the provider's.
	ReasoningEffort string `yaml:"reasoning_effort" enum:"none,low,medium,high"`
	// User is sent with each request.
	User string `yaml:"user"`
	// DefaultHeaders are sent with each request.
	DefaultHeaders map[string]durable.Secret `yaml:"default_headers"`
}

type anthropicSection struct {
	// APIKey is the provider's.
	APIKey durable.Secret `yaml:"api_key"`
	// BaseURL is that of a proxy.
	BaseURL string `yaml:"base_url"`
	// DefaultModel is the model of agents that name none.
	DefaultModel string `yaml:"default_model"`
	// Provider is where the models are.
	Provider string `yaml:"provider" enum:"anthropic,bedrock,vertexai" default:"anthropic"`
	// Project is that of Vertex AI.
	Project string `yaml:"project"`
	// Location is that of Vertex AI.
	Location string `yaml:"location"`

	awsSection `yaml:",inline"`
}

type bedrockSection struct {
	// DefaultModel is the model of agents that name none.
	DefaultModel string `yaml:"default_model"`

	awsSection `yaml:",inline"`
}

type awsSection struct {
	// AccessKeyID is that of AWS.
	AccessKeyID durable.Secret `yaml:"aws_access_key_id"`
	// SecretAccessKey is that of AWS.
	SecretAccessKey durable.Secret `yaml:"aws_secret_access_key"`
	// SessionToken is that of AWS.
	SessionToken durable.Secret `yaml:"aws_session_token"`
	// Region is that of AWS.
	Region string `yaml:"aws_region"`
	// Profile is one of the AWS configuration files.
	Profile string `yaml:"profile"`
}

type azureSection struct {
	// APIKey is the provider's.
	APIKey durable.Secret `yaml:"api_key"`
	// Endpoint is the resource's URL.
	Endpoint string `yaml:"endpoint"`
	// APIVersion is sent with each request.
	APIVersion string `yaml:"api_version"`
	// Deployment is the model's. Default: the model's name.
	Deployment string `yaml:"azure_deployment"`
	// ADToken is used instead of a key.
	ADToken durable.Secret `yaml:"azure_ad_token"`
	// CredentialScopes are asked for with Entra ID.
	CredentialScopes []string `yaml:"credential_scopes"`
	// DefaultModel is the model of agents that name none.
	DefaultModel string `yaml:"default_model"`
}

type googleSection struct {
	// APIKey is the provider's.
	APIKey durable.Secret `yaml:"api_key"`
	// VertexAI takes the models from there.
	VertexAI bool `yaml:"vertexai"`
	// DefaultModel is the model of agents that name none.
	DefaultModel string `yaml:"default_model"`
	// Project is that of Vertex AI.
	Project string `yaml:"project"`
	// Location is that of Vertex AI.
	Location string `yaml:"location"`
}

type cohereSection struct {
	// APIKey is the provider's.
	APIKey durable.Secret `yaml:"api_key"`
}

type agentsSection struct {
	// Enabled looks for agents in files.
	Enabled bool `yaml:"enabled" default:"true"`
	// SearchPaths are directories, the first that has a name wins.
	SearchPaths []string `yaml:"search_paths"`
	// Pattern is a glob within them.
	Pattern string `yaml:"pattern" default:"**/*.*"`
	// Definitions are agents.
	Definitions []agentSection `yaml:"definitions"`
}

type agentSection struct {
	// Name is the agent's.
	Name string `yaml:"name"`
	// Instruction is its system prompt.
	Instruction string `yaml:"instruction"`
	// ServerNames are keys of mcp.servers.
	ServerNames []string `yaml:"server_names"`
}

type approvalsSection struct {
	// Default is for calls that no rule matches: of tools that may destroy
	// something, if it is not written.
	Default string `yaml:"default" enum:"allow,ask,deny" default:"ask"`
	// Expires is how long a question waits. 0: for ever.
	Expires time.Duration `yaml:"expires"`
	// Rules are tried in order; deny wins.
	Rules []approvalRule `yaml:"rules"`
}

type approvalRule struct {
	// Server is a key of mcp.servers, or a glob.
	Server string `yaml:"server"`
	// Tool is its name, or a glob.
	Tool string `yaml:"tool"`
	// Annotation is what the tool says of itself.
	Annotation string `yaml:"annotation" enum:"read_only,idempotent,destructive,open_world"`
	// Action is what happens to the call.
	Action string `yaml:"action" enum:"allow,ask,deny"`
	// Reason is shown with the question or the refusal.
	Reason string `yaml:"reason"`
}

type budgetSection struct {
	// Turns of an agent.
	Turns int `yaml:"turns"`
	// Calls of tools.
	Calls int `yaml:"calls"`
	// Tokens in and out.
	Tokens int `yaml:"tokens"`
	// Money in US dollars.
	Money float64 `yaml:"money"`
	// Time from the start.
	Time time.Duration `yaml:"time"`
	// AtLimit is what a run does then.
	AtLimit string `yaml:"at_limit" enum:"answer,partial,ask,error" default:"answer"`
}

type limitSection struct {
	// RequestsPerMinute of one key.
	RequestsPerMinute int `yaml:"requests_per_minute"`
	// TokensPerMinute of one key.
	TokensPerMinute int `yaml:"tokens_per_minute"`
	// Concurrent requests of one key.
	Concurrent int `yaml:"concurrent"`
}

type patternsSection struct {
	// Concurrency is how many members of a pattern work at once.
	Concurrency int `yaml:"concurrency"`
	// MaxIterations is how often a plan is made anew, and an answer refined.
	MaxIterations int `yaml:"max_iterations"`
	// Plan is how an orchestrator plans.
	Plan string `yaml:"plan" enum:"full,iterative" default:"full"`
	// MinRating is what an evaluator is content with.
	MinRating string `yaml:"min_rating" enum:"poor,fair,good,excellent" default:"good"`
}

type serveSection struct {
	// Address to listen on.
	Address string `yaml:"address" default:"127.0.0.1:8000"`
	// Path of the MCP endpoint.
	Path string `yaml:"path" default:"/mcp"`
	// InlineWait is how long a call waits for a run before it gives the run's ids.
	InlineWait time.Duration `yaml:"inline_wait"`
	// AllowedOrigins are those of browsers.
	AllowedOrigins []string `yaml:"allowed_origins"`
	// Instructions are what clients are told.
	Instructions string `yaml:"instructions"`
}

type authorizationSection struct {
	// Enabled protects the server.
	Enabled bool `yaml:"enabled"`
	// IssuerURL is the authorization server's.
	IssuerURL string `yaml:"issuer_url"`
	// ResourceServerURL is this server's.
	ResourceServerURL string `yaml:"resource_server_url"`
	// ServiceDocumentationURL is for people.
	ServiceDocumentationURL string `yaml:"service_documentation_url"`
	// RequiredScopes are those of a token.
	RequiredScopes []string `yaml:"required_scopes"`
	// JWKSURI has the keys that sign tokens.
	JWKSURI string `yaml:"jwks_uri"`
	// ClientID is for introspection.
	ClientID string `yaml:"client_id"`
	// ClientSecret is for introspection.
	ClientSecret durable.Secret `yaml:"client_secret"`
	// TokenCacheTTL is how long a token that was good is taken for good.
	TokenCacheTTL time.Duration `yaml:"token_cache_ttl_seconds" default:"300"`
	// ExpectedAudiences are those of a token.
	ExpectedAudiences []string `yaml:"expected_audiences"`
}

type oauthSection struct {
	// TokenStore keeps tokens.
	TokenStore tokenStoreSection `yaml:"token_store"`
	// FlowTimeout is how long a person has to consent.
	FlowTimeout time.Duration `yaml:"flow_timeout_seconds" default:"300"`
	// CallbackBaseURL is this program's, for callbacks.
	CallbackBaseURL string `yaml:"callback_base_url"`
	// LoopbackPorts are tried for a callback on this machine.
	LoopbackPorts []int `yaml:"loopback_ports"`
}

type tokenStoreSection struct {
	// Backend is where tokens are.
	Backend string `yaml:"backend" enum:"memory,redis" default:"memory"`
	// RedisURL is that of the backend redis.
	RedisURL durable.Secret `yaml:"redis_url"`
	// RedisPrefix is that of its keys.
	RedisPrefix string `yaml:"redis_prefix" default:"mcp_agent:oauth_tokens"`
	// RefreshLeeway is how long before its end a token is renewed.
	RefreshLeeway time.Duration `yaml:"refresh_leeway_seconds" default:"60"`
}

type otelSection struct {
	// Enabled switches it on.
	Enabled bool `yaml:"enabled"`
	// Exporters are where it goes: console, file or otlp, or a map of one of
	// these to its settings.
	Exporters []exporter `yaml:"exporters"`
	// ServiceName is the program's.
	ServiceName string `yaml:"service_name" default:"mcp-agent"`
	// ServiceInstanceID is this process's.
	ServiceInstanceID string `yaml:"service_instance_id"`
	// ServiceVersion is the program's.
	ServiceVersion string `yaml:"service_version"`
	// SampleRate is the part of traces that is kept, from 0 to 1.
	SampleRate *float64 `yaml:"sample_rate" default:"1"`
	// CaptureContent adds inputs and results to the spans.
	CaptureContent bool `yaml:"capture_content"`
	// MetricInterval is after how long metrics are sent, in seconds.
	MetricInterval float64 `yaml:"metric_interval" default:"60"`
	// QueueSize is how many spans wait for an exporter at most.
	QueueSize int `yaml:"queue_size" default:"8192"`
	// Path is that of the exporter file which has none of its own.
	Path string `yaml:"path" as:"path"`
	// PathSettings make the exporter's path.
	PathSettings pathSettings `yaml:"path_settings"`
	// OTLPSettings are those of the exporter otlp which has none of its own.
	OTLPSettings otlpExporter `yaml:"otlp_settings"`
}

// exporter is a name, a map with a type, or a map of one name.
type exporter struct{}

type consoleExporter struct{}

type fileExporter struct {
	// Path is the file.
	Path string `yaml:"path" as:"path"`
	// PathSettings make the path.
	PathSettings pathSettings `yaml:"path_settings"`
}

type otlpExporter struct {
	// Endpoint is the receiver's URL.
	Endpoint string `yaml:"endpoint"`
	// Headers are sent with each request.
	Headers map[string]durable.Secret `yaml:"headers"`
}

type keyedExporter struct {
	// Console writes to standard error.
	Console *consoleExporter `yaml:"console"`
	// File writes to a file.
	File *fileExporter `yaml:"file"`
	// OTLP sends to a receiver.
	OTLP *otlpExporter `yaml:"otlp"`
}

// UnmarshalYAML reads the three forms.
func (exporter) UnmarshalYAML(unmarshal func(any) error) error {
	var form any
	if err := unmarshal(&form); err != nil {
		return err
	}
	switch form := form.(type) {
	case nil:
		return nil
	case string:
		return unmarshal(new(exporterName))
	case map[string]any:
		switch kind, typed := form["type"]; {
		case typed && kind == "console":
			return unmarshal(&struct {
				Type string `yaml:"type"`
			}{})
		case typed && kind == "file":
			return unmarshal(&struct {
				Type         string `yaml:"type"`
				fileExporter `yaml:",inline"`
			}{})
		case typed && kind == "otlp":
			return unmarshal(&struct {
				Type         string `yaml:"type"`
				otlpExporter `yaml:",inline"`
			}{})
		case !typed && len(form) == 1:
			return unmarshal(&keyedExporter{})
		}
	}
	return fmt.Errorf("an exporter is console, file or otlp, or a map of one of these to its settings")
}

// exporterName is the short form.
type exporterName string

// UnmarshalText refuses other names.
func (e *exporterName) UnmarshalText(b []byte) error {
	switch *e = exporterName(b); *e {
	case "console", "file", "otlp":
		return nil
	}
	return fmt.Errorf("want console, file or otlp")
}

type pathSettings struct {
	// PathPattern holds {unique_id}.
	PathPattern string `yaml:"path_pattern"`
	// UniqueID is what is put there.
	UniqueID string `yaml:"unique_id" enum:"timestamp,session_id" default:"timestamp"`
	// TimestampFormat is that of strftime.
	TimestampFormat string `yaml:"timestamp_format" default:"%Y%m%d_%H%M%S"`
}

type loggerSection struct {
	// Type is where lines go, if Transports is empty.
	Type string `yaml:"type" enum:"none,console,file,http" default:"console"`
	// Transports are where lines go.
	Transports []string `yaml:"transports" enum:"none,console,file,http"`
	// Level is the lowest one that is written.
	Level string `yaml:"level" enum:"debug,info,warning,error" default:"info"`
	// ProgressDisplay shows progress on the terminal.
	ProgressDisplay bool `yaml:"progress_display"`
	// Path is the file.
	Path string `yaml:"path" as:"path" default:"mcp-agent.jsonl"`
	// PathSettings make the path.
	PathSettings pathSettings `yaml:"path_settings"`
	// HTTPEndpoint is that of the transport http.
	HTTPEndpoint string `yaml:"http_endpoint"`
	// HTTPHeaders are sent with each request.
	HTTPHeaders map[string]durable.Secret `yaml:"http_headers"`
	// HTTPTimeout is for one request.
	HTTPTimeout time.Duration `yaml:"http_timeout" default:"5"`
	// BatchSize is how many lines one request has.
	BatchSize int `yaml:"batch_size" default:"100"`
}

// envItem is a name, or a map of one name to its value.
type envItem struct{}

// UnmarshalYAML reads both forms.
func (envItem) UnmarshalYAML(unmarshal func(any) error) error {
	var form any
	if err := unmarshal(&form); err != nil {
		return err
	}
	switch form := form.(type) {
	case nil:
		return nil
	case string:
		if strings.TrimSpace(form) != "" {
			return nil
		}
	case map[string]any:
		if len(form) == 1 {
			return unmarshal(new(map[string]durable.Secret))
		}
	}
	return fmt.Errorf("want the name of a variable, or one name with its value")
}

// meaningless are keys that the Python project has, or shows, and that mean
// nothing here: by path, where * stands for a name or an index.
var meaningless = map[string]string{
	"usage_telemetry":                             "this project sends nothing home",
	"default_model":                               "the Python project never read it; write default_model into the provider's section, or models.default",
	"logger.path_settings.rotation":               "the Python project never read it",
	"logger.path_settings.max_size_mb":            "the Python project never read it",
	"logger.path_settings.retention_days":         "the Python project never read it",
	"logger.filters":                              "the Python project never read it",
	"logger.show_progress":                        "the Python project never read it; write progress_display",
	"logger.flush_interval":                       "lines are written at once",
	"logger.max_queue_size":                       "lines are written at once",
	"openai.max_tokens":                           "the Python project never read it; write it into models.names",
	"openai.temperature":                          "the Python project never read it; write it into models.names",
	"openai.organization":                         "the Python project never read it; write a header into default_headers",
	"anthropic.max_tokens":                        "the Python project never read it; write it into models.names",
	"anthropic.temperature":                       "the Python project never read it; write it into models.names",
	"google.max_tokens":                           "the Python project never read it; write it into models.names",
	"google.temperature":                          "the Python project never read it; write it into models.names",
	"google.region":                               "the Python project never read it; write location",
	"azure.azure_endpoint":                        "the Python project never read it; write endpoint",
	"azure.azure_ad_token_provider":               "it is a function; give one in Go",
	"temporal.server_url":                         "the Python project never read it; write host",
	"temporal.worker_count":                       "the Python project never read it; start more processes",
	"temporal.retry_policy":                       "the Python project never read it; write " + policiesKey,
	"authorization.introspection_endpoint":        "the Python project never read it; the issuer's own document names the endpoint",
	"authorization.introspection_client_id":       "the Python project never read it; write client_id",
	"authorization.introspection_client_secret":   "the Python project never read it; write client_secret",
	"mcp.servers.*.auth.type":                     "the Python project never read it; what is written decides",
	"mcp.servers.*.auth.token":                    "the Python project never read it; write api_key",
	"mcp.servers.*.auth.oauth.require_pkce":       "PKCE is always used",
	"agents.definitions.*.servers":                "the Python project never read it; write server_names",
	"agents.definitions.*.connection_persistence": "connections are pooled, and closed with the program",
}

// inapplicable tells why a key means nothing here, empty if it does not.
func inapplicable(path string) string {
	if why := meaningless[path]; why != "" {
		return why
	}
	for pattern, why := range meaningless {
		if strings.Contains(pattern, "*") && matchPath(pattern, path) {
			return why
		}
	}
	return ""
}

// matchPath matches a path with a pattern in which * is a name or an index. A
// name may hold dots.
func matchPath(pattern, path string) bool {
	before, after, _ := strings.Cut(pattern, ".*.")
	rest, ok := strings.CutPrefix(path, before)
	if !ok || rest == "" || rest[0] != '.' && rest[0] != '[' {
		return false
	}
	middle, ok := strings.CutSuffix(rest, "."+after)
	return ok && len(middle) > 1
}

// sectionTypes are the types of sections by key.
func sectionTypes() map[string]reflect.Type {
	out := map[string]reflect.Type{}
	t := reflect.TypeFor[sections]()
	for i := range t.NumField() {
		out[t.Field(i).Tag.Get("yaml")] = t.Field(i).Type
	}
	return out
}
