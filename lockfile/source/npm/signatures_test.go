package npm

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/npmkey"
	"quorate.dev/lockfile/source/npm/npmtest"
	"quorate.dev/lockfile/source/sourcetest"
)

// The keys and one signature of the public registry, as it publishes them.
const (
	publicKeys = `{"keys":[
{"expires":"2025-01-29T00:00:00.000Z","keyid":"SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA","keytype":"ecdsa-sha2-nistp256","scheme":"ecdsa-sha2-nistp256","key":"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE1Olb3zMAFFxXKHiIkQO5cJ3Yhl5i6UPp+IhuteBJbuHcA5UogKo0EWtlWwW6KSaKoTNEYL7JlCQiVnkhBktUgg=="},
{"expires":null,"keyid":"SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U","keytype":"ecdsa-sha2-nistp256","scheme":"ecdsa-sha2-nistp256","key":"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEY6Ya7W++7aUPzvMTrezH6Ycx3c+HOKYCcNGybJZSCJq/fd7Qa8uuAKtdIkUQtQiEKERhAmE5lMMJhP8OkDOa2g=="}]}`
	pnpmIntegrity = "sha512-C3+LmAYAMZBMAX46QesYehbUDuuCm5XE+MsDaBdh/Eq1PdIZEVubRH9NzhoFohR2RGHn03AzkqnzL5URzoyGyA=="
	pnpmSignature = "MEYCIQC28ef+LZSlyWSRFLk44cwrmdjEMJ7VNytbZfnsN7wSjQIhAPhNkyQC2olHzK5+OfnZVW17tBGT/OXwUD2NwReDg7zi"
)

func TestPublicRegistrysSignature(t *testing.T) {
	ring, err := npmkey.Parse([]byte(publicKeys))
	if err != nil || len(ring) != 2 {
		t.Fatalf("%v, %v", ring, err)
	}
	const id = "SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U"
	if got := ring[id].Fingerprint(); got != "fb190a462123443500cbcdb6519623e7179e9f38d84ad4e9362b72d2b68b62c1" {
		t.Errorf("fingerprint %s", got)
	}
	rel := &released{Name: "pnpm", Version: "11.10.0"}
	rel.Dist.Integrity, rel.Dist.Signatures = pnpmIntegrity, []signature{{id, pnpmSignature}}
	if err := verify(ring, rel, true); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*released){
		func(r *released) { r.Version = "11.10.1" },
		func(r *released) { r.Name = "pnpn" },
		func(r *released) { r.Dist.Integrity = strings.Replace(pnpmIntegrity, "C3", "C4", 1) },
		func(r *released) { r.Dist.Signatures[0].Sig = strings.Replace(pnpmSignature, "28", "29", 1) },
		func(r *released) { r.Dist.Signatures[0].KeyID = "SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA" },
	} {
		other := *rel
		other.Dist.Signatures = []signature{rel.Dist.Signatures[0]}
		change(&other)
		if err := verify(ring, &other, true); err == nil || !strings.Contains(err.Error(), "does not hold") {
			t.Errorf("%+v: %v", other, err)
		}
	}
}

func TestParseKeys(t *testing.T) {
	good := string(npmtest.Document(npmtest.NewKey()))
	for _, test := range []struct{ summary, text, want string }{
		{"no JSON", "keys", "they are not JSON as registries write it: "},
		{"no key", strings.Replace(good, `"key": "MFkw`, `"key": "!`, 1), "is not base64"},
		{"half a key", strings.Replace(good, `"key": "MFkw`, `"key": "MFkx`, 1), "asn1: "},
		{"a name of two lines", strings.Replace(good, `"keyid": "SHA256:`, `"keyid": "SHA256:\n`, 1), "which is none"},
		{"a time that is none", strings.Replace(good, `"expires": null`, `"expires": "soon"`, 1), "they are not JSON"},
		{"another curve", `{"keys":[{"keyid":"a","keytype":"ecdsa-sha2-nistp256","key":"MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEqofKIr6LBTeOscce8yCtdG4dO2KLp5uYWfdB4IJUKjhVAvJdv1UpbDpUXjhydgq3NhfeSpYmLG9dnpi/kpLcKfj0Hb0omhR86doxE7XwuMAKYLHOHX6BnXpDHXyQ6g5f"}]}`, "a is not an ECDSA key over P-256"},
		{"two of one name", strings.Replace(good, `"keys": [`, `"keys": [`+good[strings.Index(good, "[")+1:strings.LastIndex(good, "]")]+",", 1), "there are two with the keyid"},
		{"too many", `{"keys":[` + strings.Repeat("{},", 100) + `{}]}`, "there are 101 of them; at most 100 are read"},
	} {
		if _, err := npmkey.Parse([]byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.summary, err, test.want)
		}
	}
	if ring, err := npmkey.Parse([]byte(`{"keys":[{"keyid":"a","keytype":"ed25519","key":"!"}]}`)); err != nil || len(ring) != 0 {
		t.Errorf("a key of another type: %v, %v", ring, err)
	}
}

// world is a registry with two packages, locked by two keys.
type world struct {
	*npmtest.Registry
	t           *testing.T
	old, key    *npmtest.Key
	left, right *npmtest.Release
	blobs       *sourcetest.Blobs
	files       map[string][]byte // of signed-by
}

func newWorld(t *testing.T) *world {
	w := &world{Registry: npmtest.Start(), t: t, blobs: sourcetest.NewBlobs(t), files: map[string][]byte{}}
	t.Cleanup(w.Close)
	w.old, w.key = w.NewKey(), w.NewKey()
	w.old.Expires = "2025-01-29T00:00:00.000Z"
	w.left, w.right = w.Publish("left", "1.2.3", w.key), w.Publish("@scope/right", "2.0.0", w.old)
	w.right.Published = "2024-06-01T00:00:00.000Z"
	return w
}

func (w *world) source() *Source {
	return New(Options{Config: &Config{Registries: Registries{"": w.URL}}, Key: func(name string) ([]byte, error) {
		if b, ok := w.files[name]; ok {
			return b, nil
		}
		return nil, fmt.Errorf("there is no %q", name)
	}})
}

func (w *world) lock(previous *lockfile.Lock, ask lockfile.Facts, more ...string) (*lockfile.Lock, error) {
	w.t.Helper()
	return lockOf(w.t, w.source(), w.blobs, previous, ask, append([]string{w.left.LockEntry(), w.right.LockEntry()}, more...)...)
}

func (w *world) mustLock(previous *lockfile.Lock, ask lockfile.Facts, more ...string) *lockfile.Lock {
	w.t.Helper()
	lock, err := w.lock(previous, ask, more...)
	if err != nil {
		w.t.Fatal(err)
	}
	return lock
}

// anew forgets what was remembered.
func (w *world) anew() { w.blobs = sourcetest.NewBlobs(w.t) }

func signers(lock *lockfile.Lock) string {
	var all []string
	for _, p := range lock.Pins {
		id, _, _ := strings.Cut(p.Signatures, "=")
		all = append(all, p.Name+" "+id)
	}
	return strings.Join(all, ", ")
}

func TestSignatures(t *testing.T) {
	w := newWorld(t)
	lock := w.mustLock(nil, nil)
	if got, want := signers(lock), "@scope/right "+w.old.ID+", left "+w.key.ID; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	keys := lock.Inputs[0].Facts["keys"]
	for _, k := range []*npmtest.Key{w.old, w.key} {
		if !strings.Contains(keys, k.ID+"="+k.Text()) {
			t.Errorf("the lock has the keys %s, and not %s=%s", keys, k.ID, k.Text())
		}
	}
	// Nothing changed: nobody is asked.
	w.Requests()
	if again := w.mustLock(lock, nil); !reflect.DeepEqual(again, lock) {
		t.Errorf("got %+v", again)
	}
	if asked := w.Requests(); len(asked) > 0 {
		t.Errorf("asked %v", asked)
	}
	// The lock is gone, the store is not: keys alone are asked for.
	if again := w.mustLock(nil, nil); !reflect.DeepEqual(again, lock) {
		t.Errorf("got %+v", again)
	}
	if asked := w.Requests(); len(asked) != 1 || asked[0].Path != "/-/npm/v1/keys" {
		t.Errorf("asked %v", asked)
	}
	// A registry that answers for whole packages only.
	w.anew()
	w.Whole = true
	if again := w.mustLock(nil, nil); !reflect.DeepEqual(again, lock) {
		t.Errorf("got %+v", again)
	}
	// Another package: it is asked for, and no other.
	w.Requests()
	third := w.Publish("third", "3.0.0", w.key)
	if got := signers(w.mustLock(lock, nil, third.LockEntry())); !strings.HasSuffix(got, ", third "+w.key.ID) {
		t.Errorf("got %s", got)
	}
	for _, q := range w.Requests() {
		if strings.Contains(q.Path, "left") || strings.Contains(q.Path, "right") {
			t.Errorf("asked for %s", q.Path)
		}
	}
}

// What npm audit signatures refuses, and more: each package by name and line.
func TestSignaturesRefused(t *testing.T) {
	stranger := npmtest.NewKey()
	stranger.ID = "SHA256:stranger"
	const at = "package-lock.json:5: left 1.2.3 "
	for _, test := range []struct {
		summary string
		change  func(w *world)
		want    string // ID stands for the key's name
	}{
		{"none", func(w *world) { w.left.Signatures = nil }, at + "has no signature in its registry; expected one of "},
		{"an empty list", func(w *world) { w.left.Signatures = []npmtest.Signature{} }, at + "has no signature in its registry; expected one of "},
		{"of a stranger", func(w *world) { w.left.Signatures = []npmtest.Signature{stranger.Sign(w.left)} }, at + "is signed with the key SHA256:stranger, which is not known; known: "},
		{"of a stranger beside a good one", func(w *world) { w.left.Signatures = append(w.left.Signatures, stranger.Sign(w.left)) }, at + "is signed with the key SHA256:stranger, which is not known"},
		{"of another package", func(w *world) { w.left.Signatures = []npmtest.Signature{w.key.Sign(w.right)} }, at + "has a signature of the key ID that does not hold"},
		{"of another version", func(w *world) {
			other := *w.left
			other.Version = "1.2.4"
			w.left.Signatures = []npmtest.Signature{w.key.Sign(&other)}
		}, at + "has a signature of the key ID that does not hold: that key never stood for these bytes under this name"},
		{"of other bytes", func(w *world) {
			other := *w.left
			other.Integrity = integrity("right", "1")
			w.left.Signatures = []npmtest.Signature{w.key.Sign(&other)}
		}, at + "has a signature of the key ID that does not hold"},
		{"no signature at all", func(w *world) { w.left.Signatures[0].Sig = "bogus" }, at + "has a signature of the key ID that does not hold"},
		{"a stranger under the key's name", func(w *world) {
			s := stranger.Sign(w.left)
			s.KeyID = w.key.ID
			w.left.Signatures = []npmtest.Signature{s}
		}, at + "has a signature of the key ID that does not hold"},
		{"twice by one key", func(w *world) { w.left.Signatures = append(w.left.Signatures, w.key.Sign(w.left)) }, at + "has two signatures of the key ID"},
		{"by a key's name with a blank", func(w *world) { w.left.Signatures[0].KeyID = " " + w.key.ID }, at + "is signed with the key  ID, which is not known"},
		{"by a key's name that holds a signature", func(w *world) { // "OLD=SIGNATURE" and "=" are one, and the name has no end
			s := &w.right.Signatures[0]
			cut := strings.TrimRight(s.Sig, "=")
			if len(cut) == len(s.Sig) {
				s.KeyID += " "
				return
			}
			s.KeyID, s.Sig = s.KeyID+"="+s.Sig[:len(s.Sig)-1], ""
			w.right.Published = "2025-02-01T00:00:00.000Z"
		}, "package-lock.json:6: @scope/right 2.0.0 is signed with the key OLD"},
		{"after the key's end", func(w *world) { w.right.Published = "2025-02-01T00:00:00.000Z" }, "package-lock.json:6: @scope/right 2.0.0 is signed with the key OLD, which ended on 2025-01-29, and was published after, on 2025-02-01"},
		{"at the key's end", func(w *world) { w.right.Published = "2025-01-29T00:00:00.000Z" }, "package-lock.json:6: @scope/right 2.0.0 is signed with the key OLD, which ended on 2025-01-29"},
		{"the registry stands for other bytes", func(w *world) {
			w.left.Integrity = integrity("other", "1")
			w.left.Signatures = []npmtest.Signature{w.key.Sign(w.left)}
		}, at + "is to be sha512-"},
		{"the registry stands for nothing", func(w *world) { w.left.Integrity = "" }, "and its registry stands for nothing"},
		{"two at once", func(w *world) { w.left.Signatures, w.right.Signatures = nil, nil }, "package-lock.json:6: @scope/right 2.0.0 has no signature in its registry; expected one of KEYS\n" + at + "has no signature in its registry; expected one of KEYS"},
	} {
		t.Run(strings.ReplaceAll(test.summary, " ", "-"), func(t *testing.T) {
			w := newWorld(t)
			entries := []string{w.left.LockEntry(), w.right.LockEntry()}
			test.change(w)
			_, err := lockOf(t, w.source(), w.blobs, nil, nil, entries...)
			ids := []string{w.key.ID, w.old.ID}
			if w.old.ID < w.key.ID {
				ids = []string{w.old.ID, w.key.ID}
			}
			want := strings.NewReplacer("KEYS", strings.Join(ids, ", "), "ID", w.key.ID, "OLD", w.old.ID).Replace(test.want)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("got  %v\nwant %s", err, want)
			}
			var hint interface{ Hint() string }
			if !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "signatures: off") {
				t.Errorf("no hint: %v", err)
			}
			if _, err := lockOf(t, w.source(), w.blobs, nil, lockfile.Facts{"signatures": "off"}, entries...); err != nil {
				t.Errorf("signatures: off: %v", err)
			}
		})
	}
}

// A version whose time nobody knows is older than every key's end, as npm has it.
func TestOldVersionWithoutTime(t *testing.T) {
	w := newWorld(t)
	w.right.Published = ""
	w.mustLock(nil, nil)
}

func TestRegistryWithoutKeys(t *testing.T) {
	w := newWorld(t)
	w.Keys, w.left.Signatures, w.right.Signatures = nil, nil, nil
	lock := w.mustLock(nil, nil)
	if got := signers(lock); got != "@scope/right , left " || len(lock.Inputs[0].Facts) > 0 {
		t.Errorf("got %s, %v", got, lock.Inputs[0].Facts)
	}
	for _, q := range w.Requests() {
		if q.Path == "/left" || q.Path == "/left/1.2.3" {
			t.Errorf("asked for %s", q.Path)
		}
	}
	if _, err := w.lock(nil, lockfile.Facts{"signatures": "required"}); err == nil || !strings.Contains(err.Error(), "offers no keys, and the input has signatures: required") {
		t.Errorf("got %v", err)
	}
	w.Denies = true
	w.mustLock(nil, nil)
	if _, err := w.lock(nil, lockfile.Facts{"signatures": "required"}); err == nil || !strings.Contains(err.Error(), "offers no keys (server answered 403 Forbidden: npm's configuration has no token for it), and the input has signatures: required") {
		t.Errorf("got %v", err)
	}
	// It begins to sign: what is locked stays until something is new, and then all of it counts.
	w.Keys = []*npmtest.Key{w.key}
	w.left.Signatures = []npmtest.Signature{w.key.Sign(w.left)}
	if again := w.mustLock(lock, nil); !reflect.DeepEqual(again, lock) {
		t.Errorf("got %+v", again)
	}
	third := w.Publish("third", "3.0.0", w.key)
	if _, err := w.lock(lock, nil, third.LockEntry()); err == nil || !strings.Contains(err.Error(), "package-lock.json:6: @scope/right 2.0.0 has no signature") {
		t.Errorf("got %v", err)
	}
	w.right.Signatures = []npmtest.Signature{w.key.Sign(w.right)}
	if got := signers(w.mustLock(lock, nil, third.LockEntry())); strings.Count(got, w.key.ID) != 3 {
		t.Errorf("got %s", got)
	}
}

// Keys are believed when they are first seen, and from then on they are watched.
func TestKeysChange(t *testing.T) {
	w := newWorld(t)
	lock := w.mustLock(nil, nil)
	third := w.Publish("third", "3.0.0", w.key)

	w.Keys = nil
	if _, err := w.lock(lock, nil, third.LockEntry()); err == nil || !strings.Contains(err.Error(), "offers no keys, and @scope/right 2.0.0 was locked with a signature: signatures would be lost") {
		t.Errorf("keys gone: %v", err)
	}

	impostor := npmtest.NewKey()
	impostor.ID = w.key.ID
	third.Signatures = []npmtest.Signature{impostor.Sign(third)}
	w.Keys = []*npmtest.Key{w.old, impostor}
	if _, err := w.lock(lock, nil, third.LockEntry()); err == nil || !strings.Contains(err.Error(), "has another key "+w.key.ID+" (sha256 "+impostor.Fingerprint()+") than packages were locked with ("+w.key.Fingerprint()+")") {
		t.Errorf("key changed: %v", err)
	}

	next := npmtest.NewKey()
	third.Signatures = []npmtest.Signature{next.Sign(third)}
	w.Keys = []*npmtest.Key{w.old, w.key, next}
	again := w.mustLock(lock, nil, third.LockEntry())
	var changed bool
	for _, c := range lockfile.Diff(lock, again) {
		changed = changed || c.Name == "packages.keys" && strings.Contains(c.New, next.ID+"="+next.Text()) && !strings.Contains(c.Old, next.ID)
	}
	if !changed {
		t.Errorf("a new key is no change: %+v", lockfile.Diff(lock, again))
	}
}

// A lock's own lines prove nothing: they are judged again, and asked for where they do not hold.
func TestForgedLock(t *testing.T) {
	w := newWorld(t)
	lock := w.mustLock(nil, nil)
	for _, change := range []func(*lockfile.Lock){
		func(l *lockfile.Lock) { l.Pins[0].Signatures = l.Pins[1].Signatures },
		func(l *lockfile.Lock) { l.Pins[0].Signatures = w.key.ID + "=" + w.old.ID },
		func(l *lockfile.Lock) { l.Pins[0].Signatures = "SHA256:stranger=MEU" },
	} {
		forged := *lock
		forged.Pins = append([]lockfile.Pin{}, lock.Pins...)
		change(&forged)
		w.anew()
		if again := w.mustLock(&forged, nil); !reflect.DeepEqual(again, lock) {
			t.Errorf("got %+v", again)
		}
	}
	forged := *lock
	forged.Inputs = []lockfile.Input{lock.Inputs[0]}
	impostor := npmtest.NewKey()
	forged.Inputs[0].Facts = lockfile.Facts{"keys": w.key.ID + "=" + impostor.Text() + " " + w.old.ID + "=" + w.old.Text()}
	if _, err := w.lock(&forged, nil); err == nil || !strings.Contains(err.Error(), "has another key "+w.key.ID) {
		t.Errorf("got %v", err)
	}
}

// Keys in a file count alone, and no registry is asked for its own.
func TestSignedBy(t *testing.T) {
	w := newWorld(t)
	by := lockfile.Facts{"signed-by": "keys.json"}
	w.files["keys.json"] = npmtest.Document(w.old, w.key)
	w.Keys = nil // a mirror that passes on signatures and has no keys
	lock := w.mustLock(nil, by)
	for _, q := range w.Requests() {
		if strings.HasSuffix(q.Path, "keys") {
			t.Errorf("asked for %s", q.Path)
		}
	}
	if again := w.mustLock(lock, by); !reflect.DeepEqual(again, lock) || len(w.Requests()) > 0 {
		t.Errorf("got %+v", again)
	}
	w.Keys = []*npmtest.Key{w.old, w.key}
	for _, test := range []struct {
		summary string
		file    []byte
		want    string
	}{
		{"a key is struck out", npmtest.Document(w.old), "left 1.2.3 is signed with the key " + w.key.ID + ", which is not known; known: " + w.old.ID},
		{"no key", []byte(`{"keys": []}`), `signed-by: "keys.json": it holds no key of type ecdsa-sha2-nistp256; it is to be what a registry has at /-/npm/v1/keys`},
		{"no keys", []byte("ssh-ed25519 AAAA"), `signed-by: "keys.json": the keys cannot be read: they are not JSON as registries write it: `},
		{"no file", nil, `signed-by: there is no "keys.json"`},
	} {
		if w.files["keys.json"] = test.file; test.file == nil {
			delete(w.files, "keys.json")
		}
		for name, previous := range map[string]*lockfile.Lock{"locked before": lock, "not locked": nil} {
			if _, err := w.lock(previous, by); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s, %s: got  %v\nwant %s", test.summary, name, err, test.want)
			}
		}
	}
}

// A registry that cannot be asked leaves the input unlocked, whatever it might have said.
func TestSignaturesCannotBeAsked(t *testing.T) {
	w := newWorld(t)
	entries := []string{w.left.LockEntry()}
	source := w.source()
	if _, err := lockOf(t, source, w.blobs, nil, lockfile.Facts{"signatures": "off"}, entries...); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := lockOf(t, source, w.blobs, nil, nil, entries...); err == nil || !strings.Contains(err.Error(), "cannot ask the registry for its keys: http://127.0.0.1:") {
		t.Errorf("got %v", err)
	}
	w.files["keys.json"] = npmtest.Document(w.key)
	if _, err := lockOf(t, source, w.blobs, nil, lockfile.Facts{"signed-by": "keys.json"}, entries...); err == nil || !strings.Contains(err.Error(), "package-lock.json:5: cannot ask for the signature of left 1.2.3: http://127.0.0.1:") {
		t.Errorf("got %v", err)
	}
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte(publicKeys))
	f.Fuzz(func(t *testing.T, text []byte) {
		ring, err := npmkey.Parse(text)
		for id, k := range ring {
			if err == nil && (id == "" || strings.ContainsAny(id, " \n=") || len(k.Fingerprint()) != 64 || k.Holds("a", "1", "x", "")) {
				t.Errorf("key %q: %+v", id, k)
			}
		}
	})
}
