package main

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"quorate.dev/builder/registry"
	"quorate.dev/builder/sandbox"
	"quorate.dev/builder/store"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source/deb"
	"quorate.dev/lockfile/strictyaml"
	"quorate.dev/rebuild/keyfile"
)

// hintsFor returns what a person can do about err: one line each, in the order
// of the table, none when the error says it all. Packages say what is wrong;
// what to type next is known only here, where the verbs and flags are.
func hintsFor(err error) []string {
	var all []string
	for _, hint := range hints {
		if h := hint(err); h != "" {
			all = append(all, h)
		}
	}
	return all
}

// storeVar names the environment variable that says where the store is.
const storeVar = "QUORATE_STORE"

const makeRoom = "make room with `quorate store gc --older-than 7d`, or put the store elsewhere: " + storeVar + "=DIR"

// hints is the table: each entry knows one error.
var hints = []func(error) string{
	// Errors that bring their own.
	on(func(e interface {
		error
		Hint() string
	}) string {
		return e.Hint()
	}),
	on(func(e *sandbox.UnavailableError) string { return e.Hint }),

	// Locks.
	on(func(e *lockfile.VersionError) string {
		return "install the newer quorate; this one leaves the lock alone"
	}),
	on(func(e *lockfile.AssemblerError) string {
		if e.Have > e.Want {
			return "install the newer quorate that wrote the lock, or remove the lock to begin anew with this one"
		}
		return ""
	}),

	// Archives.
	on(func(e *deb.UnavailableError) string {
		return "name a mirror that can be reached: --mirror URL, or QUORATE_DEBIAN_MIRROR=URL"
	}),
	on(func(e *deb.SignatureError) string {
		return "either somebody changed the archive on its way, or it is signed with a key of its own; name that under inputs.debian.signed-by if you trust it"
	}),
	on(func(e *deb.ExpiredError) string {
		if e.ValidUntil.IsZero() {
			return "look at this machine's clock"
		}
		return "the mirror is stuck, or held back by somebody; try another with --mirror, and look at this machine's clock"
	}),
	on(func(e *deb.RollbackError) string {
		return "an older index may hide security updates; try another --mirror, or accept it with --allow-older"
	}),

	// Fetching and the store.
	on(func(e *fetch.OfflineError) string { return "run the same once without --offline" }),
	on(func(e *store.SpaceError) string { return makeRoom }),
	on(func(e *store.OpenError) string {
		if errors.Is(e, fs.ErrPermission) || errors.Is(e, syscall.EROFS) || errors.Is(e, syscall.ENOTDIR) {
			return "put the store into a folder where this user may write: " + storeVar + "=DIR"
		}
		return ""
	}),
	on(func(e *store.DamagedError) string {
		return "the damaged copy was set aside; the same command fetches it anew. Does the disk fail?"
	}),

	// Steps and scripts.
	on(func(e *sandbox.LimitError) string {
		if e.Free {
			return makeRoom
		}
		return fmt.Sprintf("if it needs more, raise limits.%s of the step", e.What)
	}),
	on(func(e *sandbox.OwnerError) string {
		return "build as root, or give this user a range of ids (apt-get install uidmap; /etc/subuid and /etc/subgid)"
	}),

	// Registries.
	on(func(e *registry.Error) string {
		switch e.Kind {
		case registry.Denied:
			return fmt.Sprintf("log in with an account that may do this: docker login %s", e.Host)
		case registry.Changed:
			if e.Host == "" {
				return "somebody changed the folder since it was written, or the disk fails; bring it anew from where it came"
			}
			return "the registry, or somebody on the way, serves other bytes than were asked for"
		}
		return ""
	}),

	on(func(e *registry.PlainHTTPError) string {
		return "if only you and people you trust are on the line, --plain-http allows it; passwords go unencrypted, too"
	}),

	// Keys.
	func(err error) string {
		if errors.Is(err, keyfile.ErrNoPassphrase) {
			return fmt.Sprintf("give its passphrase with --passphrase-fd or %s", passphraseVar)
		}
		return ""
	},
	on(func(e *keyfile.ExistsError) string { return "choose another name, or move the old key away" }),

	on(func(e *fs.PathError) string {
		if errors.Is(e, fs.ErrPermission) {
			op := e.Op
			if op == "openat" { // the system call, in the words of a person
				op = "open"
			}
			return fmt.Sprintf("this user may not %s %q", op, e.Path)
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
