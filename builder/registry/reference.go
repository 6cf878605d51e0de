package registry

import (
	"fmt"
	"regexp"
	"strings"

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
// another because a default was forgotten.
type Reference struct {
	repo   name.Repository
	tag    string
	digest digest.Digest
}

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
		if _, err := name.NewTag("registry.example/app:"+r.tag, name.StrictValidation); err != nil {
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

// Repository returns "registry.example/app".
func (r Reference) Repository() string { return r.repo.Name() }

// Registry returns the host, with its port.
func (r Reference) Registry() string { return r.repo.RegistryStr() }

// Tag returns the tag, "" for none.
func (r Reference) Tag() string { return r.tag }

// Digest returns the digest, zero for none.
func (r Reference) Digest() digest.Digest { return r.digest }

// At returns the manifest of that digest in the same repository.
func (r Reference) At(d digest.Digest) Reference { return Reference{repo: r.repo, digest: d} }

// WithTag returns the tag in the same repository.
func (r Reference) WithTag(tag string) Reference { return Reference{repo: r.repo, tag: tag} }

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
