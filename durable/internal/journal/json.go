package journal

import (
	"bytes"
	"encoding/json"
)

// JSON is [json.Marshal] without escapes for HTML: people read what is stored,
// and JSON inside of a value stays as it is.
func JSON(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil || !bytes.Contains(b, []byte(`\u003c`)) && !bytes.Contains(b, []byte(`\u003e`)) && !bytes.Contains(b, []byte(`\u0026`)) {
		return b, err // nearly always, and twice as fast as an encoder
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}
