package deb

import (
	"fmt"
	"strings"
	"time"
)

// UnavailableError says that a file of an archive could be had from none of
// the places asked.
type UnavailableError struct {
	What  string  // "the signed index of suite \"bookworm\""
	Tried []error // one for each place asked, in order
}

func (e *UnavailableError) Error() string {
	if len(e.Tried) == 0 {
		return fmt.Sprintf("cannot get %s: no Debian mirror is known", e.What)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "cannot get %s", e.What)
	for _, t := range e.Tried {
		fmt.Fprintf(&b, "; %v", t)
	}
	return b.String()
}

// Unwrap gives the reasons of every place asked.
func (e *UnavailableError) Unwrap() []error { return e.Tried }

// FetchError says why one URL gave no bytes.
type FetchError struct {
	URL    string
	Status int   // HTTP status, 0 when there was no answer
	Err    error // nil when Status says it all
}

func (e *FetchError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%s answered %d", e.URL, e.Status)
	}
	return fmt.Sprintf("%s: %v", e.URL, e.Err)
}

func (e *FetchError) Unwrap() error { return e.Err }

// NotThere reports whether the place was reached and has no such file.
func (e *FetchError) NotThere() bool { return e.Status == 404 || e.Status == 410 || e.Status == 403 }

// SignatureError says that a signed index cannot be trusted.
type SignatureError struct {
	URL     string
	Problem string   // "no signature by a known key", "text outside the signature" …
	Keys    []string // key ids that signed it, 16 upper-case hexadecimal digits
	Known   []string // fingerprints of the keys that would have been believed
}

func (e *SignatureError) Error() string {
	s := fmt.Sprintf("cannot trust %s: %s", e.URL, e.Problem)
	if len(e.Keys) > 0 {
		s += fmt.Sprintf(" (signed by %s)", strings.Join(e.Keys, ", "))
	}
	return s
}

// ExpiredError says that a signed index is too old, or from the future.
type ExpiredError struct {
	URL        string
	Date       time.Time
	ValidUntil time.Time // zero when the index is from the future
	Now        time.Time
}

func (e *ExpiredError) Error() string {
	if e.ValidUntil.IsZero() {
		return fmt.Sprintf("%s is dated %s, but it is %s here", e.URL, stamp(e.Date), stamp(e.Now))
	}
	return fmt.Sprintf("%s was valid until %s, and it is %s", e.URL, stamp(e.ValidUntil), stamp(e.Now))
}

// RollbackError says that an archive offers an older index than the lock has.
type RollbackError struct {
	URL     string
	Archive string
	Date    time.Time // of the index offered
	Locked  time.Time // of the index in the lock
}

func (e *RollbackError) Error() string {
	return fmt.Sprintf("%s is dated %s, older than the index of %q in the lock, %s",
		e.URL, stamp(e.Date), e.Archive, stamp(e.Locked))
}

// IndexError says that an index was received but is not what it must be.
type IndexError struct {
	URL  string
	Line int   // 1 for the first line; 0 when it concerns the whole file
	Err  error // what was expected and found
}

func (e *IndexError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("%s:%d: %v", e.URL, e.Line, e.Err)
	}
	return fmt.Sprintf("%s: %v", e.URL, e.Err)
}

func (e *IndexError) Unwrap() error { return e.Err }

// UnsupportedError says that a suite lacks an architecture or a component.
type UnsupportedError struct {
	Suite string
	Kind  string // "architecture" or "component"
	Name  string
	Has   []string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("suite %q has no %s %q; it has: %s", e.Suite, e.Kind, e.Name, strings.Join(e.Has, ", "))
}

// NotFoundError says that a name asked for is not a package of the suite.
type NotFoundError struct {
	Name      string
	Suite     string
	Arch      string
	Version   string   // set when the package is there but not in this version
	Nearest   []string // the names (or versions) most like it, best first
	Providers []string // packages that provide the name, when it is a virtual one
}

func (e *NotFoundError) Error() string {
	where := fmt.Sprintf("%s (%s)", e.Suite, e.Arch)
	switch {
	case e.Version != "":
		return fmt.Sprintf("cannot find version %q of package %q in %s%s", e.Version, e.Name, where, tail("; there is: ", e.Nearest))
	case len(e.Providers) > 0:
		return fmt.Sprintf("cannot choose a package for %q in %s: it is a virtual package%s",
			e.Name, where, tail("; name one of its providers: ", e.Providers))
	}
	return fmt.Sprintf("cannot find package %q in %s%s", e.Name, where, tail("; nearest: ", e.Nearest))
}

// SourceNotFoundError says that the source package which an input asks for
// cannot be had as it is asked for.
type SourceNotFoundError struct {
	Input   string
	Package string
	Suite   string
	Version string   // set when the package is there but not in this version
	Nearest []string // the names (or versions) most like it, best first
	Maker   string   // source package that makes a binary package of the name; "" for none
	Problem string   // set when it is there and lacks what is asked for
}

func (e *SourceNotFoundError) Error() string {
	switch {
	case e.Problem != "":
		return fmt.Sprintf("cannot use source package %q of %s: %s", strings.TrimSpace(e.Package+" "+e.Version), e.Suite, e.Problem)
	case e.Version != "":
		return fmt.Sprintf("cannot find version %q of source package %q in %s%s", e.Version, e.Package, e.Suite, tail("; there is: ", e.Nearest))
	case e.Maker != "":
		return fmt.Sprintf("cannot find source package %q in %s: a binary package has that name, and its source package is %q", e.Package, e.Suite, e.Maker)
	}
	return fmt.Sprintf("cannot find source package %q in %s%s", e.Package, e.Suite, tail("; nearest: ", e.Nearest))
}

// RequestError says that a package request cannot be read.
type RequestError struct {
	Request string
	Problem string
}

func (e *RequestError) Error() string {
	return fmt.Sprintf("cannot read package request %q: %s", e.Request, e.Problem)
}

// UnsatisfiableError says that apt found no set of packages for a request.
type UnsatisfiableError struct {
	Set         string // "image", "step/NAME"
	Arch        string
	Base        string   // image input that they were to be added to; "" for none
	Request     []string // as asked for
	Explanation string   // apt's own, one fact a line
}

func (e *UnsatisfiableError) Error() string {
	where := fmt.Sprintf("%q (%s)", e.Set, e.Arch)
	if e.Base != "" {
		where += fmt.Sprintf(" on image %q", e.Base)
	}
	s := fmt.Sprintf("cannot choose packages for %s: %s", where, strings.Join(e.Request, " "))
	if e.Explanation != "" {
		s += "\n\t" + strings.ReplaceAll(e.Explanation, "\n", "\n\t")
	}
	return s
}

// AnswerError says that apt's answer is not one that can be believed: a fault
// of ours or of apt, or indexes that changed underneath.
type AnswerError struct {
	Set     string
	Problem string
}

func (e *AnswerError) Error() string {
	return fmt.Sprintf("cannot believe apt's answer for %q: %s", e.Set, e.Problem)
}

// VersionsError says that two sets of one platform chose different versions of
// a package, so that the lock would hold two.
type VersionsError struct {
	Package  string // "name:arch"
	Versions [2]string
	Sets     [2]string
}

func (e *VersionsError) Error() string {
	return fmt.Sprintf("cannot lock two versions of package %q: %s for %q and %s for %q; ask for the same version in both",
		e.Package, e.Versions[0], e.Sets[0], e.Versions[1], e.Sets[1])
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func tail(before string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	return before + strings.Join(names, ", ")
}
