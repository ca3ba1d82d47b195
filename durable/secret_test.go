package durable_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpagent/mcpagent/durable"
)

const canary = "canary-7f3a"

func TestSecretIsNeverSeen(t *testing.T) {
	t.Parallel()
	s := durable.NewSecret(canary)
	type hidden struct{ inner durable.Secret } // fmt can't call the methods of what is not exported
	values := map[string]any{
		"value": s, "pointer": &s, "field": struct{ S durable.Secret }{s}, "hidden": hidden{s}, "deep": map[string][]hidden{"k": {{s}}},
		"slice": []durable.Secret{s}, "map": map[string]durable.Secret{"a": s}, "error": fmt.Errorf("key %v", s),
	}
	var out bytes.Buffer
	for name, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%10v", "%p"} {
			fmt.Fprintf(&out, "%s "+verb+"\n", name, v)
		}
		fmt.Fprintln(&out, v)
		for _, h := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
			slog.New(h).Info("seen", "v", v, slog.Group("g", "v", v))
		}
		for _, encode := range []func() error{
			func() error { return json.NewEncoder(&out).Encode(v) },
			func() error { return xml.NewEncoder(&out).Encode(v) },
			func() error { return gob.NewEncoder(&out).Encode(v) },
		} {
			_ = encode() // which ones must fail is the next test's
		}
	}
	out.WriteString(cmp.Diff(s, durable.NewSecret("other")))
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprint([]byte(canary))} {
		if i := strings.Index(out.String(), form); i >= 0 {
			t.Errorf("the text is seen: …%s…", out.String()[max(0, i-80):i+len(form)])
		}
	}
	if s.Reveal() != canary || (durable.Secret{}).Reveal() != "" || !(durable.Secret{}).IsZero() || !durable.NewSecret("").IsZero() || s.IsZero() {
		t.Error("Reveal or IsZero is wrong")
	}
	if !s.Equal(durable.NewSecret(canary)) || s.Equal(durable.NewSecret(canary+"x")) || s.Equal(durable.Secret{}) {
		t.Error("Equal is wrong")
	}
}

func TestSecretRefusesToBeEncoded(t *testing.T) {
	t.Parallel()
	s := durable.NewSecret(canary)
	for name, encode := range map[string]func() error{
		"json":      func() error { _, err := json.Marshal(struct{ S durable.Secret }{s}); return err },
		"json, nil": func() error { _, err := json.Marshal(durable.Secret{}); return err },
		"json key":  func() error { _, err := json.Marshal(struct{ S *durable.Secret }{&s}); return err },
		"gob":       func() error { return gob.NewEncoder(new(bytes.Buffer)).Encode(s) },
		"text":      func() error { _, err := s.MarshalText(); return err },
		"yaml":      func() error { _, err := s.MarshalYAML(); return err },
	} {
		if err := encode(); err == nil || !strings.Contains(err.Error(), "a secret is not encoded") {
			t.Errorf("%s: %v", name, err)
		}
	}
	var got durable.Secret
	if err := json.Unmarshal([]byte(`"`+canary+`"`), &got); err != nil || got.Reveal() != canary {
		t.Errorf("decoded: %v", err)
	}
}

// TestSecretStaysOutOfSteps passes one to a step by mistake.
func TestSecretStaysOutOfSteps(t *testing.T) {
	t.Parallel()
	type in struct{ Key durable.Secret }
	step := durable.NewStep("use", func(context.Context, in) (string, error) { return "used", nil }, nil)
	flow := durable.NewWorkflow("flow", func(ctx context.Context, _ none) (string, error) {
		return step.Do(ctx, in{durable.NewSecret(canary)})
	}, nil)
	eng, err := durable.NewMemory(t.Context(), &durable.Options{Logger: slog.New(slog.DiscardHandler)}, flow, step)
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close(context.Background())
	run, err := flow.Start(t.Context(), eng, none{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = run.Result(t.Context())
	var failed *durable.RunError
	if !errors.As(err, &failed) || !strings.Contains(err.Error(), "a secret is not encoded") || strings.Contains(err.Error(), canary) {
		t.Errorf("the run ended with %v", err)
	}
}
