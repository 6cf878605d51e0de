// Command quorate builds container images whose every byte can be rebuilt by
// someone else, and signs for them only when rebuilders got the same bytes.
//
// Each verb is a file here, read from top to bottom. What the verbs share:
//
//	wire.go      the only file that names every implementation
//	terminal.go  what is said, and where; exit codes
//	progress.go  how far things are: bars, lines or JSON
//	hints.go     what to do about an error
//
// README.md walks through the verbs; `quorate help VERB` is the reference.
package main

import (
	"os"

	"quorate.dev/builder"
	"quorate.dev/builder/sandbox"
)

func main() {
	// A sandboxed step is this very program, started again. It must become one
	// before anything else happens.
	sandbox.Main(builder.Tasks())
	os.Exit(runQuorate(newTerminal(), os.Args[1:]))
}
