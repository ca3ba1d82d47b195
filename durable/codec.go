package durable

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// NewAESCodec makes a [Codec] that encrypts with AES-256-GCM. A key is 32
// bytes, written as 64 hexadecimal digits or in base64. The first key
// encrypts; what any of them encrypted can be read. To change keys, put the
// new one first and keep the old one for as long as there are runs of its
// time.
//
// What is stored begins with a version and an id of its key, which is made
// from the key and does not tell it, so that a wrong key is told from damage.
// Equal values are stored differently; how long a value is can be seen. A key
// should encrypt at most 2^32 values.
func NewAESCodec(keys ...Secret) (Codec, error) {
	if len(keys) == 0 {
		return nil, errors.New("an AES codec needs a key")
	}
	c := &aesCodec{}
	for i, s := range keys {
		key, err := parseAESKey(s.Reveal())
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		k := aesKey{aead: aead}
		sum := sha256.Sum256(append([]byte("mcpagent durable aes-256-gcm key id\x00"), key...))
		copy(k.id[:], sum[:])
		for j, other := range c.keys {
			if other.id == k.id {
				return nil, fmt.Errorf("key %d is key %d again", i+1, j+1)
			}
		}
		c.keys = append(c.keys, k)
	}
	return c, nil
}

// aesCodec stores: magic, key id, nonce, sealed value. Magic and id are
// authenticated.
type aesCodec struct{ keys []aesKey }

type aesKey struct {
	id   [4]byte
	aead cipher.AEAD
}

// aesMagic is a byte that no JSON begins with, and a version.
const aesMagic = "\xa5\x01"

func (c *aesCodec) Encode(plain []byte) ([]byte, error) {
	k := &c.keys[0]
	head := len(aesMagic) + len(k.id)
	out := make([]byte, head+k.aead.NonceSize(), head+k.aead.NonceSize()+len(plain)+k.aead.Overhead())
	copy(out, aesMagic)
	copy(out[len(aesMagic):], k.id[:])
	if _, err := rand.Read(out[head:]); err != nil {
		return nil, fmt.Errorf("encrypt a value: %w", err)
	}
	return k.aead.Seal(out, out[head:], plain, out[:head]), nil
}

func (c *aesCodec) Decode(stored []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(stored, []byte(aesMagic))
	if !ok {
		return nil, errors.New("decrypt a value: it was stored without this codec")
	}
	for i := range c.keys {
		k := &c.keys[i]
		sealed, ok := bytes.CutPrefix(rest, k.id[:])
		if !ok {
			continue
		}
		n := k.aead.NonceSize()
		if len(sealed) < n+k.aead.Overhead() {
			return nil, errors.New("decrypt a value: it was cut off")
		}
		plain, err := k.aead.Open([]byte{}, sealed[:n], sealed[n:], stored[:len(stored)-len(sealed)])
		if err != nil {
			return nil, errors.New("decrypt a value: it was changed since it was stored")
		}
		return plain, nil
	}
	if len(rest) < len(aesKey{}.id) {
		return nil, errors.New("decrypt a value: it was cut off")
	}
	return nil, fmt.Errorf("decrypt a value: it was encrypted with key %x, which is none of those given", rest[:len(aesKey{}.id)])
}

// parseAESKey reads a key. Errors don't tell it.
func parseAESKey(text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	if b, err := hex.DecodeString(text); err == nil && len(b) == 32 {
		return b, nil
	}
	text = strings.TrimRight(text, "=")
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if b, err := enc.DecodeString(text); err == nil && len(b) == 32 {
			return b, nil
		}
	}
	return nil, errors.New("a key is 32 random bytes as 64 hexadecimal digits or in base64; `openssl rand -hex 32` makes one")
}
