// Package npmtest is a small npm registry that signs what it has, and may
// demand a token. It is for tests of this module.
//
//	r := npmtest.Start()
//	defer r.Close()
//	key := r.NewKey()
//	left := r.Publish("left", "1.2.3", key)
//	left.Signatures = nil // from now on it has none
//
// It answers what npm asks: /-/npm/v1/keys, a package, one version, a tarball.
package npmtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"time"
)

// Registry is a registry on this machine. Its fields may be changed between requests.
type Registry struct {
	*httptest.Server
	Keys     []*Key
	Token    string                     // that it demands, as "Bearer TOKEN"; "" for none
	Whole    bool                       // it answers for packages, and not for single versions
	Denies   bool                       // it answers 403 where it has no keys, as some do
	Upstream string                     // has what is not published here
	Sign     func(*Release) []Signature // of what Upstream has

	mu       sync.Mutex
	releases map[string]map[string]*Release
	requests []Request
}

// Request is one that came.
type Request struct {
	Path          string
	Authorization string
}

// Release is one version of a package, as the registry serves it.
type Release struct {
	Name, Version string
	Tarball       []byte
	Integrity     string
	Signatures    []Signature
	Published     string // RFC 3339; "" when the registry does not say
}

// Signature is one as packages have it.
type Signature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"`
}

// Key signs; see Registry.NewKey.
type Key struct {
	ID      string
	Expires string // RFC 3339; "" for never
	private *ecdsa.PrivateKey
	der     []byte
}

// Start serves an empty registry.
func Start() *Registry {
	r := &Registry{releases: map[string]map[string]*Release{}}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	return r
}

// NewKey makes a key, named by its digest as npm names its own. It is not offered by itself.
func NewKey() *Key {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // the system has no randomness
	}
	der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		panic(err) // P-256 is known
	}
	sum := sha256.Sum256(der)
	return &Key{ID: "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:]), private: private, der: der}
}

// NewKey makes a key that the registry offers.
func (r *Registry) NewKey() *Key {
	k := NewKey()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Keys = append(r.Keys, k)
	return k
}

// Fingerprint is the sha256 of the key's DER form, in hexadecimal digits.
func (k *Key) Fingerprint() string { return fmt.Sprintf("%x", sha256.Sum256(k.der)) }

// Text is the key's DER form in base64, as registries have it.
func (k *Key) Text() string { return base64.StdEncoding.EncodeToString(k.der) }

// Sign signs a release as it is.
func (k *Key) Sign(r *Release) Signature {
	sum := sha256.Sum256([]byte(r.Name + "@" + r.Version + ":" + r.Integrity))
	sig, err := ecdsa.SignASN1(rand.Reader, k.private, sum[:])
	if err != nil {
		panic(err) // a digest can always be signed
	}
	return Signature{k.ID, base64.StdEncoding.EncodeToString(sig)}
}

// Document is what a registry has at /-/npm/v1/keys.
func Document(keys ...*Key) []byte {
	list := []map[string]any{}
	for _, k := range keys {
		one := map[string]any{"keyid": k.ID, "keytype": "ecdsa-sha2-nistp256", "scheme": "ecdsa-sha2-nistp256", "key": k.Text(), "expires": nil}
		if k.Expires != "" {
			one["expires"] = k.Expires
		}
		list = append(list, one)
	}
	text, err := json.MarshalIndent(map[string]any{"keys": list}, "", "  ")
	if err != nil {
		panic(err) // texts can always be written
	}
	return append(text, '\n')
}

// Publish adds a version, a tarball with a package.json and an index.js, signed by keys.
func (r *Registry) Publish(name, version string, keys ...*Key) *Release {
	rel := &Release{Name: name, Version: version, Tarball: Pack(name, version), Published: "2026-01-02T03:04:05.000Z"}
	sum := sha512.Sum512(rel.Tarball)
	rel.Integrity = "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
	for _, k := range keys {
		rel.Signatures = append(rel.Signatures, k.Sign(rel))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.releases[name] == nil {
		r.releases[name] = map[string]*Release{}
	}
	r.releases[name][version] = rel
	return rel
}

// Pack makes a tarball as npm pack does: the same of the same.
func Pack(name, version string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, f := range [][2]string{
		{"package/package.json", fmt.Sprintf("{\"name\":%q,\"version\":%q}", name, version)},
		{"package/index.js", "exports.name = '" + name + "'\n"},
	} {
		_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f[0], Size: int64(len(f[1])), Mode: 0o644})
		_, _ = io.WriteString(w, f[1])
	}
	_, _ = w.Close(), z.Close() // to memory, which takes all
	return b.Bytes()
}

// LockEntry is a package's entry in package-lock.json.
func (rel *Release) LockEntry() string {
	return fmt.Sprintf("\"node_modules/%s\": {\"version\": %q, \"integrity\": %q}", rel.Name, rel.Version, rel.Integrity)
}

// Requests returns what was asked since the last call.
func (r *Registry) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.requests
	r.requests = nil
	return all
}

func (r *Registry) serve(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, Request{req.URL.Path, req.Header.Get("Authorization")})
	if r.Token != "" && req.Header.Get("Authorization") != "Bearer "+r.Token {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	at := strings.TrimPrefix(req.URL.Path, "/")
	if at == "-/npm/v1/keys" {
		if len(r.Keys) == 0 {
			status := http.StatusNotFound
			if r.Denies {
				status = http.StatusForbidden
			}
			w.WriteHeader(status)
			return
		}
		_, _ = w.Write(Document(r.Keys...))
		return
	}
	name, rest, _ := strings.Cut(at, "/")
	if strings.HasPrefix(name, "@") {
		second, more, _ := strings.Cut(rest, "/")
		name, rest = name+"/"+second, more
	}
	switch file, isFile := strings.CutPrefix(rest, "-/"); {
	case r.releases[name] == nil && r.Upstream != "":
		r.mu.Unlock()
		r.pass(w, name, rest)
		r.mu.Lock()
	case isFile:
		version := strings.TrimSuffix(strings.TrimPrefix(file, path.Base(name)+"-"), ".tgz")
		if rel := r.releases[name][version]; rel != nil {
			_, _ = w.Write(rel.Tarball)
			return
		}
		http.NotFound(w, req)
	case rest == "" && r.releases[name] != nil:
		reply(w, r.document(name))
	case !r.Whole && r.releases[name][rest] != nil:
		reply(w, r.version(r.releases[name][rest]))
	default:
		http.NotFound(w, req)
	}
}

func (r *Registry) version(rel *Release) map[string]any {
	dist := map[string]any{"integrity": rel.Integrity, "tarball": r.URL + "/" + rel.Name + "/-/" + path.Base(rel.Name) + "-" + rel.Version + ".tgz"}
	if rel.Signatures != nil {
		dist["signatures"] = rel.Signatures
	}
	return map[string]any{"name": rel.Name, "version": rel.Version, "dist": dist}
}

func (r *Registry) document(name string) map[string]any {
	versions, times := map[string]any{}, map[string]string{}
	latest := ""
	for v, rel := range r.releases[name] {
		versions[v], latest = r.version(rel), max(latest, v)
		if rel.Published != "" {
			times[v] = rel.Published
		}
	}
	return map[string]any{"name": name, "dist-tags": map[string]string{"latest": latest}, "versions": versions, "time": times}
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// pass hands on what another registry has: tarballs as they are, and metadata with signatures.
func (r *Registry) pass(w http.ResponseWriter, name, rest string) {
	at := strings.TrimSuffix(r.Upstream, "/") + "/" + name
	if rest != "" {
		at += "/" + rest
	}
	client := http.Client{Timeout: time.Minute}
	resp, err := client.Get(at)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || strings.HasPrefix(rest, "-/") {
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
		return
	}
	var doc map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	versions, many := doc["versions"].(map[string]any)
	if !many {
		versions = map[string]any{rest: doc}
	}
	for v, one := range versions {
		m, ok := one.(map[string]any)
		dist, hasDist := m["dist"].(map[string]any)
		integrity, _ := dist["integrity"].(string)
		if !ok || !hasDist {
			continue
		}
		dist["tarball"] = r.URL + "/" + name + "/-/" + path.Base(name) + "-" + v + ".tgz"
		if signatures := r.Sign(&Release{Name: name, Version: v, Integrity: integrity}); integrity != "" && signatures != nil {
			dist["signatures"] = signatures
		}
	}
	reply(w, doc)
}
