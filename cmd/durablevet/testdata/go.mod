module example.com/vet

go 1.26.0

require (
	example.com/foreign v0.0.0
	github.com/mcpagent/mcpagent v0.0.0
	golang.org/x/sync v0.23.0
)

replace github.com/mcpagent/mcpagent => ../../..

replace example.com/foreign => ./foreign
