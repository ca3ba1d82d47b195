package main

import (
	"fmt"
	"strings"
	"time"
)

// Program is a workload: workflows, and what clients and the machine do to
// them. Every delay in it is another one, so that no two independent events
// fall on one moment: what the contract leaves open does not decide anything.
type Program struct {
	Flows  []*Flow
	Script []*Action
	End    time.Duration // when it is looked at
}

// Flow is a workflow.
type Flow struct {
	Timeout time.Duration // of the run; 0: none
	Wind    time.Duration // of its cleaning up after a cancel
	Body    []*Stmt
	Updates []*Handler
}

// Handler carries out an update: it adds the input to a variable, and then
// goes through a body.
type Handler struct {
	Var  int
	Even bool // the validator refuses odd inputs
	Body []*Stmt
}

// Stmt is one statement of a workflow. Which fields count depends on Op.
type Stmt struct {
	ID      int
	Op      Op
	D       time.Duration
	Var     int
	Val     int
	Name    string
	Slot    int
	Flow    int
	Policy  string // of children whose parent ends; of groups: "cancel on error"
	Step    *StepSpec
	Body    []*Stmt
	Members [][]*Stmt
	Cases   []Case
	Must    bool // an error ends the body
}

// Op is a kind of statement.
type Op string

// The kinds of statements.
const (
	OpStep      Op = "step"      // Slot < 0: Do; else Start into the slot
	OpChild     Op = "child"     // Slot < 0: Run; else Child into the slot
	OpGet       Op = "get"       // waits for a slot
	OpSleep     Op = "sleep"     //
	OpGroup     Op = "group"     // Members, at most Val at once
	OpSelect    Op = "select"    // Cases
	OpAwait     Op = "await"     // until variable Var is at least Val, D: at most
	OpReceive   Op = "receive"   // signal Name into Var; D: at most
	OpTry       Op = "try"       // takes signal Name if it is there
	OpAdd       Op = "add"       // Val to variable Var
	OpAsk       Op = "ask"       // D: expiry
	OpCallback  Op = "callback"  // makes one, publishes it, waits
	OpWithin    Op = "within"    // Body under WithTimeout(D)
	OpScope     Op = "scope"     // Body under WithCancel
	OpCancel    Op = "cancel"    // the innermost OpScope
	OpShield    Op = "shield"    // Body under WithoutCancel
	OpVersion   Op = "version"   //
	OpUUID      Op = "uuid"      //
	OpSide      Op = "side"      //
	OpStatus    Op = "status"    // publishes Var
	OpTell      Op = "tell"      // signal to Name: "parent", "child", "self", "nobody"
	OpStop      Op = "stop"      // cancel of "child", "nobody"
	OpLock      Op = "lock"      // Body with a mutex held (Val: with one of two places)
	OpFail      Op = "fail"      // returns an error
	OpContinue  Op = "continue"  // as new, at most Val times
	OpReturn    Op = "return"    // ends the flow
	OpWhileLess Op = "whileless" // Body again while variable Var is below Val, at most 3 times
)

// Case is a case of a select.
type Case struct {
	Kind string // future, signal, timer
	Slot int
	Name string
	D    time.Duration
}

// StepSpec is how a step behaves, and how it is to be run.
type StepSpec struct {
	Takes    time.Duration // each attempt
	Wind     time.Duration // from being asked to stop to its end
	Rude     bool          // does not stop when asked to
	Outcomes []string      // of the attempts; the last one of all that follow: ok, fail, permanent, after, panic, unknown
	After    time.Duration // of RetryAfter
	Initial  time.Duration // of retries
	Attempts int           // at most; 0: no limit
	Timeout  time.Duration
	Total    time.Duration
	Once     bool // at most once
	Abandon  bool
}

// Action is what a client or the machine does at a time.
type Action struct {
	At    time.Duration
	Do    Do
	To    string // workflow id
	Name  string
	ID    string
	Val   int
	D     time.Duration // delay of a start, down time
	Limit time.Duration // timeout of a run
	Reuse string
	Also  string // signal that comes with a start
}

// Do is a kind of action.
type Do string

// The kinds of actions.
const (
	DoStart     Do = "start"
	DoSignal    Do = "signal"
	DoUpdate    Do = "update"
	DoQuery     Do = "query"
	DoPause     Do = "pause"
	DoResume    Do = "resume"
	DoCancel    Do = "cancel"
	DoTerminate Do = "terminate"
	DoAnswer    Do = "answer"
	DoComplete  Do = "complete"
	DoFailCall  Do = "failcall"
	DoDescribe  Do = "describe"
	DoRestart   Do = "restart" // the process ends and starts again after D
	DoDie       Do = "die"     // the same, without a word
)

// signals and variables that programs use.
var signalNames = []string{"s0", "s1"}

const (
	variables = 3
	slots     = 3
)

// --- printing

// String is the program as pseudo-Go.
func (p *Program) String() string {
	var b strings.Builder
	for i, f := range p.Flows {
		fmt.Fprintf(&b, "workflow f%d {", i)
		if f.Timeout > 0 {
			fmt.Fprintf(&b, " // timeout %v", f.Timeout)
		}
		fmt.Fprintf(&b, " // cleans up for %v when cancelled\n", f.Wind)
		for j, h := range f.Updates {
			even := ""
			if h.Even {
				even = ", odd ones refused"
			}
			fmt.Fprintf(&b, "\tupdate u%d: x%d += in%s {\n", j, h.Var, even)
			printBody(&b, h.Body, 2)
			b.WriteString("\t}\n")
		}
		printBody(&b, f.Body, 1)
		b.WriteString("}\n")
	}
	for _, a := range p.Script {
		fmt.Fprintf(&b, "at %-12v %s\n", a.At, a)
	}
	fmt.Fprintf(&b, "at %-12v end\n", p.End)
	return b.String()
}

func (a *Action) String() string {
	var b strings.Builder
	b.WriteString(string(a.Do))
	for _, x := range []string{a.To, a.Name} {
		if x != "" {
			b.WriteString(" " + x)
		}
	}
	if a.ID != "" {
		fmt.Fprintf(&b, " id=%s", a.ID)
	}
	switch a.Do {
	case DoStart, DoSignal, DoUpdate, DoAnswer, DoComplete:
		fmt.Fprintf(&b, " %d", a.Val)
	}
	for _, d := range []struct {
		what string
		d    time.Duration
	}{{"for", a.D}, {"timeout", a.Limit}} {
		if d.d > 0 {
			fmt.Fprintf(&b, " %s %v", d.what, d.d)
		}
	}
	if a.Reuse != "" {
		b.WriteString(" reuse=" + a.Reuse)
	}
	if a.Also != "" {
		b.WriteString(" with signal " + a.Also)
	}
	return b.String()
}

func printBody(b *strings.Builder, body []*Stmt, depth int) {
	for _, s := range body {
		s.print(b, depth)
	}
}

func (s *Stmt) print(b *strings.Builder, depth int) {
	tab := strings.Repeat("\t", depth)
	must := ""
	if s.Must {
		must = "!"
	}
	block := func(head string, body []*Stmt) {
		fmt.Fprintf(b, "%s%s { // %d%s\n", tab, head, s.ID, must)
		printBody(b, body, depth+1)
		fmt.Fprintf(b, "%s}\n", tab)
	}
	line := func(format string, args ...any) {
		fmt.Fprintf(b, "%s%s // %d%s\n", tab, fmt.Sprintf(format, args...), s.ID, must)
	}
	most := func() string {
		if s.D > 0 {
			return fmt.Sprintf(" for at most %v", s.D)
		}
		return ""
	}
	switch s.Op {
	case OpStep:
		if s.Slot >= 0 {
			line("fut%d = start %s", s.Slot, s.Step)
		} else {
			line("x%d += do %s", s.Var, s.Step)
		}
	case OpChild:
		if s.Slot >= 0 {
			line("fut%d = child f%d (parent close: %q)", s.Slot, s.Flow, s.Policy)
		} else {
			line("x%d += f%d()", s.Var, s.Flow)
		}
	case OpGet:
		line("x%d += fut%d.get()", s.Var, s.Slot)
	case OpSleep:
		line("sleep(%v)", s.D)
	case OpGroup:
		fmt.Fprintf(b, "%sgroup(limit %d, %q) { // %d%s\n", tab, s.Val, s.Policy, s.ID, must)
		for _, m := range s.Members {
			fmt.Fprintf(b, "%s\tgo {\n", tab)
			printBody(b, m, depth+2)
			fmt.Fprintf(b, "%s\t}\n", tab)
		}
		fmt.Fprintf(b, "%s}\n", tab)
	case OpSelect:
		var cs []string
		for _, c := range s.Cases {
			switch c.Kind {
			case "future":
				cs = append(cs, fmt.Sprintf("fut%d", c.Slot))
			case "signal":
				cs = append(cs, "<-"+c.Name)
			default:
				cs = append(cs, c.D.String())
			}
		}
		line("select(%s)", strings.Join(cs, ", "))
	case OpAwait:
		line("await x%d >= %d%s", s.Var, s.Val, most())
	case OpReceive:
		line("x%d += <-%s%s", s.Var, s.Name, most())
	case OpTry:
		line("x%d += try <-%s", s.Var, s.Name)
	case OpAdd:
		line("x%d += %d", s.Var, s.Val)
	case OpAsk:
		line("x%d += ask(expires %v)", s.Var, s.D)
	case OpCallback:
		line("x%d += callback()", s.Var)
	case OpWithin:
		block(fmt.Sprintf("within %v", s.D), s.Body)
	case OpWhileLess:
		block(fmt.Sprintf("while x%d < %d", s.Var, s.Val), s.Body)
	case OpScope, OpShield, OpLock:
		block(string(s.Op), s.Body)
	case OpTell:
		line("tell %s: %s <- %d", s.Name, signalNames[s.Var%len(signalNames)], s.Val)
	case OpStop:
		line("stop %s", s.Name)
	case OpContinue:
		line("continue as new, %d times", s.Val)
	case OpStatus:
		line("publish x%d", s.Var)
	default:
		line("%s", s.Op)
	}
}

func (s *StepSpec) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "step(%s in %v", strings.Join(s.Outcomes, " "), s.Takes)
	for _, d := range []struct {
		what string
		d    time.Duration
	}{{"wind", s.Wind}, {"after", s.After}, {"initial", s.Initial}, {"timeout", s.Timeout}, {"total", s.Total}} {
		if d.d > 0 {
			fmt.Fprintf(&b, ", %s %v", d.what, d.d)
		}
	}
	if s.Attempts > 0 {
		fmt.Fprintf(&b, ", attempts %d", s.Attempts)
	}
	for _, f := range []struct {
		what string
		on   bool
	}{{"rude", s.Rude}, {"at most once", s.Once}, {"abandon", s.Abandon}} {
		if f.on {
			b.WriteString(", " + f.what)
		}
	}
	return b.String() + ")"
}
