//go:build race

package localengine_test

// raceDetector makes SQLite, which is compiled to Go here, ten times slower.
const raceDetector = true
