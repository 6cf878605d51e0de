package main

import (
	"errors"
	"flag"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"quorate.dev/builder"
	"quorate.dev/builder/sandbox"
)

// The stories in testdata/script are what users type and see. Each is a txtar
// archive: a script, then the files that it begins with, unpacked in a folder
// of its own ($WORK), where HOME and the store are too. `quorate` is this test
// binary under that name, so no story runs an old build.
//
// Besides testscript's own commands (exec, stdout, stderr, cmp, exists …):
//
//	exits N COMMAND…     run COMMAND and expect exactly the exit code N
//	damage FILE [AT]     flip a bit of FILE, at byte AT or in its middle
//	truncate FILE SIZE   cut FILE to SIZE bytes
//	replace FILE OLD NEW change text in FILE, where it occurs exactly once
//	tree DIR             print every path in DIR, for `stdout` and `cmp stdout`
//	workflow FILE STEP SCRIPT
//	                     write what a step of examples/ci/FILE runs to SCRIPT
//	nothing-left         fail if a process, mount or temporary file of quorate's is left
//
// and those of story_test.go, which make archives, locks and bundles, and of
// story_build_test.go, which spoil inputs. Stories named real_… need Debian's
// own archive (TestRealScript).
//
// Golden output is a file of the archive (`cmp stdout want`);
// go test ./cmd/quorate -run TestScript -update writes it anew.
var update = flag.Bool("update", false, "write golden files of the stories anew")

func TestMain(m *testing.M) {
	sandbox.Main(builder.Tasks())
	testscript.Main(tidied{m}, map[string]func(){"quorate": func() {
		wrongClock()
		main()
	}})
}

// wrongClock sets the clock of one rebuilder's machine wrong: QUORATE_STORY_CLOCK is
// NAME=DURATION. Only this test binary knows it.
func wrongClock() {
	name, text, _ := strings.Cut(os.Getenv("QUORATE_STORY_CLOCK"), "=")
	if off, err := time.ParseDuration(text); err == nil {
		right := clock
		clock = func(rebuilder string) time.Time {
			if rebuilder == name {
				return right(rebuilder).Add(off)
			}
			return right(rebuilder)
		}
	}
}

func TestScript(t *testing.T) {
	commands := storyMakers(t)
	maps.Copy(commands, storyCommands)
	maps.Copy(commands, buildCommands)
	maps.Copy(commands, registryCommands)
	maps.Copy(commands, serveCommands)
	maps.Copy(commands, npmCommands)
	testscript.Run(t, testscript.Params{
		Files:               stories(t, false),
		Setup:               setupStory,
		Cmds:                commands,
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// setupStory gives a story a home of its own and takes away what differs
// between the machines that run it.
func setupStory(env *testscript.Env) error {
	for _, dir := range []string{"home", "cache", "config"} {
		if err := os.MkdirAll(filepath.Join(env.WorkDir, "."+dir), 0o755); err != nil {
			return err
		}
	}
	for name, value := range map[string]string{
		"HOME":                    filepath.Join(env.WorkDir, ".home"),
		"XDG_CACHE_HOME":          filepath.Join(env.WorkDir, ".cache"),
		"XDG_CONFIG_HOME":         filepath.Join(env.WorkDir, ".config"),
		"QUORATE_STORE":           filepath.Join(env.WorkDir, ".store"),
		"QUORATE_DEBIAN_MIRROR":   "",
		"QUORATE_SNAPSHOT":        "none",
		"QUORATE_APT_ROOT":        filepath.Join(env.WorkDir, ".no-apt"),
		"QUORATE_DEBUG":           "1",
		"CI":                      "true",
		"GITHUB_ACTIONS":          "",
		"GITHUB_STEP_SUMMARY":     "",
		"TZ":                      "UTC",
		"LC_ALL":                  "C",
		"http_proxy":              "",
		"https_proxy":             "",
		"SOURCE_DATE_EPOCH":       "",
		"GIT_CONFIG_NOSYSTEM":     "1",
		"GIT_CEILING_DIRECTORIES": env.WorkDir,
	} {
		env.Setenv(name, value)
	}
	return nil
}

var storyCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"exits":        exits,
	"damage":       damage,
	"truncate":     truncate,
	"replace":      replace,
	"tree":         listTree,
	"nothing-left": nothingLeft,
	"workflow":     workflowStep,
}

// exits runs a command and expects exactly this exit code: `! exec` would take
// a crash for a verdict.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG…]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("cannot run %q: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, expected %d", got, want)
	}
	if strings.Contains(ts.ReadFile("stderr"), "internal error") {
		ts.Fatalf("quorate panicked")
	}
}

// storyFile checks the arguments of a command that works on one file.
func storyFile(ts *testscript.TestScript, neg bool, args []string, least, most int, usage string) string {
	if neg || len(args) < least || len(args) > most {
		ts.Fatalf("usage: %s", usage)
	}
	return ts.MkAbs(args[0])
}

func damage(ts *testscript.TestScript, neg bool, args []string) {
	path := storyFile(ts, neg, args, 1, 2, "damage FILE [AT]")
	data, err := os.ReadFile(path)
	ts.Check(err)
	if len(data) == 0 {
		ts.Fatalf("%s is empty", args[0])
	}
	at := len(data) / 2
	if len(args) == 2 {
		at, err = strconv.Atoi(args[1])
		ts.Check(err)
	}
	data[at] ^= 0x10
	ts.Check(os.Chmod(path, 0o644))
	ts.Check(os.WriteFile(path, data, 0o644))
}

func truncate(ts *testscript.TestScript, neg bool, args []string) {
	path := storyFile(ts, neg, args, 2, 2, "truncate FILE SIZE")
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.Truncate(path, n))
}

func replace(ts *testscript.TestScript, neg bool, args []string) {
	path := storyFile(ts, neg, args, 3, 3, "replace FILE OLD NEW")
	data, err := os.ReadFile(path)
	ts.Check(err)
	if n := strings.Count(string(data), args[1]); n != 1 {
		ts.Fatalf("%q occurs %d times in %s, expected once", args[1], n, args[0])
	}
	ts.Check(os.WriteFile(path, []byte(strings.Replace(string(data), args[1], args[2], 1)), 0o644))
}

func listTree(ts *testscript.TestScript, neg bool, args []string) {
	dir := storyFile(ts, neg, args, 1, 1, "tree DIR")
	ts.Check(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if d.IsDir() {
			rel += "/"
		}
		_, _ = ts.Stdout().Write([]byte(filepath.ToSlash(rel) + "\n"))
		return err
	}))
}
