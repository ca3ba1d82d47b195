package mcpagent

import (
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/mcpagent/mcpagent/durable/engines"
	"github.com/mcpagent/mcpagent/llm"
)

// renewal reads the configuration again when a provider refuses a key: who
// mends it in the file need not start the program anew.
type renewal struct {
	file     string
	sections map[string]any // what they were read into
	log      *slog.Logger

	mu sync.Mutex
	at map[string]time.Time // when a provider last got another key
}

// renew reports whether a provider has got another key since a call began.
func (r *renewal) renew(p llm.Provider, since time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at[p.Provider()].After(since) {
		return true // for somebody else who was refused
	}
	of, ok := p.(llm.Renewing)
	if !ok {
		return false
	}
	fresh := map[string]any{}
	for name, s := range r.sections {
		fresh[name] = reflect.New(reflect.TypeOf(s).Elem()).Interface()
	}
	if _, err := engines.Load(r.file, &engines.LoadOptions{Sections: fresh}); err != nil {
		r.log.Warn("a provider refused its key, and the configuration can't be read again", "provider", p.Provider(), "error", err)
		return false
	}
	if !of.Renew(fresh[p.Provider()]) {
		return false
	}
	r.log.Info("a provider refused its key, and has another one now", "provider", p.Provider())
	r.at[p.Provider()] = time.Now()
	return true
}
