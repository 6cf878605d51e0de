package npm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source"
)

// What an input may ask for under signatures.
const (
	whenOffered = "" // the default: "when-offered"
	required    = "required"
	off         = "off"
)

// factKeys lists the keys that stand for the packages of an input: KEYID=SHA256,
// of the key's DER form, with a blank between them.
const factKeys = "keys"

// noteKind remembers signatures that held.
const noteKind = "npm-signature"

// SignatureError says that a registry does not stand for a package as
// package-lock.json has it.
type SignatureError struct {
	File          string
	Line          int
	Name, Version string
	Problem       string // goes on after the name
}

func (e *SignatureError) Error() string {
	return fmt.Sprintf("%s:%d: %s %s %s", e.File, e.Line, e.Name, e.Version, e.Problem)
}

// Hint says who can tell, and how to do without.
func (e *SignatureError) Hint() string {
	return "either somebody changed the package, or the registry does not sign all that it has; ask npm, too: npm audit signatures; to lock without them: signatures: off in the input"
}

// KeysError says that a registry's keys are not those that packages were locked with.
type KeysError struct{ Problem string }

func (e *KeysError) Error() string { return e.Problem }

// Hint says how to do without.
func (e *KeysError) Hint() string {
	return "lock where the registry's keys can be had, or name them in a file under signed-by; to lock without signatures: signatures: off in the input"
}

// checking is the signatures of one input as they are looked at.
type checking struct {
	s      *Source
	q      source.Query
	file   string            // package-lock.json
	own    keyring           // of signed-by; nil when registries' keys count
	locked map[string]string // fingerprints by key, of the lock before
	before map[[2]string]lockfile.Pin

	mu   sync.Mutex
	used map[string]string // fingerprints by key
	done int
}

// check verifies what registries sign, sets SignedBy of the pins, and returns
// the facts to lock. lines has the line of each pin in the file.
func (s *Source) check(ctx context.Context, q source.Query, file string, pins []lockfile.Pin, lines []int) (lockfile.Facts, error) {
	if q.Request.Ask["signatures"] == off {
		return nil, nil
	}
	c := &checking{s: s, q: q, file: file, locked: map[string]string{}, before: map[[2]string]lockfile.Pin{}, used: map[string]string{}}
	if err := c.readKeys(); err != nil {
		return nil, err
	}
	if q.Previous != nil {
		for word := range strings.FieldsSeq(q.Previous.Facts[factKeys]) {
			i := strings.LastIndexByte(word, '=')
			c.locked[word[:max(i, 0)]] = word[i+1:]
		}
	}
	for _, p := range q.Pins {
		c.before[[2]string{p.Path, p.Integrity}] = p
	}
	open := c.fresh(pins)
	if len(open) > 0 {
		if err := c.all(ctx, pins, lines, open); err != nil {
			return nil, err
		}
	}
	if len(c.used) == 0 {
		return nil, nil
	}
	var keys []string
	for _, id := range slices.Sorted(maps.Keys(c.used)) {
		keys = append(keys, id+"="+c.used[id])
	}
	return lockfile.Facts{factKeys: strings.Join(keys, " ")}, nil
}

// readKeys reads the files of signed-by.
func (c *checking) readKeys() error {
	for name := range strings.FieldsSeq(c.q.Request.Ask["signed-by"]) {
		text, err := c.s.key(name)
		if err != nil {
			return fmt.Errorf("signed-by: %w", err)
		}
		ring, err := parseKeys(text)
		switch {
		case err != nil:
			return fmt.Errorf("signed-by: %q: the keys cannot be read: %w", name, err)
		case len(ring) == 0:
			return fmt.Errorf("signed-by: %q: it holds no key of type %s; it is to be what a registry has at /-/npm/v1/keys", name, keyType)
		case c.own == nil:
			c.own = keyring{}
		}
		for id, k := range ring {
			if other, twice := c.own[id]; twice && other.fingerprint != k.fingerprint {
				return fmt.Errorf("signed-by: %q: its key %s is another one than that in a file before it", name, id)
			}
			c.own[id] = k
		}
	}
	return nil
}

// fresh takes over what was found of pins that are as they were, and returns the
// places of the others: none when nothing is new, so that nobody is asked. Once
// something is, those that nobody had signed are looked at again.
func (c *checking) fresh(pins []lockfile.Pin) []int {
	var unsigned, open []int
	for i := range pins {
		p := &pins[i]
		if !strings.HasPrefix(p.Path, p.Name+"/-/") {
			continue // it comes from a URL, for which no registry stands
		}
		was, same := c.before[[2]string{p.Path, p.Integrity}]
		switch {
		case same && was.SignedBy != "" && c.stillStand(was.SignedBy):
			p.SignedBy = was.SignedBy
			for id := range strings.FieldsSeq(was.SignedBy) {
				c.used[id] = c.locked[id]
			}
		case same && was.SignedBy == "" && c.own == nil && c.q.Request.Ask["signatures"] != required:
			unsigned = append(unsigned, i)
		default:
			open = append(open, i)
		}
	}
	if len(open) == 0 {
		return nil
	}
	open = append(open, unsigned...)
	slices.Sort(open)
	return open
}

// stillStand reports whether all keys are those of the lock before, and of signed-by.
func (c *checking) stillStand(ids string) bool {
	for id := range strings.FieldsSeq(ids) {
		if c.locked[id] == "" || c.own != nil && c.own[id].fingerprint != c.locked[id] {
			return false
		}
	}
	return true
}

// all asks for keys first, and then for the signatures of all pins whose
// registry has some, several at once. Every fault is told.
func (c *checking) all(ctx context.Context, pins []lockfile.Pin, lines, open []int) error {
	rings := map[string]keyring{}
	first := map[string]int{} // one package may be pinned for several platforms
	var wanted []int
	for _, i := range open {
		at := pins[i].Path + " " + pins[i].Integrity
		if _, ok := first[at]; ok {
			continue
		}
		registry, err := c.s.registryOf(pins[i])
		if err != nil {
			return err
		}
		ring, asked := rings[registry]
		if !asked {
			if ring, err = c.keysOf(ctx, registry); err != nil {
				return err
			}
			rings[registry] = ring
		}
		if len(ring) > 0 {
			first[at] = i
			wanted = append(wanted, i)
		}
	}
	errs := make([]error, len(pins))
	var g errgroup.Group
	g.SetLimit(8) // as many as are brought at once (source.Bring)
	for _, i := range wanted {
		g.Go(func() error {
			if ctx.Err() == nil {
				registry, _ := c.s.registryOf(pins[i]) // could be had above
				errs[i] = c.one(ctx, registry, rings[registry], &pins[i], lines[i])
				c.told(len(wanted))
			}
			return nil
		})
	}
	_ = g.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, i := range open {
		if f, ok := first[pins[i].Path+" "+pins[i].Integrity]; ok {
			pins[i].SignedBy = pins[f].SignedBy
		}
	}
	return errors.Join(errs...)
}

func (c *checking) told(total int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done++
	if c.q.Fetch.Events != nil {
		c.q.Fetch.Events(fetch.Event{Kind: source.Checked, Items: total, ItemsDone: c.done})
	}
}

// registryOf is the registry that stands for a pin: that of its scope, or that
// of its URL, or the default one.
func (s *Source) registryOf(p lockfile.Pin) (string, error) {
	if scope, _, ok := strings.Cut(p.Name, "/"); ok && s.config.Registries[scope] != "" {
		return s.config.Registries[scope], nil
	}
	if u, err := url.Parse(p.URL); err == nil && p.URL != "" && strings.HasSuffix(u.Path, "/"+p.Path) {
		return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimSuffix(u.Path, p.Path)}).String(), nil
	}
	return s.config.Registries.of(p.Name)
}

// keysOf returns the keys that count for a registry; none when it offers none
// and need not.
func (c *checking) keysOf(ctx context.Context, registry string) (keyring, error) {
	if c.own != nil {
		return c.own, nil
	}
	text, err := c.s.ask(ctx, registry, "/-/npm/v1/keys", c.q.Fetch)
	var denied *DeniedError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, c.without(registry, "")
	case errors.As(err, &denied): // it gave the tarballs; some registries say so of whatever they do not have
		return nil, c.without(registry, " ("+denied.Error()+")")
	case err != nil:
		return nil, fmt.Errorf("cannot ask the registry for its keys: %w", err)
	}
	ring, err := parseKeys(text)
	if err != nil {
		return nil, &KeysError{fmt.Sprintf("the keys of the registry %s cannot be read: %v", redacted(registry), err)}
	}
	if len(ring) == 0 {
		return nil, c.without(registry, "")
	}
	for _, id := range slices.Sorted(maps.Keys(ring)) {
		if was := c.locked[id]; was != "" && was != ring[id].fingerprint {
			return nil, &KeysError{fmt.Sprintf("the registry %s has another key %s (sha256 %s) than packages were locked with (%s): a new key has a new name, so somebody else may be answering", redacted(registry), id, ring[id].fingerprint, was)}
		}
	}
	return ring, nil
}

// without refuses a registry without keys where there have to be some: where
// they are asked for, or where there were some when the input was locked before.
func (c *checking) without(registry, why string) error {
	if c.q.Request.Ask["signatures"] == required {
		return &KeysError{fmt.Sprintf("the registry %s offers no keys%s, and the input has signatures: required", redacted(registry), why)}
	}
	for _, p := range c.q.Pins {
		if at, err := c.s.registryOf(p); err == nil && at == registry && p.SignedBy != "" {
			return &KeysError{fmt.Sprintf("the registry %s offers no keys%s, and %s %s was locked with a signature of %s: signatures would be lost", redacted(registry), why, p.Name, p.Version, p.SignedBy)}
		}
	}
	return nil
}

func redacted(registry string) string {
	u, err := url.Parse(registry)
	if err != nil {
		return "(not a URL)"
	}
	return u.Redacted()
}

// one checks one package.
func (c *checking) one(ctx context.Context, registry string, ring keyring, p *lockfile.Pin, line int) error {
	fault := func(format string, args ...any) error {
		return &SignatureError{c.file, line, p.Name, p.Version, fmt.Sprintf(format, args...)}
	}
	note := p.Name + "@" + p.Version + ":" + p.Integrity
	if by, ok := c.remembered(note, ring, p); ok {
		c.signed(p, ring, by)
		return nil
	}
	by, rel, err := c.verify(ctx, registry, ring, p)
	var cannot *askError
	switch {
	case errors.As(err, &cannot):
		return fmt.Errorf("%s:%d: cannot ask for the signature of %s %s: %w", c.file, line, p.Name, p.Version, cannot.err)
	case err != nil:
		return fault("%v", err)
	}
	c.signed(p, ring, by)
	text, err := json.Marshal(remembered{rel, rel.published})
	if err != nil {
		return err
	}
	return c.q.Blobs.PutNote(noteKind, note, text)
}

// askError is a failure to hear what the registry says, not of what it says.
type askError struct{ err error }

func (e *askError) Error() string { return e.err.Error() }

// verify asks for a version's signatures and holds them against the pin. The
// time of publishing is asked for only when a key has an end, since it stands
// in an answer that may have many MB.
func (c *checking) verify(ctx context.Context, registry string, ring keyring, p *lockfile.Pin) ([]string, *released, error) {
	rel, err := c.s.release(ctx, registry, p.Name, p.Version, c.q.Fetch)
	if err != nil {
		return nil, nil, asked(err)
	}
	by, err := judge(rel, ring, p, !rel.published.IsZero())
	if errors.Is(err, errExpired) {
		if rel, err = c.s.fullRelease(ctx, registry, p.Name, p.Version, c.q.Fetch); err != nil {
			return nil, nil, asked(err)
		}
		by, err = judge(rel, ring, p, true)
	}
	return by, rel, err
}

func asked(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("is not known to its registry, which therefore does not stand for it")
	}
	return &askError{err}
}

// judge holds what a registry says of a version against its pin.
func judge(rel *released, ring keyring, p *lockfile.Pin, timeKnown bool) ([]string, error) {
	switch {
	case !slices.Contains(strings.Fields(rel.Dist.Integrity), p.Integrity):
		have := rel.Dist.Integrity
		if have == "" {
			have = "nothing"
		}
		return nil, fmt.Errorf("is to be %s here, and its registry stands for %s", p.Integrity, have)
	case len(rel.Dist.Signatures) == 0:
		return nil, fmt.Errorf("has no signature in its registry; expected one of %s", ring.ids())
	}
	return ring.verify(rel, timeKnown)
}

func (c *checking) signed(p *lockfile.Pin, ring keyring, by []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.SignedBy = strings.Join(by, " ")
	for _, id := range by {
		c.used[id] = ring[id].fingerprint
	}
}

type remembered struct {
	Release   *released `json:"release"`
	Published time.Time `json:"published"`
}

// remembered judges again what held once, without asking.
func (c *checking) remembered(note string, ring keyring, p *lockfile.Pin) ([]string, bool) {
	text, ok := c.q.Blobs.Note(noteKind, note)
	var r remembered
	if !ok || json.Unmarshal(text, &r) != nil || r.Release == nil || r.Release.Name != p.Name || r.Release.Version != p.Version {
		return nil, false
	}
	r.Release.published = r.Published
	by, err := judge(r.Release, ring, p, !r.Published.IsZero())
	return by, err == nil
}
