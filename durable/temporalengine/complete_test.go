//go:build contract

package temporalengine_test

func init() { complete = true }
