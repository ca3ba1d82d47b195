package main

import (
	"go/types"
	"strings"
)

// durablePath is the package whose calls the rules are about.
const durablePath = "github.com/mcpagent/mcpagent/durable"

// class says what a call of package durable does.
type class int

const (
	records   class = 1 << iota // it is written to the journal, so its order matters
	blocks                      // other coroutines of the run may go on meanwhile
	writes                      // it is refused where code may only read
	operation                   // it is refused in a workflow
)

const waits = records | blocks | writes

// classes are the functions of package durable, and its methods by the name of
// their type.
var classes = map[string]class{
	"Step.Do":               waits,
	"Step.Start":            records | writes,
	"Workflow.Run":          waits,
	"Workflow.Child":        waits,
	"Future.Get":            blocks | writes,
	"Sleep":                 waits,
	"SleepUntil":            waits,
	"SideEffect":            records | writes,
	"Version":               records | writes,
	"Rand":                  records | writes,
	"UUID":                  records | writes,
	"NewGroup":              records | writes,
	"Group.Go":              waits,
	"Group.Wait":            blocks | writes,
	"Map":                   waits,
	"Select":                waits,
	"Await":                 blocks | writes,
	"AwaitTimeout":          waits,
	"Mutex.Lock":            blocks | writes,
	"Semaphore.Acquire":     blocks | writes,
	"Signal.Receive":        waits,
	"Signal.ReceiveTimeout": waits,
	"Signal.TryReceive":     records | writes,
	"Signal.Send":           waits,
	"Question.Ask":          waits,
	"NewCallback":           records | writes,
	"Callback.Wait":         waits,
	"Query.Handle":          writes,
	"Update.Handle":         writes,
	"Status.Set":            records | writes,
	"Stream.Append":         records | writes,
	"WithCancel":            writes,
	"WithTimeout":           records | writes,
	"PutBlob":               records | writes,
	"GetBlob":               blocks | writes,
	"LendBlob":              writes,
	"Run.Signal":            waits,
	"Run.Cancel":            waits,

	"Workflow.Start":         operation,
	"Workflow.Result":        operation,
	"Question.Answer":        operation,
	"Query.Ask":              operation,
	"Update.Send":            operation,
	"Status.Of":              operation,
	"Stream.Read":            operation,
	"NewMemory":              operation,
	"Run.Result":             operation,
	"Run.Describe":           operation,
	"Run.Query":              operation,
	"Run.Update":             operation,
	"Run.Terminate":          operation,
	"Run.Pause":              operation,
	"Run.Resume":             operation,
	"Run.History":            operation,
	"Run.Export":             operation,
	"Run.Reset":              operation,
	"Run.Fork":               operation,
	"Replay":                 operation,
	"Run.Stream":             operation,
	"Engine.Start":           operation,
	"Engine.List":            operation,
	"Engine.Questions":       operation,
	"Engine.Answer":          operation,
	"Engine.Complete":        operation,
	"Engine.Fail":            operation,
	"Engine.Close":           operation,
	"Engine.CreateSchedule":  operation,
	"Engine.UpdateSchedule":  operation,
	"Engine.DeleteSchedule":  operation,
	"Engine.Schedule":        operation,
	"Engine.Schedules":       operation,
	"Engine.TriggerSchedule": operation,
	"Engine.PauseSchedule":   operation,
	"Engine.ResumeSchedule":  operation,
	"Engine.Health":          operation,
	"Engine.PutBlob":         operation,
	"Engine.GetBlob":         operation,
}

// kind says what becomes of a function that is given to package durable.
type kind int

const (
	kindNone      kind = iota
	kindWorkflow       // the function of a workflow
	kindMember         // a coroutine of a run
	kindHandler        // of an update
	kindReader         // of a query, a validator, a condition: it only reads
	kindCondition      // the same, in an Await
	kindSide           // of a SideEffect: may look at the world, for an instant
	kindStep           // of a step: not workflow code
)

var kinds = map[string]map[int]kind{
	"NewWorkflow":   {1: kindWorkflow},
	"Group.Go":      {0: kindMember},
	"Map":           {2: kindMember},
	"Update.Handle": {1: kindHandler, 2: kindReader},
	"Query.Handle":  {1: kindReader},
	"Await":         {1: kindCondition},
	"AwaitTimeout":  {2: kindCondition},
	"SideEffect":    {1: kindSide},
	"NewStep":       {1: kindStep},
	"Step.Bind":     {0: kindStep},
}

// mode is a set of places in which something is wrong.
type mode int

const (
	inWorkflow mode = 1 << iota
	inReader
	inSide

	inCode  = inWorkflow | inReader
	inAll   = inCode | inSide
	inQuiet = inReader | inSide
)

func (k kind) mode() mode {
	switch k {
	case kindReader, kindCondition:
		return inReader
	case kindSide:
		return inSide
	}
	return inWorkflow
}

// label names a function of this kind in a path. The second argument is the
// function that it was given to.
func (k kind) label(to string) string {
	switch k {
	case kindMember:
		if to == "Map" {
			return "function of durable.Map"
		}
		return "member of a group"
	case kindHandler:
		return "update handler"
	case kindCondition:
		return "condition of an Await"
	case kindSide:
		return "SideEffect"
	case kindReader:
		if to == "Query.Handle" {
			return "query handler"
		}
		return "validator of an update"
	}
	return "workflow"
}

// api gives the name of a function of package durable as the tables above have
// it, or "".
func api(fn *types.Func) string {
	if fn == nil || fn.Pkg() == nil || fn.Pkg().Path() != durablePath {
		return ""
	}
	return localName(fn)
}

// localName is a function's name within its package: F, or T.M.
func localName(fn *types.Func) string {
	recv := fn.Signature().Recv()
	if recv == nil {
		return fn.Name()
	}
	t := types.Unalias(recv.Type())
	if p, ok := t.(*types.Pointer); ok {
		t = types.Unalias(p.Elem())
	}
	if n, ok := t.(*types.Named); ok {
		return n.Obj().Name() + "." + fn.Name()
	}
	return fn.Name()
}

// ofDurable reports whether a type is a pointer to one of package durable:
// a definition, which stays what it is.
func ofDurable(t types.Type) bool {
	p, ok := types.Unalias(t).(*types.Pointer)
	if !ok {
		return false
	}
	n, ok := types.Unalias(p.Elem()).(*types.Named)
	return ok && n.Obj().Pkg() != nil && n.Obj().Pkg().Path() == durablePath
}

// seesDurable reports whether a package can make durable calls.
func seesDurable(pkg *types.Package) bool {
	seen := map[*types.Package]bool{}
	var look func(*types.Package) bool
	look = func(p *types.Package) bool {
		if seen[p] {
			return false
		}
		seen[p] = true
		if p.Path() == durablePath {
			return true
		}
		for _, i := range p.Imports() {
			if strings.Contains(i.Path(), ".") && look(i) || i.Path() == durablePath {
				return true
			}
		}
		return false
	}
	return look(pkg)
}
