package app

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// welcome says how to kill the process and how to connect to it; url is empty
// for stdio.
func welcome(w io.Writer, f *Flags, e *Engine, url string) {
	kill := fmt.Sprintf("kill -9 %d", os.Getpid())
	if runtime.GOOS == "windows" {
		kill = fmt.Sprintf("taskkill /F /PID %d", os.Getpid())
	}
	again, runs := "(then start it again: it goes on)", e.Runs
	if runs == "" {
		again, runs = "(and its runs with it)", "in memory"
	}
	fmt.Fprintf(w, "invoice is ready, pid %d\n", os.Getpid())
	fmt.Fprintf(w, "  kill it        %s      %s\n", kill, again)
	fmt.Fprintf(w, "  runs           %s\n", runs)
	fmt.Fprintf(w, "  payments       %s\n", Absolute(f.gateway.book))
	if url != "" {
		fmt.Fprintf(w, "  endpoint       %s\n", url)
		fmt.Fprintf(w, "  Claude Code    claude mcp add --transport http invoices %s\n", url)
		fmt.Fprintf(w, "  Goose          goose session --with-streamable-http-extension %s\n", url)
		fmt.Fprintf(w, "  Inspector      npx @modelcontextprotocol/inspector --cli --server-url %s --transport http --method tools/list\n", url)
	} else {
		self := command(f)
		fmt.Fprintf(w, "  Claude Code    claude mcp add invoices -- %s\n", self)
		fmt.Fprintf(w, "  Goose          goose session --with-extension %q\n", self)
		fmt.Fprintf(w, "  Inspector      npx @modelcontextprotocol/inspector --cli %s --method tools/list\n", self)
	}
	fmt.Fprintf(w, "  then say       Process the invoice in examples/invoice/app/testdata/invoice_acme.json, tell me its status, approve it.\n")
}

// command is how another program starts this one from any directory.
func command(f *Flags) string {
	self, err := os.Executable()
	if err != nil || strings.Contains(self, "go-build") {
		// Run by go run: the binary is gone soon.
		dir, err := os.Getwd()
		if err != nil {
			dir = "."
		}
		self = "go run -C " + quoted(dir) + " ./examples/invoice"
	} else {
		self = quoted(self)
	}
	self += " -stdio"
	for _, file := range [][2]string{{"-config", f.Config}, {"-db", f.DB}, {"-payments", f.gateway.book}} {
		if file[1] != "" {
			self += " " + file[0] + " " + quoted(Absolute(file[1]))
		}
	}
	return self
}

func quoted(s string) string {
	if strings.ContainsAny(s, " \t") {
		return `"` + s + `"`
	}
	return s
}

// Absolute is a path that stays the same in another directory.
func Absolute(path string) string {
	if path == ":memory:" {
		return path
	}
	if full, err := filepath.Abs(path); err == nil {
		return full
	}
	return path
}
