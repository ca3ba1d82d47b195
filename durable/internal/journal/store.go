package journal

import (
	"context"
	"encoding/json"
	"errors"
)

// Run is the row of one run: everything about it but its history.
// A committed Run is never changed; a commit brings a new one.
type Run struct {
	RID        int64  // the run's number in its store
	WorkflowID string // unique among unfinished runs
	RunID      string // unique
	Chain      string // run id of the first run of the chain
	Key        string // start key, unique if not empty
	Name       string // workflow
	Owner      string
	State      string
	Problem    json.RawMessage // JSON, nil if none
	Paused     json.RawMessage // JSON, nil if not paused
	Status     json.RawMessage // published values by name, nil if none
	Tags       json.RawMessage // nil if none
	Memo       json.RawMessage // nil if none
	Config     json.RawMessage // what the run was started with and keeps: timeouts, parent close policy, definitions, trace
	Scope      string          // of effect keys
	Digest     string          // of workflow name and plain input
	Parent     int64           // RID of the parent, 0 for a root
	ParentCall string
	Next       string // run id of the run that continues this one
	Created    int64
	Changed    int64
	Closed     int64
	Deadline   int64 // run timeout
	Turns      int64 // turns committed
	Deaths     int   // process deaths since the last progress
	Last       int64 // newest journal row
	From       int64 // oldest journal row with something open; -1 in a commit: the row committed with it
	Result     Payload
	Failure    *Failure
}

// Ask is a durable question to a person (package durable, Question).
type Ask struct {
	ID        string // run id + "/" + call id
	RID       int64
	Call      string
	Name      string
	Kind      string
	Text      string
	Schema    json.RawMessage
	Context   json.RawMessage // what it is about, for the person who answers
	Digest    string
	Audience  string
	Owner     string
	Created   int64
	Expires   int64
	State     string // open, answered, expired, withdrawn
	Answer    Payload
	By        string
	Note      string
	Answered  int64
	RequestID string // of the answer: the same one again is a success
}

// Item is one element of a run's stream.
type Item struct {
	RID    int64
	Name   string
	Offset int64 // from 0
	At     int64
	Data   Payload
}

// Schedule starts runs at certain times (package durable, Schedule).
type Schedule struct {
	ID       string // unique
	Owner    string
	Spec     json.RawMessage
	Paused   json.RawMessage // nil if not paused
	Next     int64           // the next nominal time, 0: none
	Last     int64           // the last one that a run was started for
	LastRun  string          // its workflow id
	Buffered int64           // a nominal time that waits for the end of the last run
	Key      string          // of the operation that made it
	Created  int64
	Changed  int64
	Deleted  bool // in a Tx: it is to be deleted
}

// Blob is content under its digest.
type Blob struct {
	Digest string // sha256, hex
	Chain  string // lives as long as the youngest run of this chain
	Data   []byte
}

// Write is a change of one run. The store sets Row.ID, Row.Prev = Run.Last
// and then Run.Last = Row.ID (and Run.From, where it is -1).
type Write struct {
	New bool
	Run *Run
	Row *Row // nil: only the run's own row changes
	// Before are rows that come before Row, oldest first: a history that a new
	// run takes over.
	Before []*Row
}

// Tx is what becomes durable together or not at all.
type Tx struct {
	Writes []Write
	Asks   []*Ask // inserted, or replaced by ID
	Items  []*Item
	Blobs  []*Blob
	// Schedules are inserted, replaced by ID, or deleted.
	Schedules []*Schedule
}

// Filter selects runs, newest first.
type Filter struct {
	Workflow      string
	WorkflowID    string
	Owner         *string
	States        []string
	CreatedAfter  int64
	CreatedBefore int64
	Tags          map[string]string
	Before        int64 // only RIDs below this one; 0 is all
	Limit         int   // 0 is 100
}

// ErrNotFound means that there is no such row.
var ErrNotFound = errors.New("not found")

// ErrDuplicate means that a new run's id or key, or an unfinished run's
// workflow id, is taken. Nothing of the transaction was written.
var ErrDuplicate = errors.New("duplicate")

// Store keeps runs. It is safe for concurrent use, except that the writes of
// one run come one at a time. What it returns is not changed by the caller.
type Store interface {
	// Commit returns when tx is durable. It may join transactions of other
	// callers in one flush. On a full disk it waits, trying the same batch
	// again, until ctx ends; any other error means that the store is dead
	// or, for ErrDuplicate, that this transaction was refused.
	Commit(ctx context.Context, tx *Tx) error
	// MaxRID is the highest run number ever given.
	MaxRID() (int64, error)
	// Unfinished calls f for each run that has not ended, oldest first.
	Unfinished(f func(*Run) error) error
	Run(rid int64) (*Run, error)
	// Find finds a run by ids; the newest one where runID is empty.
	Find(workflowID, runID string) (*Run, error)
	FindKey(key string) (*Run, error)
	List(f *Filter) ([]*Run, error)
	// Children lists the unfinished runs whose parent is rid.
	Children(rid int64) ([]*Run, error)
	// ChildOf finds the newest run started by that call of that parent.
	ChildOf(rid int64, call string) (*Run, error)
	// Rows returns a run's rows from the one called from (0: the first) to
	// the one called last, oldest first.
	Rows(last, from int64) ([]*Row, error)
	Ask(id string) (*Ask, error)
	// Asks lists questions, oldest first: all open ones, or all of one run.
	Asks(rid int64, openOnly bool) ([]*Ask, error)
	// Items reads a stream from an offset.
	Items(rid int64, name string, from int64, limit int) ([]*Item, error)
	// StreamEnds gives the next offset of each stream of a run.
	StreamEnds(rid int64) (map[string]int64, error)
	Blob(digest string) (*Blob, error)
	// Schedules lists all schedules by their ids.
	Schedules() ([]*Schedule, error)
	// Prune deletes runs that ended before t, newest kept to at most keep
	// (0: no such limit), with all that belongs to them, and says how many.
	// A run whose parent has not ended stays.
	Prune(ctx context.Context, t int64, keep int) (int, error)
	// Health is nil, or says what is wrong with the store.
	Health() error
	Close() error
}
