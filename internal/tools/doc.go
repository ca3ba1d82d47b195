// Package tools is a module of its own that pins the programs which check the
// code, so that their dependencies never weigh on a user's build.
package tools
