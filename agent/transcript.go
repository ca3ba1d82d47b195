package agent

import (
	"cmp"
	"container/list"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"unsafe"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/plainjson"
	"github.com/mcpagent/mcpagent/llm"
)

// A conversation crosses into a step by one digest, however long it is. The
// run lends its messages, each once, and at each call a link: the digests of
// what is new, and that of the link before. A worker of the same process finds
// the conversation in the library, where the run has put it; one that has seen
// the link before reads what is new; any other one follows the chain.

// transcript is a conversation on the side of the run.
type transcript struct {
	lib      *library
	messages []llm.Message
	fresh    []string // digests of messages that no link has
	size     int      // of those
	head     string   // digest of the newest link
}

// link is one step of the chain.
type link struct {
	Prev string   `json:"prev,omitempty"`
	New  []string `json:"new"`
}

func (t *transcript) add(ctx context.Context, ms ...llm.Message) error {
	for i := range ms {
		sum, size, err := lend(ctx, (*spoken)(&ms[i]))
		if err != nil {
			return err
		}
		t.messages = append(t.messages, ms[i])
		t.fresh = append(t.fresh, sum)
		t.size += size
	}
	return nil
}

// replace changes the last message, which no link has.
func (t *transcript) replace(m llm.Message) {
	if len(m.Parts) == 0 {
		t.messages = t.messages[:len(t.messages)-1]
		return
	}
	t.messages[len(t.messages)-1] = m
}

// seal gives the digest of the whole conversation.
func (t *transcript) seal(ctx context.Context) (string, error) {
	if len(t.fresh) == 0 {
		return t.head, nil
	}
	sum, _, err := lend(ctx, link{t.head, t.fresh})
	if err != nil {
		return "", err
	}
	t.lib.grow(sum, t.messages, t.size)
	t.head, t.fresh, t.size = sum, nil, 0
	return sum, nil
}

// lend gives the digest of what is lent, and its size.
func lend(ctx context.Context, v any) (string, int, error) {
	b, err := plainjson.Marshal(v)
	if err != nil {
		return "", 0, fmt.Errorf("agent: encode a part of the conversation: %w", err)
	}
	b = plainjson.HTML(b) // digests are of what json.Marshal writes
	sum, err := durable.LendBlob(ctx, b)
	if errors.Is(err, durable.ErrNoEngine) {
		err = errOutside
	}
	return sum, len(b), err
}

// errOutside names the ways in.
var errOutside = errors.New("agent: there is no engine and there are no models here: run it with App.Run or agent.Start, inside of a workflow, or in a test with durable.With(ctx, models, host)")

// library is what a worker remembers of conversations and frames: decoded, by
// digest, and no more than so many bytes.
type library struct {
	mu    sync.Mutex
	at    map[string]*list.Element
	order list.List // *kept, the latest used first
	size  int
}

// maxLibrary is how much a worker remembers, in bytes of JSON.
const maxLibrary = 64 << 20

type kept struct {
	digest string
	value  any
	size   int
}

func (l *library) get(digest string) (any, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.at[digest]
	if e == nil {
		return nil, false
	}
	l.order.MoveToFront(e)
	return e.Value.(*kept).value, true
}

func (l *library) put(digest string, value any, size int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at[digest] != nil {
		return
	}
	if l.at == nil {
		l.at = map[string]*list.Element{}
	}
	l.at[digest] = l.order.PushFront(&kept{digest, value, size})
	for l.size += size; l.size > maxLibrary && l.order.Len() > 1; {
		k := l.order.Remove(l.order.Back()).(*kept)
		delete(l.at, k.digest)
		l.size -= k.size
	}
}

// read gives a value by its digest, from memory or from the run.
func read[T any](ctx context.Context, l *library, digest string) (*T, int, error) {
	if v, ok := l.get(digest); ok {
		if t, ok := v.(*T); ok {
			return t, 0, nil
		}
	}
	b, err := durable.GetBlob(ctx, digest)
	if err != nil {
		return nil, 0, missing(err)
	}
	v := new(T)
	if err := json.Unmarshal(b, v); err != nil {
		return nil, 0, durable.Permanent(fmt.Errorf("agent: a part of the conversation is not what it should be: %w", err))
	}
	return v, len(b), nil
}

// errChanged is a call whose conversation the run's code does not make any
// more: it was deployed anew with another instruction, or other prompts, while
// the call was under way. The run makes it again, with what it says now.
var errChanged = durable.NewErrorType("ConversationChanged")

// missing is the failure to read what a run lends.
func missing(err error) error {
	if errors.Is(err, durable.ErrNotFound) {
		return durable.Permanent(errChanged.New("the run's code does not say any more what this call of a model refers to"))
	}
	return fmt.Errorf("agent: read a part of the conversation: %w", err)
}

// spine is a conversation up to a link, as a worker remembers it. Its messages
// are shared with longer ones and never changed.
type spine struct{ messages []llm.Message }

// conversation puts together what a link stands for.
func (l *library) conversation(ctx context.Context, head string) ([]llm.Message, error) {
	var chain []*link
	var messages []llm.Message
	var digests []string
	for at := head; at != ""; {
		v, _ := l.get(at)
		if s, ok := v.(*spine); ok {
			messages = s.messages
			break
		}
		k, _, err := read[link](ctx, l, at)
		if err != nil {
			return nil, err
		}
		chain, digests = append(chain, k), append(digests, at)
		at = k.Prev
	}
	messages = messages[:len(messages):len(messages)] // others go on from there too
	for i := len(chain) - 1; i >= 0; i-- {
		size := 0
		for _, sum := range chain[i].New {
			m, n, err := read[llm.Message](ctx, l, sum)
			if err != nil {
				return nil, err
			}
			messages = append(messages, *m)
			size += cmp.Or(n, 64)
		}
		l.grow(digests[i], messages, size)
	}
	return joined(messages), nil
}

// grow remembers a conversation up to a link, which brought so many bytes.
func (l *library) grow(link string, messages []llm.Message, size int) {
	l.put(link, &spine{slices.Clip(messages)}, 64+size+int(unsafe.Sizeof(llm.Message{}))*len(messages))
}

// joined makes one message of those that users say in a row: what was said to
// an agent at work, an input of several messages, a repair of an empty answer.
func joined(ms []llm.Message) []llm.Message {
	var out []llm.Message // nil: as they are
	for i, m := range ms {
		if i > 0 && m.Role == llm.RoleUser && ms[i-1].Role == llm.RoleUser {
			if out == nil {
				out = slices.Clone(ms[:i])
			}
			last := &out[len(out)-1]
			last.Parts = slices.Concat(last.Parts, m.Parts)
			continue
		}
		if out != nil {
			out = append(out, m)
		}
	}
	if out == nil {
		return ms
	}
	return out
}
