package npm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	"quorate.dev/lockfile/npmkey"
	"quorate.dev/lockfile/source"
)

// What an input may ask for under signatures.
const (
	whenOffered = "" // the default: "when-offered"
	required    = "required"
	off         = "off"
)

// factKeys lists the keys that stand for the packages of an input (npmkey.Format).
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
	file   string      // package-lock.json
	own    npmkey.Ring // of signed-by; nil when registries' keys count
	locked npmkey.Ring // of the lock before
	before map[[2]string]lockfile.Pin

	mu   sync.Mutex
	used npmkey.Ring // that stand for a pin
	done int
}

// check verifies what registries sign, sets Signatures of the pins, and returns
// the facts to lock. lines has the line of each pin in the file.
func (s *Source) check(ctx context.Context, q source.Query, file string, pins []lockfile.Pin, lines []int) (lockfile.Facts, error) {
	if q.Request.Ask["signatures"] == off {
		return nil, nil
	}
	c := &checking{s: s, q: q, file: file, before: map[[2]string]lockfile.Pin{}, used: npmkey.Ring{}}
	if err := c.readKeys(); err != nil {
		return nil, err
	}
	if q.Previous != nil {
		var err error
		if c.locked, err = npmkey.ParseFact(q.Previous.Facts[factKeys]); err != nil {
			return nil, err
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
	return lockfile.Facts{factKeys: npmkey.Format(c.used)}, nil
}

// readKeys reads the files of signed-by.
func (c *checking) readKeys() error {
	for name := range strings.FieldsSeq(c.q.Request.Ask["signed-by"]) {
		text, err := c.s.key(name)
		if err != nil {
			return fmt.Errorf("signed-by: %w", err)
		}
		ring, err := npmkey.Parse(text)
		switch {
		case err != nil:
			return fmt.Errorf("signed-by: %q: the keys cannot be read: %w", name, err)
		case len(ring) == 0:
			return fmt.Errorf("signed-by: %q: it holds no key of type %s; it is to be what a registry has at /-/npm/v1/keys", name, npmkey.Type)
		case c.own == nil:
			c.own = npmkey.Ring{}
		}
		for id, k := range ring {
			if other, twice := c.own[id]; twice && !other.Same(k) {
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
		case same && was.Signatures != "" && c.stillStand(was):
			p.Signatures = was.Signatures
		case same && was.Signatures == "" && c.own == nil && c.q.Request.Ask["signatures"] != required:
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

// stillStand judges the signatures of a lock again: its own lines prove nothing.
func (c *checking) stillStand(was lockfile.Pin) bool {
	ids, err := c.locked.VerifyPin(was.Name, was.Version, was.Integrity, was.Signatures)
	for _, id := range ids {
		if c.own != nil && !c.own[id].Same(c.locked[id]) {
			return false
		}
	}
	if err == nil {
		c.use(c.locked, ids)
	}
	return err == nil
}

func (c *checking) use(ring npmkey.Ring, ids []string) {
	for _, id := range ids {
		k := ring[id]
		k.Expires = time.Time{} // the lock has none
		c.used[id] = k
	}
}

// all asks for keys first, and then for the signatures of all pins whose
// registry has some, several at once. Every fault is told.
func (c *checking) all(ctx context.Context, pins []lockfile.Pin, lines, open []int) error {
	rings := map[string]npmkey.Ring{}
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
	var vain fetch.Vain
	var g errgroup.Group
	g.SetLimit(8) // as many as are brought at once (source.Bring)
	for _, i := range wanted {
		g.Go(func() error {
			if ctx.Err() == nil {
				if errs[i] = vain.Skip("the signature of " + pins[i].Name + " " + pins[i].Version); errs[i] == nil {
					registry, _ := c.s.registryOf(pins[i]) // could be had above
					errs[i] = c.one(ctx, registry, rings[registry], &pins[i], lines[i])
					var verdict *SignatureError
					if errors.As(errs[i], &verdict) { // it answered, whatever it said
						vain.Note(nil)
					} else {
						vain.Note(errs[i])
					}
				}
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
			pins[i].Signatures = pins[f].Signatures
		}
	}
	return source.Several(errs, len(wanted))
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
	return s.config.registry(p.Name)
}

// keysOf returns the keys that count for a registry; none when it offers none
// and need not.
func (c *checking) keysOf(ctx context.Context, registry string) (npmkey.Ring, error) {
	if c.own != nil {
		return c.own, nil
	}
	text, err := ask(ctx, c.s, registry, "/-/npm/v1/keys", maxKeysFile, c.q.Fetch, io.ReadAll)
	var denied *DeniedError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, c.without(registry, "")
	case errors.As(err, &denied): // it gave the tarballs; some registries say so of whatever they do not have
		return nil, c.without(registry, " ("+denied.Error()+")")
	case err != nil:
		return nil, fmt.Errorf("cannot ask the registry for its keys: %w", err)
	}
	ring, err := npmkey.Parse(text)
	if err != nil {
		return nil, &KeysError{fmt.Sprintf("the keys of the registry %s cannot be read: %v", redacted(registry), err)}
	}
	if len(ring) == 0 {
		return nil, c.without(registry, "")
	}
	for _, id := range slices.Sorted(maps.Keys(ring)) {
		if was, ok := c.locked[id]; ok && !was.Same(ring[id]) {
			return nil, &KeysError{fmt.Sprintf("the registry %s has another key %s (sha256 %s) than packages were locked with (%s): a new key has a new name, so somebody else may be answering", redacted(registry), id, ring[id].Fingerprint(), was.Fingerprint())}
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
		if at, err := c.s.registryOf(p); err == nil && at == registry && p.Signatures != "" {
			return &KeysError{fmt.Sprintf("the registry %s offers no keys%s, and %s %s was locked with a signature: signatures would be lost", redacted(registry), why, p.Name, p.Version)}
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
func (c *checking) one(ctx context.Context, registry string, ring npmkey.Ring, p *lockfile.Pin, line int) error {
	fault := func(format string, args ...any) error {
		return &SignatureError{c.file, line, p.Name, p.Version, fmt.Sprintf(format, args...)}
	}
	note := p.Name + "@" + p.Version + ":" + p.Integrity
	if by, ok := c.remembered(note, ring, p); ok {
		c.signed(p, ring, by)
		return nil
	}
	rel, err := c.verify(ctx, registry, ring, p)
	var cannot *askError
	switch {
	case errors.As(err, &cannot):
		return fmt.Errorf("%s:%d: cannot ask for the signature of %s %s: %w", c.file, line, p.Name, p.Version, cannot.err)
	case err != nil:
		return fault("%v", err)
	}
	c.signed(p, ring, rel)
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
func (c *checking) verify(ctx context.Context, registry string, ring npmkey.Ring, p *lockfile.Pin) (*released, error) {
	rel, err := c.s.release(ctx, registry, p.Name, p.Version, c.q.Fetch)
	if err != nil {
		return nil, asked(err)
	}
	err = judge(rel, ring, p, !rel.published.IsZero())
	if errors.Is(err, errExpired) {
		if rel, err = c.s.fullRelease(ctx, registry, p.Name, p.Version, c.q.Fetch); err != nil {
			return nil, asked(err)
		}
		err = judge(rel, ring, p, true)
	}
	return rel, err
}

func asked(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("is not known to its registry, which therefore does not stand for it")
	}
	return &askError{err}
}

// judge holds what a registry says of a version against its pin.
func judge(rel *released, ring npmkey.Ring, p *lockfile.Pin, timeKnown bool) error {
	switch {
	case rel.Dist.Integrity != p.Integrity:
		have := rel.Dist.Integrity
		if have == "" {
			have = "nothing"
		}
		return fmt.Errorf("is to be %s here, and its registry stands for %s", p.Integrity, have)
	case len(rel.Dist.Signatures) == 0:
		return fmt.Errorf("has no signature in its registry; expected one of %s", ring.IDs())
	}
	seen := map[string]bool{}
	for _, s := range rel.Dist.Signatures {
		// The names are those of keys, exactly: the lock has them with blanks between.
		if _, ok := ring[s.KeyID]; !ok {
			return fmt.Errorf("is signed with the key %.100s, which is not known; known: %s", s.KeyID, ring.IDs())
		}
		if seen[s.KeyID] {
			return fmt.Errorf("has two signatures of the key %s", s.KeyID)
		}
		seen[s.KeyID] = true
	}
	return verify(ring, rel, timeKnown)
}

// errExpired says that it takes the time of publishing to judge a signature.
var errExpired = errors.New("the key has expired")

// verify judges all signatures as npm audit signatures does: every one has to be
// by a known key and to hold, and a key that has an end must have signed before:
// what counts is when the version was published, and one whose time nobody knows
// is taken to be old.
func verify(ring npmkey.Ring, rel *released, timeKnown bool) error {
	if _, err := ring.VerifyPin(rel.Name, rel.Version, rel.Dist.Integrity, rel.signatures()); err != nil {
		return err
	}
	for _, s := range rel.Dist.Signatures {
		switch end := ring[s.KeyID].Expires; {
		case end.IsZero():
		case !timeKnown:
			return errExpired
		case !rel.published.Before(end):
			return fmt.Errorf("is signed with the key %s, which ended on %s, and was published after, on %s", s.KeyID, end.UTC().Format(time.DateOnly), rel.published.UTC().Format(time.DateOnly))
		}
	}
	return nil
}

// signatures are those of a version as its pin has them.
func (r *released) signatures() string {
	var words []string
	for _, s := range r.Dist.Signatures {
		words = append(words, s.KeyID+"="+s.Sig)
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

func (c *checking) signed(p *lockfile.Pin, ring npmkey.Ring, rel *released) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.Signatures = rel.signatures()
	var ids []string
	for _, s := range rel.Dist.Signatures {
		ids = append(ids, s.KeyID)
	}
	c.use(ring, ids)
}

type remembered struct {
	Release   *released `json:"release"`
	Published time.Time `json:"published"`
}

// remembered judges again what held once, without asking.
func (c *checking) remembered(note string, ring npmkey.Ring, p *lockfile.Pin) (*released, bool) {
	text, ok := c.q.Blobs.Note(noteKind, note)
	var r remembered
	if !ok || json.Unmarshal(text, &r) != nil || r.Release == nil || r.Release.Name != p.Name || r.Release.Version != p.Version {
		return nil, false
	}
	r.Release.published = r.Published
	return r.Release, judge(r.Release, ring, p, !r.Published.IsZero()) == nil
}
