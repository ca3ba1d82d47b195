package temporalengine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/mcpagent/mcpagent/durable"
)

// metaBlob is in the metadata of a payload whose value is in external storage:
// the encoding of the value.
const metaBlob = "mcp-agent-blob"

// reference crosses in the place of a value that is in external storage. It is
// JSON, so that the web UI and the command line show where the value is.
type reference struct {
	Blob  string `json:"blob"` // its digest
	Bytes int    `json:"bytes"`
	In    string `json:"in"` // for people
}

const inStorage = "external storage"

// storageError says that external storage did not give or take a value. It may
// do so later.
type storageError struct{ err error }

func (e *storageError) Error() string { return e.err.Error() }
func (e *storageError) Unwrap() error { return e.err }

// out takes a payload's value out to external storage where it is over the
// threshold. The names and what is said beside it stay.
func (h *shared) out(p *commonpb.Payload) (*commonpb.Payload, error) {
	ref := h.referTo(p)
	if ref == nil {
		return p, nil
	}
	if err := h.blobs.Put(durable.BlobDigest(p.GetData()), p.GetData()); err != nil {
		return nil, &storageError{fmt.Errorf("a value of %d bytes could not be put into external storage: %w", len(p.GetData()), err)}
	}
	return ref, nil
}

// referTo is what crosses instead of a payload; nil: the payload itself.
func (h *shared) referTo(p *commonpb.Payload) *commonpb.Payload {
	if h.blobs == nil || h.opts.Threshold <= 0 || len(p.GetData()) <= h.opts.Threshold || p.GetMetadata()[metaBlob] != nil {
		return nil
	}
	meta := map[string][]byte{metaEncoding: []byte(jsonPlain), metaBlob: p.GetMetadata()[metaEncoding]}
	if m := p.GetMetadata()[metaOurs]; m != nil {
		meta[metaOurs] = m
	}
	return &commonpb.Payload{Metadata: meta, Data: jsonOf(reference{Blob: durable.BlobDigest(p.GetData()), Bytes: len(p.GetData()), In: inStorage})}
}

// in brings a value back that out took away.
func (h *shared) in(p *commonpb.Payload) (*commonpb.Payload, error) {
	enc := p.GetMetadata()[metaBlob]
	if enc == nil {
		return p, nil
	}
	var ref reference
	if err := unmarshal(p, &ref); err != nil {
		return nil, err
	}
	if h.blobs == nil {
		return nil, &storageError{fmt.Errorf("a value of %d bytes is in external storage (blob %s), and this program has none: set Options.Blobs (temporal.external_storage in the file)", ref.Bytes, ref.Blob)}
	}
	data, err := h.blobs.Get(ref.Blob)
	if err == nil && durable.BlobDigest(data) != ref.Blob {
		err = fmt.Errorf("it is damaged: its %d bytes have another digest", len(data))
	}
	if err != nil {
		return nil, &storageError{fmt.Errorf("a value of %d bytes could not be read from external storage (blob %s): %w", ref.Bytes, ref.Blob, err)}
	}
	meta := map[string][]byte{metaEncoding: enc}
	if m := p.GetMetadata()[metaOurs]; m != nil {
		meta[metaOurs] = m
	}
	return &commonpb.Payload{Metadata: meta, Data: data}, nil
}

// --- limits

// grpcLimit is what the server takes as one message, less what there is beside
// the values in one.
const grpcLimit = 4<<20 - 64<<10

// wireRoom is what a payload has beside its value, mostly: what is said with
// a start, a step or a signal.
const wireRoom = 4 << 10

// limits asks for the namespace's limits. A cluster that is too old to tell,
// or does not tell us, has the usual ones.
func (h *shared) limits(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	rep, _ := h.client.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: h.space})
	h.limit = int(rep.GetNamespaceInfo().GetLimits().GetBlobSizeLimitError())
	if h.limit <= 0 {
		h.limit = durable.PortablePayload
	}
	h.limit = min(h.limit, grpcLimit)
	if h.blobs != nil && h.opts.Threshold > 0 {
		return // references are small
	}
	h.host.Limit(h.plainLimit(), storageRemedy)
}

const storageRemedy = ", or let large values go to external storage (Options.Blobs and Threshold; temporal.external_storage in the file)"

// plainLimit is how large a value may be so that its wire form is within the
// limit: a codec may make it larger.
func (h *shared) plainLimit() int {
	n := max(h.limit-wireRoom, h.limit/2)
	if h.opts.Engine.Codec == nil {
		return n
	}
	probe := make([]byte, n)
	for i, x := 0, uint32(1); i < n; i++ {
		x = x*1664525 + 1013904223
		probe[i] = byte(x >> 24)
	}
	stored, err := h.opts.Engine.Codec.Encode(probe)
	if err != nil || len(stored) <= n {
		return n
	}
	return int(math.Floor(float64(n) * float64(n) / float64(len(stored))))
}

// tooLarge refuses what is larger on the wire than the cluster takes.
func (h *shared) tooLarge(what, name string, ref durable.Ref, ps ...*commonpb.Payload) error {
	n := 0
	for _, p := range ps {
		n += p.Size()
	}
	if h.limit <= 0 || n+16 <= h.limit {
		return nil
	}
	of := ""
	if ref != (durable.Ref{}) {
		of = fmt.Sprintf(" of run %v", ref)
	}
	return fmt.Errorf("%s %q%s has %d bytes on its way, the limit of namespace %q is %d: %w: put it into a blob and pass on its digest%s",
		what, name, of, n, h.space, h.limit, durable.ErrTooLarge, storageRemedy)
}

// --- in a run

// raw is the wire form of a stored value that a run sends. In a replay it is
// not put away again: what was sent then counts.
func (d *drive) raw(stored []byte, meta any) converter.RawValue {
	return converter.NewRawValue(d.away(d.h.payload(stored, meta)))
}

func (d *drive) away(p *commonpb.Payload) *commonpb.Payload {
	ref := d.h.referTo(p)
	switch {
	case ref == nil:
		return p
	case d.Replaying():
		return ref
	}
	var err error
	apart(d.ctx, func() { ref, err = d.h.out(p) })
	if err != nil {
		panic(problem(&durable.Problem{Kind: "payload", Text: err.Error()}))
	}
	return ref
}

// stored is the stored form of what came for the run. Without its storage the
// run waits.
func (d *drive) stored(p *commonpb.Payload) (stored []byte, err error) {
	if p.GetMetadata()[metaBlob] == nil {
		return d.h.stored(p)
	}
	apart(d.ctx, func() { stored, err = d.h.stored(p) })
	var away *storageError
	if errors.As(err, &away) {
		panic(problem(&durable.Problem{Kind: "payload", Text: err.Error()}))
	}
	return stored, err
}

// opened reads one of our own operations.
func (d *drive) opened(p *commonpb.Payload, into any) error {
	stored, err := d.stored(p)
	if err != nil {
		return err
	}
	return d.h.openStored(stored, into)
}

// large refuses what a run sends, on record: what a cluster takes may change.
func (d *drive) large(call, what, name string, p ...*commonpb.Payload) error {
	var no error
	if !d.Replaying() {
		if no = d.h.tooLarge(what, name, d.ref, p...); no == nil {
			return nil
		}
	}
	if d.Version("__large/"+call, 1) != 1 {
		return nil
	}
	var f durable.StoredFailure
	_ = json.Unmarshal(d.Record(func() []byte { return jsonOf(durable.FailureOf(no)) }), &f)
	return durable.ErrorOf(&f)
}

// apart runs fn, which waits for a disk or a network, without the SDK taking
// that for code that is stuck.
func apart(ctx workflow.Context, fn func()) {
	c := workflow.DataConverterWithoutDeadlockDetection(waits{converter.GetDefaultDataConverter()})
	if aware, ok := c.(workflow.ContextAware); ok {
		c = aware.WithWorkflowContext(ctx)
	}
	_, _ = c.ToPayload(fn)
}

// waits is a converter for the sake of how the SDK calls one.
type waits struct{ converter.DataConverter }

// ToPayload implements [converter.DataConverter].
func (waits) ToPayload(fn any) (*commonpb.Payload, error) {
	fn.(func())()
	return nil, nil
}

// ours is one of our own operations or replies on the wire: as secret as the
// values in it.
func (h *shared) ours(v any) (*commonpb.Payload, error) {
	stored, err := h.host.Seal(jsonOf(v))
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return h.out(h.payload(stored, nil))
}

// open reads what ours wrote.
func (h *shared) open(p *commonpb.Payload, into any) error {
	stored, err := h.stored(p)
	if err != nil {
		return err
	}
	return h.openStored(stored, into)
}

func (h *shared) openStored(stored []byte, into any) error {
	plain, err := h.host.Unseal(stored)
	if err != nil {
		return err
	}
	return unmarshal(rawJSON(plain), into)
}

// request is a request of ours for a run, on the wire.
func (h *shared) request(req *durable.Request) (*commonpb.Payload, error) {
	p, err := h.ours(req)
	if err == nil {
		err = h.tooLarge("the value of", string(req.Op), req.Ref, p)
	}
	return p, err
}
