// Package git locks the tree of one commit of a git repository.
//
// The commit, its time and the digest of its tree are facts of the lock; the
// one pin is the tree's canonical archive, exactly the one that package local
// makes of a folder with the same files. So what a build sees depends on what
// git recorded and on nothing that git would make of it in a checkout: no
// attribute, filter, line ending or umask of any machine.
//
// # How a commit is brought
//
// The machine's own git does the talking (protocols, proxies, ssh), in an
// environment without configuration, hooks, prompts and other protocols than
// https, ssh and file (run.go). It fetches the one commit, shallow, into a
// folder of its own, and nothing is ever checked out. Every object that the tree
// is made of is then read raw and hashed again by us (object.go), so a broken
// or lying git cannot give other bytes than the commit's id promises; git's
// own sha1 refuses known collisions when it takes a pack, and the lock's sha256
// of the archive holds from then on.
//
// Submodules and pointers to Git LFS are refused by name: a tree without their
// files would not be the project's. With "submodules: true" the files of
// submodules, and of theirs, are part of the tree and of its one archive. Each is a
// commit that the tree above it names by its id, so the id of the one commit, and
// a signature of it, stand for all; the lock lists them as facts. Where they are
// asked for is what .gitmodules in that commit says, https and ssh only.
//
// # Signatures
//
// With signed-by, the tag that the ref names or the commit itself must carry a
// signature by one of those keys, OpenPGP or SSH (signature.go). It is checked
// when the commit is locked, and again once the files of signed-by no longer have
// the key that signed; a build goes by the digest.
package git

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source"
)

// Options say how this machine reaches repositories.
type Options struct {
	Key     func(path string) ([]byte, error) // reads a key file that signed-by names
	Scratch func() (dir string, done func(), err error)
}

// Kind implements source.Kind.
type Kind struct{ o Options }

// New returns how git inputs are locked on this machine.
func New(o Options) *Kind {
	if o.Scratch == nil {
		o.Scratch = func() (string, func(), error) {
			dir, err := os.MkdirTemp("", "quorate-git-")
			return dir, func() { _ = os.RemoveAll(dir) }, err
		}
	}
	return &Kind{o}
}

// Names of facts, as the lock has them.
const (
	factCommit   = "commit"
	factTree     = "tree"
	factTime     = "time"
	factTag      = "tag"
	factSigned   = "signed"
	factSignedBy = "signed-by"
)

// MovedError says that a commit cannot be had any more although it was locked.
type MovedError struct {
	URL, Ref string
	Want     string // commit
	Have     string // where the ref is now; "" when that cannot be told
}

func (e *MovedError) Error() string {
	s := fmt.Sprintf("commit %s is not in %s any more", e.Want, e.URL)
	if e.Have != "" {
		s += fmt.Sprintf("; %q is at %s now: its history was rewritten, or the repository replaced", e.Ref, e.Have)
	}
	return s
}

// Permanent says that asking again is useless.
func (e *MovedError) Permanent() bool { return true }

// Hint says what to do.
func (e *MovedError) Hint() string {
	return "ask whoever keeps the repository; to take what is there now, run: quorate lock"
}

// Resolve finds the commit that the ref names today.
func (k *Kind) Resolve(ctx context.Context, q source.Query) (*source.Answer, error) {
	rawURL, ref := q.Request.Ask["url"], q.Request.Ask["ref"]
	dir, done, err := k.o.Scratch()
	if err != nil {
		return nil, err
	}
	defer done()
	repo := &repository{dir: dir, url: rawURL, submodules: deep(q.Request)}
	at, err := repo.resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	if p := q.Previous; p != nil && p.Facts[factCommit] == at.commit && p.Facts[factTag] == at.tag {
		known, err := k.known(q)
		if err != nil {
			return nil, err
		}
		if known {
			return &source.Answer{Facts: p.Facts, Pins: q.Pins}, nil
		}
	}
	if err := repo.fetch(ctx, at); err != nil {
		return nil, err
	}
	if at.commit == "" || at.fullName == "" {
		if err := repo.identify(ctx, &at); err != nil {
			return nil, err
		}
	}
	return k.lock(ctx, q, repo, at)
}

// lock packs the commit into the store and describes it.
func (k *Kind) lock(ctx context.Context, q source.Query, repo *repository, at position) (*source.Answer, error) {
	w, err := q.Blobs.Create()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	packed, err := repo.pack(ctx, at.commit, w)
	if err != nil {
		return nil, err
	}
	facts := lockfile.Facts{
		factCommit: at.commit, factTree: packed.tree.Digest.Hex(),
		factTime: packed.commit.time.UTC().Format(time.RFC3339),
	}
	maps.Copy(facts, factsOf(packed.submodules))
	if at.tag != "" {
		facts[factTag] = at.tag
	}
	if keys := q.Request.Ask["signed-by"]; keys != "" {
		if err := k.verify(ctx, strings.Fields(keys), repo, at, packed.commit, facts); err != nil {
			return nil, err
		}
	}
	sum, size, err := w.Commit()
	if err != nil {
		return nil, err
	}
	name := repositoryName(q.Request.Ask["url"])
	pin := lockfile.Pin{Name: name, Version: at.commit, Size: size, SHA256: sum, Path: name + "/" + at.commit + ".tar", By: lockfile.ByRequest}
	return &source.Answer{Facts: facts, Pins: []lockfile.Pin{pin}}, nil
}

// repositoryName is the last part of a URL, "quorate" of ".../quorate.git".
func repositoryName(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "repository"
	}
	name := strings.TrimSuffix(path.Base(path.Clean(u.Path)), ".git")
	if name == "" || name == "." || name == "/" || strings.ContainsAny(name, "\\?#") {
		return "repository"
	}
	return name
}

// Open returns the repository as a place that has the commit's archive.
func (k *Kind) Open(in lockfile.InputRequest, pin lockfile.Pin) ([]fetch.Source, error) {
	if !isObjectID(pin.Version) {
		return nil, fmt.Errorf("pin %q has version %q, which is no commit", pin.Name, pin.Version)
	}
	return []fetch.Source{&place{k: k, url: in.Ask["url"], ref: in.Ask["ref"], commit: pin.Version, submodules: deep(in)}}, nil
}

// deep reports whether an input is to have the files of its submodules.
func deep(in lockfile.InputRequest) bool { return in.Ask["submodules"] == "true" }

// place is a commit of a repository as fetch wants it.
type place struct {
	k                *Kind
	url, ref, commit string
	submodules       bool
}

func (p *place) String() string { return redacted(p.url) }

// Host returns the host that is asked; "" for this machine.
func (p *place) Host() string {
	u, err := url.Parse(p.url)
	if err != nil {
		return ""
	}
	return u.Host
}

// Local reports whether no network is needed; submodules may lie anywhere.
func (p *place) Local() bool { return strings.HasPrefix(p.url, "file:") && !p.submodules }

// Open fetches the commit and packs it. All of it comes before the first byte
// is returned: a tree can only be written once it is whole.
func (p *place) Open(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
	dir, done, err := p.k.o.Scratch()
	if err != nil {
		return nil, 0, err
	}
	f, err := p.pack(ctx, dir)
	if err == nil {
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err != nil {
		if f != nil {
			_ = f.Close()
		}
		done()
		return nil, 0, err
	}
	return &packedFile{f, done}, offset, nil
}

func (p *place) pack(ctx context.Context, dir string) (*os.File, error) {
	repo := &repository{dir: dir, url: p.url, submodules: p.submodules}
	if err := repo.fetch(ctx, position{commit: p.commit, fullName: p.ref}); err != nil {
		if at, now := repo.resolve(ctx, p.ref); now == nil && at.commit != p.commit {
			return nil, &MovedError{URL: redacted(p.url), Ref: p.ref, Want: p.commit, Have: at.commit}
		}
		return nil, err
	}
	f, err := os.Create(dir + "/packed.tar")
	if err != nil {
		return nil, err
	}
	if _, err := repo.pack(ctx, p.commit, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

type packedFile struct {
	*os.File
	done func()
}

func (f *packedFile) Close() error {
	err := f.File.Close()
	f.done()
	return err
}

// redacted is a URL without its password.
func redacted(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "(not a URL)"
	}
	return u.Redacted()
}

// isObjectID accepts the full id of an object, of sha1 or sha256.
func isObjectID(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && (len(s) == 40 || len(s) == 64) && s == strings.ToLower(s)
}
