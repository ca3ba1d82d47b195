package durable_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/durable"
)

var (
	key1 = bytes.Repeat([]byte{1}, 32)
	key2 = append(bytes.Repeat([]byte{0xfb}, 31), 2)
)

func aesCodec(t *testing.T, keys ...string) durable.Codec {
	t.Helper()
	var s []durable.Secret
	for _, k := range keys {
		s = append(s, durable.NewSecret(k))
	}
	c, err := durable.NewAESCodec(s...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAESCodec(t *testing.T) {
	t.Parallel()
	k1, k2 := hex.EncodeToString(key1), hex.EncodeToString(key2)
	old, both, other := aesCodec(t, k1), aesCodec(t, k2, k1), aesCodec(t, k2)
	for _, plain := range []string{"", "x", `{"a": 1}`, strings.Repeat("long ", 100_000)} {
		a, err := old.Encode([]byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		b, err := old.Encode([]byte(plain))
		if err != nil || bytes.Equal(a, b) {
			t.Errorf("two encodings of %.20q are equal (%v)", plain, err)
		}
		if len(plain) > 1 && bytes.Contains(a, []byte(plain)) {
			t.Errorf("%.20q is readable", plain)
		}
		for name, c := range map[string]durable.Codec{"same": old, "rotated": both} {
			got, err := c.Decode(a)
			if err != nil || string(got) != plain || got == nil {
				t.Errorf("%s: %.20q, %v", name, got, err)
			}
		}
		if _, err := other.Decode(a); err == nil || !strings.Contains(err.Error(), "which is none of those given") {
			t.Errorf("another key: %v", err)
		}
		now, err := both.Encode([]byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := other.Decode(now); err != nil || string(got) != plain {
			t.Errorf("the first key encrypts: %v", err)
		}
	}
}

func TestAESCodecRefusesWhatItDidNotMake(t *testing.T) {
	t.Parallel()
	c := aesCodec(t, hex.EncodeToString(key1))
	sealed, err := c.Encode([]byte(`"value"`))
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if got, err := c.Decode(bad); err == nil {
			t.Errorf("byte %d changed: decoded as %q", i, got)
		}
		if got, err := c.Decode(sealed[:i]); err == nil {
			t.Errorf("cut off after %d bytes: decoded as %q", i, got)
		}
	}
	if _, err := c.Decode([]byte(`{"plain": true}`)); err == nil || !strings.Contains(err.Error(), "without this codec") {
		t.Errorf("plain JSON: %v", err)
	}
}

func TestAESKeys(t *testing.T) {
	t.Parallel()
	want, _ := aesCodec(t, hex.EncodeToString(key2)).Encode([]byte("x"))
	for _, form := range []string{
		strings.ToUpper(hex.EncodeToString(key2)), hex.EncodeToString(key2) + "\n",
		base64.StdEncoding.EncodeToString(key2), base64.RawStdEncoding.EncodeToString(key2),
		base64.URLEncoding.EncodeToString(key2), base64.RawURLEncoding.EncodeToString(key2) + " \n",
	} {
		if got, err := aesCodec(t, form).Decode(want); err != nil || string(got) != "x" {
			t.Errorf("key %q: %v", form, err)
		}
	}
	for _, bad := range []string{"", "abc", hex.EncodeToString(key1[:31]), hex.EncodeToString(key1) + "00", base64.StdEncoding.EncodeToString(key1[:16]), canary} {
		_, err := durable.NewAESCodec(durable.NewSecret(bad))
		if err == nil || !strings.Contains(err.Error(), "32 random bytes") || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("key %q: %v", bad, err)
		}
	}
	k := durable.NewSecret(hex.EncodeToString(key1))
	if _, err := durable.NewAESCodec(k, durable.NewSecret(base64.StdEncoding.EncodeToString(key1))); err == nil || !strings.Contains(err.Error(), "key 2 is key 1 again") {
		t.Errorf("a key twice: %v", err)
	}
	if _, err := durable.NewAESCodec(); err == nil {
		t.Error("no key: no error")
	}
}

func TestAESCodecOnAnEngine(t *testing.T) {
	t.Parallel()
	step := durable.NewStep("echo", func(_ context.Context, s string) (string, error) { return s + "!", nil }, nil)
	flow := durable.NewWorkflow("flow", func(ctx context.Context, s string) (string, error) { return step.Do(ctx, s) }, nil)
	eng, err := durable.NewMemory(t.Context(), &durable.Options{Codec: aesCodec(t, hex.EncodeToString(key1))}, flow, step)
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close(context.Background())
	run, err := flow.Start(t.Context(), eng, canary, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := run.Result(t.Context()); err != nil || string(got) != `"`+canary+`!"` {
		t.Errorf("%s, %v", got, err)
	}
}
