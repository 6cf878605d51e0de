package main

import (
	"errors"
	"fmt"
	"io/fs"

	"quorate.dev/builder/sandbox"
	"quorate.dev/builder/store"
	"quorate.dev/lockfile/strictyaml"
)

// hintsFor returns what a person can do about err: one line each, most useful
// first, none when the error says it all. Packages describe what is wrong; what
// to type next is known only here, where the verbs and flags are. Errors that
// carry a hint of their own (a method Hint) keep it.
func hintsFor(err error) []string {
	var all []string
	for _, hint := range hints {
		if h := hint(err); h != "" {
			all = append(all, h)
		}
	}
	return all
}

// hints is the table: each entry knows one error.
var hints = []func(error) string{
	on(func(e interface {
		error
		Hint() string
	}) string {
		return e.Hint()
	}),
	on(func(e *sandbox.UnavailableError) string { return e.Hint }),
	on(func(e *store.SpaceError) string {
		return fmt.Sprintf("free some with `quorate store gc --older-than 30d`, or put the store elsewhere: %s=DIR", storeVar)
	}),
	on(func(e *store.DamagedError) string {
		return "the damaged copy was set aside; run the same again to fetch it anew"
	}),
	on(func(e *fs.PathError) string {
		if errors.Is(e, fs.ErrPermission) {
			return fmt.Sprintf("you may not %s %q; ask its owner", e.Op, e.Path)
		}
		return ""
	}),
}

// on makes an entry of a function over one type of error.
func on[E error](hint func(E) string) func(error) string {
	return func(err error) string {
		if e, ok := errors.AsType[E](err); ok {
			return hint(e)
		}
		return ""
	}
}

// located returns the text of errors that point into a file, each mistake
// beginning with file:line:column at the start of its line.
func located(err error) (string, bool) {
	if e, ok := errors.AsType[*strictyaml.Errors](err); ok {
		return e.Error(), true
	}
	if e, ok := errors.AsType[*strictyaml.Error](err); ok {
		return e.Error(), true
	}
	return "", false
}

// storeVar names the environment variable that says where the store is.
const storeVar = "QUORATE_STORE"
