package registry

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/google/go-containerregistry/pkg/name"

	"quorate.dev/lockfile/digest"
)

// Reference names a repository, and maybe a manifest in it:
//
//	registry.example/app            the repository
//	registry.example/app:v1         what the tag names today
//	localhost:5000/app@sha256:…     one manifest for ever
//	registry.example/app:v1@sha256:…
//
// The registry is always named: what is meant for one place must not go to
// another because a default was forgotten. A folder is named alike, with oci:
// before its path; without tag and digest it is the one image in it:
//
//	oci:out/app
//	oci:out/app:v1
//	oci:/mnt/app@sha256:…
//
// What follows the last colon is a tag; the path of a folder whose name has a
// colon ends in a slash.
type Reference struct {
	repo   name.Repository // of a registry
	dir    string          // of a layout, as it was given; "" for a registry
	tag    string
	digest digest.Digest
}

// LayoutPrefix begins references to folders.
const LayoutPrefix = "oci:"

// ReferenceError says that text is no reference.
type ReferenceError struct {
	Text   string
	Reason string
}

func (e *ReferenceError) Error() string {
	return fmt.Sprintf("bad image reference %q: %s", e.Text, e.Reason)
}

// repositoryPattern is what distribution-spec allows as the name of a repository.
var repositoryPattern = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)

// longest reference that is read: repositories have at most 255 characters, and
// tags 128 (distribution-spec), hosts 253.
const longest = 1024

// Parse reads a reference. The error is a *ReferenceError.
func Parse(s string) (Reference, error) {
	fail := func(reason string) (Reference, error) {
		return Reference{}, &ReferenceError{Text: s, Reason: reason}
	}
	if path, ok := strings.CutPrefix(s, LayoutPrefix); ok {
		r, reason := parseLayout(path)
		if reason != "" {
			return fail(reason)
		}
		return r, nil
	}
	if len(s) > longest {
		return fail("it is too long")
	}
	var r Reference
	base, sum, pinned := strings.Cut(s, "@")
	if pinned {
		var err error
		if r.digest, err = digest.Parse(sum); err != nil {
			return fail(err.Error())
		}
	}
	if colon := strings.LastIndexByte(base, ':'); colon > strings.LastIndexByte(base, '/') {
		base, r.tag = base[:colon], base[colon+1:]
		if !isTag(r.tag) {
			return fail(fmt.Sprintf("%q is no tag", r.tag))
		}
	}
	host, rest, ok := strings.Cut(base, "/")
	if !ok || rest == "" || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return fail("expected REGISTRY/REPOSITORY[:TAG][@sha256:…], with the registry's host name")
	}
	if !repositoryPattern.MatchString(rest) || strings.HasSuffix(host, ":") {
		return fail(fmt.Sprintf("%q is no repository of a registry", base))
	}
	var err error
	if r.repo, err = name.NewRepository(base, name.StrictValidation); err != nil {
		return fail(err.Error())
	}
	return r, nil
}

func isTag(s string) bool {
	_, err := name.NewTag("registry.example/app:"+s, name.StrictValidation)
	return err == nil
}

// longestPath is what Linux allows (PATH_MAX).
const longestPath = 4096

// parseLayout reads what follows "oci:". The reason says why it is no reference.
func parseLayout(s string) (r Reference, reason string) {
	if len(s) > longestPath || strings.ContainsFunc(s, unicode.IsControl) {
		return r, "the path is too long, or has control characters"
	}
	r.dir = s
	if at := strings.LastIndex(s, "@sha256:"); at >= 0 {
		var err error
		if r.digest, err = digest.Parse(s[at+1:]); err != nil {
			return r, err.Error()
		}
		r.dir = s[:at]
	}
	if colon := strings.LastIndexByte(r.dir, ':'); colon >= 0 && !strings.ContainsAny(r.dir[colon:], `/\`) {
		r.dir, r.tag = r.dir[:colon], r.dir[colon+1:]
		if !isTag(r.tag) {
			return r, fmt.Sprintf("%q is no tag; the path of a folder whose name has a colon ends in a slash", r.tag)
		}
	}
	if r.dir == "" {
		return r, "expected oci:DIR[:TAG][@sha256:…]"
	}
	return r, ""
}

// Repository returns "registry.example/app", or "oci:DIR".
func (r Reference) Repository() string {
	if r.dir != "" {
		return LayoutPrefix + r.dir
	}
	return r.repo.Name()
}

// Layout returns the folder of a layout, "" for what is in a registry.
func (r Reference) Layout() string { return r.dir }

// Registry returns the host, with its port; "" for a folder.
func (r Reference) Registry() string {
	if r.dir != "" {
		return ""
	}
	return r.repo.RegistryStr()
}

// Tag returns the tag, "" for none.
func (r Reference) Tag() string { return r.tag }

// Digest returns the digest, zero for none.
func (r Reference) Digest() digest.Digest { return r.digest }

// At returns the manifest of that digest in the same repository.
func (r Reference) At(d digest.Digest) Reference {
	return Reference{repo: r.repo, dir: r.dir, digest: d}
}

// WithTag returns the tag in the same repository.
func (r Reference) WithTag(tag string) Reference {
	return Reference{repo: r.repo, dir: r.dir, tag: tag}
}

// String writes the reference as Parse reads it.
func (r Reference) String() string {
	s := r.Repository()
	if r.tag != "" {
		s += ":" + r.tag
	}
	if !r.digest.IsZero() {
		s += "@" + r.digest.String()
	}
	return s
}

// identifier is what a URL names the manifest by; a digest outweighs a tag.
func (r Reference) identifier() string {
	if !r.digest.IsZero() {
		return r.digest.String()
	}
	return r.tag
}
