// Package gomodtest serves Go modules that are written as text, as a module
// proxy does (go help goproxy), with a checksum database beside it. It is for
// tests of this module.
//
// The world is a txtar archive whose files are named MODULE@VERSION/PATH:
//
//	-- example.org/text@v1.0.0/go.mod --
//	module example.org/text
//	-- example.org/text@v1.0.0/text.go --
//	package text
package gomodtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/sumdb/note"
	modzip "golang.org/x/mod/zip"
)

// Server is a proxy and a checksum database.
type Server struct {
	*httptest.Server
	SumDB string // GOSUMDB: name, key and URL

	mu    sync.Mutex
	files map[string][]byte // by path of a request
	sums  map[string]string // "MODULE VERSION" → lines as in go.sum
}

// Start serves a world.
func Start(world string) (*Server, error) {
	s := &Server{files: map[string][]byte{}, sums: map[string]string{}}
	if err := s.Serve(world); err != nil {
		return nil, err
	}
	signer, verifier, err := note.GenerateKey(nil, "localhost.localdev/sumdb")
	if err != nil {
		return nil, err
	}
	database := sumdb.NewServer(sumdb.NewTestServer(signer, s.gosum))
	mux := http.NewServeMux()
	for _, p := range sumdb.ServerPaths {
		mux.Handle(p, database)
	}
	mux.HandleFunc("/proxy/", s.proxy)
	s.Server = httptest.NewServer(mux)
	s.SumDB = verifier + " " + s.URL
	return s, nil
}

// Proxy is the proxy's URL, for GOPROXY.
func (s *Server) Proxy() string { return s.URL + "/proxy" }

// file is one of a module, for golang.org/x/mod/zip.
type file struct {
	name string
	data []byte
}

func (f file) Path() string                 { return f.name }
func (f file) Lstat() (os.FileInfo, error)  { return info{f}, nil }
func (f file) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(f.data)), nil }

// Serve adds modules, or gives those that are there other bytes.
func (s *Server) Serve(world string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	modules := map[module.Version][]modzip.File{}
	for _, f := range txtar.Parse([]byte(world)).Files {
		at := strings.IndexByte(f.Name, '@')
		slash := strings.IndexByte(f.Name[max(at, 0):], '/') + max(at, 0)
		if at < 0 || slash <= at {
			return fmt.Errorf("%q is not MODULE@VERSION/PATH", f.Name)
		}
		v := module.Version{Path: f.Name[:at], Version: f.Name[at+1 : slash]}
		modules[v] = append(modules[v], file{f.Name[slash+1:], f.Data})
	}
	for v, files := range modules {
		if err := s.add(v, files); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) add(v module.Version, files []modzip.File) error {
	mod := []byte("module " + v.Path + "\n")
	for _, f := range files {
		if f.Path() == "go.mod" {
			mod = f.(file).data
		}
	}
	var z bytes.Buffer
	if err := modzip.Create(&z, v, files); err != nil {
		return err
	}
	path, err := module.EscapePath(v.Path)
	if err != nil {
		return err
	}
	base := path + "/@v/" + v.Version
	s.files[base+".zip"], s.files[base+".mod"] = z.Bytes(), mod
	s.files[base+".info"], _ = json.Marshal(map[string]string{"Version": v.Version, "Time": "2026-01-02T03:04:05Z"})
	if !slices.Contains(strings.Fields(string(s.files[path+"/@v/list"])), v.Version) {
		s.files[path+"/@v/list"] = append(s.files[path+"/@v/list"], v.Version+"\n"...)
	}
	versions := strings.Fields(string(s.files[path+"/@v/list"]))
	semver.Sort(versions)
	s.files[path+"/@latest"], _ = json.Marshal(map[string]string{"Version": versions[len(versions)-1]})
	return s.sum(v, z.Bytes(), mod)
}

// sum computes lines of go.sum with the go command's own library.
func (s *Server) sum(v module.Version, z, mod []byte) error {
	temp, err := os.CreateTemp("", "gomodtest-*.zip")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	defer temp.Close()
	if _, err := temp.Write(z); err != nil {
		return err
	}
	zipSum, err := dirhash.HashZip(temp.Name(), dirhash.Hash1)
	if err != nil {
		return err
	}
	modSum, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(mod)), nil })
	if err != nil {
		return err
	}
	s.sums[v.Path+" "+v.Version] = fmt.Sprintf("%s %s %s\n%s %s/go.mod %s\n", v.Path, v.Version, zipSum, v.Path, v.Version, modSum)
	return nil
}

// Sums returns the lines of go.sum for modules, MODULE@VERSION each.
func (s *Server) Sums(modules ...string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all strings.Builder
	for _, m := range modules {
		all.WriteString(s.sums[strings.Replace(m, "@", " ", 1)])
	}
	return all.String()
}

// Put serves other bytes at a path of the proxy; nil for none.
func (s *Server) Put(path string, b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b == nil {
		delete(s.files, path)
		return
	}
	s.files[path] = b
}

func (s *Server) gosum(path, version string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := s.sums[path+" "+version]
	if lines == "" {
		return nil, &fs.PathError{Op: "find", Path: path + "@" + version, Err: fs.ErrNotExist} // which the database answers 404 for
	}
	return []byte(lines), nil
}

func (s *Server) proxy(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	b, ok := s.files[strings.TrimPrefix(r.URL.Path, "/proxy/")]
	s.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write(b)
}
