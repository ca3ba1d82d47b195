/*
Package mcpserve serves durable workflows over the Model Context Protocol:
workflows, questions, signals, updates, queries and statuses as tools, and
tools that list, watch, answer, pause and cancel runs.

	srv := mcpserve.New("invoices", eng, nil)
	srv.Add(process, &mcpserve.Tool{Async: true, Arg: "invoice", ID: "invoice-{invoice_id}"})
	srv.Add(decide, &mcpserve.Tool{Name: "approve_invoice", Const: Decision{Approved: true}})
	srv.Add(decide, &mcpserve.Tool{Name: "reject_invoice", Const: Decision{}})
	srv.Add(status, &mcpserve.Tool{Name: "invoice_status"})
	log.Fatal(srv.ListenAndServe(ctx, "127.0.0.1:8000")) // at /mcp

[Server.ServeStdio] serves the program that started this one, [Server.Handler]
is for a web server that is there already, [Server.Attach] for a server of the
MCP SDK. All of them speak every revision from 2024-11-05 to 2026-07-28: with
sessions, and without. Schemas come from the Go types, with the descriptions of
`jsonschema:"…"` field tags; fields that the types don't know are kept.

# What a call comes to

	situation                                     result
	an inline tool, the run ends in time          its result: as structured content, and as text
	the result is no object                       structured content {"result": …}; a string is its own text
	the run failed, was cancelled, timed out      isError: {type, message, workflow_id, run_id, status}
	the run is blocked by a problem               isError of type blocked; the run is not lost
	the wait limit is reached                     ids, what the run waits for, what to poll; the run goes on
	the run asks, the client shows forms          the form; then the call goes on
	… and the person declines                     ids and the question, which stays open
	the run asks, the client shows no forms       ids, the question and the tools that answer it, at once
	… or the question has another Audience        the same
	the client cancels the call, or goes away     the run goes on; with [Tool].CancelRun it is cancelled
	the server ends                               ids; the run goes on when the engine is there again
	an asynchronous tool                          {workflow_id, run_id, execution_id}, at once
	the same id and input again                   the same run; existing is true
	the same id, another input                    isError of type id_taken
	the same [IdempotencyKey] in _meta again      the same run, the same effect
	arguments that don't fit                      isError of type bad_arguments, naming the field; nothing starts
	no ids, and only one run can be meant         that run
	no ids, and several can                       isError of type ambiguous, with the candidates
	a run that isn't there, or isn't the caller's isError of type not_found
	a question that is not open                   isError: not_asked, already_answered, expired or finished
	a message the workflow does not take          isError of type not_accepted
	anything else that the engine refuses         isError of a type named after its sentinel

# How a question reaches a person

A call that waits puts the questions of its run, and of the run's children,
before its own client if that can show forms. Clients of revision 2025-11-25 and
older are sent an elicitation request. From 2026-07-28 on the call is answered
with input_required; its requestState names the run and the question, any
process that serves the engine can take the call that brings the answer, and
what the state names is checked like the arguments of a call. A question whose
answer is a flat object of plain values is a form of these fields; any other
plain value is the field value; what no form can hold is asked for as JSON.

The form is one way of several. The question is the engine's, and stays open
until it is answered: by a tool, by another client, by the program.

# Run control

Tools of the Python project's names, over the workflows that were added and the
runs that theirs started, and over nothing else:

	workflows-list              what can be started, with schemas
	workflows-NAME-run          start NAME with run_parameters, the arguments of its own tool
	workflows-run               the same, for any workflow
	workflows-runs-list         runs, newest first, by workflow_name, workflow_id, status; in pages
	workflows-get_status        how a run is: state, published values, waits, questions, result
	workflows-resume            resume a paused run, or answer the question or send the signal signal_name
	workflows-pause             keep a run from moving
	workflows-cancel            cancel one run
	workflows-questions         what is asked of people
	workflows-answer            answer one question
	workflows-store-credentials hand over tokens, where [Options].Credentials stores them

Differences from the Python project: workflows-run has no argument kwargs;
result is the value that the workflow returned; lists are always
{runs, next_page_token}; a call that can't be carried out is an error and never
false; a signal goes to one run; status is the engine's state, and what the run
published is in state; credentials belong to their caller, are kept by the
program alone, and are never logged.

# Safety

A server without [Options].Authenticate serves its own machine only, under the
machine's own names, and no pages of other web origins. With it, the token's
[Identity] acts: an Owner sees and touches its own runs only. Under
[Server.Attach] the SDK's TokenInfo.UserID is name and owner. Calls without a
token act as the actor that the program has put into the context, or under the
name that the client gives itself, which is recorded and proves nothing.

A model can call any tool that it is offered, also one that answers a question.
Where that matters, have the client ask its user before each call, leave
[ControlAnswer] and [ControlResume] out of [Options].Controls, and don't add
questions as tools.

Logs go to the [Options].Logger, standard error by default; standard output is
the protocol's.
*/
package mcpserve
