package gomod

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source"
	"quorate.dev/lockfile/source/httpfile"
)

// goKey is the public key of the Go project's own database without its name, as
// the go command has it (cmd/go/internal/modfetch, knownGOSUMDB). The name is GOSUMDB's to
// say: the first part is a hash of name and key, so that it fits no other name.
const goKey = "+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"

// database is the configured checksum database.
type database struct {
	client *sumdb.Client
	ops    *databaseOps
}

// database returns the configured checksum database; nil when there is to be none.
func (c *Config) database(ctx context.Context, blobs source.Blobs, o fetch.Options) (*database, error) {
	f := strings.Fields(c.SumDB)
	if len(f) == 0 || f[0] == "off" {
		return nil, nil
	}
	key, at := f[0], ""
	if _, err := note.NewVerifier(key + goKey); err == nil {
		key += goKey
	}
	name, _, ok := strings.Cut(key, "+")
	if !ok {
		return nil, fmt.Errorf("GOSUMDB=%s names a database whose key is not known", f[0])
	}
	if len(f) > 1 {
		at = strings.TrimSuffix(f[1], "/")
	}
	ops := &databaseOps{ctx: ctx, key: key, name: name, blobs: blobs, fetch: o, mute: map[string]bool{}}
	switch {
	case at != "":
		ops.urls = []string{at}
	default:
		// A proxy may stand before the database (go help goproxy, "sumdb").
		for _, p := range c.proxiesOrNone() {
			ops.urls = append(ops.urls, p.url+"/sumdb/"+name)
		}
		ops.urls = append(ops.urls, "https://"+name)
	}
	client := sumdb.NewClient(ops)
	client.SetGONOSUMDB(c.NoSumDB)
	return &database{client, ops}, nil
}

// errNotAsked says that the configuration keeps a module from the database.
var errNotAsked = errors.New("not asked")

// lookup returns what the database has for the zip of a module version, or with
// "/go.mod" behind the version, for its go.mod: one hash, unless somebody put
// more in the record. It is errNotAsked for a module that it may not be asked for.
func (d *database) lookup(path, version string) ([]string, error) {
	lines, err := d.client.Lookup(path, version)
	if errors.Is(err, sumdb.ErrGONOSUMDB) {
		return nil, errNotAsked
	}
	if proof := d.ops.forked(); proof != "" {
		return nil, &ForkError{Database: d.ops.name, Proof: proof}
	}
	if err != nil {
		return nil, &UnaskedError{Silent: d.ops.silent(path, version), Err: &clipped{err}}
	}
	var hashes []string
	for _, line := range lines {
		if f := strings.Fields(line); len(f) == 3 && strings.HasPrefix(f[2], "h1:") {
			hashes = append(hashes, f[2])
		}
	}
	if len(hashes) == 0 {
		return nil, fmt.Errorf("the checksum database %s has a record of %s %s, and no hash in it", d.ops.name, path, version)
	}
	return hashes, nil
}

// clipped is an error of which a page is enough: one may hold all that a server sent.
type clipped struct{ error }

const maxError = 400

func (e *clipped) Error() string {
	s := e.error.Error()
	if len(s) > maxError {
		s = strings.ToValidUTF8(s[:maxError], "") + "…"
	}
	return s
}

func (e *clipped) Unwrap() error { return e.error }

// ForkError says that a database signed two trees of which neither is the
// beginning of the other.
type ForkError struct {
	Database string
	Proof    string // both signed trees, and hashes that show it to everybody
}

func (e *ForkError) Error() string {
	return fmt.Sprintf("the checksum database %s signed two histories that contradict each other, so it does not tell everybody the same:\n%s", e.Database, e.Proof)
}

// Hint says what to do.
func (e *ForkError) Hint() string {
	return "do not believe it, nor what was locked since it was right for the last time; show the lines above to whoever runs it"
}

func (c *Config) proxiesOrNone() []proxy {
	list, err := c.proxies("")
	if err != nil {
		return nil
	}
	return list
}

// checkDatabase holds the lines of go.sum that are new since the lock before
// against the database's signed tree. All contradictions are told; when the
// database cannot be asked, one failure stands for all.
func (b *bringing) checkDatabase(ctx context.Context, config *Config, wishes []wish) error {
	db, err := config.database(ctx, b.q.Blobs, b.q.Fetch)
	if err != nil || db == nil {
		return err
	}
	errs := make([]error, len(wishes))
	var g errgroup.Group
	g.SetLimit(8) // as many as are brought at once
	for i, w := range wishes {
		g.Go(func() error {
			for _, one := range []struct{ version, hash string }{{w.v.Version, w.sum.zip}, {w.v.Version + "/go.mod", w.sum.mod}} {
				if one.hash != "" && errs[i] == nil && !db.ops.useless() {
					errs[i] = check(db, w, one.version, one.hash)
				}
			}
			return nil
		})
	}
	_ = g.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if proof := db.ops.forked(); proof != "" {
		return &ForkError{Database: db.ops.name, Proof: proof}
	}
	db.ops.keep()
	return source.Several(errs, len(wishes))
}

// check looks one line of go.sum up.
func check(db *database, w wish, version, hash string) error {
	hashes, err := db.lookup(w.v.Path, version)
	switch {
	case errors.Is(err, errNotAsked):
		return nil
	case err != nil:
		return fmt.Errorf("%s:%d: %w", w.sum.file, w.sum.line, err)
	case slices.Contains(hashes, hash):
		return nil
	}
	return &DatabaseError{LineError: LineError{w.sum.file, w.sum.line, fmt.Sprintf(
		"%s %s is %s here, and %s in the checksum database: whoever wrote go.sum got other bytes than everybody else", w.v.Path, version, hash, hashes[0])}}
}

// UnaskedError says that the checksum database told nothing of a module.
type UnaskedError struct {
	Silent bool // nobody answered, or all that they do not know it; else what came was no answer
	Err    error
}

func (e *UnaskedError) Error() string {
	return "cannot ask the checksum database (GOSUMDB): " + e.Err.Error()
}

func (e *UnaskedError) Unwrap() error { return e.Err }

// Hint says where else it may be asked, and how not to; nothing where somebody lies.
func (e *UnaskedError) Hint() string {
	if !e.Silent {
		return ""
	}
	return "GOSUMDB names another database, or another place to ask it; modules that none knows are named by GONOSUMDB or GOPRIVATE, and only go.sum stands for them then"
}

// DatabaseError says that go.sum contradicts the checksum database.
type DatabaseError struct{ LineError }

// Hint says what to do.
func (e *DatabaseError) Hint() string {
	return "do not build this before you know why; a module that was published anew needs a new version. GONOSUMDB names modules that no database knows"
}

// databaseSum is what the database says of a zip; "" when there is no database.
func (b *bringing) databaseSum(ctx context.Context, config *Config, v module.Version) (string, error) {
	db, err := config.database(ctx, b.q.Blobs, b.q.Fetch)
	if err != nil || db == nil {
		return "", err
	}
	hashes, err := db.lookup(v.Path, v.Version)
	db.ops.keep()
	switch {
	case errors.Is(err, errNotAsked):
		return "", nil
	case err != nil:
		return "", err
	case len(hashes) > 1:
		return "", fmt.Errorf("the checksum database has %d hashes of %s %s, and nothing else says which one is meant", len(hashes), v.Path, v.Version)
	}
	return hashes[0], nil
}

// databaseOps is what the database's client needs of this machine. The latest
// signed tree is kept as a note of the store, so that a database which shows
// one history today and another tomorrow is noticed.
type databaseOps struct {
	ctx       context.Context
	key, name string
	urls      []string
	blobs     source.Blobs
	fetch     fetch.Options

	mu     sync.Mutex
	latest []byte
	fresh  map[string][]byte // tiles and records that are not kept yet
	fork   string            // the proof, once it showed two histories
	mute   map[string]bool   // lookups that no place answered
	down   bool              // it could not be asked, however often that was tried
}

// forked returns the proof that the database shows two histories, "" for none.
func (o *databaseOps) forked() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.fork
}

// useless reports whether asking on tells nothing new.
func (o *databaseOps) useless() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.down || o.fork != ""
}

const noteTree = "sumdb"

// maxRecord bounds an answer of a database; tiles have 8 KiB and records less.
const maxRecord = 1 << 20

// ReadRemote asks one place after the other: a proxy may know nothing of the
// database, or have another record than the one that is asked for.
func (o *databaseOps) ReadRemote(path string) ([]byte, error) {
	var errs []error
	down, mute := true, true
	for _, url := range o.urls {
		b, err := httpfile.Read(o.ctx, url+path, maxRecord, o.fetch)
		if err == nil && !answers(path, b) {
			mute = false
			err = fmt.Errorf("%s: the answer is not about that module", httpfile.Redacted(url+path))
		}
		if err == nil {
			return b, nil
		}
		if o.ctx.Err() != nil {
			return nil, context.Cause(o.ctx)
		}
		var long *fetch.LimitError
		mute = mute && !errors.As(err, &long)
		down = down && !notThere(err)
		errs = append(errs, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.down = o.down || down
	if mute {
		o.mute[path] = true
	}
	return nil, errors.Join(errs...)
}

// silent reports whether no place answered when a module was looked up.
func (o *databaseOps) silent(path, version string) bool {
	escapedPath, err1 := module.EscapePath(path)
	escapedVersion, err2 := module.EscapeVersion(strings.TrimSuffix(version, "/go.mod"))
	o.mu.Lock()
	defer o.mu.Unlock()
	return err1 == nil && err2 == nil && o.mute["/lookup/"+escapedPath+"@"+escapedVersion]
}

// answers reports whether what came for a path of the database can be meant for
// it: a record has to be of the module that is asked for. The database's client
// takes any that it signed, keeps it under the wrong name, and finds nothing in it.
func answers(path string, b []byte) bool {
	_, asked, ok := strings.Cut(path, "/lookup/")
	if !ok {
		return true
	}
	escapedPath, escapedVersion, _ := strings.Cut(asked, "@")
	name, err1 := module.UnescapePath(escapedPath)
	version, err2 := module.UnescapeVersion(escapedVersion)
	if err1 != nil || err2 != nil {
		return false
	}
	_, text, _, err := tlog.ParseRecord(b)
	if err != nil {
		return true // which the client says better
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, name+" "+version+" ") || strings.HasPrefix(line, name+" "+version+"/go.mod ") {
			return true
		}
	}
	return false
}

func (o *databaseOps) ReadConfig(file string) ([]byte, error) {
	if file == "key" {
		return []byte(o.key), nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.latest == nil {
		o.latest = o.load(file)
	}
	return o.latest, nil
}

func (o *databaseOps) load(file string) []byte {
	raw, ok := o.blobs.Note(noteTree, o.key+" "+file)
	text, err := unquote(raw)
	if !ok || err != nil {
		return []byte{}
	}
	return text
}

func (o *databaseOps) WriteConfig(file string, old, fresh []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !bytes.Equal(old, o.latest) {
		return sumdb.ErrWriteConflict
	}
	o.latest = fresh
	return o.blobs.PutNote(noteTree, o.key+" "+file, quote(fresh))
}

func (o *databaseOps) ReadCache(file string) ([]byte, error) {
	raw, ok := o.blobs.Note(noteTree, o.key+" "+file)
	if !ok {
		return nil, fs.ErrNotExist
	}
	b, err := unquote(raw)
	if err == nil && !answers(file, b) {
		return nil, fs.ErrNotExist
	}
	return b, err
}

// WriteCache takes tiles and records, for keep.
func (o *databaseOps) WriteCache(file string, b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fresh == nil {
		o.fresh = map[string][]byte{}
	}
	o.fresh[file] = b
}

// keep keeps the tiles and records of a database that showed one history. Those
// of another would make every later look at the true one fail. One that cannot
// be kept is asked for again.
func (o *databaseOps) keep() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fork == "" {
		for file, b := range o.fresh {
			_ = o.blobs.PutNote(noteTree, o.key+" "+file, quote(b))
		}
	}
	o.fresh = nil
}

// Log hears of what the client does; none of it is for people.
func (o *databaseOps) Log(string) {}

// SecurityError keeps the proof, of which the client's own error has nothing.
func (o *databaseOps) SecurityError(proof string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fork = proof
}

// quote and unquote write bytes as JSON, which notes of a store are.
func quote(b []byte) []byte {
	text, err := json.Marshal(b)
	if err != nil {
		panic(err) // bytes always can be
	}
	return text
}

func unquote(text []byte) (b []byte, err error) {
	err = json.Unmarshal(text, &b)
	return b, err
}
