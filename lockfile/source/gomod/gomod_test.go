package gomod

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source/gomod/gomodtest"
	"quorate.dev/lockfile/source/sourcetest"
)

const world = `
-- example.org/Text@v1.0.0/go.mod --
module example.org/Text
go 1.18
require example.org/deep v0.1.0
-- example.org/Text@v1.0.0/text.go --
package text
import "example.org/deep"
const Hello = "hello, " + deep.World
-- example.org/deep@v0.1.0/go.mod --
module example.org/deep
-- example.org/deep@v0.1.0/deep.go --
package deep
const World = "world"
-- example.org/old@v2.0.0+incompatible/old.go --
package old
-- example.org/taken@v1.1.0/go.mod --
module example.org/taken
-- example.org/taken@v1.1.0/x.go --
package taken
-- example.org/taken@v1.2.0/go.mod --
module example.org/taken
// It deletes files.
retract v1.1.0
-- example.org/taken@v1.2.0/x.go --
package taken
`

const goMod = `module example.org/app

go 1.21

require (
	example.org/Text v1.0.0
	example.org/deep v0.1.0 // indirect
	example.org/old v2.0.0+incompatible
)
`

var modules = []string{"example.org/Text@v1.0.0", "example.org/deep@v0.1.0", "example.org/old@v2.0.0+incompatible"}

func start(t *testing.T) *gomodtest.Server {
	t.Helper()
	s, err := gomodtest.Start(world)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func kind(s *gomodtest.Server) *Kind {
	return New(func() (*Config, error) { return &Config{Proxy: s.Proxy(), SumDB: s.SumDB}, nil })
}

func request(ask ...string) lockfile.InputRequest {
	r := lockfile.InputRequest{Name: "modules", Kind: lockfile.KindGo, Ask: lockfile.Facts{"from": "app", "path": "."}}
	for i := 0; i+1 < len(ask); i += 2 {
		r.Ask[ask[i]] = ask[i+1]
	}
	return r
}

func TestContract(t *testing.T) {
	sourcetest.Test(t, func(t *testing.T) *sourcetest.World {
		s := start(t)
		sums := s.Sums(modules...)
		return &sourcetest.World{
			Kind: kind(s), Request: request(), Tree: map[string]string{"go.mod": goMod, "go.sum": sums, "main.go": "package main"},
			Spoil: func() {
				for _, m := range modules {
					p, version, _ := strings.Cut(m, "@")
					p, _ = module.EscapePath(p)
					s.Put(p+"/@v/"+version+".zip", []byte("spoiled"))
				}
			},
			Down: s.Close,
			Refused: []sourcetest.Refused{
				{Summary: "nothing", Tree: map[string]string{"go.mod": ""}, Error: `go.mod: is not there, and neither is go.work; input "app" holds go.sum, main.go`},
				{Summary: "bad go.mod", Tree: map[string]string{"go.mod": "modul x\n"}, Error: "go.mod:1: unknown directive: modul"},
				{Summary: "no go.sum", Tree: map[string]string{"go.sum": ""}, Error: "go.mod:6: example.org/Text v1.0.0 has no line in go.sum; to add it: go mod tidy\ngo.mod:7: example.org/deep"},
				{Summary: "a line that is none", Tree: map[string]string{"go.sum": "a b\n" + sums}, Error: "go.sum:1: has 2 words; expected a module, a version and a hash"},
				{Summary: "a hostile module", Tree: map[string]string{"go.sum": sums + "../etc v1.0.0 h1:x\n"}, Error: "go.sum:7: malformed module path"},
				{Summary: "a hostile version", Tree: map[string]string{"go.sum": sums + "example.org/x v1/../../2 h1:x\n"}, Error: "go.sum:7: "},
				{Summary: "two hashes of one", Tree: map[string]string{"go.sum": sums + "example.org/Text v1.0.0/go.mod h1:other\n"}, Error: "go.sum:7: example.org/Text v1.0.0 is h1:other here, and h1:"},
				{Summary: "replaced outside", Tree: map[string]string{"go.mod": goMod + "replace example.org/deep => ../deep\n"}, Error: `go.mod:10: example.org/deep is replaced by "../deep", which lies outside of input "app"; a build would not have it`},
				{Summary: "replaced absolutely", Tree: map[string]string{"go.mod": goMod + "replace example.org/deep => /home/me/deep\n"}, Error: `go.mod:10: example.org/deep is replaced by "/home/me/deep", which lies outside`},
				{Summary: "replaced by nothing", Tree: map[string]string{"go.mod": goMod + "replace example.org/deep => ./deep\n"}, Error: `go.mod:10: example.org/deep is replaced by "./deep", and there is no go.mod in it`},
				{Summary: "go.sum as a link", Tree: map[string]string{"go.sum": "", "go.sum@": "/etc/passwd"}, Error: `"go.sum" in input "app" is a symbolic link to "/etc/passwd"; only a regular file is read`},
				{Summary: "retracted", Tree: map[string]string{
					"go.mod": strings.Replace(goMod, "require (", "require (\n\texample.org/taken v1.1.0", 1), "go.sum": sums + s.Sums("example.org/taken@v1.1.0"),
				}, Error: "go.mod:6: example.org/taken v1.1.0 was retracted by its author: It deletes files."},
				{Summary: "a module that nobody has", Tree: map[string]string{"go.sum": sums + strings.ReplaceAll(s.Sums("example.org/deep@v0.1.0"), "deep", "gone")}, Error: "example.org/gone"},
				{Summary: "a workspace that leaves", Tree: map[string]string{"go.work": "go 1.21\nuse ../x\n"}, Error: `go.work:2: uses "../x", which lies outside of input "app"`},
				{Summary: "a workspace of nothing", Tree: map[string]string{"go.work": "go 1.21\nuse ./x\n"}, Error: `x/go.mod: is not there, although go.work uses its folder; input "app" holds no folder "x"`},
			},
		}
	})
}

// resolve locks a project of files.
func resolve(t *testing.T, k *Kind, files map[string]string, ask ...string) (*lockfile.Lock, *sourcetest.Blobs, error) {
	t.Helper()
	w := &sourcetest.World{Kind: k, Request: request(ask...), Tree: files}
	blobs := sourcetest.NewBlobs(t)
	lock, err := w.Resolve(t, blobs, nil)
	return lock, blobs, err
}

func names(lock *lockfile.Lock) string {
	var all []string
	for _, p := range lock.Pins {
		all = append(all, strings.TrimSpace(p.Path+" "+p.By))
	}
	return strings.Join(all, "\n")
}

func TestPins(t *testing.T) {
	s := start(t)
	sums := s.Sums(modules...)
	// Of deep only the go.mod takes part.
	sums = strings.ReplaceAll(sums, strings.Split(sums, "\n")[2]+"\n", "")
	lock, _, err := resolve(t, kind(s), map[string]string{"go.mod": goMod, "go.sum": sums})
	if err != nil {
		t.Fatal(err)
	}
	const want = "example.org/!text/@v/v1.0.0.zip requested\nexample.org/deep/@v/v0.1.0.mod\nexample.org/old/@v/v2.0.0+incompatible.zip requested"
	if got := names(lock); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := lock.Pins[0].URI(lock.Requests.Inputs[0]); got != "pkg:golang/example.org/Text@v1.0.0" {
		t.Errorf("URI %s", got)
	}
}

// A retracted version is locked when the definition says so; the hint says how.
func TestRetractedIsAccepted(t *testing.T) {
	s := start(t)
	files := map[string]string{"go.mod": "module m\nrequire example.org/taken v1.1.0\n", "go.sum": s.Sums("example.org/taken@v1.1.0")}
	_, _, err := resolve(t, kind(s), files)
	hint, ok := err.(interface{ Unwrap() []error })
	if !ok || hint.Unwrap()[0].(*RetractedError).Hint() != "require another version (go get example.org/taken@latest); or, knowing why, accept it: retracted: [example.org/taken@v1.1.0] in the input" {
		t.Errorf("got %v", err)
	}
	if _, _, err := resolve(t, kind(s), files, "retracted", "example.org/taken@v1.1.0"); err != nil {
		t.Error(err)
	}
}

// What is retracted stands in the highest version, even when that is retracted
// itself, so that no proxy calls it the latest.
func TestRetractedByItself(t *testing.T) {
	s := start(t)
	if err := s.Serve("-- example.org/taken@v1.3.0/go.mod --\nmodule example.org/taken\n// By mistake.\nretract [v1.2.0, v1.3.0]\n"); err != nil {
		t.Fatal(err)
	}
	s.Put("example.org/taken/@latest", []byte(`{"Version":"v1.1.0"}`))
	for version, want := range map[string]string{"v1.1.0": "", "v1.2.0": "go.mod:2: example.org/taken v1.2.0 was retracted by its author: By mistake."} {
		files := map[string]string{"go.mod": "module m\nrequire example.org/taken " + version + "\n", "go.sum": s.Sums("example.org/taken@" + version)}
		_, _, err := resolve(t, kind(s), files)
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%s: got %v, want %s", version, err, want)
		}
	}
	// Without a list the proxy is believed about what is latest.
	s.Put("example.org/taken/@v/list", nil)
	s.Put("example.org/taken/@latest", []byte(`{"Version":"v1.3.0"}`))
	files := map[string]string{"go.mod": "module m\nrequire example.org/taken v1.2.0\n", "go.sum": s.Sums("example.org/taken@v1.2.0")}
	if _, _, err := resolve(t, kind(s), files); err == nil || !strings.Contains(err.Error(), "retracted") {
		t.Errorf("got %v", err)
	}
}

// A proxy that has modules and fails when it is asked for their versions does not
// hold the lock up: which versions are retracted is not known then.
func TestRetractionsThatCannotBeAsked(t *testing.T) {
	var world, goMod strings.Builder
	var all []string
	goMod.WriteString("module m\n")
	for i := range 200 {
		fmt.Fprintf(&world, "-- example.org/m%d@v1.0.0/go.mod --\nmodule example.org/m%d\n", i, i)
		fmt.Fprintf(&goMod, "require example.org/m%d v1.0.0\n", i)
		all = append(all, fmt.Sprintf("example.org/m%d@v1.0.0", i))
	}
	s, err := gomodtest.Start(world.String())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var asked atomic.Int32
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/@v/list") {
			asked.Add(1)
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		s.Config.Handler.ServeHTTP(w, r)
	}))
	defer front.Close()
	k := New(func() (*Config, error) { return &Config{Proxy: front.URL + "/proxy", SumDB: "off"}, nil })
	lock, _, err := resolve(t, k, map[string]string{"go.mod": goMod.String(), "go.sum": s.Sums(all...)})
	if err != nil || len(lock.Pins) != 200 {
		t.Errorf("got %v", err)
	}
	if n := asked.Load(); n > 24+8 {
		t.Errorf("it was asked %d times", n)
	}
}

// The go.mod that says what is retracted is believed by nobody's sum: a long one is
// not read, as if the proxy had none.
func TestLongRetraction(t *testing.T) {
	s := start(t)
	files := map[string]string{"go.mod": "module m\nrequire example.org/taken v1.1.0\n", "go.sum": s.Sums("example.org/taken@v1.1.0")}
	for size, want := range map[int]bool{100 << 10: true, 300 << 10: false} {
		s.Put("example.org/taken/@v/v1.2.0.mod", []byte("module example.org/taken\nretract v1.1.0\n"+strings.Repeat("// x\n", size/5)))
		if _, _, err := resolve(t, kind(s), files); (err != nil) != want || err != nil && !strings.Contains(err.Error(), "was retracted by its author") {
			t.Errorf("%d bytes: got %v", size, err)
		}
	}
}

// Without a go command the environment still says which checksum database is asked.
func TestConfigWithoutGo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("GOENV", "off")
	t.Setenv("GOPROXY", "https://proxy.example")
	for set, want := range map[string]string{"": "", "off": "off", "sums.example": "sums.example"} {
		t.Setenv("GOSUMDB", set)
		c, err := ReadConfig()
		if err != nil || c.SumDB != want || c.Proxy != "https://proxy.example" {
			t.Errorf("GOSUMDB=%s: got %+v, %v", set, c, err)
		}
	}
}

func TestWorkspace(t *testing.T) {
	s := start(t)
	lock, _, err := resolve(t, kind(s), map[string]string{
		"go.work": "go 1.21\nuse (\n\t./a\n\t./b\n)\nreplace example.org/never => ./c\n", "go.work.sum": s.Sums("example.org/deep@v0.1.0"),
		"a/go.mod": "module example.org/a\nrequire (\n\texample.org/b v0.0.0\n\texample.org/Text v1.0.0\n\texample.org/never v1.0.0\n)\n",
		"b/go.mod": "module example.org/b\nrequire example.org/fork v1.9.0\nreplace example.org/fork => example.org/old v2.0.0+incompatible\n",
		"a/go.sum": s.Sums("example.org/Text@v1.0.0"), "b/go.sum": s.Sums("example.org/old@v2.0.0+incompatible"), "c/go.mod": "module example.org/never\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(lock); got != "example.org/!text/@v/v1.0.0.zip requested\nexample.org/deep/@v/v0.1.0.zip\nexample.org/old/@v/v2.0.0+incompatible.zip requested" {
		t.Errorf("got\n%s", got)
	}
	var read []string
	for file, sum := range lock.Inputs[0].Reads {
		if sum != lockfile.Absent {
			read = append(read, file)
		}
	}
	slices.Sort(read)
	if got := strings.Join(read, " "); got != "a/go.mod a/go.sum b/go.mod b/go.sum c/go.mod go.work go.work.sum" {
		t.Errorf("read %s", got)
	}
}

// A zip that go.sum vouches for and that no build may unpack: names that collide
// where case does not count, names that leave, a bomb.
func TestHostileZips(t *testing.T) {
	v := module.Version{Path: "example.org/deep", Version: "v0.1.0"}
	for _, test := range []struct {
		summary string
		names   []string
		want    string
	}{
		{"case collides", []string{"x.go", "X.go"}, "case-insensitive file name collision"},
		{"leaves", []string{"../../x.go"}, `malformed file path "../../x.go": invalid path element ".."`},
		{"another module's", nil, "path does not have prefix"},
		{"twice", []string{"x.go", "x.go"}, `its zip has "example.org/deep@v0.1.0/x.go" twice`},
	} {
		t.Run(strings.ReplaceAll(test.summary, " ", "-"), func(t *testing.T) {
			s := start(t)
			var z bytes.Buffer
			w := zip.NewWriter(&z)
			for _, name := range test.names {
				if _, err := w.Create(v.String() + "/" + name); err != nil {
					t.Fatal(err)
				}
			}
			if len(test.names) == 0 {
				if _, err := w.Create("other@v1.0.0/x.go"); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			s.Put("example.org/deep/@v/v0.1.0.zip", z.Bytes())
			hash, _, err := hashZip(bytes.NewReader(z.Bytes()), int64(z.Len()), v)
			mod := strings.Split(s.Sums("example.org/deep@v0.1.0"), "\n")[1]
			if err != nil {
				hash = "h1:x"
			}
			k := New(func() (*Config, error) { return &Config{Proxy: s.Proxy(), SumDB: "off"}, nil })
			_, _, err = resolve(t, k, map[string]string{"go.mod": "module m\n", "go.sum": "example.org/deep v0.1.0 " + hash + "\n" + mod + "\n"})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// The database knows other bytes than go.sum, which agrees with a lying proxy.
func TestDatabase(t *testing.T) {
	s := start(t)
	honest := s.Sums("example.org/deep@v0.1.0")
	lying, err := gomodtest.Start(strings.Replace(world, `World = "world"`, `World = "evil"`, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer lying.Close()
	files := map[string]string{"go.mod": "module m\nrequire example.org/deep v0.1.0\n", "go.sum": lying.Sums("example.org/deep@v0.1.0")}
	config := &Config{Proxy: lying.Proxy(), SumDB: s.SumDB}
	k := New(func() (*Config, error) { return config, nil })
	_, _, err = resolve(t, k, files)
	want := "go.sum:1: example.org/deep v0.1.0 is " + strings.Fields(files["go.sum"])[2] + " here, and " + strings.Fields(honest)[2] + " in the checksum database: whoever wrote go.sum got other bytes than everybody else"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	// A database that another key signs is none.
	config.SumDB = strings.Replace(lying.SumDB, lying.URL, s.URL, 1)
	if _, _, err := resolve(t, k, files); err == nil || !strings.Contains(err.Error(), "cannot ask the checksum database") {
		t.Errorf("with another key: %v", err)
	}
	// Modules that it may not be asked for, or no database: go.sum alone.
	config.SumDB, config.NoSumDB = s.SumDB, "example.org/*"
	if _, _, err := resolve(t, k, files); err != nil {
		t.Error(err)
	}
	config.SumDB, config.NoSumDB = "off", ""
	if _, _, err := resolve(t, k, files); err != nil {
		t.Error(err)
	}
	// Passwords of proxies stay out of what is said.
	secret := strings.Replace(lying.Proxy(), "://", "://user:secret@", 1)
	for _, config := range []*Config{{Proxy: secret, SumDB: s.SumDB[:strings.Index(s.SumDB, " ")]}, {Proxy: secret, SumDB: lying.SumDB}, {Proxy: secret + "/nowhere", SumDB: "off"}} {
		_, _, err := resolve(t, New(func() (*Config, error) { return config, nil }), map[string]string{"go.mod": files["go.mod"], "go.sum": honest})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("GOSUMDB=%s: %v", config.SumDB, err)
		}
	}
	config.SumDB = "sums.example.org"
	if _, _, err := resolve(t, k, files); err == nil || err.Error() != "GOSUMDB=sums.example.org names a database whose key is not known" {
		t.Errorf("got %v", err)
	}
}

func TestProxies(t *testing.T) {
	for _, test := range []struct{ proxy, noProxy, module, want string }{
		{"https://a.example,https://b.example/x/|file:///c,direct", "", "m.example/m", "https://a.example, https://b.example/x| file:///c,"},
		{"a.example", "", "m.example/m", "https://a.example,"},
		{"direct", "", "m.example/m", "m.example/m would be brought from its repository (GOPROXY=direct), which Quorate does not do"},
		{"off", "", "m.example/m", "m.example/m may not be brought: GOPROXY=off"},
		{"", "", "m.example/m", "no proxy is known for m.example/m: GOPROXY is not set, and there is no go command to ask"},
		{"https://a.example", "m.example", "m.example/m", "m.example/m would be brought from its repository (GONOPROXY or GOPRIVATE=m.example), which Quorate does not do"},
	} {
		c := &Config{Proxy: test.proxy, NoProxy: test.noProxy}
		list, err := c.proxies(test.module)
		var all []string
		for _, p := range list {
			all = append(all, p.url+map[bool]string{true: "|", false: ","}[p.any])
		}
		got := strings.Join(all, " ")
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("GOPROXY=%s:\n got %s\nwant %s", test.proxy, got, test.want)
		}
	}
}

// Names of modules are told to the next proxy only when the one before does not have them.
func TestProxyChain(t *testing.T) {
	s := start(t)
	files := map[string]string{"go.mod": goMod, "go.sum": s.Sums(modules...)}
	empty, err := gomodtest.Start("")
	if err != nil {
		t.Fatal(err)
	}
	defer empty.Close()
	for _, test := range []struct {
		proxy string
		ok    bool
	}{
		{empty.Proxy() + "," + s.Proxy(), true}, {"http://127.0.0.1:1," + s.Proxy(), false}, {"http://127.0.0.1:1|" + s.Proxy(), true},
	} {
		k := New(func() (*Config, error) { return &Config{Proxy: test.proxy, SumDB: "off"}, nil })
		if _, _, err := resolve(t, k, files); (err == nil) != test.ok {
			t.Errorf("GOPROXY=%s: %v", test.proxy, err)
		}
	}
}

// A proxy whose answer breaks off, and that has another by then without saying so:
// the two are not joined.
func TestProxyChangesMidway(t *testing.T) {
	n := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		switch {
		case n == 1:
			w.Header().Set("Content-Length", "14")
			_, _ = io.WriteString(w, "v0.1.0\n")
		case r.Header.Get("Range") == "bytes=7-":
			w.Header().Set("Content-Range", "bytes 7-13/14")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, "v2.0.0\n")
		default:
			_, _ = io.WriteString(w, "v1.0.0\nv2.0.0\n")
		}
	}))
	defer server.Close()
	got, err := (&Config{Proxy: server.URL}).get(t.Context(), "example.org/m", "example.org/m/@v/list", 1<<10, fetch.Options{Pause: time.Microsecond})
	if err != nil || string(got) != "v1.0.0\nv2.0.0\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

// A proxy that breaks off and then has nothing any more: the next one is read from
// the start.
func TestNextProxyMidway(t *testing.T) {
	n := 0
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n++; n > 1 {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Content-Length", "14")
		_, _ = io.WriteString(w, "v0.1.0\n")
	}))
	defer first.Close()
	second := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "list", time.Time{}, strings.NewReader("v1.0.0\nv2.0.0\n"))
	}))
	defer second.Close()
	got, err := (&Config{Proxy: first.URL + "," + second.URL}).get(t.Context(), "example.org/m", "example.org/m/@v/list", 1<<10, fetch.Options{Pause: time.Microsecond})
	if err != nil || string(got) != "v1.0.0\nv2.0.0\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

// The go command itself makes go.sum, and agrees that what is locked verifies.
func TestGoSumOfTheGoCommand(t *testing.T) {
	s := start(t)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.org/app\n\ngo 1.21\n", "main.go": "package main\n\nimport (\n\t\"example.org/Text\"\n\t_ \"example.org/old\"\n)\n\nfunc main() { println(text.Hello) }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOPROXY="+s.Proxy(), "GOSUMDB="+s.SumDB, "GONOSUMDB=", "GOPRIVATE=", "GOFLAGS=-modcacherw", "GOTOOLCHAIN=local", "GOPATH="+filepath.Join(dir, ".go"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	run("mod", "tidy")
	run("mod", "verify")
	files := map[string]string{}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	lock, _, err := resolve(t, kind(s), files)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(lock); got != "example.org/!text/@v/v1.0.0.zip requested\nexample.org/deep/@v/v0.1.0.zip\nexample.org/old/@v/v2.0.0+incompatible.zip requested" {
		t.Errorf("got\n%s", got)
	}
}

func FuzzSums(f *testing.F) {
	f.Add("example.org/x v1.0.0 h1:abc=\nexample.org/x v1.0.0/go.mod h1:def=\n")
	f.Add("a b\n\n x v1 h1:\n")
	f.Fuzz(func(t *testing.T, text string) {
		s := sums{}
		if err := s.parse("go.sum", text); err != nil {
			return
		}
		for v, one := range s {
			if module.Check(v.Path, v.Version) != nil || one.line < 1 || !strings.HasPrefix(one.zip+one.mod, "h1:") {
				t.Errorf("%v: %+v", v, one)
			}
			if _, err := pinPath(v, ".zip"); err != nil {
				t.Errorf("%v has no path: %v", v, err)
			}
		}
	})
}

// go mod tidy writes no line for the go.mod of a module of which only packages
// were looked at: the zip is locked all the same, with the go.mod in it.
func TestZipWithoutModLine(t *testing.T) {
	s := start(t)
	lines := strings.Split(s.Sums(modules...), "\n")
	w := &sourcetest.World{
		Kind: kind(s), Request: request(),
		Tree: map[string]string{"go.mod": goMod, "go.sum": lines[0] + "\n" + strings.Join(lines[2:], "\n"), "main.go": "package main"},
	}
	if !strings.HasSuffix(strings.Fields(lines[1])[1], "/go.mod") {
		t.Fatalf("%q is no line of a go.mod", lines[1])
	}
	all, err := (&sourcetest.World{Kind: w.Kind, Request: w.Request, Tree: map[string]string{"go.mod": goMod, "go.sum": s.Sums(modules...)}}).Resolve(t, sourcetest.NewBlobs(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := w.Resolve(t, sourcetest.NewBlobs(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(lock.Pins, all.Pins) {
		t.Errorf("got  %v\nwant %v", lock.Pins, all.Pins)
	}
}

// GOSUMDB may leave out the key of one database alone, whose name is part of its hash.
func TestUnknownDatabase(t *testing.T) {
	s := start(t)
	k := New(func() (*Config, error) { return &Config{Proxy: s.Proxy(), SumDB: "sum.example.org"}, nil })
	w := &sourcetest.World{Kind: k, Request: request(), Tree: map[string]string{"go.mod": goMod, "go.sum": s.Sums(modules...)}}
	if _, err := w.Resolve(t, sourcetest.NewBlobs(t), nil); err == nil || err.Error() != "GOSUMDB=sum.example.org names a database whose key is not known" {
		t.Errorf("got %v", err)
	}
}

// Zips that are small and become large are refused while they are hashed, by
// the line of go.sum, whatever it says that they hash to.
func TestZipBombs(t *testing.T) {
	v := module.Version{Path: "example.org/deep", Version: "v0.1.0"}
	raw := func(w *zip.Writer, name string, claimed uint64, size int64) {
		t.Helper()
		var packed bytes.Buffer
		deflate, err := flate.NewWriter(&packed, flate.BestSpeed)
		if err != nil {
			t.Fatal(err)
		}
		h := crc32.NewIEEE()
		if _, err := io.CopyN(io.MultiWriter(deflate, h), zeros{}, size); err != nil {
			t.Fatal(err)
		}
		if err := deflate.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := w.CreateRaw(&zip.FileHeader{Name: v.String() + "/" + name, Method: zip.Deflate, UncompressedSize64: claimed, CompressedSize64: uint64(packed.Len()), CRC32: h.Sum32()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(packed.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		summary string
		write   func(w *zip.Writer)
		want    string
	}{
		{"large together", func(w *zip.Writer) {
			for i := range 20 {
				raw(w, fmt.Sprint("zeros", i), 32<<20, 1)
			}
		}, "it unpacks to more than 524288000 bytes"},
		{"claimed too small", func(w *zip.Writer) { raw(w, "zeros", 10, 64<<20) }, "it cannot be unpacked: zip: not a valid zip file"},
		{"claimed too large", func(w *zip.Writer) { raw(w, "zeros", 1000, 10) }, "it cannot be unpacked: unexpected EOF"},
		{"a large go.mod", func(w *zip.Writer) { raw(w, "go.mod", 17<<20, 17<<20) }, "its go.mod has more than 16777216 bytes"},
		{"many files", func(w *zip.Writer) {
			long := v.String() + "/" + strings.Repeat("n", 200)
			for i := range 80_000 {
				if _, err := w.CreateRaw(&zip.FileHeader{Name: fmt.Sprint(long, i)}); err != nil {
					t.Fatal(err)
				}
			}
		}, "its zip needs more than 16777216 bytes to list its files"},
	} {
		t.Run(strings.ReplaceAll(test.summary, " ", "-"), func(t *testing.T) {
			s := start(t)
			var z bytes.Buffer
			w := zip.NewWriter(&z)
			test.write(w)
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			s.Put("example.org/deep/@v/v0.1.0.zip", z.Bytes())
			k := New(func() (*Config, error) { return &Config{Proxy: s.Proxy(), SumDB: "off"}, nil })
			_, _, err := resolve(t, k, map[string]string{"go.mod": "module m\n", "go.sum": "\nexample.org/deep v0.1.0 h1:x\n"})
			if err == nil || !strings.HasPrefix(err.Error(), "go.sum:2: cannot lock example.org/deep v0.1.0:\n") || !strings.HasSuffix(err.Error(), test.want) {
				t.Errorf("got  %v\nwant go.sum:2: … %s", err, test.want)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
