// Command aptget stands in for apt-get in the archives of stories. It runs in
// the sandbox, in a root that holds nothing else, so it is built without cgo.
package main

import (
	"os"

	"quorate.dev/lockfile/source/deb/debtest"
)

func main() { os.Exit(debtest.AptGet(os.Args, "/apt", os.Stdout, os.Stderr)) }
