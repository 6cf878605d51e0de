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
	"golang.org/x/sync/errgroup"

	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source"
	"quorate.dev/lockfile/source/httpfile"
)

// goKey is the public key of the Go project's own database without its name, as
// the go command has it (cmd/go/internal/modfetch, knownGOSUMDB). The name is GOSUMDB's to
// say: the first part is a hash of name and key, so that it fits no other name.
const goKey = "+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"

// database returns the client of the configured checksum database; nil when
// there is to be none.
func (c *Config) database(ctx context.Context, blobs source.Blobs, o fetch.Options) (*sumdb.Client, error) {
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
	ops := &databaseOps{ctx: ctx, key: key, name: name, blobs: blobs, fetch: o}
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
	return client, nil
}

func (c *Config) proxiesOrNone() []proxy {
	list, err := c.proxies("")
	if err != nil {
		return nil
	}
	return list
}

// checkDatabase holds the lines of go.sum that are new since the lock before
// against the database's signed tree.
func (b *bringing) checkDatabase(ctx context.Context, config *Config, wishes []wish) error {
	client, err := config.database(ctx, b.q.Blobs, b.q.Fetch)
	if err != nil || client == nil {
		return err
	}
	errs := make([]error, len(wishes))
	var g errgroup.Group
	g.SetLimit(8) // as many as are brought at once
	for i, w := range wishes {
		g.Go(func() error {
			for _, one := range []struct{ version, hash string }{{w.v.Version, w.sum.zip}, {w.v.Version + "/go.mod", w.sum.mod}} {
				if one.hash != "" && errs[i] == nil {
					errs[i] = check(client, w, one.version, one.hash)
				}
			}
			return nil
		})
	}
	_ = g.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(errs...)
}

// check looks one line of go.sum up.
func check(client *sumdb.Client, w wish, version, hash string) error {
	lines, err := client.Lookup(w.v.Path, version)
	if errors.Is(err, sumdb.ErrGONOSUMDB) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot ask the checksum database (GOSUMDB): %w", err)
	}
	want := w.v.Path + " " + version + " " + hash
	if slices.Contains(lines, want) {
		return nil
	}
	have := "nothing"
	if len(lines) > 0 {
		have = strings.Fields(lines[0])[2]
	}
	return &DatabaseError{LineError: LineError{w.sum.file, w.sum.line, fmt.Sprintf(
		"%s %s is %s here, and %s in the checksum database: whoever wrote go.sum got other bytes than everybody else", w.v.Path, version, hash, have)}}
}

// DatabaseError says that go.sum contradicts the checksum database.
type DatabaseError struct{ LineError }

// Hint says what to do.
func (e *DatabaseError) Hint() string {
	return "do not build this before you know why; a module that was published anew needs a new version. GONOSUMDB names modules that no database knows"
}

// databaseSum is what the database says of a zip; "" when there is no database.
func (b *bringing) databaseSum(ctx context.Context, config *Config, v module.Version) (string, error) {
	client, err := config.database(ctx, b.q.Blobs, b.q.Fetch)
	if err != nil || client == nil {
		return "", err
	}
	lines, err := client.Lookup(v.Path, v.Version)
	if errors.Is(err, sumdb.ErrGONOSUMDB) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot ask the checksum database (GOSUMDB): %w", err)
	}
	if len(lines) == 0 {
		return "", fmt.Errorf("the checksum database does not know %s %s", v.Path, v.Version)
	}
	return strings.Fields(lines[0])[2], nil
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
}

const noteTree = "sumdb"

// maxRecord bounds an answer of a database; tiles have 8 KiB and records less.
const maxRecord = 1 << 20

func (o *databaseOps) ReadRemote(path string) ([]byte, error) {
	var errs []error
	for _, url := range o.urls {
		b, err := httpfile.Read(o.ctx, url+path, maxRecord, o.fetch)
		if err == nil {
			return b, nil
		}
		if o.ctx.Err() != nil {
			return nil, context.Cause(o.ctx)
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
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
	return unquote(raw)
}

// WriteCache keeps tiles and records. One that cannot be kept is asked for again.
func (o *databaseOps) WriteCache(file string, b []byte) {
	_ = o.blobs.PutNote(noteTree, o.key+" "+file, quote(b))
}

// Log hears of what the client does; none of it is for people.
func (o *databaseOps) Log(string) {}

// SecurityError is told in the error that the client returns with it.
func (o *databaseOps) SecurityError(string) {}

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
