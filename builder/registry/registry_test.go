package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"quorate.dev/builder/image"
	"quorate.dev/lockfile/digest"
)

// blobs is an image.BlobSource and a Sink.
type blobs struct {
	mu sync.Mutex
	m  map[digest.Digest][]byte
}

func (b *blobs) Open(d digest.Digest) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	data, ok := b.m[d]
	if !ok {
		return nil, os.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (b *blobs) Put(r io.Reader, want digest.Digest, size int64) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.m[want] = data
	return nil
}

// makeImages makes one image for each architecture; they share a layer.
func makeImages(t *testing.T, architectures ...string) ([]image.Image, *blobs) {
	t.Helper()
	store := &blobs{m: map[digest.Digest][]byte{}}
	layer := func(text string) image.Layer {
		d := digest.Of([]byte(text))
		store.m[d] = []byte(text)
		return image.Layer{Name: "base", Digest: d, Size: int64(len(text)), DiffID: d}
	}
	var all []image.Image
	for _, a := range architectures {
		img, err := image.New(image.Spec{
			Platform: image.Platform{OS: "linux", Architecture: a}, Created: time.Unix(1793491200, 0),
			Layers: []image.Layer{layer("shared by all"), layer(strings.Repeat("only of "+a, 1000))},
		})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, *img)
	}
	return all, store
}

// inProcess is a registry in this process. wrap may be nil.
func inProcess(t *testing.T, referrers bool, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	h := registry.New(registry.WithReferrersSupport(referrers), registry.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		h = wrap(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func mustParse(t *testing.T, s string) Reference {
	t.Helper()
	r, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantKind(t *testing.T, err error, kind Kind, ref string) {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("got error %v, expected a *registry.Error", err)
	}
	if e.Kind != kind {
		t.Errorf("got kind %q, expected %q: %v", e.Kind, kind, err)
	}
	if !strings.Contains(err.Error(), ref) {
		t.Errorf("error does not name %q: %v", ref, err)
	}
}

// suite is what every keeper of images has to do, a registry or a folder; the
// reference has a tag.
func suite(t *testing.T, c *Client, ref Reference) {
	ctx := context.Background()
	for _, platforms := range [][]string{{"amd64"}, {"amd64", "arm64"}} {
		t.Run(strings.Join(platforms, "+"), func(t *testing.T) {
			images, store := makeImages(t, platforms...)
			for round := range 2 { // the second finds everything there
				top, err := c.PushImages(ctx, ref, images, store)
				if err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				if len(platforms) == 1 && top.Digest != images[0].ManifestDigest {
					t.Errorf("pushed %s, expected the image's own manifest %s", top.Digest, images[0].ManifestDigest)
				}
				if err := c.ReadBack(ctx, ref, images); err != nil {
					t.Fatal(err)
				}
				checkArtifacts(t, c, ref, top)
				if err := c.Tag(ctx, ref, top.Digest); err != nil {
					t.Fatal(err)
				}
				got, err := c.Resolve(ctx, ref)
				if err != nil || got.Digest != top.Digest || got.MediaType != top.MediaType || got.Size != top.Size {
					t.Errorf("the tag names %+v (%v), expected %+v", got, err, top)
				}
			}
			pulled := &blobs{m: map[digest.Digest][]byte{}}
			back, err := c.Pull(ctx, ref, pulled)
			if err != nil {
				t.Fatal(err)
			}
			if len(back) != len(images) || len(pulled.m) != len(store.m) {
				t.Errorf("pulled %d images and %d layers, expected %d and %d", len(back), len(pulled.m), len(images), len(store.m))
			}
			for i := range back {
				if back[i].ManifestDigest != images[i].ManifestDigest || back[i].Platform != images[i].Platform || !bytes.Equal(back[i].Config, images[i].Config) {
					t.Errorf("image %d came back as another one", i)
				}
			}
		})
	}
	_, err := c.Resolve(ctx, ref.WithTag("nowhere"))
	wantKind(t, err, NotFound, ref.WithTag("nowhere").String())
}

func checkArtifacts(t *testing.T, c *Client, ref Reference, top Descriptor) {
	t.Helper()
	ctx := context.Background()
	var artifacts []*Artifact
	for i := range 3 {
		artifacts = append(artifacts, &Artifact{
			Type: "application/vnd.example+json", Annotations: map[string]string{"n": fmt.Sprint(i)},
			Layers: []ArtifactLayer{Document("application/vnd.example+json", fmt.Sprintf("%d.json", i), []byte(fmt.Sprint(i)))},
		})
	}
	attached, err := c.Attach(ctx, ref, top, artifacts...)
	if err != nil {
		t.Fatal(err)
	}
	listed, err := c.Referrers(ctx, ref, top.Digest)
	if err != nil || len(listed) != len(artifacts) {
		t.Fatalf("%d referrers are listed (%v), expected %d", len(listed), err, len(artifacts))
	}
	for i, d := range attached {
		a, err := c.Artifact(ctx, ref, d.Digest, top.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if a.Type != artifacts[i].Type || a.Annotations["n"] != fmt.Sprint(i) || len(a.Layers) != 1 || a.Layers[0].Title() != fmt.Sprintf("%d.json", i) {
			t.Errorf("artifact %d came back as %+v", i, a)
		}
		text, err := c.Bytes(ctx, ref, a.Layers[0].Digest, a.Layers[0].Size, 10)
		if err != nil || string(text) != fmt.Sprint(i) {
			t.Errorf("document %d came back as %q (%v)", i, text, err)
		}
	}
	if _, err := c.Artifact(ctx, ref, attached[0].Digest, digest.Of(nil)); err == nil || !strings.Contains(err.Error(), "does not refer to") {
		t.Errorf("an artifact of another image: %v", err)
	}
}

// cueRegistry is the registry of CUE's authors, written apart from the one of
// go-containerregistry. It has the Referrers API and, unlike that one, tells the
// subject in OCI-Subject and refuses blobs and manifests under digests not theirs.
func cueRegistry() http.Handler { return ociserver.New(ocimem.New(), nil) }

func TestRegistries(t *testing.T) {
	t.Run("CUE's", func(t *testing.T) {
		s := httptest.NewServer(cueRegistry())
		defer s.Close()
		suite(t, New(Options{}), mustParse(t, strings.TrimPrefix(s.URL, "http://")+"/some/app:v1"))
	})
	t.Run("CUE's by TLS, and a password from a helper", func(t *testing.T) {
		s := httptest.NewUnstartedServer(withPassword(cueRegistry()))
		s.Config.ErrorLog = log.New(io.Discard, "", 0) // pings by plain HTTP, too
		s.StartTLS()
		defer s.Close()
		host := strings.TrimPrefix(s.URL, "https://")
		credentialHelper(t, host, "ann", "secret")
		suite(t, New(Options{Transport: s.Client().Transport}), mustParse(t, host+"/some/app:v1"))
	})
	t.Run("a folder", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "out", "app")
		suite(t, New(Options{}), mustParse(t, "oci:"+dir+":v1"))
		noneAside(t, dir)
	})
	t.Run("with the Referrers API", func(t *testing.T) {
		suite(t, New(Options{}), mustParse(t, inProcess(t, true, nil)+"/some/app:v1"))
	})
	t.Run("without", func(t *testing.T) {
		suite(t, New(Options{}), mustParse(t, inProcess(t, false, nil)+"/some/app:v1"))
	})
	for _, referrers := range []bool{true, false} {
		t.Run(fmt.Sprintf("TLS, and a password from a helper, API %t", referrers), func(t *testing.T) {
			s := httptest.NewUnstartedServer(withPassword(registry.New(registry.WithReferrersSupport(referrers), registry.Logger(log.New(io.Discard, "", 0)))))
			s.Config.ErrorLog = log.New(io.Discard, "", 0) // pings by plain HTTP, too
			s.StartTLS()
			defer s.Close()
			host := strings.TrimPrefix(s.URL, "https://")
			credentialHelper(t, host, "ann", "secret")
			suite(t, New(Options{Transport: s.Client().Transport}), mustParse(t, host+"/some/app:v1"))
		})
	}
}

// withPassword asks everybody for ann's password.
func withPassword(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ann" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}`, http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// credentialHelper installs a docker-credential-… program for the host.
func credentialHelper(t *testing.T, host, user, password string) {
	t.Helper()
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nread host\n[ \"$1\" = get ] && [ \"$host\" = %q ] || exit 1\nprintf '{\"ServerURL\":%%s,\"Username\":%q,\"Secret\":%q}' \"\\\"$host\\\"\"\n", host, user, password)
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`{"credHelpers": {%q: "test"}}`, host)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("DOCKER_CONFIG", dir)
}

func TestDenied(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	host := inProcess(t, true, withPassword)
	images, store := makeImages(t, "amd64")
	ref := mustParse(t, host+"/app:v1")
	_, err := New(Options{}).Resolve(context.Background(), ref)
	wantKind(t, err, Denied, ref.String())
	_, err = New(Options{}).PushImages(context.Background(), ref, images, store)
	wantKind(t, err, Denied, ref.String())
	_, err = New(Options{}).Referrers(context.Background(), ref, images[0].ManifestDigest)
	wantKind(t, err, Denied, images[0].ManifestDigest.String())
}

func TestUnreachable(t *testing.T) {
	s := httptest.NewServer(nil)
	ref := mustParse(t, strings.TrimPrefix(s.URL, "http://")+"/app:v1")
	s.Close()
	_, err := New(Options{}).Resolve(context.Background(), ref)
	wantKind(t, err, Unreachable, ref.String())

	tls := httptest.NewUnstartedServer(http.NotFoundHandler()) // nobody trusts its certificate
	tls.Config.ErrorLog = log.New(io.Discard, "", 0)
	tls.StartTLS()
	defer tls.Close()
	_, err = New(Options{}).Resolve(context.Background(), mustParse(t, strings.TrimPrefix(tls.URL, "https://")+"/app:v1"))
	if err == nil {
		t.Error("an untrusted certificate was accepted")
	}
}

// Private addresses are not this machine: go-containerregistry would speak
// plain HTTP with them.
func TestPlainHTTP(t *testing.T) {
	asked := 0
	inner := transportFunc(func(r *http.Request) (*http.Response, error) {
		if r.URL.Scheme == "https" {
			return nil, errors.New("no TLS here")
		}
		asked++
		return nil, errors.New("asked by plain HTTP")
	})
	ref := mustParse(t, "10.0.0.1:5000/app:v1")
	_, err := New(Options{Transport: inner}).Resolve(context.Background(), ref)
	wantKind(t, err, Unreachable, ref.String())
	if asked != 0 || !strings.Contains(err.Error(), "plain HTTP is not allowed") {
		t.Errorf("asked %d times by plain HTTP: %v", asked, err)
	}
	_, err = New(Options{Transport: inner, PlainHTTP: true}).Resolve(context.Background(), ref)
	if asked == 0 || err == nil {
		t.Errorf("PlainHTTP does not allow plain HTTP: %v", err)
	}
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A registry that keeps other bytes than it was given is found before anybody pulls.
func TestReadBackNotices(t *testing.T) {
	images, store := makeImages(t, "amd64")
	for summary, path := range map[string]string{
		"layer":         "/blobs/" + images[0].Layers[1].Digest.String(),
		"configuration": "/blobs/" + images[0].ConfigDigest().String(),
		"manifest":      "/manifests/" + images[0].ManifestDigest.String(),
	} {
		t.Run(summary, func(t *testing.T) {
			host := inProcess(t, true, func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, path) {
						h.ServeHTTP(w, r)
						return
					}
					rec := httptest.NewRecorder()
					h.ServeHTTP(rec, r)
					body := rec.Body.Bytes()
					body[len(body)/2] ^= 1
					w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
					_, _ = w.Write(body)
				})
			})
			ref := mustParse(t, host+"/app:v1")
			c := New(Options{})
			if _, err := c.PushImages(context.Background(), ref, images, store); err != nil {
				t.Fatal(err)
			}
			wantKind(t, c.ReadBack(context.Background(), ref, images), Changed, host+"/app")
		})
	}
}

// A tag that another client moves between writing and checking is noticed.
func TestTagNotices(t *testing.T) {
	images, store := makeImages(t, "amd64", "arm64")
	var moved atomic.Bool
	var other []byte
	host := inProcess(t, true, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if moved.Load() && r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/manifests/v1") {
				w.Header().Set("Content-Type", image.ManifestMediaType)
				_, _ = w.Write(other)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	ref := mustParse(t, host+"/app:v1")
	c := New(Options{})
	if _, err := c.PushImages(context.Background(), ref, images, store); err != nil {
		t.Fatal(err)
	}
	other = images[1].Manifest
	moved.Store(true)
	wantKind(t, c.Tag(context.Background(), ref, images[0].ManifestDigest), Changed, ref.String())
}

// Another client overwrites the list that clients keep themselves, twice, with
// one that it read before us: our entry is written again.
func TestAttachOverwritten(t *testing.T) {
	var lost atomic.Int32
	host := inProcess(t, false, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/sha256-") && lost.Add(1) <= 2 {
				w.WriteHeader(http.StatusCreated) // it was there for a moment
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	images, store := makeImages(t, "amd64")
	ref := mustParse(t, host+"/app:v1")
	c := New(Options{})
	top, err := c.PushImages(context.Background(), ref, images, store)
	if err != nil {
		t.Fatal(err)
	}
	checkArtifacts(t, c, ref, top)
	if lost.Load() < 3 {
		t.Errorf("the list was written %d times only", lost.Load())
	}
}

// What was deleted is attached again, also where the list still names it.
func TestAttachDeleted(t *testing.T) {
	for _, referrers := range []bool{true, false} {
		host := inProcess(t, referrers, nil)
		images, store := makeImages(t, "amd64")
		ref := mustParse(t, host+"/app:v1")
		c := New(Options{})
		top, err := c.PushImages(context.Background(), ref, images, store)
		if err != nil {
			t.Fatal(err)
		}
		checkArtifacts(t, c, ref, top)
		list, err := c.Referrers(context.Background(), ref, top.Digest)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequest(http.MethodDelete, "http://"+host+"/v2/app/manifests/"+list[1].Digest.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode != http.StatusAccepted {
			t.Fatal(resp, err)
		}
		resp.Body.Close()
		if _, err := c.Artifact(context.Background(), ref, list[1].Digest, top.Digest); !IsNotFound(err) {
			t.Fatalf("deleted, and there: %v", err)
		}
		checkArtifacts(t, c, ref, top)
	}
}

// A registry that takes artifacts and lists none is found out.
func TestAttachNotListed(t *testing.T) {
	host := inProcess(t, true, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/referrers/") {
				w.Header().Set("Content-Type", image.IndexMediaType)
				_, _ = io.WriteString(w, `{"schemaVersion":2,"manifests":[]}`)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	images, store := makeImages(t, "amd64")
	ref := mustParse(t, host+"/app:v1")
	c := New(Options{})
	top, err := c.PushImages(context.Background(), ref, images, store)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Attach(context.Background(), ref, top, &Artifact{Type: "t", Layers: []ArtifactLayer{Document("t", "", []byte("x"))}})
	if err == nil || !strings.Contains(err.Error(), "does not list") {
		t.Errorf("got %v", err)
	}
}

func TestReferrersHostile(t *testing.T) {
	d := digest.Of(nil)
	entry := fmt.Sprintf(`{"mediaType":"m","digest":%q,"size":1}`, digest.Of([]byte("a")))
	for _, test := range []struct {
		summary string
		answer  func(w http.ResponseWriter, r *http.Request)
		want    int
		kind    Kind
	}{
		{"two pages", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("page") == "" {
				w.Header().Set("Link", `<`+r.URL.Path+`?page=2>; rel="next"`)
				fmt.Fprintf(w, `{"schemaVersion":2,"manifests":[%s]}`, entry)
				return
			}
			fmt.Fprintf(w, `{"schemaVersion":2,"manifests":[%s,%s]}`, entry, strings.Replace(entry, digest.Of([]byte("a")).Hex(), digest.Of([]byte("b")).Hex(), 1))
		}, 2, ""},
		{"pages for ever", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", `<`+r.URL.Path+`?page=2>; rel="next"`)
			fmt.Fprintf(w, `{"schemaVersion":2,"manifests":[]}`)
		}, 0, TooLarge},
		{"the next page elsewhere", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", `<https://evil.example/v2/app/referrers/x>; rel=next`)
			fmt.Fprintf(w, `{"schemaVersion":2,"manifests":[]}`)
		}, 0, Other},
		{"too long", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, `{"schemaVersion":2,"manifests":[%s`, entry)
			_, _ = io.WriteString(w, strings.Repeat(" ", manifestMax))
		}, 0, TooLarge},
		{"not JSON", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello") }, 0, Other},
		{"digests and sizes that are none", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, `{"schemaVersion":2,"manifests":[%s,{"mediaType":"m","digest":%q,"size":-1},{"mediaType":"m","digest":"sha512:%s","size":1}]}`,
				entry, digest.Of([]byte("c")), strings.Repeat("0", 128))
		}, 1, ""},
	} {
		t.Run(test.summary, func(t *testing.T) {
			host := inProcess(t, true, func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if !strings.Contains(r.URL.Path, "/referrers/") {
						h.ServeHTTP(w, r)
						return
					}
					w.Header().Set("Content-Type", image.IndexMediaType+"; charset=utf-8")
					test.answer(w, r)
				})
			})
			got, err := New(Options{}).Referrers(context.Background(), mustParse(t, host+"/app"), d)
			if test.kind != "" {
				wantKind(t, err, test.kind, d.String())
			} else if err != nil || len(got) != test.want {
				t.Errorf("got %d referrers (%v), expected %d", len(got), err, test.want)
			}
		})
	}
}

func TestManifestTooLarge(t *testing.T) {
	host := inProcess(t, true, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				h.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Content-Type", image.ManifestMediaType)
			for range manifestMax >> 10 << 1 {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		})
	})
	ref := mustParse(t, host+"/app:v1")
	_, err := New(Options{}).Resolve(context.Background(), ref)
	wantKind(t, err, TooLarge, ref.String())
}

func TestParse(t *testing.T) {
	sum := digest.Of([]byte("x")).String()
	for _, test := range []struct{ text, repo, tag, digest, err string }{
		{"registry.example/app", "registry.example/app", "", "", ""},
		{"registry.example/a/b:v1", "registry.example/a/b", "v1", "", ""},
		{"localhost/app:v1", "localhost/app", "v1", "", ""},
		{"127.0.0.1:5000/app@" + sum, "127.0.0.1:5000/app", "", sum, ""},
		{"[::1]:5000/app:v1@" + sum, "[::1]:5000/app", "v1", sum, ""},
		{"app:v1", "", "", "", `bad image reference "app:v1": expected REGISTRY/REPOSITORY[:TAG][@sha256:…], with the registry's host name`},
		{"library/app", "", "", "", `bad image reference "library/app": expected REGISTRY/REPOSITORY[:TAG][@sha256:…], with the registry's host name`},
		{"registry.example/", "", "", "", `bad image reference "registry.example/": expected REGISTRY/REPOSITORY[:TAG][@sha256:…], with the registry's host name`},
		{"registry.example/app:v 1", "", "", "", `bad image reference "registry.example/app:v 1": "v 1" is no tag`},
		{"oci:out/app", "oci:out/app", "", "", ""},
		{"oci:out/app:v1", "oci:out/app", "v1", "", ""},
		{"oci:out:v1@" + sum, "oci:out", "v1", sum, ""},
		{"oci:/mnt/a:b/app", "oci:/mnt/a:b/app", "", "", ""},
		{"oci:a:b/:v1", "oci:a:b/", "v1", "", ""},
		{"oci:a@b/c:v1", "oci:a@b/c", "v1", "", ""},
		{`oci:C:\out:v1`, `oci:C:\out`, "v1", "", ""},
		{"oci:", "", "", "", `bad image reference "oci:": expected oci:DIR[:TAG][@sha256:…]`},
		{"oci::v1", "", "", "", `bad image reference "oci::v1": expected oci:DIR[:TAG][@sha256:…]`},
		{"oci:out:a b", "", "", "", `bad image reference "oci:out:a b": "a b" is no tag; the path of a folder whose name has a colon ends in a slash`},
		{"oci:out\x1b", "", "", "", `bad image reference "oci:out\x1b": the path is too long, or has control characters`},
		{"registry.example/app:", "", "", "", `bad image reference "registry.example/app:": "" is no tag`},
	} {
		r, err := Parse(test.text)
		if test.err != "" {
			if err == nil || err.Error() != test.err {
				t.Errorf("%q: got error %v, expected %s", test.text, err, test.err)
			}
			continue
		}
		sum := ""
		if !r.Digest().IsZero() {
			sum = r.Digest().String()
		}
		if err != nil || r.Repository() != test.repo || r.Tag() != test.tag || sum != test.digest || r.String() != test.text {
			t.Errorf("%q: got %q %q %q, written %q (%v)", test.text, r.Repository(), r.Tag(), sum, r, err)
		}
	}
	for _, bad := range []string{"", "/", "registry.example/App", "registry.example/a//b", "registry.example/app@sha256:12", "registry.example/app@md5:12", "https://registry.example/app", "registry.example/" + strings.Repeat("a", longest)} {
		if r, err := Parse(bad); err == nil {
			t.Errorf("%q is read as %q", bad, r)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"registry.example/app:v1", "[::1]:5000/a/b@" + digest.Of(nil).String(), "a:b@c", "localhost/x:", "\x00", "oci:a:b/:c", "oci:out@" + digest.Of(nil).String()} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if err != nil {
			return
		}
		again, err := Parse(r.String())
		if err != nil || again != r {
			t.Errorf("%q is written %q, which is read as %q (%v)", s, r, again, err)
		}
	})
}

// Lists and manifests come from whoever may push.
func FuzzDocuments(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"mediaType":"m","digest":"sha256:00","size":1}]}`))
	f.Add([]byte(`{"manifests":null}`))
	f.Add([]byte(`{"manifests":[{}]}`))
	f.Add([]byte(`</v2/app/referrers/x?page=2>; rel="next", <https://evil.example/v2/app/referrers/x>; rel=next`))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := appendIndex(nil, b)
		if err == nil {
			for _, d := range list {
				if d.Size < 0 {
					t.Errorf("size %d", d.Size)
				}
			}
		}
		m := Manifest{Descriptor: Descriptor{MediaType: image.IndexMediaType}, Bytes: b}
		_, _ = m.Children()
		_ = artifactTypeOf(b)
		ref, _ := Parse("registry.example/app")
		resp := &http.Response{Header: http.Header{"Link": {string(b)}}, Request: &http.Request{URL: &url.URL{Scheme: "https", Host: "registry.example", Path: "/v2/app/referrers/x"}}}
		if next, err := nextPage(ref, resp); err == nil && next != "" && !strings.HasPrefix(next, "referrers/") {
			t.Errorf("the next page is %q", next)
		}
	})
}

// The manifest of an artifact is what cosign's specification of bundles in
// registries says, and the same bytes every time.
func TestArtifactManifest(t *testing.T) {
	a := &Artifact{Type: "application/x", Annotations: map[string]string{"b": "2", "a": "1"}, Layers: []ArtifactLayer{Document("application/x", "", []byte("{}"))}}
	b, err := a.manifest(Descriptor{MediaType: image.ManifestMediaType, Digest: digest.Of(nil), Size: 7, Annotations: map[string]string{"not": "told"}})
	if err != nil {
		t.Fatal(err)
	}
	const empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
	want := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/x",` +
		`"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"` + empty + `","size":2},` +
		`"layers":[{"mediaType":"application/x","digest":"` + empty + `","size":2}],` +
		`"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + digest.Of(nil).String() + `","size":7},` +
		`"annotations":{"a":"1","b":"2"}}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var parsed v1.Manifest
	if err := json.Unmarshal(b, &parsed); err != nil {
		t.Error(err)
	}
}
