package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"quorate.dev/builder/image"
	"quorate.dev/lockfile/digest"
)

// folder is the keeper of what lies in an image layout.
type folder struct {
	dir string

	mu   sync.Mutex
	seen *contents // as of the last look; good for as long as index.json has the same bytes
}

// look reads what the layout holds now, as far as that is not known.
func (f *folder) look() (*contents, *layoutDir, error) {
	l, err := openLayoutDir(f.dir)
	if err != nil {
		return nil, nil, err
	}
	c, err := f.lookIn(l)
	if err != nil {
		l.Close()
		return nil, nil, err
	}
	return c, l, nil
}

// looks is how often a layout is read anew that others write to meanwhile.
const looks = 5

func (f *folder) lookIn(l *layoutDir) (*contents, error) {
	if err := l.checkVersion(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for try := 1; ; try++ {
		raw, err := l.document(indexFile)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, notLayout(l.dir)
		}
		if err != nil {
			return nil, err
		}
		if f.seen != nil && bytes.Equal(f.seen.raw, raw) {
			return f.seen, nil
		}
		c, err := readContents(l, raw)
		if err != nil {
			return nil, err
		}
		if len(c.lost) > 0 && try < looks { // a list that was replaced meanwhile, maybe
			if again, err := l.document(indexFile); err == nil && !bytes.Equal(again, raw) {
				continue
			}
		}
		f.seen = c
		return c, nil
	}
}

func (f *folder) about(ctx context.Context, c *contents, l *layoutDir) (*about, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return c.about(ctx, l)
}

func (f *folder) manifest(_ context.Context, ref Reference) (*Manifest, error) {
	if ref.identifier() == "" {
		return nil, errNoName
	}
	c, l, err := f.look()
	if err != nil {
		return nil, err
	}
	defer l.Close()
	want := ref.digest
	if want.IsZero() {
		if want, err = c.tagged(ref.tag); err != nil {
			return nil, err
		}
	}
	d, ok := c.known[want]
	if !ok {
		return nil, &LayoutError{Dir: f.dir, Reason: "has no image " + want.String(), Kind: NotFound}
	}
	raw, err := l.blobDocument(d)
	if err != nil {
		return nil, err
	}
	if err := agreesWith(d, raw); err != nil {
		return nil, err
	}
	return &Manifest{Descriptor: Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}, Bytes: raw}, nil
}

func (f *folder) blob(ctx context.Context, ref Reference, d digest.Digest, size int64) (io.ReadCloser, error) {
	action := "pull blob " + d.String() + " of"
	l, err := openLayoutDir(f.dir)
	if err != nil {
		return nil, fault(action, ref, err)
	}
	defer l.Close() // files that are open stay so
	r, err := l.openBlob(ctx, d, size)
	if err != nil {
		return nil, fault(action, ref, err)
	}
	return readCloser{faulty{r, action, ref}, r}, nil
}

// faulty is a reader whose errors name what is read.
type faulty struct {
	r      io.Reader
	action string
	ref    Reference
}

func (r faulty) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		err = fault(r.action, r.ref, err)
	}
	return n, err
}

// referrers lists manifests with the subject, and those that cannot be read:
// what they refer to is not known, and whoever asks has to hear of them. A folder
// that is no layout yet has none, like a repository that nobody pushed to.
func (f *folder) referrers(ctx context.Context, _ Reference, d digest.Digest) ([]Descriptor, error) {
	c, l, err := f.look()
	if kindOf(err) == NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer l.Close()
	about, err := f.about(ctx, c, l)
	if err != nil {
		return nil, err
	}
	if list, err := c.tagged(fallbackTag(d)); err == nil && c.lost[list] {
		return nil, fmt.Errorf("the list of what refers to it cannot be read: %w", l.lacks(list))
	}
	all := slices.Clone(about.referrers[d])
	for _, one := range about.unread {
		if one.Digest != d {
			all = append(all, one.Descriptor)
		}
	}
	if len(all) > referrersMax {
		return nil, &limitError{fmt.Sprintf("more than %d artifacts refer to it", referrersMax)}
	}
	return all, nil
}

func (f *folder) upload(ctx context.Context, _ Reference, b *content) error {
	l, err := makeLayoutDir(f.dir)
	if err != nil {
		return err
	}
	defer l.Close()
	return l.fill(ctx, b)
}

func (f *folder) accepts(context.Context, Reference) error {
	l, err := openLayoutDir(f.dir)
	switch {
	case kindOf(err) == NotFound:
		return probe(f.dir)
	case err != nil:
		return err
	}
	defer l.Close()
	if _, err := l.Lstat(versionFile); err == nil {
		err = l.checkVersion()
		if err != nil {
			return err
		}
	} else if err := l.holdsNothingElse(); err != nil {
		return err
	}
	return probe(f.dir)
}

// sole finds the one image, or artifact, that nothing else of the layout contains.
func (f *folder) sole(ctx context.Context, ref Reference, artifact bool) (digest.Digest, error) {
	c, l, err := f.look()
	if err != nil {
		return digest.Digest{}, err
	}
	defer l.Close()
	about, err := f.about(ctx, c, l)
	if err != nil {
		return digest.Digest{}, err
	}
	what := "image"
	if artifact {
		what = "artifact"
	}
	tops := c.tops(about, artifact)
	switch {
	case len(tops) == 1:
		return tops[0], nil
	case len(tops) == 0 && len(about.unread) > 0:
		return digest.Digest{}, fmt.Errorf("%q has no %s that can be read: %s: %w", f.dir, what, about.unread[0].Digest, about.unread[0].err)
	case len(tops) == 0:
		return digest.Digest{}, &LayoutError{Dir: f.dir, Reason: "has no " + what, Kind: NotFound}
	}
	var names []string
	for _, d := range tops {
		names = append(names, c.nameOf(ref, d))
	}
	const shown = 5
	if len(names) > shown {
		names = append(names[:shown], "…")
	}
	return digest.Digest{}, &LayoutError{Dir: f.dir, Reason: fmt.Sprintf("has %d %ss; name one: %s", len(tops), what, strings.Join(names, ", "))}
}

// put lists manifests in index.json: under a tag, or by themselves unless
// something else that is listed contains them.
func (f *folder) put(ctx context.Context, ref Reference, documents ...rawManifest) error {
	l, err := makeLayoutDir(f.dir)
	if err != nil {
		return err
	}
	defer l.Close()
	for _, m := range documents {
		if err := l.replace(blobName(digest.Of(m.bytes)), bytes.NewReader(m.bytes)); err != nil {
			return err
		}
	}
	tag := ""
	if ref.digest.IsZero() {
		tag = ref.tag
	}
	return f.change(ctx, l, func(e *edit) error {
		for _, m := range documents {
			if err := e.add(m, tag); err != nil {
				return err
			}
		}
		return nil
	})
}

// change changes the index while no other process does.
func (f *folder) change(ctx context.Context, l *layoutDir, do func(*edit) error) error {
	turn, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer turn.Close()
	l.sweep()
	raw, err := l.document(indexFile)
	if errors.Is(err, fs.ErrNotExist) {
		raw, err = []byte(`{"schemaVersion":2,"mediaType":"`+image.IndexMediaType+`","manifests":[]}`), nil
	}
	if err != nil {
		return err
	}
	e := &edit{dir: l, lists: map[digest.Digest]*list{}}
	if e.contents, err = readContents(l, raw); err != nil {
		return err
	}
	if err := do(e); err != nil {
		return err
	}
	if err := e.finish(); err != nil {
		return err
	}
	for _, d := range e.dropped {
		if err := l.Remove(blobName(d)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// agreesWith refuses a manifest that says that it is something else than it is
// listed as: whoever reads it by its own word would see another image.
func agreesWith(d Descriptor, raw []byte) error {
	var m struct {
		MediaType string            `json:"mediaType"`
		Config    json.RawMessage   `json:"config"`
		Manifests []json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("manifest %s cannot be read: %w", d.Digest, err)
	}
	if m.MediaType != "" && m.MediaType != d.MediaType || m.Config != nil && m.Manifests != nil {
		return fmt.Errorf("manifest %s is listed as %q and says that it is %.64q", d.Digest, d.MediaType, m.MediaType)
	}
	return nil
}
