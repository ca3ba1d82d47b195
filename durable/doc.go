/*
Package durable makes ordinary Go functions durable: a workflow is a
func(ctx context.Context, in In) (Out, error) whose progress survives the
death of the process, and which can wait for days without holding anything.

	var (
		decide = durable.NewQuestion[Decision]("approve")
		pay    = durable.NewStep("pay", payInvoice, nil)
		buy    = durable.NewWorkflow("buy", func(ctx context.Context, inv Invoice) (string, error) {
			a, err := decide.Ask(ctx, "Pay "+inv.ID+"?", &durable.AskOptions{Expires: 5 * 24 * time.Hour})
			if err != nil || !a.Value.Approved {
				return "REJECTED", err
			}
			return pay.Do(ctx, inv)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{decide}})
	)

	eng, err := localengine.Open(ctx, "buy.db", nil, buy, pay)
	run, err := buy.Start(ctx, eng, inv, &durable.StartOptions{ID: "invoice-" + inv.ID})

# How it works

A run's code is a set of coroutines of which one at a time moves. Each call of
this package is written to the run's journal before it takes effect, and each
outcome before the code sees it. After a crash, or when a waiting run had been
put away to save memory, the function is called again from its beginning and
given the recorded outcomes, until it stands where it stood. Therefore

  - workflow code is deterministic: time, random numbers, concurrency and
    waiting come from this package, I/O from steps;
  - a [Step] is where I/O happens. It runs at least once, or with
    [StepOptions].AtMostOnce at most once; its outcome is recorded once;
  - values cross every border as JSON, on every engine: unexported fields
    vanish, nothing is shared;
  - a deferred function of a workflow runs whenever the run is put away, many
    times: durable calls in it end the goroutine again, and it must do no I/O.

Definitions are values given to the engine's Open. There is no registry.

# What each call does where

	call                        in a workflow         in a step             without an engine
	Step.Do, Step.Start         recorded call         inline (at most       runs now, with retries
	                                                  once: ErrInStep)
	Workflow.Run, .Child        child run             ErrInStep             calls the function
	Sleep, SleepUntil           durable timer         ordinary wait         ordinary wait
	Now                         time of the event     time.Now              time.Now
	Rand, UUID                  named stream          random                random
	SideEffect                  recorded              just runs             just runs
	Version                     recorded answer       max                   max
	NewGroup, Map               coroutines            ErrInStep             goroutines that take turns
	Select, Await               durable wait          ErrInStep             ErrNoEngine
	Mutex, Semaphore            durable wait          ErrInStep             among group members
	Signal.Receive…             durable wait          ErrInStep             ErrNoEngine
	Question.Ask, NewCallback   durable wait          ErrInStep             ErrNoEngine
	Query.Handle, Update.Handle sets the handler      ErrInStep             ErrNoEngine
	Status.Set                  published             *Misuse panic         does nothing
	Stream.Append               published             ErrInStep             does nothing
	WithCancel, WithTimeout     scope of the run      as in context         as in context
	WithoutCancel               as in context         as in context         as in context
	PutBlob, GetBlob            with the turn         at once               ErrNoEngine
	LendBlob                    kept while it runs    as PutBlob            ErrNoEngine, or With's
	Provided                    the program's value   the program's value   With's value
	Logger                      after the commit      at once               slog.Default
	InfoOf                      the run               the run               false
	Heartbeat, StepInfoOf       error, false          recorded best effort  error, false
	Run.Signal, Run.Cancel      recorded call         operation             operation
	Engine and Run operations   ErrInWorkflow         operation             operation

"In a workflow" means with the run's context on a coroutine of the run. The
calls find out when that is not so and say what to do instead:

	context.WithTimeout, WithCancel, errgroup, … around it   ErrForeignContext
	a goroutine of your own                                  ErrForeignGoroutine
	another run's context                                    ErrWrongRun
	context.Background on a coroutine of a run               ErrLostContext
	a query handler or a validator                           ErrReadOnly
	a deferred function while a panic unwinds, and the       ErrUnwinding
	deferred function that recovers it, until it returns

Calls that return no error panic with a [*Misuse] instead. <-ctx.Done(),
channels and locks of Go can't be seen from here: a run that blocks in one is
reported as a [Problem] of kind deadlock after a second, and other runs go on.

# Errors

	a step failed for good                        *StepError around *Error
	a child or a run did not complete             *RunError (State tells how)
	the outcome of an at-most-once step is open   ErrOutcomeUnknown
	a wait was cancelled, or its time is up       context.Canceled, context.DeadlineExceeded
	nothing came within ReceiveTimeout            ErrTimeout
	nobody answered a question in time            ErrExpired
	a workflow, step or message is not defined    ErrNotDefined, ErrNotAccepted
	no such run, question, blob                   ErrNotFound
	a message to a run that has ended             ErrFinished
	an id in use by another workflow or input     ErrIDTaken (*TakenError names the run)
	an update: no handler, refused, run paused    ErrNoHandler, ErrRejected, ErrPaused
	an answer that comes second                   ErrAnswered
	a value that does not fit its type            ErrBadInput (*DecodeError for signals)
	a value over the size limit                   ErrTooLarge
	one signal, update, call too many             ErrLimit
	a reset that repeats an at-most-once step     ErrRepeat
	a run that can't go on until it is mended     *BlockedError, with its Problem
	an option that this engine can't honour       ErrUnsupported
	nothing can be recorded any more              ErrUnavailable

errors.Is and errors.As hold for these on both sides of a step, of a child and
of an engine in another process; so do [NewErrorType] and *[Error]. Of other
errors the Go type's name and the text cross. [Permanent], [RetryAfter] and
[OutcomeUnknown] turn a step's error into an instruction to the engine.
*/
package durable
