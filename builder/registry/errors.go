package registry

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"quorate.dev/lockfile/digest"
)

// Kind is what went wrong, for those who say what to do about it.
type Kind string

// The kinds.
const (
	NotFound    Kind = "not found"
	Denied      Kind = "denied"      // without credentials, or with these
	Unreachable Kind = "unreachable" // no answer, or no trusted one
	Changed     Kind = "changed"     // bytes are not what their digest says
	TooLarge    Kind = "too large"
	Other       Kind = "other"
)

// Error is every error of a registry. It names the reference.
type Error struct {
	Action string // "pull", "push", "list what refers to"
	Ref    string
	Host   string // of the registry; "" for a folder
	Kind   Kind
	Err    error
}

func (e *Error) Error() string { return fmt.Sprintf("cannot %s %s: %v", e.Action, e.Ref, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// limitError says that an answer is larger than can be right.
type limitError struct{ message string }

func (e *limitError) Error() string { return e.message }

// fault wraps err; nil stays nil, and what is wrapped already stays as it is.
func fault(action string, ref Reference, err error) error {
	if err == nil {
		return nil
	}
	if known := (*Error)(nil); errors.As(err, &known) {
		return err
	}
	return &Error{Action: action, Ref: ref.String(), Host: ref.Registry(), Kind: kindOf(err), Err: err}
}

func kindOf(err error) Kind {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	if e, ok := errors.AsType[*LayoutError](err); ok && e.Kind != "" {
		return e.Kind
	}
	if _, ok := errors.AsType[*digest.MismatchError](err); ok {
		return Changed
	}
	if _, ok := errors.AsType[*digest.SizeError](err); ok {
		return Changed
	}
	if _, ok := errors.AsType[*limitError](err); ok {
		return TooLarge
	}
	if e, ok := errors.AsType[*transport.Error](err); ok {
		switch e.StatusCode {
		case http.StatusNotFound:
			return NotFound
		case http.StatusUnauthorized, http.StatusForbidden:
			return Denied
		}
		return Other
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		return Unreachable
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return Unreachable
	}
	return Other
}

// IsNotFound reports whether a repository has no such thing.
func IsNotFound(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind == NotFound
}
