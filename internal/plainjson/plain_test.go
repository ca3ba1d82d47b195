package plainjson_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mcpagent/mcpagent/internal/plainjson"
)

// thing has a member of each kind that the package knows.
type thing struct {
	Name  string          `json:"name"`
	Text  string          `json:"text,omitempty"`
	N     int             `json:"n,omitempty"`
	On    bool            `json:"on,omitempty"`
	Raw   json.RawMessage `json:"raw,omitempty"`
	List  []string        `json:"list,omitempty"`
	Other map[string]int  `json:"other,omitempty"`
}

func (x *thing) WriteJSON(w *plainjson.Writer) {
	w.Text("{")
	w.Key("name")
	w.String(x.Name)
	w.Field("text", x.Text)
	w.Number("n", int64(x.N))
	w.Flag("on", x.On)
	if len(x.Raw) > 0 {
		w.Key("raw")
		w.Raw(x.Raw)
	}
	if len(x.List) > 0 {
		w.Key("list")
		w.Text("[")
		for _, s := range x.List {
			w.Comma()
			w.String(s)
		}
		w.Text("]")
	}
	if len(x.Other) > 0 {
		w.Key("other")
		w.Any(x.Other)
	}
	w.Text("}")
}

func (x *thing) ReadJSON(p *plainjson.Parser) bool {
	return p.Object(func(key []byte) bool {
		switch string(key) {
		case "name":
			return p.Word(&x.Name, "known")
		case "text":
			return p.String(&x.Text)
		case "n":
			return p.Int(&x.N)
		case "on":
			return p.Bool(&x.On)
		case "raw":
			return p.Raw(&x.Raw)
		case "list":
			return p.Array(func() bool {
				x.List = append(x.List, "")
				return p.String(&x.List[len(x.List)-1])
			})
		case "other":
			return p.Any(&x.Other)
		}
		return false
	})
}

func (x *thing) plain() any {
	type plain thing
	return (*plain)(x)
}

// FuzzWrite: what a value writes is what encoding/json writes, and is read
// back.
func FuzzWrite(f *testing.F) {
	f.Add("known", "a\"b\\c<d>&é\u2028\u2029\x00\x1f\x7f\b\f\n\r\t\xff\xc3 \U0001F600", -5, true, []byte(` {"a" : [1, "\u003c<\\"]} `))
	f.Add("", "", 0, false, []byte(nil))
	f.Add("x", "", 1<<62, false, []byte("nul"))
	f.Fuzz(func(t *testing.T, name, text string, n int, on bool, raw []byte) {
		x := &thing{Name: name, Text: text, N: n, On: on, Raw: raw, List: []string{text, name}, Other: map[string]int{name: n}}
		got, err := plainjson.Marshal(x)
		want, werr := plainjson.Marshal(x.plain())
		if (err == nil) != (werr == nil) {
			t.Fatalf("%+v: %v, encoding/json: %v", x, err, werr)
		}
		if err != nil {
			return
		}
		if string(got) != string(want) {
			t.Errorf("%+v:\n got %s\nwant %s", x, got, want)
		}
		html, err := json.Marshal(x.plain())
		if err != nil || string(plainjson.HTML(got)) != string(html) {
			t.Errorf("for HTML: %s, want %s", plainjson.HTML(got), html)
		}
		var back, again thing
		if err := plainjson.Unmarshal(got, &back); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(got, again.plain()); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(again, back); d != "" {
			t.Errorf("%s is read as %s", got, d)
		}
	})
}

// FuzzRead: whatever is read, is read as by encoding/json.
func FuzzRead(f *testing.F) {
	for _, s := range []string{
		`{"name":"known","text":"a","n":-12,"on":true,"raw":{"a":[1,"}"]},"list":["x","\u00e9"],"other":{"a":1}}`, `{"n":01}`, `{"n":-0}`, `{"n":-}`, `{"n":9223372036854775807}`,
		`{"n":1,"n":2}`, `{"N":1}`, `{"n":1}x`, ` {"n":1}`, `{"on":tru}`, `{"on":null}`, `{"text":null}`, "{\"text\":\"\xff\"}", `{"raw":tru}`, `{"raw":{]}}`, `{"raw":null}`, `{"raw": 1}`, `{"raw":0 }`,
		`{"list":[]}`, `{"list":null}`, `{"list":[1]}`, `{}`, `null`, `{"more":1}`, `{"text":"\ud800"}`, `{"text":"a\n\u00e9\ud83d\ude00\/\"\\"}`, `{"text":"\u12"}`, `{"text":"\x"}`, `{"text":"\`, "{\"text\":\"\\n\xff\"}", `{"text":"a` + "\n" + `"}`, `{"text":"`, `{"raw":"\`, `{"name":"é","other":{`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var got, want thing
		err, werr := plainjson.Unmarshal(b, &got), json.Unmarshal(b, want.plain())
		if (err == nil) != (werr == nil) {
			t.Fatalf("%q: %v, encoding/json: %v", b, err, werr)
		}
		if d := cmp.Diff(want, got); err == nil && d != "" {
			t.Errorf("%q: %s", b, d)
		}
	})
}
