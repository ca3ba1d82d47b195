package temporalserver

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/server/common/dynamicconfig"
)

// OptionError says which option can't be used, and why.
type OptionError struct {
	Option string // the field's name in [Options]
	Value  string
	Err    error
}

func (e *OptionError) Error() string {
	return fmt.Sprintf("temporalserver: option %s: %q: %v", e.Option, e.Value, e.Err)
}

func (e *OptionError) Unwrap() error { return e.Err }

// complete checks the options, all of them, and fills in what was left out.
func (o *Options) complete() (*Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	var errs []error
	bad := func(option, value, format string, args ...any) {
		errs = append(errs, &OptionError{option, value, fmt.Errorf(format, args...)})
	}

	if c.File != "" {
		abs, err := filepath.Abs(c.File)
		if err != nil {
			bad("File", c.File, "%w", err)
		} else if info, err := os.Stat(filepath.Dir(abs)); err != nil {
			bad("File", c.File, "its directory: %w", err)
		} else if !info.IsDir() {
			bad("File", c.File, "%s is no directory", filepath.Dir(abs))
		}
		if strings.ContainsAny(c.File, "?#%") {
			bad("File", c.File, "a path with ?, # or %% can't be given to SQLite")
		}
		c.File = abs
	}
	switch c.Synchronous {
	case "":
		c.Synchronous = "full"
	case "full", "normal":
	default:
		bad("Synchronous", c.Synchronous, "it is full or normal")
	}
	if c.IP == "" {
		c.IP = "127.0.0.1"
	}
	if net.ParseIP(c.IP) == nil {
		bad("IP", c.IP, "not an IP address (a name is not looked up)")
	}
	for option, port := range map[string]int{"Port": c.Port, "UIPort": c.UIPort} {
		if port < 0 || port > 65535 {
			bad(option, fmt.Sprint(port), "a port is 0 to 65535")
		}
	}
	if c.UIPort != 0 && !c.UI {
		bad("UIPort", fmt.Sprint(c.UIPort), "it has no use without UI")
	}
	if c.Namespace == "" {
		c.Namespace = "default"
	}
	if strings.TrimSpace(c.Namespace) != c.Namespace || len(c.Namespace) > 255 || c.Namespace == "temporal-system" {
		bad("Namespace", c.Namespace, "a name of up to 255 bytes without space around it, and not temporal-system")
	}
	switch {
	case c.Retention == 0:
		c.Retention = 7 * 24 * time.Hour
	case c.Retention < time.Hour:
		bad("Retention", c.Retention.String(), "at least an hour")
	}
	if _, err := searchAttributes(c.SearchAttributes); err != nil {
		errs = append(errs, err)
	}
	if _, err := dynamicConfig(c.DynamicConfig); err != nil {
		errs = append(errs, err)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &c, errors.Join(errs...)
}

// searchAttributes parses the types.
func searchAttributes(given map[string]string) (map[string]enumspb.IndexedValueType, error) {
	types := map[string]enumspb.IndexedValueType{}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(given)) {
		t, ok := enumspb.IndexedValueType_shorthandValue[given[name]]
		if !ok || t == 0 {
			errs = append(errs, &OptionError{"SearchAttributes", name + "=" + given[name],
				errors.New("the type is one of Bool, Datetime, Double, Int, Keyword, KeywordList, Text")})
			continue
		}
		types[name] = enumspb.IndexedValueType(t)
	}
	return types, errors.Join(errs...)
}

// Defaults are the settings of the dynamic configuration that differ from the
// server's own: for one process, for short timers, and with nothing sent home.
func Defaults() map[string]any {
	return map[string]any{
		// A timer that is due within this time is put off to its end: a timer of
		// 10 ms takes a second with the server's own setting, 1s.
		dynamicconfig.TimerProcessorMaxTimeShift.Key().String(): "1ms",
		// Each queue is read so many times a second at most, in each shard. There is
		// one, so with the server's own 20 each step of each run waits for 50 ms.
		dynamicconfig.TimerProcessorMaxPollRPS.Key().String():      1000,
		dynamicconfig.TransferProcessorMaxPollRPS.Key().String():   1000,
		dynamicconfig.VisibilityProcessorMaxPollRPS.Key().String(): 1000,
		dynamicconfig.OutboundProcessorMaxPollRPS.Key().String():   1000,
		// One process has no use for spreading a task queue.
		dynamicconfig.MatchingNumTaskqueueReadPartitions.Key().String():  1,
		dynamicconfig.MatchingNumTaskqueueWritePartitions.Key().String(): 1,

		// There is one user. A limit would only make a test slower that lists its runs
		// (10 times a second), or stop one that waits for many (1200).
		dynamicconfig.FrontendRPS.Key().String():                                         100_000,
		dynamicconfig.FrontendMaxNamespaceRPSPerInstance.Key().String():                  100_000,
		dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key().String():        100_000,
		dynamicconfig.FrontendMaxConcurrentLongRunningRequestsPerInstance.Key().String(): 100_000,
		dynamicconfig.HistoryRPS.Key().String():                                          100_000,
		dynamicconfig.MatchingRPS.Key().String():                                         100_000,
		dynamicconfig.FrontendPersistenceMaxQPS.Key().String():                           100_000,
		dynamicconfig.HistoryPersistenceMaxQPS.Key().String():                            100_000,
		dynamicconfig.MatchingPersistenceMaxQPS.Key().String():                           100_000,
		// A namespace that was just registered is there for the next call, nearly.
		dynamicconfig.NamespaceCacheRefreshInterval.Key().String(): "200ms",

		dynamicconfig.EnableEagerWorkflowStart.Key().String():                           true,
		dynamicconfig.EnableActivityEagerExecution.Key().String():                       true,
		dynamicconfig.FrontendEnableUpdateWorkflowExecution.Key().String():              true,
		dynamicconfig.FrontendEnableUpdateWorkflowExecutionAsyncAccepted.Key().String(): true,
		dynamicconfig.WorkflowTimeSkippingEnabled.Key().String():                        true,

		dynamicconfig.EnableServerVersionCheck.Key().String(): false,
	}
}

// dynamicConfig lays the given settings over the defaults. The server itself
// only warns about a key or a value that it does not know.
func dynamicConfig(given map[string]any) (dynamicconfig.StaticClient, error) {
	client := dynamicconfig.StaticClient{}
	var errs []error
	set := func(values map[string]any) {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			key := dynamicconfig.MakeKey(name)
			var l dynamicconfig.YamlLoader
			l.LoadValue(key, settingText(values[name]))
			if err := errors.Join(append(l.Errors, l.Warnings...)...); err != nil {
				errs = append(errs, &OptionError{"DynamicConfig", fmt.Sprintf("%s=%v", name, values[name]), err})
				continue
			}
			client[key] = l.Map[key]
		}
	}
	set(Defaults())
	set(given)
	return client, errors.Join(errs...)
}
