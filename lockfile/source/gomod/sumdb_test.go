package gomod

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/note"

	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source/gomod/gomodtest"
	"quorate.dev/lockfile/source/sourcetest"
)

// liar stands before a database and changes its answers.
type liar struct {
	*httptest.Server
	sumDB    string                                         // GOSUMDB
	lie      func(path string, honest func() []byte) []byte // nil for none
	requests atomic.Int64
}

// before returns a liar that can pass on what the database with the key says.
func before(t *testing.T, key, url string, lie func(path string, honest func() []byte) []byte) *liar {
	t.Helper()
	l := &liar{lie: lie}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.requests.Add(1)
		b := l.lie(r.URL.Path, func() []byte { return ask(t, url+r.URL.EscapedPath()) })
		if b == nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = w.Write(b)
	}))
	t.Cleanup(l.Close)
	l.sumDB = key + " " + l.URL
	return l
}

func ask(t *testing.T, url string) []byte {
	resp, err := http.Get(url)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return b
}

// keyOf is GOSUMDB without the place.
func keyOf(s *gomodtest.Server) string {
	key, _, _ := strings.Cut(s.SumDB, " ")
	return key
}

const deep = "example.org/deep@v0.1.0"

// A proxy and a database that lie together get nothing believed: go.sum has to
// agree with what the database signed, and nothing else. What was a lie is
// forgotten, so that the same store locks as soon as it is told the truth.
func TestLyingDatabase(t *testing.T) {
	other, err := gomodtest.Start(world)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	only := func(prefix string, change func(honest func() []byte) []byte) func(string, func() []byte) []byte {
		return func(path string, honest func() []byte) []byte {
			if strings.HasPrefix(path, prefix) {
				return change(honest)
			}
			return honest()
		}
	}
	lookup := func(change func([]byte) []byte) func(string, func() []byte) []byte {
		return only("/lookup/", func(honest func() []byte) []byte { return change(honest()) })
	}
	tiles := func(change func([]byte) []byte) func(string, func() []byte) []byte {
		return only("/tile/", func(honest func() []byte) []byte { return change(honest()) })
	}
	endless := func(func() []byte) []byte { return make([]byte, 3<<20) }
	honest := "" // URL of the database that is lied about
	evil := "h1:" + base64.StdEncoding.EncodeToString(make([]byte, 32))
	const asked = `go\.sum:1: cannot ask the checksum database \(GOSUMDB\): example\.org/deep@v0\.1\.0: `
	for _, test := range []struct {
		summary string
		lie     func(path string, honest func() []byte) []byte
		want    string // a regular expression
	}{
		{"another hash", lookup(func(b []byte) []byte { return regexp.MustCompile(`h1:\S+`).ReplaceAll(b, []byte(evil)) }), asked + "cannot authenticate record data in server response$"},
		{"another key's note", lookup(func(b []byte) []byte {
			text, _, _ := bytes.Cut(b, []byte("\n\n"))
			_, note, _ := bytes.Cut(ask(t, other.URL+"/lookup/"+deep), []byte("\n\n"))
			return append(append(text, "\n\n"...), note...)
		}), asked + `reading tree note: note has no verifiable signatures\nnote:\n`},
		{"no note", lookup(func(b []byte) []byte { text, _, _ := bytes.Cut(b, []byte("\n\n")); return append(text, "\n\n"...) }), asked + "cannot validate record 0 in tree of size 0$"},
		{"another number of entries", lookup(func(b []byte) []byte { return bytes.Replace(b, []byte("tree\n1\n"), []byte("tree\n2\n"), 1) }), asked + "reading tree note: invalid signature for key "},
		{"a long note", lookup(func(b []byte) []byte {
			text, _, _ := bytes.Cut(b, []byte("\n\n"))
			return append(append(text, "\n\n"...), strings.Repeat("lies\n", 100_000)...)
		}), asked + `reading tree note: malformed note\nnote:\n(lies\n)+(lie|li|l)?…$`},
		{"a record of another module", only("/lookup/", func(func() []byte) []byte { return ask(t, honest+"/lookup/example.org/taken@v1.1.0") }), asked + `http://\S+/lookup/example.org/deep@v0.1.0: the answer is not about that module$`},
		{"a record far behind the end", lookup(func(b []byte) []byte {
			_, rest, _ := bytes.Cut(b, []byte("\n"))
			return append([]byte("4611686018427387904\n"), rest...)
		}), asked + "cannot validate record 4611686018427387904 in tree of size 1$"},
		{"a record before the beginning", lookup(func(b []byte) []byte {
			_, rest, _ := bytes.Cut(b, []byte("\n"))
			return bytes.Replace(append([]byte("-9223372036854775808\n"), rest...), []byte("h1:"), []byte("h1:x"), 1)
		}), asked + "cannot authenticate record data in server response$"},
		{"an endless record", only("/lookup/", endless), asked + `http://\S+: more than 1048576 bytes$`},
		{"nothing", lookup(func([]byte) []byte { return []byte{} }), asked + `malformed record data$`},
		{"a page", lookup(func([]byte) []byte { return []byte("<html>log in</html>\n") }), asked + `malformed record data$`},
		{"another tile", tiles(func(b []byte) []byte { b[0] ^= 1; return b }), asked + `downloaded inconsistent tile$`},
		{"a short tile", tiles(func(b []byte) []byte { return b[:31] }), asked + `TileReader returned bad result slice \(tile/8/0/000.p/1 len=31, want 32\)$`},
		{"a long tile", tiles(func(b []byte) []byte { return append(b, b...) }), asked + `TileReader returned bad result slice \(tile/8/0/000.p/1 len=64, want 32\)$`},
		{"an empty tile", tiles(func(b []byte) []byte { return []byte{} }), asked + `TileReader returned bad result slice \(tile/8/0/000.p/1 len=0, want 32\)$`},
		{"an endless tile", only("/tile/", endless), asked + `http://\S+: more than 1048576 bytes$`},
		{"no answer", func(string, func() []byte) []byte { return nil }, asked + `http://\S+: server answered 500 Internal Server Error$`},
	} {
		t.Run(strings.ReplaceAll(test.summary, " ", "-"), func(t *testing.T) {
			// A tree of one entry is the same every time.
			lone, err := gomodtest.Start(world)
			if err != nil {
				t.Fatal(err)
			}
			defer lone.Close()
			honest = lone.URL
			l := before(t, keyOf(lone), lone.URL, test.lie)
			files := map[string]string{"go.mod": "module m\nrequire example.org/deep v0.1.0\n", "go.sum": lone.Sums(deep)}
			config := &Config{Proxy: lone.Proxy(), SumDB: l.sumDB}
			w := &sourcetest.World{Kind: New(func() (*Config, error) { return config, nil }), Request: request(), Tree: files}
			blobs := sourcetest.NewBlobs(t)
			_, err = w.Resolve(t, blobs, nil)
			if err == nil || !regexp.MustCompile(test.want).MatchString(err.Error()) || len(err.Error()) > 1000 {
				t.Errorf("got  %.2000v\nwant %s", err, test.want)
			}
			var unasked *UnaskedError
			if silent := test.summary == "no answer"; !errors.As(err, &unasked) || unasked.Silent != silent || (unasked.Hint() != "") != silent {
				t.Errorf("got the hint %q; only one who gets no answer is told how to do without", unasked.Hint())
			}
			if blobs.Created() > 0 {
				t.Error("something was brought all the same")
			}
			config.SumDB = lone.SumDB
			if _, err := w.Resolve(t, blobs, nil); err != nil {
				t.Errorf("after it, with the truth: %v", err)
			}
		})
	}
}

// signed is a database of the given records, whatever they are, with its key.
func signed(t *testing.T, signer string, record func(path, version string) string) *httptest.Server {
	t.Helper()
	database := sumdb.NewServer(sumdb.NewTestServer(signer, func(path, version string) ([]byte, error) { return []byte(record(path, version)), nil }))
	mux := http.NewServeMux()
	for _, p := range sumdb.ServerPaths {
		mux.Handle(p, database)
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

// What the database itself signed can be wrong too: its key was stolen, or it
// has fallen over.
func TestWrongRecords(t *testing.T) {
	s := start(t)
	signer, key, err := note.GenerateKey(nil, "sums.example.org")
	if err != nil {
		t.Fatal(err)
	}
	sums := s.Sums(deep)
	hash := strings.Fields(sums)[2]
	toolchain := "golang.org/toolchain v0.0.1-go1.99.0.linux-amd64"
	for _, test := range []struct{ summary, record, toolchain, want string }{
		{"no hash", "example.org/deep v0.1.0 \nexample.org/deep v0.1.0/go.mod \n", "", "go.sum:1: the checksum database sums.example.org has a record of example.org/deep v0.1.0, and no hash in it"},
		{"a hash of nobody knows what", "example.org/deep v0.1.0 h9:x\nexample.org/deep v0.1.0/go.mod h9:x\n", "", "go.sum:1: the checksum database sums.example.org has a record of example.org/deep v0.1.0, and no hash in it"},
		{"of go.mod alone", strings.SplitAfter(sums, "\n")[1], "", "go.sum:1: the checksum database sums.example.org has a record of example.org/deep v0.1.0, and no hash in it"},
		{"another version's", strings.ReplaceAll(sums, "v0.1.0", "v0.1.01"), "", "the answer is not about that module"},
		{"of a longer name", strings.ReplaceAll(sums, "example.org", "evil.example.org"), "", "the answer is not about that module"},
		{"another hash", strings.ReplaceAll(sums, hash, "h1:x"), "", "go.sum:1: example.org/deep v0.1.0 is " + hash + " here, and h1:x in the checksum database: whoever wrote go.sum got other bytes than everybody else"},
		{"a toolchain without a hash", toolchain + " \n", "go1.99.0", "has a record of golang.org/toolchain v0.0.1-go1.99.0.linux-amd64, and no hash in it"},
		{"a toolchain with two", toolchain + " h1:x\n" + toolchain + " h1:y\n", "go1.99.0", "has 2 hashes of golang.org/toolchain v0.0.1-go1.99.0.linux-amd64, and nothing else says which one is meant"},
	} {
		t.Run(strings.ReplaceAll(test.summary, " ", "-"), func(t *testing.T) {
			server := signed(t, signer, func(string, string) string { return test.record })
			k := New(func() (*Config, error) { return &Config{Proxy: s.Proxy(), SumDB: key + " " + server.URL}, nil })
			files := map[string]string{"go.mod": "module m\nrequire example.org/deep v0.1.0\n", "go.sum": sums}
			var ask []string
			if test.toolchain != "" {
				files = map[string]string{"go.mod": "module m\n"}
				ask = []string{"toolchain", test.toolchain}
			}
			_, _, err := resolve(t, k, files, ask...)
			if err == nil || !strings.HasSuffix(err.Error(), test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// A database that shows us another history than before is caught, and what it
// signed is told, since that proves it to everybody.
func TestTwoHistories(t *testing.T) {
	s := start(t)
	signer, key, err := note.GenerateKey(nil, "sums.example.org")
	if err != nil {
		t.Fatal(err)
	}
	honest := signed(t, signer, func(path, version string) string { return s.Sums(path + "@" + version) })
	lying := signed(t, signer, func(path, version string) string {
		return strings.ReplaceAll(s.Sums(path+"@"+version), "h1:", "h1:x")
	})
	config := &Config{Proxy: s.Proxy(), SumDB: key + " " + honest.URL}
	w := &sourcetest.World{Kind: New(func() (*Config, error) { return config, nil }), Request: request(), Tree: map[string]string{"go.mod": "module m\n", "go.sum": s.Sums(deep)}}
	blobs := sourcetest.NewBlobs(t)
	if _, err := w.Resolve(t, blobs, nil); err != nil {
		t.Fatal(err)
	}
	config.SumDB = key + " " + lying.URL
	w.Tree = map[string]string{"go.mod": "module m\n", "go.sum": strings.ReplaceAll(s.Sums("example.org/Text@v1.0.0", "example.org/old@v2.0.0+incompatible"), "h1:", "h1:x")}
	_, err = w.Resolve(t, blobs, nil)
	var fork *ForkError
	const want = "the checksum database sums.example.org signed two histories that contradict each other, so it does not tell everybody the same:\n"
	if !errors.As(err, &fork) || !strings.HasPrefix(err.Error(), want) || strings.Count(err.Error(), "— sums.example.org ") != 2 || !strings.Contains(err.Error(), "proof of misbehavior:") {
		t.Errorf("got  %v\nwant %s, and both signed trees", err, want)
	}
	// The tree that was seen first stays what others are held against.
	config.SumDB = key + " " + honest.URL
	w.Tree["go.sum"] = s.Sums(modules...)
	if _, err := w.Resolve(t, blobs, nil); err != nil {
		t.Errorf("with the honest one again: %v", err)
	}
}

// A proxy that has the database's answers wrong does not keep us from the database.
func TestLyingProxyBeforeDatabase(t *testing.T) {
	s := start(t)
	mirror := before(t, keyOf(s), s.URL, func(path string, _ func() []byte) []byte {
		if strings.HasPrefix(path, "/lookup/") {
			return ask(t, s.URL+"/lookup/example.org/taken@v1.1.0")
		}
		return nil
	})
	ops := &databaseOps{ctx: t.Context(), key: keyOf(s), name: "localhost.localdev/sumdb", urls: []string{mirror.URL, s.URL}, blobs: sourcetest.NewBlobs(t), fetch: fetch.Options{Tries: 1}, mute: map[string]bool{}}
	db := &database{sumdb.NewClient(ops), ops}
	hashes, err := db.lookup("example.org/deep", "v0.1.0")
	if want := strings.Fields(s.Sums(deep))[2]; err != nil || len(hashes) != 1 || hashes[0] != want {
		t.Errorf("got %q, %v, want %s", hashes, err, want)
	}
}

// When the database is out of reach, that is told once, and not asked again for
// each of thousands of modules; what it does not have is told of each.
func TestDatabaseOutOfReach(t *testing.T) {
	s := start(t)
	var sum strings.Builder
	for i := range 400 {
		fmt.Fprintf(&sum, "example.org/m%d v1.0.0 h1:x\n", i)
	}
	files := map[string]string{"go.mod": "module m\n", "go.sum": sum.String()}
	l := before(t, keyOf(s), s.URL, func(string, func() []byte) []byte { return nil })
	lock := func(sumDB string) error {
		w := &sourcetest.World{Kind: New(func() (*Config, error) { return &Config{Proxy: s.Proxy(), SumDB: sumDB}, nil }), Request: request(), Tree: files}
		_, err := w.Resolve(t, sourcetest.NewBlobs(t), nil)
		return err
	}
	if err := lock(l.sumDB); err == nil || strings.Count(err.Error(), "\n") > 8 || !strings.Contains(err.Error(), "server answered 500") {
		t.Errorf("got %v", err)
	}
	if n := l.requests.Load(); n > 16 {
		t.Errorf("it was asked %d times", n)
	}
	if err := lock(s.SumDB); err == nil || !strings.HasSuffix(err.Error(), "\n… and 392 more, of 400") {
		t.Errorf("got %v", err)
	}
}

// The go command refuses what we refuse.
func TestLyingDatabaseAndTheGoCommand(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("there is no go command to compare with")
	}
	s := start(t)
	signer, key, err := note.GenerateKey(nil, "sums.example.org")
	if err != nil {
		t.Fatal(err)
	}
	sums := s.Sums(deep)
	for _, test := range []struct {
		summary, record string
		ok              bool
	}{
		{"the truth", sums, true},
		{"another hash", strings.ReplaceAll(sums, "h1:", "h1:x"), false},
		{"a record of another module", s.Sums("example.org/taken@v1.1.0"), false},
	} {
		server := signed(t, signer, func(string, string) string { return test.record })
		config := &Config{Proxy: s.Proxy(), SumDB: key + " " + server.URL}
		_, _, err := resolve(t, New(func() (*Config, error) { return config, nil }), map[string]string{"go.mod": "module m\n", "go.sum": sums})
		if (err == nil) != test.ok {
			t.Errorf("%s: %v", test.summary, err)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module m\n\ngo 1.21\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("go", "mod", "download", deep)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOPROXY="+config.Proxy, "GOSUMDB="+config.SumDB, "GONOSUMDB=", "GOPRIVATE=", "GOFLAGS=-modcacherw", "GOTOOLCHAIN=local", "GOPATH="+filepath.Join(dir, ".go"))
		out, err := cmd.CombinedOutput()
		t.Logf("%s: go mod download: %v\n%s", test.summary, err, out)
		if (err == nil) != test.ok {
			t.Errorf("%s: the go command: %v\n%s", test.summary, err, out)
		}
	}
}
