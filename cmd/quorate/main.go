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
	"runtime/debug"

	"quorate.dev/builder"
	"quorate.dev/builder/sandbox"
)

func main() {
	// A sandboxed step is this very program, started again. It must become one
	// before anything else happens.
	sandbox.Main(builder.Tasks())
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryGoal)
	}
	os.Exit(runQuorate(newTerminal(), os.Args[1:]))
}

// memoryGoal is when the garbage collector begins to work harder, in bytes. What is
// held of an image is a kilobyte for each of its files, of a comparison 60 MB
// whatever its sides' size; with the program's own pages either shall stay below 150 MB.
// Where more has to be held, more is taken.
const memoryGoal = 112 << 20
