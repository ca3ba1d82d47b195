package durable

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// Retry is when a failed step is tried again. Zero fields take the default,
// or the value of a less specific policy that matches.
type Retry struct {
	Initial      time.Duration // before the second attempt; 0: 1 s
	Backoff      float64       // factor from one wait to the next; 0: 2
	Max          time.Duration // longest wait; 0: 100 × Initial
	MaxAttempts  int           // 0: no limit
	NonRetryable []string      // error types that fail the step at once; empty, but not nil: none
}

// The defaults of steps and retries.
const (
	DefaultStepTimeout = 10 * time.Minute
	defaultInitial     = time.Second
	defaultBackoff     = 2
	defaultMaxFactor   = 100
)

func (r *Retry) check() error {
	switch {
	case r == nil:
		return nil
	case r.Initial < 0 || r.Max < 0:
		return errors.New("a retry interval is negative")
	case r.Backoff != 0 && r.Backoff < 1:
		return fmt.Errorf("retry backoff %v is below 1", r.Backoff)
	case r.MaxAttempts < 0:
		return fmt.Errorf("retry attempts %d is negative", r.MaxAttempts)
	case r.Max != 0 && r.Initial > r.Max:
		return fmt.Errorf("retry: Initial %v is above Max %v", r.Initial, r.Max)
	}
	return nil
}

// over lays r over base, field by field.
func (r *Retry) over(base Retry) Retry {
	if r == nil {
		return base
	}
	if r.Initial != 0 {
		base.Initial = r.Initial
	}
	if r.Backoff != 0 {
		base.Backoff = r.Backoff
	}
	if r.Max != 0 {
		base.Max = r.Max
	}
	if r.MaxAttempts != 0 {
		base.MaxAttempts = r.MaxAttempts
	}
	if r.NonRetryable != nil {
		base.NonRetryable = r.NonRetryable
	}
	return base
}

// Policies are configured retry policies by step name: an exact name, a dotted
// suffix of it ("call_tool" for "mcp.call_tool"), a prefix with a star
// ("invoice.*"), or "*". The most specific one that matches is laid, field by
// field, over the policy that the step declares.
type Policies map[string]Retry

// Match finds the policy for a step and the line that won.
func (p Policies) Match(step string) (Retry, string, bool) {
	if r, ok := p[step]; ok {
		return r, step, true
	}
	for rest := step; ; {
		_, after, ok := strings.Cut(rest, ".")
		if !ok {
			break
		}
		if r, ok := p[after]; ok {
			return r, after, true
		}
		rest = after
	}
	best := ""
	for pattern := range p {
		prefix, ok := strings.CutSuffix(pattern, "*")
		if ok && strings.HasPrefix(step, prefix) && len(pattern) > len(best) {
			best = pattern
		}
	}
	if best == "" {
		return Retry{}, "", false
	}
	return p[best], best, true
}

// stepSpec is a step's resolved options, recorded with the call: a later
// configuration changes new calls only. Durations are microseconds.
type stepSpec struct {
	Timeout      int64    `json:"timeout"`
	TotalTimeout int64    `json:"total_timeout,omitempty"`
	QueueTimeout int64    `json:"queue_timeout,omitempty"`
	Heartbeat    int64    `json:"heartbeat,omitempty"`
	Initial      int64    `json:"initial"`
	Backoff      float64  `json:"backoff"`
	Max          int64    `json:"max"`
	MaxAttempts  int      `json:"max_attempts,omitempty"`
	NonRetryable []string `json:"non_retryable,omitempty"`
	AtMostOnce   bool     `json:"at_most_once,omitempty"`
	Queue        string   `json:"queue,omitempty"`
}

// ResolveStep gives the options that a step runs by: those that it declares,
// with the policy that matches its name laid over them, and every default
// filled in. All engines use it.
func (o *Options) ResolveStep(step string, declared StepOptions) (StepOptions, error) {
	if err := declared.check(); err != nil {
		return StepOptions{}, err
	}
	retry := declared.Retry.over(Retry{})
	if conf, _, ok := o.Policies.Match(step); ok {
		retry = conf.over(retry)
	}
	if retry.Initial == 0 {
		retry.Initial = defaultInitial
	}
	if retry.Backoff == 0 {
		retry.Backoff = defaultBackoff
	}
	if retry.Max == 0 {
		retry.Max = defaultMaxFactor * retry.Initial
	}
	retry.Initial = min(retry.Initial, retry.Max) // they may come from two policies
	if declared.AtMostOnce {
		retry.MaxAttempts = 1
	}
	if declared.Timeout == 0 && declared.TotalTimeout == 0 {
		declared.TotalTimeout = o.StepTimeout
	}
	if declared.Timeout == 0 {
		declared.Timeout = DefaultStepTimeout
	}
	declared.Retry = &retry
	return declared, nil
}

// resolveStep is [Options.ResolveStep] in the form that is recorded.
func (o *Options) resolveStep(step string, declared *StepOptions) (*stepSpec, error) {
	r, err := o.ResolveStep(step, *declared)
	if err != nil {
		return nil, err
	}
	return &stepSpec{
		Timeout: r.Timeout.Microseconds(), TotalTimeout: r.TotalTimeout.Microseconds(),
		QueueTimeout: r.QueueTimeout.Microseconds(), Heartbeat: r.Heartbeat.Microseconds(),
		Initial: r.Retry.Initial.Microseconds(), Backoff: r.Retry.Backoff, Max: r.Retry.Max.Microseconds(),
		MaxAttempts: r.Retry.MaxAttempts, NonRetryable: r.Retry.NonRetryable, AtMostOnce: r.AtMostOnce, Queue: r.Queue,
	}, nil
}

// verdict is what follows from a failed attempt.
type verdict struct {
	failure *journal.Failure
	retry   bool
	delay   time.Duration
}

// within is the policy for one attempt, which may not go on past the total
// timeout.
func (s *stepSpec) within(began, now time.Time) *stepSpec {
	if s.TotalTimeout <= 0 {
		return s
	}
	c := *s
	c.Timeout = max(1, min(s.Timeout, s.TotalTimeout-now.Sub(began).Microseconds()))
	return &c
}

// judge decides about attempt n, which failed with err; began is when the
// step was called.
func (s *stepSpec) judge(err error, n int, began, now time.Time, cancelled bool) verdict {
	e := toError(err)
	v := verdict{failure: toFailure(e)}
	var bad unencodable
	var unknown unknownError
	switch {
	case s.AtMostOnce && (errors.As(err, &unknown) || errors.As(err, &bad) || errors.Is(err, errAttemptOver) ||
		e.Code == "shutdown" || e.Code == "too_large" || e.Type == "panic"):
		v.failure = &journal.Failure{Type: "unknown", Kind: "unknown", Permanent: true, Cause: v.failure,
			Message: fmt.Sprintf("%v (%v)", ErrOutcomeUnknown, err)}
		return v
	case errors.As(err, &bad), e.Code == "too_large":
		v.failure.Permanent = true
		return v
	case e.Permanent, cancelled, s.AtMostOnce, s.MaxAttempts > 0 && n >= s.MaxAttempts:
		return v
	}
	for _, t := range s.NonRetryable {
		if t == e.Type || strings.HasSuffix(e.Type, "."+t) {
			v.failure.Permanent = true
			return v
		}
	}
	v.retry, v.delay = true, s.delay(n)
	var after retryAfterError
	if errors.As(err, &after) && after.d > 0 {
		v.delay = after.d
	}
	if s.TotalTimeout > 0 && now.Add(v.delay).Sub(began) >= time.Duration(s.TotalTimeout)*time.Microsecond {
		v.retry = false
	}
	return v
}

// delay is the wait after attempt n.
func (s *stepSpec) delay(n int) time.Duration {
	d := float64(s.Initial)
	for i := 1; i < n && d < float64(s.Max); i++ {
		d *= s.Backoff
	}
	return time.Duration(min(int64(d), s.Max)) * time.Microsecond
}

// errAttemptOver is in the chain of errors that end an attempt from outside,
// while its function may still be running.
var errAttemptOver = errors.New("the attempt was given up")

// attemptTimeout makes the error of an attempt that took too long.
func attemptTimeout(what string, d time.Duration) error {
	return &Error{Type: "timeout", Code: "timeout", Message: fmt.Sprintf("%s of %v ran out", what, d)}
}
