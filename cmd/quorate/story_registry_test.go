package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	ocireg "github.com/google/go-containerregistry/pkg/registry"
	"github.com/rogpeppe/go-internal/testscript"

	"quorate.dev/builder/image"
	"quorate.dev/builder/registry"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/attestation"
	"quorate.dev/rebuild/keyfile"
)

// The commands of stories about registries. The registries are real servers in
// this process; what is done behind quorate's back goes through their API.
//
//	registry NAME [cue] [no-referrers] [tls] [password] [full-after=N] [changes=TEXT]
//	    start a registry and set the variable NAME to HOST:PORT. That of CUE's
//	    authors and not go-containerregistry's; without the Referrers API; by HTTPS, with a certificate that SSL_CERT_FILE then
//	    names; for nobody but ann, whose password is secret; with room for N
//	    writes, until .mended-NAME exists; that changes a bit of what it serves
//	    under paths with the TEXT
//	login HOST USER PASSWORD
//	    what `docker login` would write
//	results FOLDER REBUILDER… [OPTION…]
//	    a bundle (story_test.go) in the form that publish takes, and the project
//	    that it is about, FOLDER/project
//	forget REF KIND
//	    delete from the registry, or the folder, the first referrer of the image that
//	    is a report (of NAME, as report:NAME), agreement, summary or refusal
//	noise REF N
//	    attach N referrers that say nothing: junk, bundles of junk, statements
//	    of strangers, things of other tools
//	push-image REF DIR
//	    push the image in an OCI layout, and nothing beside it, as crane does
//	replay REF REF
//	    attach everything that refers to the first image to the second
//	program NAME PACKAGE@VERSION
//	    put a program of somebody else's into the PATH, built by go install
//	    unless it is there already
//	copy-image REF REF
//	    copy an image of a registry or a folder, and what refers to it, to a
//	    registry, as oras does
var registryCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"registry":   startRegistry,
	"login":      logIn,
	"results":    makeResults,
	"forget":     forget,
	"noise":      makeNoise,
	"push-image": pushImage,
	"replay":     replay,
	"program":    installProgram,
	"judge":      buildJudge,
	"copy-image": copyImage,
}

func startRegistry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: registry NAME [cue] [no-referrers] [tls] [password] [full-after=N] [changes=TEXT]")
	}
	has := func(option string) bool { return slices.Contains(args[1:], option) }
	quiet := log.New(io.Discard, "", 0)
	var h http.Handler = ocireg.New(ocireg.WithReferrersSupport(!has("no-referrers")), ocireg.Logger(quiet))
	if has("cue") {
		h = ociserver.New(ocimem.New(), nil)
	}
	if has("password") {
		h = askPassword(h)
	}
	for _, option := range args[1:] {
		if n, ok := strings.CutPrefix(option, "full-after="); ok {
			room, err := strconv.ParseInt(n, 10, 64)
			ts.Check(err)
			h = fullAfter(h, room, ts.MkAbs(".mended-"+args[0]))
		}
		if text, ok := strings.CutPrefix(option, "changes="); ok {
			h = changing(h, text)
		}
	}
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = quiet
	if has("tls") {
		s.StartTLS()
		file := ts.MkAbs(".certificate-" + args[0] + ".pem")
		ts.Check(os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o644))
		ts.Setenv("SSL_CERT_FILE", file)
	} else {
		s.Start()
	}
	ts.Defer(s.Close)
	_, host, _ := strings.Cut(s.URL, "://")
	ts.Setenv(args[0], host)
}

// askPassword lets ann in, and nobody else.
func askPassword(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ann" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="story"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}`, http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// fullAfter is a registry whose disk is full after some writes, until the file is there.
func fullAfter(h http.Handler, room int64, mended string) http.Handler {
	var writes atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead && writes.Add(1) > room {
			if _, err := os.Stat(mended); err != nil {
				http.Error(w, `{"errors":[{"code":"DENIED","message":"no space"}]}`, http.StatusInsufficientStorage)
				return
			}
		}
		h.ServeHTTP(w, r)
	})
}

// changing is a registry that serves other bytes than it was given.
func changing(h http.Handler, text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, text) {
			h.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		body := rec.Body.Bytes()
		if rec.Code == http.StatusOK && len(body) > 0 {
			body[len(body)/2] ^= 1
		}
		w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
		w.WriteHeader(rec.Code)
		_, _ = w.Write(body)
	})
}

func logIn(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: login HOST USER PASSWORD")
	}
	dir := filepath.Join(ts.Getenv("HOME"), ".docker")
	ts.Check(os.MkdirAll(dir, 0o700))
	auth := base64.StdEncoding.EncodeToString([]byte(args[1] + ":" + args[2]))
	ts.Check(os.WriteFile(filepath.Join(dir, "config.json"), fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, args[0], auth), 0o600))
}

func makeResults(ts *testscript.TestScript, neg bool, args []string) {
	makeBundle(ts, neg, args)
	dir := ts.MkAbs(args[0])
	ts.Check(os.Rename(filepath.Join(dir, "bundle"+attestation.BundleSuffix), filepath.Join(dir, "agreement"+attestation.BundleSuffix)))
	ts.Check(os.MkdirAll(filepath.Join(dir, "project"), 0o755))
	ts.Check(os.WriteFile(filepath.Join(dir, "project", "quorate.yaml"), []byte(storyDefinition), 0o644))
	ts.Check(os.WriteFile(filepath.Join(dir, "project", "quorate.lock"), []byte(lockOfStory), 0o644))
}

// behind looks up what a story does something to, behind quorate's back.
func behind(ts complainer, text string) *published {
	if story, ok := ts.(*testscript.TestScript); ok && strings.HasPrefix(text, registry.LayoutPrefix) {
		text = registry.LayoutPrefix + story.MkAbs(strings.TrimPrefix(text, registry.LayoutPrefix))
	}
	ref, err := registry.Parse(text)
	ts.Check(err)
	p, err := lookUp(context.Background(), registry.New(registry.Options{}), ref)
	ts.Check(err)
	return p
}

// api sends a request to the registry of a reference.
func (p *published) api(ts complainer, method, path, mediaType string, body []byte) []byte {
	req, err := http.NewRequest(method, "http://"+p.ref.Registry()+"/v2/"+strings.TrimPrefix(p.ref.Repository(), p.ref.Registry()+"/")+"/"+path, bytes.NewReader(body))
	ts.Check(err)
	req.Header.Set("Content-Type", mediaType)
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if resp.StatusCode >= 300 {
		ts.Fatalf("%s %s: %s %s", method, req.URL, resp.Status, answer)
	}
	return answer
}

func (p *published) putBlob(ts complainer, b []byte) string {
	sum := sha256.Sum256(b)
	d := "sha256:" + hex.EncodeToString(sum[:])
	p.api(ts, http.MethodPost, "blobs/uploads/?digest="+d, "application/octet-stream", b)
	return d
}

func forget(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: forget REF KIND")
	}
	kind, who, _ := strings.Cut(args[1], ":")
	p := behind(ts, args[0])
	claims := map[digest.Digest]*attestation.Claim{}
	err := p.statements(context.Background(), func(d digest.Digest, b []byte) {
		if e, err := attestation.OpenSigstoreBundle(b); err == nil {
			claims[d], _ = attestation.ReadClaim(e)
		}
	}, func(digest.Digest, error) {})
	ts.Check(err)
	for _, d := range p.beside {
		c := claims[d.Digest]
		if c != nil && string(c.Kind) == kind && (who == "" || c.Report.Rebuilder == who) {
			if dir := p.ref.Layout(); dir != "" {
				forgetIn(ts, dir, p.top.Digest, d.Digest)
				return
			}
			p.api(ts, http.MethodDelete, "manifests/"+d.Digest.String(), "", nil)
			return
		}
	}
	ts.Fatalf("no %s refers to %s", args[1], args[0])
}

// forgetIn takes a referrer from a folder, and every list that has it, so that
// nothing there tells of it any more.
func forgetIn(ts complainer, dir string, subject, d digest.Digest) {
	name := filepath.Join(dir, "index.json")
	raw, err := os.ReadFile(name)
	ts.Check(err)
	var index map[string]any
	ts.Check(json.Unmarshal(raw, &index))
	index["manifests"] = slices.DeleteFunc(index["manifests"].([]any), func(one any) bool {
		text, err := json.Marshal(one)
		ts.Check(err)
		return strings.Contains(string(text), d.String()) || strings.Contains(string(text), "sha256-"+subject.Hex())
	})
	raw, err = json.Marshal(index)
	ts.Check(err)
	ts.Check(os.WriteFile(name, raw, 0o644))
	ts.Check(os.Remove(filepath.Join(dir, "blobs", "sha256", d.Hex())))
}

func makeNoise(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: noise REF N")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	addNoise(ts, args[0], n)
}

func addNoise(ts complainer, refText string, n int) {
	p := behind(ts, refText)
	stranger, err := keyfile.Generate()
	ts.Check(err)
	l := &rebuildLab{ts: ts, job: storyJob, how: map[string]string{}, good: &image.Image{ManifestDigest: p.top.Digest}}
	report, err := attestation.SignReport(context.Background(), l.record("ams"), stranger)
	ts.Check(err)
	signed, err := attestation.SigstoreBundle(report, stranger.Public())
	ts.Check(err)
	layers := []string{ // what the single layer is, round and round
		p.putBlob(ts, signed), p.putBlob(ts, []byte("junk")), p.putBlob(ts, []byte(`{"mediaType":"`+attestation.SigstoreMediaType+`","dsseEnvelope":{}}`)),
		"sha256:" + strings.Repeat("1", 64), // which nobody has
	}
	sizes := []int{len(signed), 4, len(attestation.SigstoreMediaType) + 35, 10}
	config := p.putBlob(ts, []byte("{}"))
	for i := range n {
		artifact := attestation.SigstoreMediaType
		if i%5 == 4 {
			artifact = "application/vnd.example.other"
		}
		m := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[{"mediaType":%q,"digest":%q,"size":%d}],"subject":{"mediaType":%q,"digest":%q,"size":%d},"annotations":{"n":"%d"}}`,
			image.ManifestMediaType, artifact, registry.EmptyMediaType, config, artifact, layers[i%len(layers)], sizes[i%len(layers)], p.top.MediaType, p.top.Digest, p.top.Size, i)
		sum := sha256.Sum256([]byte(m))
		p.api(ts, http.MethodPut, "manifests/sha256:"+hex.EncodeToString(sum[:]), image.ManifestMediaType, []byte(m))
	}
}

func copyImage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: copy-image REF REF")
	}
	from := behind(ts, args[0])
	ref, err := registry.Parse(args[1])
	ts.Check(err)
	to := &published{ref: ref}
	read := func(kind, name string) []byte {
		if dir := from.ref.Layout(); dir != "" {
			b, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(name, "sha256:")))
			ts.Check(err)
			return b
		}
		return from.api(ts, http.MethodGet, kind+name, "", nil)
	}
	copyManifest := func(name, as string) {
		b := read("manifests/", name)
		var m struct {
			MediaType string                  `json:"mediaType"`
			Config    struct{ Digest string } `json:"config"`
			Layers    []struct{ Digest string }
		}
		ts.Check(json.Unmarshal(b, &m))
		for _, d := range append(m.Layers, m.Config) {
			to.putBlob(ts, read("blobs/", d.Digest))
		}
		to.api(ts, http.MethodPut, "manifests/"+as, m.MediaType, b)
	}
	copyManifest(from.top.Digest.String(), ref.Tag())
	for _, d := range from.beside {
		copyManifest(d.Digest.String(), d.Digest.String())
	}
}

func pushImage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: push-image REF DIR")
	}
	ref, err := registry.Parse(args[0])
	ts.Check(err)
	layout, err := image.ReadOCI(ts.MkAbs(args[1]))
	ts.Check(err)
	c := registry.New(registry.Options{})
	top, err := c.PushImages(context.Background(), ref, layout.Images, layout)
	ts.Check(err)
	ts.Check(c.Tag(context.Background(), ref, top.Digest))
}

func replay(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: replay REF REF")
	}
	from, to := behind(ts, args[0]), behind(ts, args[1])
	var all []*registry.Artifact
	for _, d := range from.beside {
		a, err := from.client.Artifact(context.Background(), from.ref, d.Digest, from.top.Digest)
		ts.Check(err)
		all = append(all, a)
	}
	_, err := to.client.Attach(context.Background(), to.ref, to.top.Descriptor, all...)
	ts.Check(err)
}

func installProgram(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: program NAME PACKAGE@VERSION")
	}
	if _, err := exec.LookPath(args[0]); err == nil {
		return
	}
	program, err := builtOnce(args[0], func(path string) error { return goInstall(path, args[1]) })
	ts.Check(err)
	putInPath(ts, program)
}

func putInPath(ts *testscript.TestScript, program string) {
	ts.Setenv("PATH", filepath.Dir(program)+string(os.PathListSeparator)+ts.Getenv("PATH"))
}

// buildJudge builds a program of testdata/judges, a module of its own around
// somebody else's library, whose dependencies are none of ours.
func buildJudge(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: judge NAME FOLDER")
	}
	program, err := builtOnce(args[0], func(path string) error {
		dir := filepath.Join(source, "testdata", "judges", args[1])
		return goBuild(dir, path, slices.Concat(hasty, []string{"-tags", "containers_image_openpgp", "."})...)
	})
	ts.Check(err)
	putInPath(ts, program)
}
