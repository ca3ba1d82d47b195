package journal

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mcpagent/mcpagent/internal/plainjson"
)

func entries() []*Entry {
	odd := "a\"b\\c<d>&é\u2028\x00"
	f := &Failure{Type: "T", Message: odd, Details: json.RawMessage(`{"a":1}`), Cause: &Failure{Type: "U"}}
	return []*Entry{
		{},
		{At: 5, Events: []*Event{{Kind: Started, At: 4, Name: "wf", By: odd, Trace: "00-1", Payload: Payload("{}")}, {Kind: Done, Ref: 7, Index: 1, Call: "0/1"}}},
		{Calls: []*Call{{ID: "0/9", Kind: Step, Headers: json.RawMessage(`{"a":"b"}`), Refused: f}, {ID: "0/1", Kind: Step, Name: odd, Digest: "d", Due: 9, Key: "k", Options: json.RawMessage(`{"timeout":1}`), Payload: Payload("[1]")}, {ID: "0/2", Kind: Timer}}},
		{Events: []*Event{{Kind: Done, Call: "0/1", ID: "i", Attempt: 3, Failure: f}}, Closed: []string{"0/2"}, Stops: []string{"0/3"}, Marks: []*Mark{{"m", -1}},
			Replies: []*Reply{{ID: "u", Payload: Payload("7")}}, Notes: []*Note{{Kind: "attempt", Call: "0/1", Failure: f}}, Waits: []Wait{{"signal", "s"}},
			End: &End{State: "failed", Failure: f, Payload: Payload("null")}},
	}
}

func TestWriteJSONIsJSON(t *testing.T) {
	t.Parallel()
	for i, e := range entries() {
		row, err := Encode(1, KindTurn, e)
		if err != nil {
			t.Fatal(err)
		}
		type plain Entry
		want, err := plainjson.Marshal((*plain)(e))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(row.Head, want) {
			t.Errorf("entry %d:\n got %s\nwant %s", i, row.Head, want)
		}
		back, err := Decode(row)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Encode(1, KindTurn, back)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(row, again); d != "" {
			t.Errorf("entry %d changes when it is read and written: %s", i, d)
		}
	}
}

// FuzzDecode: whatever is in a file, Decode gives an entry or an error.
func FuzzDecode(f *testing.F) {
	for _, e := range entries() {
		row, err := Encode(1, KindTurn, e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(row.Head, row.Data)
	}
	f.Add([]byte(`{"v":1,"ev":[null]}`), []byte(nil))
	f.Add([]byte(`{"v":1,"ev":[{"k":"done","ref":1,"idx":-1}]}`), []byte(nil))
	f.Add([]byte(`{"v":1,"calls":[{"p":[1,9223372036854775807]}]}`), []byte("x"))
	f.Fuzz(func(t *testing.T, head, data []byte) {
		e, err := Decode(&Row{Head: head, Data: data})
		if err != nil {
			return
		}
		for _, ev := range e.Events {
			if ev.Index < 0 {
				t.Errorf("an event refers to event %d of a row", ev.Index)
			}
		}
		if _, err := Encode(1, KindTurn, e); err != nil {
			t.Errorf("what Decode read can't be encoded: %v", err)
		}
	})
}

// FuzzReadJSON: what ReadJSON reads, json.Unmarshal reads alike.
func FuzzReadJSON(f *testing.F) {
	for _, e := range entries() {
		row, err := Encode(1, KindTurn, e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(row.Head)
	}
	for _, s := range []string{
		`{"v":1,"v":2,"at":3}`, `{"V":1}`, `{"v":01}`, `{"v":-0}`, `{"v":1}x`, ` {"v":1}`, `{"v":1,"ev":[{"k":"done","p":[1,2,3]}]}`, `{"ev":[null]}`,
		`{"calls":[{"o":{"a":[1,"}"]},"k":"x"}]}`, `{"calls":[{"o":tru}]}`, `{"calls":[{"o":{]}}]}`, `{"closed":["a","b\u00e9"],"end":null}`, `{"v":9223372036854775807}`,
		`{}`, `{"ev":[]}`, `{"ev":[{}]}`, `{"calls":[{"o":null}]}`, `{"calls":[{"o": 1}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		var got, want Entry
		if p := plainjson.NewParser(head); !got.ReadJSON(p) || !p.End() {
			return
		}
		if err := json.Unmarshal(head, &want); err != nil {
			t.Fatalf("ReadJSON reads %q, json.Unmarshal does not: %v", head, err)
		}
		if d := cmp.Diff(&want, &got); d != "" {
			t.Errorf("%q: %s", head, d)
		}
	})
}

func TestReadJSONReadsWhatIsWritten(t *testing.T) {
	t.Parallel()
	for i, e := range entries()[1:] {
		row, err := Encode(1, KindTurn, e)
		if err != nil {
			t.Fatal(err)
		}
		if !new(Entry).ReadJSON(plainjson.NewParser(row.Head)) {
			t.Errorf("entry %d is left to json.Unmarshal: %s", i+1, row.Head)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	row, err := Encode(1, KindTurn, &Entry{At: 1770000000000000, Events: []*Event{{Kind: Done, At: 1770000000000000, Call: "0/16", Attempt: 1, Payload: Payload(`{"id":"a"}`)}},
		Calls: []*Call{{ID: "0/17", Kind: Step, Name: "invoice.pay", Digest: digestOf, Key: digestOf, Options: json.RawMessage(`{"timeout":600000000,"initial":1000000,"backoff":2,"max":100000000}`), Payload: Payload(`{"id":"a"}`)}}})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Decode(row); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Unmarshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var e Entry
			if err := json.Unmarshal(row.Head, &e); err != nil {
				b.Fatal(err)
			}
		}
	})
}

const digestOf = "0123456789abcdef0123456789abcdef"
