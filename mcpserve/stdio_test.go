package mcpserve_test

func runChild() bool { return false }
