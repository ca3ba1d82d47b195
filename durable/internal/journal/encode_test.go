package journal

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
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

func TestAppendJSONIsMarshal(t *testing.T) {
	t.Parallel()
	for i, e := range entries() {
		row, err := Encode(1, KindTurn, e)
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(e)
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
