package durable

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

func (ex *executor) seal(b json.RawMessage) (journal.Payload, error) {
	if b == nil {
		return nil, nil
	}
	if w := ex.opts.WarnPayload; len(b) > 2<<20 && w == 0 || w > 0 && len(b) > w {
		ex.log.Warn("a large value is recorded; a blob may be better", "bytes", len(b))
	}
	if ex.opts.Codec == nil {
		return journal.Payload(b), nil
	}
	return ex.opts.Codec.Encode(b)
}

func (ex *executor) unseal(p journal.Payload) (json.RawMessage, error) {
	return unseal(ex.opts.Codec, p)
}

// sealJSON makes the stored form of a value inside a record: JSON as it is, or
// a string of what the codec made of it.
func (ex *executor) sealJSON(v json.RawMessage) json.RawMessage {
	if ex.opts.Codec == nil || v == nil {
		return v
	}
	b, err := ex.opts.Codec.Encode(v)
	if err != nil {
		ex.log.Error("the codec cannot encode a value", "error", err)
		return json.RawMessage("null")
	}
	return jsonOf(base64.StdEncoding.EncodeToString(b))
}

func (ex *executor) sealText(s string) string {
	if ex.opts.Codec == nil || s == "" {
		return s
	}
	b, err := ex.opts.Codec.Encode([]byte(s))
	if err != nil {
		ex.log.Error("the codec cannot encode a text", "error", err)
		return ""
	}
	return base64.StdEncoding.EncodeToString(b)
}

// openJSON reads what sealJSON made.
func openJSON(c Codec, v json.RawMessage) (json.RawMessage, error) {
	if c == nil || v == nil {
		return v, nil
	}
	var b []byte
	if err := json.Unmarshal(v, &b); err != nil {
		return nil, fmt.Errorf("it was stored without this codec: %w", err)
	}
	return c.Decode(b)
}

// openText reads what sealText made; what can't be read says so.
func openText(c Codec, s string) string {
	if c == nil || s == "" {
		return s
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err == nil {
		b, err = c.Decode(b)
	}
	if err != nil {
		return fmt.Sprintf("(%d characters that this codec cannot decode)", len(s))
	}
	return string(b)
}

func (ex *executor) blob(digest, chain string, data []byte) (*journal.Blob, error) {
	p, err := ex.seal(data)
	if err != nil {
		return nil, fmt.Errorf("encode a blob: %w", err)
	}
	if p == nil {
		p = journal.Payload{}
	}
	return &journal.Blob{Digest: digest, Chain: chain, Data: p}, nil
}

func blobDigest(data []byte) string {
	sum := sha256.Sum256(data)
	var buf [2 * sha256.Size]byte
	hex.Encode(buf[:], sum[:])
	return string(buf[:])
}

// maxPayload is the limit of one value: of the options, or of the cluster
// where that is lower.
func (ex *executor) maxPayload() int {
	if ex.limit > 0 {
		return min(ex.limit, ex.opts.maxPayload())
	}
	return ex.opts.maxPayload()
}

func (ex *executor) tooLarge(n int) bool { return n > ex.maxPayload() }

func (ex *executor) checkSize(n int, what, name string) error {
	if !ex.tooLarge(n) {
		return nil
	}
	return fmt.Errorf("%s %q has %d bytes, the limit is %d: %w: put it into a blob and pass on its digest%s", what, name, n, ex.maxPayload(), ErrTooLarge, ex.remedy)
}

func (ex *executor) checkBlob(n int, what, name string) error {
	if limit := ex.opts.maxBlob(); n > limit {
		return fmt.Errorf("a blob of %s %q has %d bytes, the limit is %d: %w: split it", what, name, n, limit, ErrTooLarge)
	}
	return nil
}

// resolved is the policy of a step's calls, and its recorded form.
type resolved struct {
	spec *stepSpec
	json json.RawMessage
}

// policy resolves the options of a call of a step. Those that the step
// declares were resolved when the executor was made.
func (ex *executor) policy(step *stepIdentity, o *StepOptions, varied bool) (*resolved, error) {
	if p := ex.policies[step]; p != nil && !varied {
		return p, nil
	}
	if !ex.queues && o.Queue != "" {
		return nil, fmt.Errorf("option Queue: %w: it runs everything in this process", ErrUnsupported)
	}
	if o.Affinity != "" {
		return nil, fmt.Errorf("option Affinity: %w", ErrUnsupported)
	}
	spec, err := ex.opts.resolveStep(step.name, o)
	if err != nil {
		return nil, err
	}
	return &resolved{spec, jsonOf(spec)}, nil
}

// headers are the values of propagators in a context of the run, if they are
// not those that it was started with.
func (ex *executor) headers(ctx context.Context, cfg *runConfig) json.RawMessage {
	if len(ex.opts.Propagators) == 0 {
		return nil
	}
	own := map[string]string{}
	other := false
	for _, p := range ex.opts.Propagators {
		v := p.Extract(ctx)
		if v != "" {
			own[p.Key()] = v
		}
		other = other || v != cfg.Headers[p.Key()]
	}
	if !other {
		return nil
	}
	return jsonOf(own)
}

// headersOf are the values of propagators that a call carries.
func headersOf(c *journal.Call, cfg *runConfig) map[string]string {
	if c.Headers == nil {
		return cfg.Headers
	}
	var own map[string]string
	_ = json.Unmarshal(c.Headers, &own)
	return own
}

// propagate puts what a run was started with into its context.
func (ex *executor) propagate(ctx context.Context, cfg *runConfig, headers map[string]string) context.Context {
	if cfg.Trace != "" {
		ctx = WithTrace(ctx, cfg.Trace)
	}
	for _, p := range ex.opts.Propagators {
		if v, ok := headers[p.Key()]; ok {
			ctx = p.Inject(ctx, v)
		}
	}
	return ctx
}
