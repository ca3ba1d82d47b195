package engines

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// Config says which engine a program runs on, and how. It is read from a file
// by [Load], or written in Go, or both: what a program sets after Load wins.
// The zero value is the engine in memory.
type Config struct {
	// Name is the program's.
	Name string `yaml:"name"`
	// Description is the program's, for people.
	Description string `yaml:"description"`

	// Engine is what executes runs. asyncio is the Python project's name for
	// memory.
	Engine string `yaml:"execution_engine" enum:"asyncio,memory,local,temporal" default:"memory"`
	// Local is for the engines local and memory.
	Local Local `yaml:"local"`
	// Temporal is for the engine temporal.
	Temporal Temporal `yaml:"temporal"`

	// Modules are names of sets of definitions that the program has
	// ([Options.Modules]) and this deployment uses.
	Modules []string `yaml:"workflow_task_modules"`
	// Policies are retry policies by step: its name, a dotted suffix of it, a
	// prefix with a star, or a star. The Python project's names of tasks stand
	// for our steps, see docs/configuration.md.
	Policies durable.Policies `yaml:"workflow_task_retry_policies"`

	// Warnings are about what has no effect: keys of parts that this program
	// does not have, and keys that mean nothing here. Open logs them.
	Warnings Problems `yaml:"-"`

	// at is where keys stand, and pending what can't be had of a section that
	// is not in use: a variable that is not set, the file of a secret.
	at      map[string]Pos
	dir     string // of the file; empty: none
	pending map[string]Problems
}

// Shared are the settings that a deployment makes on a file and on a cluster.
type Shared struct {
	// Timeout is the total timeout of steps that declare no timeout of their
	// own. 0: none.
	Timeout time.Duration `yaml:"timeout_seconds"`
	// IDReusePolicy is what a start does when a finished run has its id:
	// reject_duplicate takes that run for the answer, allow_duplicate starts a
	// new one, allow_duplicate_failed_only does unless it completed.
	IDReusePolicy string `yaml:"id_reuse_policy" enum:"allow_duplicate,allow_duplicate_failed_only,reject_duplicate,terminate_if_running" default:"reject_duplicate"`
	// CodecKey encrypts everything stored: 32 bytes, as 64 hexadecimal digits
	// or in base64. Left out: nothing is encrypted.
	CodecKey durable.Secret `yaml:"codec_key"`
	// CodecOldKeys are keys of before, to read what they encrypted.
	CodecOldKeys []durable.Secret `yaml:"codec_old_keys"`
	// MaxPayload is the size limit of one value. 0: the engine's.
	MaxPayload int `yaml:"max_payload" as:"size"`
	// WarnPayload is the size above which a value is logged. 0: 2 MB.
	WarnPayload int `yaml:"warn_payload" as:"size" default:"2MB"`
}

// Local are the settings of the engine local. The engine memory has the same
// ones, without the path.
type Local struct {
	// Path is the SQLite file. It is made if it is not there. In a file it is
	// relative to that, and so is the default.
	Path string `yaml:"path" as:"path" default:"mcp-agent.db"`
	// Retention is how long a run is kept after its end. 0: for ever.
	Retention time.Duration `yaml:"retention"`
	// MaxEnded is how many ended runs are kept at most. 0: no limit.
	MaxEnded int `yaml:"max_ended"`
	// MaxSteps is how many steps are at work at once.
	MaxSteps int `yaml:"max_steps" default:"1000"`
	// MaxAwake is how many waiting runs are kept in memory. Negative: none.
	MaxAwake int `yaml:"max_awake" default:"1000"`
	// MaxDeaths is at how many deaths of the process in a row a run whose step
	// was at work is set aside. Negative: no limit.
	MaxDeaths int `yaml:"max_deaths" default:"3"`
	// Watchdog is how long a run's code may go without a durable call before
	// it is reported.
	Watchdog time.Duration `yaml:"watchdog" default:"1"`
	// Portable holds runs to what every engine can do.
	Portable bool `yaml:"portable"`

	Shared `yaml:",inline"`
}

// Temporal are the settings of the engine temporal.
type Temporal struct {
	// Host is that of the server, or host:port.
	Host string `yaml:"host" default:"127.0.0.1:7233"`
	// Port is that of the server, where host has none.
	Port int `yaml:"port" default:"7233"`
	// Namespace is where the runs are.
	Namespace string `yaml:"namespace" default:"default"`
	// TaskQueue is what workers and starters of one program share.
	TaskQueue string `yaml:"task_queue" default:"mcp-agent"`
	// Identity is what this process calls itself. Empty: process and host.
	Identity string `yaml:"identity"`
	// APIKey is for a server that asks for one; it turns TLS on.
	APIKey durable.Secret `yaml:"api_key"`
	// TLS is true, false, or its certificates. Left out: on if there is an api_key.
	TLS *TLS `yaml:"tls"`
	// RPCMetadata are headers of every call to the server.
	RPCMetadata map[string]durable.Secret `yaml:"rpc_metadata"`

	// ConnectTimeout is how long Open tries to reach the server. 0: 10 s.
	ConnectTimeout time.Duration `yaml:"connect_timeout_seconds"`

	// MaxConcurrentActivities is how many steps this worker has at work. 0: the SDK's, 1,000.
	MaxConcurrentActivities int `yaml:"max_concurrent_activities"`
	// MaxConcurrentWorkflowTasks is how many turns of runs this worker makes
	// at once. 0: the SDK's.
	MaxConcurrentWorkflowTasks int `yaml:"max_concurrent_workflow_tasks"`
	// MaxActivityPollers is how many calls wait for steps. 0: the SDK's.
	MaxActivityPollers int `yaml:"max_activity_pollers"`
	// MaxWorkflowTaskPollers is how many calls wait for turns. 0: the SDK's.
	MaxWorkflowTaskPollers int `yaml:"max_workflow_task_pollers"`
	// MaxCachedWorkflows is how many waiting runs the process keeps in
	// memory. 0: the SDK's. Negative: none, each turn is a replay.
	MaxCachedWorkflows int `yaml:"max_cached_workflows"`
	// MaxActivitiesPerSecond is how many steps this worker begins in a
	// second. 0: no limit.
	MaxActivitiesPerSecond float64 `yaml:"max_activities_per_second"`
	// MaxTaskQueueActivitiesPerSecond is the same for all workers of the task
	// queue. 0: no limit.
	MaxTaskQueueActivitiesPerSecond float64 `yaml:"max_task_queue_activities_per_second"`
	// Heartbeat is how long a worker may be silent about a step before the
	// attempt counts as lost. 0: 30 s.
	Heartbeat time.Duration `yaml:"heartbeat_seconds" default:"30"`
	// StopTimeout is how long steps at work may go on when the worker stops.
	// 0: 10 s.
	StopTimeout time.Duration `yaml:"stop_timeout_seconds"`

	// ExternalStorage keeps content out of the server. Left out: none.
	ExternalStorage *ExternalStorage `yaml:"external_storage"`
	// Versioning makes the worker one version of a deployment. Left out: none.
	Versioning *Versioning `yaml:"versioning"`

	// Modules are used on Temporal, beside those of the top level.
	Modules []string `yaml:"workflow_task_modules"`

	Shared `yaml:",inline"`
}

// TLS are the certificates of a connection. The zero value is TLS with the
// system's roots. In a file it is also true or false. Cert, Key and CA are PEM
// text, or the path of a file that holds it.
type TLS struct {
	// Off is how false is written.
	Off bool `yaml:"-"`
	// Cert is the client's certificate.
	Cert string `yaml:"cert" as:"pem"`
	// Key is that of the client's certificate.
	Key durable.Secret `yaml:"key" as:"pem"`
	// CA are the roots to trust. Empty: the system's.
	CA string `yaml:"ca" as:"pem"`
	// ServerName is expected in the server's certificate. Empty: the host.
	ServerName string `yaml:"server_name"`
}

// UnmarshalYAML reads true, false, or a map.
func (t *TLS) UnmarshalYAML(unmarshal func(any) error) error {
	var form any
	if err := unmarshal(&form); err != nil {
		return err
	}
	if _, ok := form.(map[string]any); ok {
		type plain TLS
		return unmarshal((*plain)(t))
	}
	var on bool
	if err := unmarshal(&on); err != nil {
		return err
	}
	*t = TLS{Off: !on}
	return nil
}

// ExternalStorage is a directory that all processes of a program share.
type ExternalStorage struct {
	// Directory is where blobs are kept, and values over the threshold. All
	// programs that work on the namespace share it; nothing in it is deleted.
	Directory string `yaml:"directory" as:"path"`
	// Threshold is the size above which inputs, results and messages go there,
	// and a reference to the server. 0: they stay with the server, which takes
	// 2 MB as one value.
	Threshold int `yaml:"threshold" as:"size"`
}

// Versioning is a worker's place in a deployment: [Temporal's worker
// versioning].
//
// [Temporal's worker versioning]: https://docs.temporal.io/worker-versioning
type Versioning struct {
	// Deployment is its name.
	Deployment string `yaml:"deployment"`
	// BuildID is this version's.
	BuildID string `yaml:"build_id"`
	// Behavior is whether a run stays with the version it began on.
	Behavior string `yaml:"behavior" enum:"pinned,auto_upgrade" default:"pinned"`
}

// HostPort is the server's address.
func (t *Temporal) HostPort() string {
	if strings.HasPrefix(t.Host, "dns:///") {
		return t.Host
	}
	host, port := t.split()
	if host == "" {
		host = "127.0.0.1"
	}
	if port == "" {
		port = "7233"
		if t.Port != 0 {
			port = strconv.Itoa(t.Port)
		}
	}
	return net.JoinHostPort(host, port)
}

func (t *Temporal) split() (host, port string) {
	if h, p, err := net.SplitHostPort(t.Host); err == nil {
		return h, p
	}
	return strings.Trim(t.Host, "[]"), ""
}

// engine is the engine's name, in one way of writing.
func (c *Config) engine() string {
	switch c.Engine {
	case "", "asyncio", "memory":
		return "memory"
	}
	return c.Engine
}

// section is the name of the section that an engine reads.
func (c *Config) section() string {
	if c.engine() == "temporal" {
		return "temporal"
	}
	return "local"
}

// pos is where a key stands, or the section that it would stand in.
func (c *Config) pos(key string) Pos {
	for {
		if at, ok := c.at[key]; ok {
			return at
		}
		i := strings.LastIndexAny(key, ".[")
		if i < 0 {
			return Pos{}
		}
		key = key[:i]
	}
}

// check finds what contradicts itself. Values that the file refused are zero
// here.
func (c *Config) check() Problems {
	var p Problems
	bad := func(key, format string, args ...any) { p.add(c.pos(key), key, format, args...) }
	whole := func(key string, n int) {
		if n < 0 {
			bad(key, "it can't be negative")
		}
	}
	span := func(key string, d time.Duration) {
		if d < 0 {
			bad(key, "a duration can't be negative")
		}
	}
	if !slices.Contains([]string{"memory", "local", "temporal"}, c.engine()) {
		bad("execution_engine", "want asyncio, memory, local or temporal, not %q", c.Engine)
	}
	shared := func(section string, s *Shared) {
		span(section+".timeout_seconds", s.Timeout)
		whole(section+".max_payload", s.MaxPayload)
		whole(section+".warn_payload", s.WarnPayload)
		if _, err := s.reuse(); err != nil {
			bad(section+".id_reuse_policy", "%v", err)
		}
		if _, err := s.codec(); err != nil {
			bad(section+".codec_key", "%v", err)
		}
	}
	l := &c.Local
	shared("local", &l.Shared)
	span("local.retention", l.Retention)
	span("local.watchdog", l.Watchdog)
	whole("local.max_ended", l.MaxEnded)
	whole("local.max_steps", l.MaxSteps)

	t := &c.Temporal
	shared("temporal", &t.Shared)
	span("temporal.heartbeat_seconds", t.Heartbeat)
	span("temporal.stop_timeout_seconds", t.StopTimeout)
	span("temporal.connect_timeout_seconds", t.ConnectTimeout)
	for key, n := range map[string]int{
		"max_concurrent_activities": t.MaxConcurrentActivities, "max_concurrent_workflow_tasks": t.MaxConcurrentWorkflowTasks,
		"max_activity_pollers": t.MaxActivityPollers, "max_workflow_task_pollers": t.MaxWorkflowTaskPollers,
	} {
		whole("temporal."+key, n)
		if n == 1 && strings.Contains(key, "workflow_task") {
			bad("temporal."+key, "the SDK needs 2 or more")
		}
	}
	for key, f := range map[string]float64{
		"max_activities_per_second": t.MaxActivitiesPerSecond, "max_task_queue_activities_per_second": t.MaxTaskQueueActivitiesPerSecond,
	} {
		if f < 0 {
			bad("temporal."+key, "it can't be negative")
		}
	}
	c.checkAddress(bad)
	if s := t.TLS; s != nil {
		if (s.Cert == "") != s.Key.IsZero() && c.pending["temporal"] == nil {
			bad("temporal.tls", "cert and key belong together")
		}
		if s.Off && !t.APIKey.IsZero() {
			bad("temporal.tls", "api_key would be sent in the clear: leave tls out, or write true")
		}
	}
	if s := t.ExternalStorage; s != nil {
		if s.Threshold < 0 {
			bad("temporal.external_storage.threshold", "it can't be negative")
		}
		if s.Directory == "" && c.pending["temporal"] == nil {
			bad("temporal.external_storage", "directory is missing: where are the values to be kept?")
		}
	}
	if v := t.Versioning; v != nil {
		if (v.Deployment == "" || v.BuildID == "") && c.pending["temporal"] == nil {
			bad("temporal.versioning", "deployment and build_id are both needed")
		}
		if v.Behavior != "" && v.Behavior != "pinned" && v.Behavior != "auto_upgrade" {
			bad("temporal.versioning.behavior", "want pinned or auto_upgrade, not %q", v.Behavior)
		}
	}
	for pattern, r := range c.Policies {
		key := policiesKey + "." + pattern
		if err := checkPolicy(pattern, r); err != nil {
			bad(key, "%v", err)
		}
	}
	return p
}

func (c *Config) checkAddress(bad func(key, format string, args ...any)) {
	t := &c.Temporal
	if t.Port < 0 || t.Port > 65535 {
		bad("temporal.port", "a port is a number from 1 to 65535, not %d", t.Port)
	}
	if strings.HasPrefix(t.Host, "dns:///") {
		return
	}
	if scheme, _, ok := strings.Cut(t.Host, "://"); ok {
		bad("temporal.host", "want host or host:port without %s://", scheme)
		return
	}
	_, port := t.split()
	if port == "" {
		return
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		bad("temporal.host", "a port is a number from 1 to 65535, not %q", port)
	} else if t.Port != 0 && t.Port != n {
		bad("temporal.port", "host says port %d and port says %d", n, t.Port)
	}
}

// reuse is the policy as durable has it.
func (s *Shared) reuse() (durable.ReusePolicy, error) {
	switch s.IDReusePolicy {
	case "", "reject_duplicate":
		return durable.ReuseReject, nil
	case "allow_duplicate":
		return durable.ReuseAllow, nil
	case "allow_duplicate_failed_only":
		return durable.ReuseFailed, nil
	case "terminate_if_running":
		return "", fmt.Errorf("terminate_if_running is not offered: a start never ends a run that is at work; cancel that run, then start")
	}
	return "", fmt.Errorf("want allow_duplicate, allow_duplicate_failed_only or reject_duplicate, not %q", s.IDReusePolicy)
}

// codec is nil if no key is given.
func (s *Shared) codec() (durable.Codec, error) {
	if s.CodecKey.IsZero() {
		if len(s.CodecOldKeys) > 0 {
			return nil, fmt.Errorf("codec_old_keys are there, and no codec_key to encrypt with")
		}
		return nil, nil
	}
	return durable.NewAESCodec(append([]durable.Secret{s.CodecKey}, s.CodecOldKeys...)...)
}
