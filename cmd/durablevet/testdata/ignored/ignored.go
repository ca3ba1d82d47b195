// Package ignored has findings that are silenced, and some that are not.
package ignored

import (
	"context"
	"time"

	"example.com/vet/helper"

	"github.com/mcpagent/mcpagent/durable"
)

var wf = durable.NewWorkflow("ignored", func(ctx context.Context, n int) (int, error) {
	_ = time.Now() //durablevet:ignore only for a log line
	//durablevet:ignore the next line is meant
	_ = time.Now()
	_ = time.Now() // want `time.Now`
	helper.Stamp() //durablevet:ignore measured
	local()        //durablevet:ignore all that it does
	whole()
	_ = time.Now() //durablevet:ignore // want `//durablevet:ignore has no reason: say why the line is right` `time.Now`
	_ = time.Now() //durablevet:ignored is another word // want `time.Now`
	return n, nil
}, nil)

func local() time.Time { return time.Now() }

// whole is trusted.
//
//durablevet:ignore a table that is the same in every process
func whole() time.Time { return time.Now() }
