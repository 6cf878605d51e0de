package registry

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"quorate.dev/builder/image"
	"quorate.dev/lockfile/digest"
)

// refName is the annotation by which an index.json names what it lists
// (image-spec, annotations.md).
const refName = "org.opencontainers.image.ref.name"

// Limits of what a layout may make us read. Every known tool writes two levels
// of indexes, one for each image and one for each list.
const (
	nestedMost  = 4
	indexesMost = 4096
	readMost    = 256 << 20 // bytes of documents
)

// contents is what the index.json of a layout leads to.
type contents struct {
	dir     string
	raw     []byte
	index   layoutIndex
	entries []entry                           // of index.json, in order
	known   map[digest.Digest]Descriptor      // every manifest and index
	below   map[digest.Digest][]digest.Digest // what each index names
	lost    map[digest.Digest]bool            // indexes that are not there
	read    int                               // bytes
	said    *about                            // once it was asked for
}

// layoutIndex is an index.json, whose entries keep their bytes.
type layoutIndex struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	Manifests     []json.RawMessage `json:"manifests"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// entry is one of index.json's.
type entry struct {
	raw  json.RawMessage
	desc Descriptor
	ok   bool   // it is a manifest or an index of a kind that is read
	name string // refName
}

func parseEntry(raw json.RawMessage) (entry, error) {
	var kind struct {
		MediaType   string            `json:"mediaType"`
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return entry{}, err
	}
	e := entry{raw: raw, name: kind.Annotations[refName]}
	if !slices.Contains(manifestTypes, kind.MediaType) {
		return e, nil // of somebody else's
	}
	var d v1.Descriptor
	err := json.Unmarshal(raw, &d)
	if err == nil {
		e.desc, err = describe(d)
	}
	e.ok = err == nil
	return e, err
}

func (d Descriptor) isIndex() bool {
	return d.MediaType == manifestTypes[1] || d.MediaType == manifestTypes[3]
}

// readContents follows an index.json down its indexes.
func readContents(l *layoutDir, raw []byte) (*contents, error) {
	c := &contents{
		dir: l.dir, raw: raw, known: map[digest.Digest]Descriptor{}, below: map[digest.Digest][]digest.Digest{}, lost: map[digest.Digest]bool{},
	}
	bad := func(err error) error {
		return &LayoutError{Dir: l.dir, Reason: fmt.Sprintf("has an index that cannot be read: %v", err)}
	}
	if err := json.Unmarshal(raw, &c.index); err != nil {
		return nil, bad(err)
	}
	var todo []Descriptor
	for _, one := range c.index.Manifests {
		e, err := parseEntry(one)
		if err != nil {
			return nil, bad(err)
		}
		c.entries = append(c.entries, e)
		if e.ok {
			todo = append(todo, e.desc)
		}
	}
	for depth := 1; len(todo) > 0; depth++ {
		if depth > nestedMost {
			return nil, &LayoutError{Dir: l.dir, Reason: fmt.Sprintf("has indexes more than %d deep", nestedMost)}
		}
		var next []Descriptor
		for _, d := range todo {
			children, err := c.meet(l, d)
			if err != nil {
				return nil, err
			}
			next = append(next, children...)
		}
		todo = next
	}
	return c, nil
}

// meet notes a manifest or an index, and returns what an index names that was
// not met before.
func (c *contents) meet(l *layoutDir, d Descriptor) ([]Descriptor, error) {
	d.Annotations, d.ArtifactType = nil, ""
	if was, ok := c.known[d.Digest]; ok {
		if was.MediaType != d.MediaType || was.Size != d.Size {
			return nil, &LayoutError{Dir: l.dir, Reason: fmt.Sprintf("lists %s as two things: %q of %d bytes and %q of %d", d.Digest, was.MediaType, was.Size, d.MediaType, d.Size)}
		}
		return nil, nil
	}
	c.known[d.Digest] = d
	if len(c.known) > referrersMax+imagesMax {
		return nil, &limitError{fmt.Sprintf("%q lists more than %d manifests", l.dir, referrersMax+imagesMax)}
	}
	if !d.isIndex() {
		return nil, nil
	}
	raw, err := c.document(l, d)
	if kindOf(err) == NotFound { // a layout may lack blobs (image-spec, image-layout.md)
		c.lost[d.Digest] = true
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", d.Digest, err)
	}
	if err := agreesWith(d, raw); err != nil {
		return nil, err
	}
	parsed, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("index %s cannot be read: %w", d.Digest, err)
	}
	if len(c.below)+1 > indexesMost {
		return nil, &limitError{fmt.Sprintf("%q has more than %d indexes", l.dir, indexesMost)}
	}
	c.below[d.Digest] = nil
	var children []Descriptor
	for _, m := range parsed.Manifests {
		if !slices.Contains(manifestTypes, string(m.MediaType)) {
			continue
		}
		child, err := describe(m)
		if err != nil {
			return nil, fmt.Errorf("index %s: %w", d.Digest, err)
		}
		c.below[d.Digest] = append(c.below[d.Digest], child.Digest)
		children = append(children, child)
	}
	return children, nil
}

// document reads one, within what is read of a layout.
func (c *contents) document(l *layoutDir, d Descriptor) ([]byte, error) {
	raw, err := l.blobDocument(d)
	if c.read += len(raw); c.read > readMost {
		return nil, &limitError{fmt.Sprintf("%q has more than %d bytes of manifests", l.dir, readMost)}
	}
	return raw, err
}

// tagged finds what a tag names: the entry of that name, or else of a whole
// reference with that tag, as crane pull --annotate-ref writes it.
func (c *contents) tagged(tag string) (digest.Digest, error) {
	var exact, whole []digest.Digest
	for _, e := range c.entries {
		switch {
		case !e.ok:
		case e.name == tag:
			exact = append(exact, e.desc.Digest)
		case strings.HasSuffix(e.name, ":"+tag) && strings.Contains(e.name, "/"):
			whole = append(whole, e.desc.Digest)
		}
	}
	if len(exact) == 0 {
		exact = whole
	}
	exact = distinct(exact)
	switch len(exact) {
	case 1:
		return exact[0], nil
	case 0:
		return digest.Digest{}, &LayoutError{Dir: c.dir, Reason: fmt.Sprintf("has nothing tagged %q", tag), Kind: NotFound}
	}
	return digest.Digest{}, &LayoutError{Dir: c.dir, Reason: fmt.Sprintf("gives the tag %q to %d images", tag, len(exact))}
}

func distinct(all []digest.Digest) []digest.Digest {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b digest.Digest) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(all)
}

// about is what manifests say of themselves.
type about struct {
	referrers map[digest.Digest][]Descriptor // by subject
	refers    map[digest.Digest]bool         // it has a subject
	image     map[digest.Digest]bool         // it is an image
	unread    []unread                       // in index.json or below
}

// unread is a manifest that is listed and cannot be read, and why.
type unread struct {
	Descriptor
	err error
}

// imageConfigs are the media types of the configurations of images.
var imageConfigs = []string{image.ConfigMediaType, "application/vnd.docker.container.image.v1+json"}

// about reads every manifest, once. It is not for several goroutines.
func (c *contents) about(ctx context.Context, l *layoutDir) (*about, error) {
	if c.said != nil {
		return c.said, nil
	}
	a := &about{referrers: map[digest.Digest][]Descriptor{}, refers: map[digest.Digest]bool{}, image: map[digest.Digest]bool{}}
	for _, d := range c.sorted() {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if c.lost[d.Digest] {
			continue
		}
		raw, err := c.document(l, d)
		if kind := kindOf(err); kind == NotFound || kind == Changed {
			a.unread = append(a.unread, unread{d, err})
			continue
		}
		if err != nil {
			return nil, err
		}
		m, err := readSelf(raw)
		if err != nil {
			a.unread = append(a.unread, unread{d, err})
			continue
		}
		a.image[d.Digest] = slices.Contains(imageConfigs, m.Config.MediaType)
		if m.subject.IsZero() {
			continue
		}
		a.refers[d.Digest] = true
		a.referrers[m.subject] = append(a.referrers[m.subject], m.describe(d))
	}
	if len(a.unread) == 0 { // what is missing may be brought, and index.json stays as it is
		c.said = a
	}
	return a, nil
}

func (c *contents) sorted() []Descriptor {
	var all []Descriptor
	for _, d := range c.known {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b Descriptor) int { return bytes.Compare(a.Digest[:], b.Digest[:]) })
	return all
}

// self is what a manifest says of itself.
type self struct {
	ArtifactType string `json:"artifactType"`
	Config       struct {
		MediaType string `json:"mediaType"`
	} `json:"config"`
	Subject *struct {
		Digest string `json:"digest"`
	} `json:"subject"`
	Annotations map[string]string `json:"annotations"`
	Manifests   []struct {
		Digest string `json:"digest"`
	} `json:"manifests"`

	subject digest.Digest
}

func readSelf(raw []byte) (*self, error) {
	var m self
	err := json.Unmarshal(raw, &m)
	if err == nil && m.Subject != nil {
		m.subject, err = digest.Parse(m.Subject.Digest)
	}
	return &m, err
}

// describe is how a list of referrers tells it (distribution-spec, "Listing Referrers").
func (m *self) describe(d Descriptor) Descriptor {
	d.ArtifactType = cmp.Or(m.ArtifactType, m.Config.MediaType)
	d.Annotations = nil
	for name, text := range m.Annotations {
		if name == refName {
			continue // in an index it would be a tag
		}
		if d.Annotations == nil {
			d.Annotations = map[string]string{}
		}
		d.Annotations[name] = text
	}
	return d
}

// tops lists what index.json has of images, or of artifacts, that refer to
// nothing and that no other of them contains.
func (c *contents) tops(a *about, artifact bool) []digest.Digest {
	var all []digest.Digest
	inside := map[digest.Digest]bool{}
	for _, e := range c.entries {
		if !e.ok || a.refers[e.desc.Digest] || isListName(e.name) {
			continue
		}
		d := e.desc.Digest
		switch {
		case !e.desc.isIndex() && a.image[d] == artifact, !e.desc.isIndex() && slices.ContainsFunc(a.unread, func(u unread) bool { return u.Digest == d }):
			continue
		case e.desc.isIndex() && (artifact || !c.hasImage(a, d, 1)):
			continue
		}
		all = append(all, d)
		for _, child := range c.allBelow(d, 1) {
			inside[child] = true
		}
	}
	return slices.DeleteFunc(distinct(all), func(d digest.Digest) bool { return inside[d] })
}

func (c *contents) allBelow(d digest.Digest, depth int) []digest.Digest {
	if depth > nestedMost {
		return nil
	}
	all := slices.Clone(c.below[d])
	for _, child := range c.below[d] {
		all = append(all, c.allBelow(child, depth+1)...)
	}
	return all
}

func (c *contents) hasImage(a *about, d digest.Digest, depth int) bool {
	return slices.ContainsFunc(c.allBelow(d, depth), func(child digest.Digest) bool { return a.image[child] })
}

// isListName reports whether a tag is one of those that stand beside images: of
// a list of referrers, sha256-HEX, or of signatures, sha256-HEX.sig.
func isListName(name string) bool {
	hex, ok := strings.CutPrefix(name[strings.LastIndexByte(name, ':')+1:], "sha256-")
	if !ok {
		return false
	}
	hex, _, _ = strings.Cut(hex, ".")
	_, err := digest.ParseHex(hex)
	return err == nil
}

// nameOf is how to ask for what index.json lists.
func (c *contents) nameOf(ref Reference, d digest.Digest) string {
	for _, e := range c.entries {
		if e.ok && e.desc.Digest == d && isTag(e.name) {
			return ref.WithTag(e.name).String()
		}
	}
	return ref.At(d).String()
}

// edit is a change of a layout's index while that goes on.
type edit struct {
	*contents
	dir     *layoutDir
	lists   map[digest.Digest]*list // by subject
	changed bool
	dropped []digest.Digest // lists that newer ones replace
}

// add lists a manifest whose blob is there.
func (e *edit) add(m rawManifest, tag string) error {
	d := Descriptor{MediaType: m.mediaType, Digest: digest.Of(m.bytes), Size: int64(len(m.bytes))}
	said, err := readSelf(m.bytes)
	if err != nil {
		return err
	}
	if was, ok := e.known[d.Digest]; ok && was.MediaType != d.MediaType {
		return &LayoutError{Dir: e.dir.dir, Reason: fmt.Sprintf("lists %s as %q, and it is %q", d.Digest, was.MediaType, d.MediaType)}
	}
	shown := d
	if !d.isIndex() && !slices.Contains(imageConfigs, said.Config.MediaType) {
		shown = said.describe(d)
	}
	listed := slices.ContainsFunc(e.entries, func(one entry) bool { return one.ok && one.desc.Digest == d.Digest })
	_, inside := e.known[d.Digest]
	switch {
	case tag != "":
		err = e.tag(shown, tag)
	case !listed && (!inside || !said.subject.IsZero()):
		err = e.append(shown, "")
	}
	if err != nil {
		return err
	}
	e.known[d.Digest] = d
	for _, child := range said.Manifests {
		if sum, err := digest.Parse(child.Digest); err == nil {
			e.unlist(sum)
		}
	}
	if said.subject.IsZero() {
		return nil
	}
	return e.refer(said.subject, shown)
}

func (e *edit) append(d Descriptor, name string) error {
	one, err := newEntry(d, name)
	if err == nil {
		e.entries, e.changed = append(e.entries, one), true
	}
	return err
}

func newEntry(d Descriptor, name string) (entry, error) {
	if name != "" {
		notes := map[string]string{refName: name}
		maps.Copy(notes, d.Annotations)
		d.Annotations = notes
	}
	raw, err := json.Marshal(d)
	return entry{raw: raw, desc: d, ok: true, name: name}, err
}

// rename gives an entry a name, or takes it for "", and keeps all else of it.
func rename(raw json.RawMessage, name string) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	var notes struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := errors.Join(json.Unmarshal(raw, &fields), json.Unmarshal(raw, &notes)); err != nil {
		return nil, err
	}
	if notes.Annotations == nil {
		notes.Annotations = map[string]string{}
	}
	delete(notes.Annotations, refName)
	if name != "" {
		notes.Annotations[refName] = name
	}
	delete(fields, "annotations")
	if len(notes.Annotations) > 0 {
		b, err := json.Marshal(notes.Annotations)
		if err != nil {
			return nil, err
		}
		fields["annotations"] = b
	}
	return json.Marshal(fields)
}

// tag makes a tag name one manifest and nothing else. As in a registry, what
// the tag leaves stays there by its digest; what is listed twice goes.
func (e *edit) tag(d Descriptor, name string) error {
	var kept []entry
	named := false
	for i, one := range e.entries {
		same := one.ok && one.desc.Digest == d.Digest
		switch {
		case one.name != name:
			kept = append(kept, one)
		case same && !named:
			kept, named = append(kept, one), true
		default:
			e.changed = true
			if !one.ok || same || slices.ContainsFunc(slices.Concat(kept, e.entries[i+1:]), func(other entry) bool { return other.ok && other.desc.Digest == one.desc.Digest }) {
				continue
			}
			var err error
			if one.raw, err = rename(one.raw, ""); err != nil {
				return err
			}
			one.name = ""
			kept = append(kept, one)
		}
	}
	e.entries = kept
	if named {
		return nil
	}
	bare := slices.IndexFunc(e.entries, func(one entry) bool { return one.ok && one.name == "" && one.desc.Digest == d.Digest })
	if bare < 0 {
		return e.append(d, name)
	}
	fresh, err := newEntry(d, name)
	if err != nil {
		return err
	}
	if ours, err := newEntry(d, ""); err != nil || !bytes.Equal(ours.raw, e.entries[bare].raw) {
		if fresh.raw, err = rename(e.entries[bare].raw, name); err != nil {
			return err
		}
	}
	e.entries[bare], e.changed = fresh, true
	return nil
}

// unlist takes a manifest without a name from index.json, for an index that is
// listed contains it.
func (e *edit) unlist(d digest.Digest) {
	n := len(e.entries)
	e.entries = slices.DeleteFunc(e.entries, func(one entry) bool { return one.ok && one.name == "" && one.desc.Digest == d })
	e.changed = e.changed || len(e.entries) != n
}

// list is what refers to one subject, as the tag sha256-HEX has it.
type list struct {
	layoutIndex
	has     map[string]bool // digests
	changed bool
}

// refer adds a referrer to its subject's list.
func (e *edit) refer(subject digest.Digest, d Descriptor) error {
	l, ok := e.lists[subject]
	if !ok {
		var err error
		if l, err = e.list(subject); err != nil {
			return err
		}
		e.lists[subject] = l
	}
	if l == nil || l.has[d.Digest.String()] {
		return nil
	}
	one, err := json.Marshal(d)
	l.Manifests, l.has[d.Digest.String()], l.changed = append(l.Manifests, one), true, true
	return err
}

// list reads a list, empty where there is none; it is nil where something else
// has its name, an old signature of somebody's.
func (e *edit) list(subject digest.Digest) (*list, error) {
	fresh := &list{layoutIndex: layoutIndex{SchemaVersion: 2, MediaType: image.IndexMediaType}, has: map[string]bool{}}
	at := e.named(fallbackTag(subject))
	if at < 0 {
		return fresh, nil
	}
	was := e.entries[at]
	if !was.ok || was.desc.MediaType != image.IndexMediaType {
		return nil, nil
	}
	raw, err := e.dir.blobDocument(was.desc)
	if kindOf(err) == NotFound {
		return fresh, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &fresh.layoutIndex)
	}
	if err != nil {
		return nil, fmt.Errorf("the list of what refers to %s cannot be read: %w", subject, err)
	}
	for _, one := range fresh.Manifests {
		var there struct{ Digest string }
		if json.Unmarshal(one, &there) == nil {
			fresh.has[there.Digest] = true
		}
	}
	return fresh, nil
}

func (e *edit) named(name string) int {
	return slices.IndexFunc(e.entries, func(one entry) bool { return one.name == name })
}

// writeLists writes the lists that grew.
func (e *edit) writeLists() error {
	for _, subject := range slices.SortedFunc(maps.Keys(e.lists), func(a, b digest.Digest) int { return bytes.Compare(a[:], b[:]) }) {
		l := e.lists[subject]
		if l == nil || !l.changed {
			continue
		}
		raw, err := json.Marshal(l.layoutIndex)
		if err != nil {
			return err
		}
		if len(raw) > manifestMax {
			return &limitError{fmt.Sprintf("the list of what refers to %s would have %d bytes; at most %d are read", subject, len(raw), manifestMax)}
		}
		d := Descriptor{MediaType: image.IndexMediaType, Digest: digest.Of(raw), Size: int64(len(raw))}
		if err := e.dir.replace(blobName(d.Digest), bytes.NewReader(raw)); err != nil {
			return err
		}
		fresh, err := newEntry(d, fallbackTag(subject))
		if err != nil {
			return err
		}
		e.changed = true
		if at := e.named(fresh.name); at >= 0 {
			e.dropped = append(e.dropped, e.entries[at].desc.Digest)
			e.entries[at] = fresh
		} else {
			e.entries = append(e.entries, fresh)
		}
	}
	return nil
}

// finish writes the index, if it changed, and keeps of what was dropped what
// something else still names.
func (e *edit) finish() error {
	if err := e.writeLists(); err != nil {
		return err
	}
	if !e.changed {
		e.dropped = nil
		return nil
	}
	used := map[digest.Digest]bool{}
	for _, one := range e.entries {
		used[one.desc.Digest] = true
	}
	for _, children := range e.below {
		for _, d := range children {
			used[d] = true
		}
	}
	e.dropped = slices.DeleteFunc(e.dropped, func(d digest.Digest) bool { return used[d] })
	fresh := e.index
	fresh.Manifests = []json.RawMessage{}
	for _, one := range e.entries {
		fresh.Manifests = append(fresh.Manifests, one.raw)
	}
	raw, err := json.Marshal(fresh)
	if err != nil {
		return err
	}
	return e.dir.writeIndex(raw)
}
