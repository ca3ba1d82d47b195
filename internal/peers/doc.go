// Package peers holds llm/openai, llm/anthropic and llm/llmtest against the
// vendors' own SDKs, in its tests. It is a module of its own, so that the SDKs
// weigh on no user's build.
//
// What is compared:
//
//   - what the SDKs, as clients, understand of the answers of llmtest's server,
//     and whether that sends all that their types have, and nothing else;
//   - the requests of the providers with those of the SDKs, for the same
//     conversations: address, headers and body;
//   - what the providers read from the answers that the SDKs' own tests have,
//     with what the SDKs read.
package peers
