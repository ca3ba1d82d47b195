package durable

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
	"github.com/mcpagent/mcpagent/internal/plainjson"
)

// Options are the settings that the engines of this module share. The zero
// value is fine.
type Options struct {
	Logger   *slog.Logger // of the engine and of [Logger]; nil: slog.Default
	Policies Policies     // retry policies by step name, over the declared ones
	// StepTimeout is the total timeout of steps that declare no timeout of
	// their own. 0: none.
	StepTimeout time.Duration
	// Reuse is the policy of starts that name none.
	Reuse    ReusePolicy
	Codec    Codec    // of everything stored; nil: none
	Observer Observer // nil: none
	// MaxSteps is how many steps are at work at once. 0: 1,000.
	MaxSteps int
	// MaxAwake is how many waiting runs are kept in memory with their
	// coroutines; the others are put away and cost a replay when an event
	// comes. 0: 1,000. Negative: none, each is put away after every turn.
	MaxAwake int
	// MaxPayload is the size limit of one value, in bytes. 0: 64 MB.
	// Above WarnPayload (0: 2 MB) it is logged.
	MaxPayload, WarnPayload int
	// Portable holds runs to what every engine can do: values of at most 2 MB,
	// 10,000 signals and 2,000 updates to one run, 2,000 of its calls under
	// way. What goes over it is refused at the call, with [ErrTooLarge] for a
	// value and [ErrLimit] for a number. Blobs keep to MaxPayload.
	Portable bool
	// Watchdog is how long a coroutine may run without blocking in a durable
	// call before the run is reported as deadlocked. 0: 1 s.
	Watchdog time.Duration
	// MaxDeaths is at how many deaths of the process in a row a run whose
	// step was at work becomes a [Problem] instead of being tried again.
	// 0: 3. Negative: no limit.
	MaxDeaths int
	// Retention is how long a run is kept after its end, with its history,
	// its questions, its streams and its blobs. 0: for ever.
	Retention time.Duration
	// MaxEnded is how many ended runs are kept at most, the newest ones.
	// 0: no limit.
	MaxEnded int
	// Propagators carry context values from the caller of Start into runs,
	// steps and children. Nothing else in a context crosses.
	Propagators []Propagator
}

// Propagator carries one context value across a start, a step or a child.
type Propagator interface {
	// Key names the value where it is stored.
	Key() string
	// Extract reads the value from a context; empty means that there is none.
	Extract(ctx context.Context) string
	// Inject puts a value that Extract gave into a context.
	Inject(ctx context.Context, value string) context.Context
}

// Codec turns stored values into another form, for encryption or compression.
// It is used for inputs, results, signals, statuses, questions and answers,
// streams, heartbeats, memos and blobs on every engine; names, ids, times and
// the texts of errors stay readable. Both methods are
// safe for concurrent use. Decode must refuse what Encode did not make.
type Codec interface {
	Encode(plain []byte) ([]byte, error)
	Decode(stored []byte) ([]byte, error)
}

func (o *Options) maxPayload() int {
	if o.Portable {
		return min(o.maxBlob(), PortablePayload)
	}
	return o.maxBlob()
}

func (o *Options) maxBlob() int {
	if o.MaxPayload > 0 {
		return o.MaxPayload
	}
	return 64 << 20
}

func (o *Options) maxSteps() int {
	if o.MaxSteps > 0 {
		return o.MaxSteps
	}
	return 1000
}

func (o *Options) maxAwake() int {
	switch {
	case o.MaxAwake > 0:
		return o.MaxAwake
	case o.MaxAwake < 0:
		return 0
	}
	return 1000
}

func (o *Options) watchdog() time.Duration {
	if o.Watchdog > 0 {
		return o.Watchdog
	}
	return time.Second
}

func (o *Options) maxDeaths() int {
	switch {
	case o.MaxDeaths > 0:
		return o.MaxDeaths
	case o.MaxDeaths < 0:
		return 1 << 30
	}
	return 3
}

// check refuses options that contradict themselves, all at once.
func (o *Options) check() error {
	for name, p := range o.Policies {
		if err := p.check(); err != nil {
			return fmt.Errorf("retry policy %q: %w", name, err)
		}
	}
	if o.StepTimeout < 0 {
		return errors.New("options: StepTimeout can't be negative")
	}
	switch o.Reuse {
	case ReuseReject, ReuseAllow, ReuseFailed:
	default:
		return fmt.Errorf("options: the reuse policy %q is not known", o.Reuse)
	}
	if o.Retention < 0 || o.MaxEnded < 0 {
		return errors.New("options: Retention and MaxEnded can't be negative")
	}
	return nil
}

// Actor is who acts: Name is recorded with what they do; Owner is whose runs
// they may see and touch, and whom the runs that they start belong to. The
// empty Owner sees all.
type Actor struct {
	Name  string `json:"name,omitempty"`
	Owner string `json:"owner,omitempty"`
}

type actorKey struct{}

// WithActor says who acts in the operations under the context.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// ActorOf tells who acts.
func ActorOf(ctx context.Context) Actor {
	a, _ := ctx.Value(actorKey{}).(Actor)
	return a
}

type traceKey struct{}

// WithTrace puts a W3C traceparent into the context: it is stored with starts,
// signals and updates, and given to steps.
func WithTrace(ctx context.Context, traceparent string) context.Context {
	return context.WithValue(ctx, traceKey{}, traceparent)
}

// TraceOf gives the traceparent of the context: the caller's, or in a run or
// step the one that the run was started with. With a [Tracer], it is in a step
// that of the attempt.
func TraceOf(ctx context.Context) string {
	t, _ := ctx.Value(traceKey{}).(string)
	return t
}

// PutBlob stores content under its digest and returns that. It may be called
// many times. In a workflow it is stored with the turn; blobs live as long as
// the youngest run of the chain. Without an engine: [ErrNoEngine].
func PutBlob(ctx context.Context, data []byte) (string, error) {
	e, err := enter(ctx, "PutBlob")
	if err != nil {
		return "", err
	}
	sum := blobDigest(data)
	switch {
	case e.run != nil:
		r := e.run
		if err := r.allow(ctx, journal.PutBlob, "", func() error { return r.ex.checkBlob(len(data), "workflow", r.def.name) }); err != nil {
			return "", err
		}
		if r.ex.past != nil {
			r.ex.past.put(sum, data)
		}
		if !r.replaying {
			b, err := r.ex.blob(sum, r.row.Chain, data)
			if err != nil {
				return "", err
			}
			r.turn.blobs = append(r.turn.blobs, b)
			if h := r.ex.host; h != nil && !h.c.Replaying() {
				if err := h.c.PutBlob(sum, b.Data); err != nil && !errors.Is(err, ErrUnsupported) {
					return "", err
				}
			}
		}
		return sum, nil
	case e.attempt != nil && e.attempt.ent != nil:
		rep, err := e.attempt.ent.ex.Do(ctx, &Request{Op: opPutBlob, Ref: Ref{e.attempt.info.WorkflowID, e.attempt.info.RunID}, Data: data})
		if err == nil {
			err = rep.err()
		}
		return sum, err
	}
	return "", fmt.Errorf("durable.PutBlob: %w", ErrNoEngine)
}

// GetBlob reads content by its digest. Whoever has the digest may read it: it
// is made from the content.
func GetBlob(ctx context.Context, digest string) ([]byte, error) {
	e, err := enter(ctx, "GetBlob")
	if err != nil {
		return nil, err
	}
	var ex *executor
	switch {
	case e.run != nil:
		if e.run.turn != nil {
			for _, b := range e.run.turn.blobs {
				if b.Digest == digest {
					return e.run.ex.unseal(b.Data)
				}
			}
		}
		ex = e.run.ex
	case e.attempt != nil && e.attempt.ent != nil:
		ex = e.attempt.ent.ex
	}
	if ex == nil {
		w, err := worldOf(ctx)
		if w == nil || err != nil {
			return nil, fmt.Errorf("durable.GetBlob: %w", cmp.Or(err, ErrNoEngine))
		}
		if b := w.lent.get(digest); b != nil {
			return b, nil
		}
		return nil, fmt.Errorf("blob %s: %w: nothing lent it", digest, ErrNotFound)
	}
	if e.run != nil {
		if b := e.run.ent.lent.Load().by(e.run).get(digest); b != nil {
			return b, nil
		}
	}
	rep := ex.reader.blob(digest)
	if e.attempt != nil && !ex.remote && rep.Err != nil && errors.Is(rep.err(), ErrNotFound) {
		if b, err := e.attempt.borrow(ctx, digest); b != nil || err != nil {
			return b, err
		}
	}
	if h := ex.host; h != nil && rep.Err != nil {
		stored, err := h.c.GetBlob(digest)
		if err != nil {
			return nil, err
		}
		return ex.unseal(stored)
	}
	return rep.Data, rep.err()
}

// jsonOf is for stored values that can't fail to encode.
func jsonOf(v any) json.RawMessage {
	b, err := plainjson.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("durable: encode %T: %v", v, err))
	}
	return b
}
