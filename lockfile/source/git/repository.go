package git

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// repository is a bare one in a folder of ours, and where its objects come from.
type repository struct {
	dir        string
	url        string
	made       bool
	submodules bool // bring those of a tree, too
	apart      int  // number of a submodule, whose objects lie in another's folder; 0 for none
}

// position is what a ref names.
type position struct {
	commit   string // its id; "" when only fetching tells
	tag      string // id of the annotated tag object, "" for none
	fullName string // "refs/tags/v1"; "" for a commit's id
}

// RefError says that a repository has no such ref.
type RefError struct {
	URL, Ref string
	Both     bool     // it is a branch and a tag
	Has      []string // branches and tags that there are, the first few
}

func (e *RefError) Error() string {
	if e.Both {
		return fmt.Sprintf("%s has a branch and a tag called %q; write refs/heads/%s or refs/tags/%s", e.URL, e.Ref, e.Ref, e.Ref)
	}
	has := ""
	if len(e.Has) > 0 {
		has = "; it has " + strings.Join(e.Has, ", ")
	}
	return fmt.Sprintf("%s has no branch or tag %q%s", e.URL, e.Ref, has)
}

// resolve asks where a ref is today. A full id names itself.
func (r *repository) resolve(ctx context.Context, ref string) (position, error) {
	if isObjectID(ref) {
		return position{commit: ref}, nil
	}
	out, err := r.run(ctx, "list refs of "+redacted(r.url), "ls-remote", "--", r.url)
	if err != nil {
		return position{}, err
	}
	return find(redacted(r.url), ref, string(out))
}

// find looks a ref up in the lines of ls-remote.
func find(where, ref, lines string) (position, error) {
	ids := map[string]string{}
	var names []string
	for line := range strings.Lines(lines) {
		id, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !ok || !isObjectID(id) {
			continue
		}
		ids[name] = id
		short, isTag := strings.CutPrefix(name, "refs/tags/")
		if branch, isBranch := strings.CutPrefix(name, "refs/heads/"); isBranch {
			short, isTag = branch, true
		}
		if isTag && !strings.HasSuffix(short, "^{}") && len(names) < 8 {
			names = append(names, short)
		}
	}
	var full []string
	for _, candidate := range []string{ref, "refs/tags/" + ref, "refs/heads/" + ref} {
		if ids[candidate] != "" && (candidate != ref || ref == "HEAD" || strings.HasPrefix(ref, "refs/")) {
			full = append(full, candidate)
		}
	}
	switch {
	case len(full) == 0:
		slices.Sort(names)
		return position{}, &RefError{URL: where, Ref: ref, Has: slices.Compact(names)}
	case len(full) > 1:
		return position{}, &RefError{URL: where, Ref: ref, Both: true}
	}
	at := position{commit: ids[full[0]], fullName: full[0]}
	if peeled := ids[full[0]+"^{}"]; peeled != "" {
		at.tag, at.commit = at.commit, peeled
	}
	return at, nil
}

// fetch brings one commit, and the tag that names it. Servers may refuse to
// give a commit by its id; then the ref is asked for, and at last everything.
func (r *repository) fetch(ctx context.Context, at position) error {
	if err := r.init(ctx, at.commit); err != nil {
		return err
	}
	what := "fetch from " + redacted(r.url)
	wanted := at.commit
	if at.tag != "" {
		wanted = at.fullName
	}
	_, first := r.run(ctx, what, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--", r.url, wanted)
	if first == nil && r.has(ctx, at.commit) {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if at.fullName != "" && wanted != at.fullName {
		if _, err := r.run(ctx, what, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--", r.url, at.fullName); err == nil && r.has(ctx, at.commit) {
			return nil
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	_, err := r.run(ctx, what, "fetch", "--quiet", "--no-write-fetch-head", "--", r.url, "+refs/heads/*:"+r.refs()+"heads/*", "+refs/tags/*:"+r.refs()+"tags/*")
	switch {
	case err != nil:
		return err
	case r.has(ctx, at.commit):
		return nil
	case first != nil:
		return first
	}
	return &MovedError{URL: redacted(r.url), Want: at.commit}
}

// init makes the repository, of the kind of ids that the commit has.
func (r *repository) init(ctx context.Context, commit string) error {
	if r.made {
		return nil
	}
	format := "sha1"
	if len(commit) == 64 {
		format = "sha256"
	}
	_, err := r.run(ctx, "make a repository", "init", "--quiet", "--bare", "--template=", "--object-format="+format, ".")
	r.made = err == nil
	return err
}

func (r *repository) has(ctx context.Context, id string) bool {
	_, err := r.run(ctx, "look for "+id, "cat-file", "-e", id)
	return err == nil
}

// identify says what a full id is that a definition names: a commit, or an annotated tag.
func (r *repository) identify(ctx context.Context, at *position) error {
	objects, err := r.objects(ctx)
	if err != nil {
		return err
	}
	defer objects.close()
	kind, body, err := objects.read(at.commit, maxCommit)
	if err != nil || kind == "commit" {
		return err
	}
	if kind != "tag" {
		return fmt.Errorf("object %s of %s is a %s, not a commit", at.commit, redacted(r.url), kind)
	}
	commit, err := tagged(body)
	if err != nil {
		return fmt.Errorf("tag %s of %s: %w", at.commit, redacted(r.url), err)
	}
	at.tag, at.commit = at.commit, commit
	return nil
}

var errNoCommit = errors.New("names no commit")

// tagged returns the commit that an annotated tag names.
func tagged(body []byte) (string, error) {
	head, _, _ := strings.Cut(string(body), "\n\n")
	object, kind := "", ""
	for line := range strings.SplitSeq(head, "\n") {
		if v, ok := strings.CutPrefix(line, "object "); ok && object == "" {
			object = v
		}
		if v, ok := strings.CutPrefix(line, "type "); ok && kind == "" {
			kind = v
		}
	}
	if kind != "commit" || !isObjectID(object) {
		return "", errNoCommit
	}
	return object, nil
}
