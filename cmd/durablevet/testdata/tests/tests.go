// Package tests has a workflow in its tests.
package tests

// level is written by a test only: that does not make it variable.
var level = "x"
