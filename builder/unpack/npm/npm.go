// Package npm shows npm packages as a cache of npm, from which `npm ci
// --offline` installs:
//
//	/inputs/NAME/_cacache/content-v2/sha512/ab/cd/ef…    tarballs, and what a registry would say of them
//	/inputs/NAME/_cacache/index-v5/01/23/45…             which of them answers which URL
//
// A step copies it, because npm writes beside what it reads (and Debian's npm 9
// does not read through links), and names the registry that the index is of:
//
//	env: {npm_config_registry: "http://registry.invalid/"}
//	run: |
//	  cp -r /inputs/packages/. ~/.npm
//	  npm ci --offline
//
// Tarballs are found by the sha512 in package-lock.json. Where the lock holds
// URLs of tarballs, nothing else is asked for; where it holds none (npm's
// omit-lockfile-registry-resolved), npm first asks the registry for the versions of
// each package, and the index has the answers: the versions that are locked,
// and of each no more than its tarball. So `npm ci` finds all it needs, and `npm
// install` of anything else finds nothing.
//
// What the lock says that a registry signed is held against the lock's keys
// once more: over the integrity, which npm holds the tarball against.
//
// The two folders' formats are those of npm's library cacache, version 12 and
// later; the URL's form that of its library make-fetch-happen.
package npm

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"quorate.dev/builder/unpack"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/npmkey"
)

// Registry is the registry that the index answers for. Names that end in
// "invalid" exist nowhere (RFC 2606, section 2).
const Registry = "http://registry.invalid/"

// Unpack is an unpack.Kind.
func Unpack(in lockfile.Input, blobs []unpack.Blob, files *unpack.Files) error {
	keys, err := npmkey.ParseFact(in.Facts["keys"])
	if err != nil {
		return err
	}
	c := cache{files: files, shown: map[string]bool{}}
	packages := map[string]packument{}
	for _, b := range blobs {
		if _, err := keys.VerifyPin(b.Pin.Name, b.Pin.Version, b.Pin.Integrity, b.Pin.Signatures); err != nil {
			return fmt.Errorf("npm package %s %s %w; the lock was made by somebody else than quorate lock", b.Pin.Name, b.Pin.Version, err)
		}
		if err := c.tarball(b); err != nil {
			return err
		}
		if !strings.HasPrefix(b.Pin.Path, b.Pin.Name+"/-/") {
			continue // the lock file names its URL
		}
		p := packages[b.Pin.Name]
		p.add(b.Pin)
		packages[b.Pin.Name] = p
		line := indexed{Integrity: b.Pin.Integrity, Size: b.Pin.Size}
		line.Metadata.ResponseHeaders = map[string]string{"content-type": "application/octet-stream"}
		if err := c.index(Registry+b.Pin.Path, line, []string{""}); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(packages)) {
		if err := c.answer(Registry+strings.ReplaceAll(name, "/", "%2f"), packages[name]); err != nil {
			return err
		}
	}
	return nil
}

// packument is what a registry says of a package (npm's documentation of
// registries, "package metadata"), as far as npm ci asks.
type packument struct {
	Name     string             `json:"name"`
	Tags     map[string]string  `json:"dist-tags"`
	Versions map[string]version `json:"versions"`
}

type version struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Dist    struct {
		Tarball   string `json:"tarball"`
		Integrity string `json:"integrity"`
	} `json:"dist"`
}

func (p *packument) add(pin lockfile.Pin) {
	if p.Versions == nil {
		*p = packument{Name: pin.Name, Tags: map[string]string{}, Versions: map[string]version{}}
	}
	v := version{Name: pin.Name, Version: pin.Version}
	v.Dist.Tarball, v.Dist.Integrity = Registry+pin.Path, pin.Integrity
	p.Versions[pin.Version] = v
	p.Tags["latest"] = max(p.Tags["latest"], pin.Version) // a registry has always one; npm ci does not use it
}

// cache is npm's cache while it is being written.
type cache struct {
	files *unpack.Files
	shown map[string]bool // contents: two names may have one tarball
}

// tarball adds a tarball, by the sha512 that it is pinned with.
func (c *cache) tarball(b unpack.Blob) error {
	sum, ok := strings.CutPrefix(b.Pin.Integrity, "sha512-")
	raw, err := base64.StdEncoding.DecodeString(sum)
	if !ok || err != nil || len(raw) != sha512.Size {
		return fmt.Errorf("npm package %s %s is pinned with the integrity %q, expected a sha512", b.Pin.Name, b.Pin.Version, b.Pin.Integrity)
	}
	if at := content(raw); !c.shown[at] {
		c.shown[at] = true
		return c.files.AddBlob(at, b)
	}
	return nil
}

func content(sum []byte) string { return "_cacache/content-v2/sha512/" + split(sum) }

// split is how cacache spreads files over folders.
func split(sum []byte) string {
	h := hex.EncodeToString(sum)
	return h[:2] + "/" + h[2:4] + "/" + h[4:]
}

// indexed is a line of an index (cacache, lib/entry-index.js) with what
// make-fetch-happen keeps there.
type indexed struct {
	Key       string   `json:"key"`
	Integrity string   `json:"integrity"`
	Time      int64    `json:"time"` // milliseconds; 0 for none
	Size      int64    `json:"size"`
	Metadata  metadata `json:"metadata"`
}

type metadata struct {
	Time            int64             `json:"time"`
	URL             string            `json:"url"`
	RequestHeaders  map[string]string `json:"reqHeaders"`
	ResponseHeaders map[string]string `json:"resHeaders"`
	Options         struct {
		Compress bool `json:"compress"`
	} `json:"options"`
}

// answer adds what the registry says at a URL.
func (c *cache) answer(url string, p packument) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	sum := sha512.Sum512(text)
	if at := content(sum[:]); !c.shown[at] {
		c.shown[at] = true
		if err := c.files.Add(at, 0o644, bytes.NewReader(text)); err != nil {
			return err
		}
	}
	line := indexed{Integrity: "sha512-" + base64.StdEncoding.EncodeToString(sum[:]), Size: int64(len(text))}
	line.Metadata.ResponseHeaders = map[string]string{"content-type": "application/json"}
	return c.index(url, line, accepts)
}

// accepts are the two forms that npm asks a registry's word in (its library
// pacote, lib/registry.js): make-fetch-happen gives an answer only to the same.
var accepts = []string{
	"application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*",
	"application/json",
}

// index says what answers a URL: a line for each form that it is asked in, "" for any.
func (c *cache) index(url string, line indexed, accepts []string) error {
	line.Key = "make-fetch-happen:request-cache:" + url
	line.Metadata.URL = url
	line.Metadata.Options.Compress = true
	var lines bytes.Buffer
	for _, accept := range accepts {
		line.Metadata.RequestHeaders = map[string]string{}
		if accept != "" {
			line.Metadata.RequestHeaders["accept"] = accept
		}
		var entry bytes.Buffer
		e := json.NewEncoder(&entry)
		e.SetEscapeHTML(false) // as JSON.stringify writes
		if err := e.Encode(line); err != nil {
			return err
		}
		b := bytes.TrimSuffix(entry.Bytes(), []byte("\n"))
		fmt.Fprintf(&lines, "\n%x\t%s", sha1.Sum(b), b)
	}
	key := sha256.Sum256([]byte(line.Key))
	return c.files.Add("_cacache/index-v5/"+split(key[:]), 0o644, &lines)
}
