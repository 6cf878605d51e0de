package main

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// everyExample are the examples, which every tool must accept.
var everyExample = []string{"greeter", "base", "nginx", "flaky"}

// testSkopeo has skopeo read both OCI forms and the Docker form.
func (w *world) testSkopeo(t *testing.T) {
	skopeo := tool(t, "skopeo")
	for _, name := range everyExample {
		e := w.example(t, name)
		for _, ref := range []string{"oci:" + e.layout, "oci-archive:" + e.archive} {
			got := decode[struct {
				Digest, Architecture, Os, Created string
				Layers                            []string
				Labels                            map[string]string
			}](t, must(t, skopeo, "inspect", ref))
			if got.Digest != e.digest || got.Os != "linux" || got.Architecture != "amd64" || got.Created != "2026-11-01T00:00:00Z" || len(got.Layers) == 0 {
				t.Errorf("skopeo inspect %s: %+v, expected digest %s", ref, got, e.digest)
			}
			if name != "flaky" && got.Labels["org.opencontainers.image.title"] != name {
				t.Errorf("skopeo inspect %s: labels %v", ref, got.Labels)
			}
		}
		must(t, skopeo, "inspect", "docker-archive:"+e.docker)
		// A copy reads and checks every blob.
		copied := filepath.Join(t.TempDir(), "copy")
		must(t, skopeo, "copy", "--insecure-policy", "--preserve-digests", "oci-archive:"+e.archive, "oci:"+copied)
		if got := decode[struct{ Digest string }](t, must(t, skopeo, "inspect", "oci:"+copied)); got.Digest != e.digest {
			t.Errorf("skopeo copied %s as %s, expected %s", name, got.Digest, e.digest)
		}
	}
}

// testCrane has crane check every layer's digest, size and uncompressed digest.
// It reads Docker archives from files; an OCI layout it only pushes, so that
// goes through a registry.
func (w *world) testCrane(t *testing.T) {
	crane := tool(t, "crane")
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	at := strings.TrimPrefix(server.URL, "http://")
	for _, name := range everyExample {
		e := w.example(t, name)
		must(t, crane, "validate", "--tarball", e.docker)
		must(t, crane, "push", e.layout, at+"/"+name)
		if got := strings.TrimSpace(must(t, crane, "digest", at+"/"+name)); got != e.digest {
			t.Errorf("crane pushed %s as %s, expected %s", name, got, e.digest)
		}
		must(t, crane, "validate", "--remote", at+"/"+name)
	}
}

// testUmoci has umoci unpack the layers, and looks at what is there.
func (w *world) testUmoci(t *testing.T) {
	for _, name := range everyExample {
		rootfs := w.unpack(t, w.example(t, name))
		for _, want := range unpacked[name] {
			checkPath(t, name, rootfs, want)
		}
	}
	greeter := w.unpack(t, w.example(t, "greeter"))
	hello := exec.Command("/usr/bin/greeter", "umoci", "UTC")
	hello.Dir, hello.Env = "/", []string{}
	hello.SysProcAttr = &syscall.SysProcAttr{Chroot: greeter, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	if c := run(t, hello); c.code != 0 || !strings.HasSuffix(c.stdout, ", umoci!\n") {
		t.Errorf("greeter in its own root: %+v", c)
	}
}

// unpack returns the folder that umoci unpacks an image into, as root.
func (w *world) unpack(t *testing.T, e *example) string {
	t.Helper()
	tagged := filepath.Join(t.TempDir(), "oci")
	must(t, tool(t, "skopeo"), "copy", "--insecure-policy", "oci:"+e.layout, "oci:"+tagged+":it")
	bundle := filepath.Join(t.TempDir(), "bundle")
	must(t, tool(t, "umoci"), "unpack", "--image", tagged+":it", bundle)
	return filepath.Join(bundle, "rootfs")
}

// pathWant is one path that an unpacked image must have; an absent mode means
// that it must not be there.
type pathWant struct {
	path     string
	mode     os.FileMode
	uid, gid uint32
	holds    string
}

var unpacked = map[string][]pathWant{
	"greeter": {
		{path: "usr/bin/greeter", mode: 0o755},
		{path: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, holds: "BEGIN CERTIFICATE"},
		{path: "etc/passwd", mode: 0o644, holds: "app:x:65532:65532:"},
		{path: "usr/share/zoneinfo/Europe/Oslo", mode: 0o644},
		{path: "etc/ld.so.cache", mode: 0o644},
		{path: "var/lib/dpkg/status", mode: 0o644, holds: "Package: libc6\n"},
		{path: "tmp", mode: os.ModeDir | os.ModeSticky | 0o777},
		{path: "usr/bin/openssl"}, {path: "usr/bin/gcc"}, {path: "usr/bin/dpkg"}, {path: "usr/bin/perl"}, {path: "etc/hosts"},
	},
	"base": {
		{path: "etc/shadow", mode: 0o640, gid: 42, holds: "root:*:"},
		{path: "etc/gshadow", mode: 0o640, gid: 42},
		{path: "usr/bin/passwd", mode: os.ModeSetuid | 0o755},
		{path: "usr/bin/chage", mode: os.ModeSetgid | 0o755, gid: 42},
		{path: "var/mail", mode: os.ModeDir | os.ModeSetgid | 0o775, gid: 8},
		{path: "var/local", mode: os.ModeDir | os.ModeSetgid | 0o775, gid: 50},
		{path: "etc/passwd", mode: 0o644, holds: "_apt:x:42:65534::/nonexistent:/usr/sbin/nologin"},
		{path: "etc/machine-id"}, {path: "etc/hostname"}, {path: "etc/resolv.conf"}, {path: "etc/hosts"},
		{path: "var/log/dpkg.log"}, {path: "var/cache/ldconfig/aux-cache"}, {path: "usr/sbin/policy-rc.d"}, {path: "dev/null"},
	},
	"nginx": {
		{path: "usr/sbin/nginx", mode: 0o755},
		{path: "etc/nginx/nginx.conf", mode: 0o644, holds: "listen 8080"},
		{path: "usr/share/nginx/html/index.html", mode: 0o644, holds: "Quorate"},
		{path: "var/log/nginx", mode: os.ModeDir | 0o755, gid: 4},
		{path: "etc/passwd", mode: 0o644, holds: "www-data:*:33:33:"},
		{path: "usr/bin/dpkg"}, {path: "usr/bin/perl"},
	},
	"flaky": {
		{path: "etc/flaky/constant", mode: 0o644, holds: "the same everywhere\n"},
		{path: "etc/flaky/time", mode: 0o644},
	},
}

func checkPath(t *testing.T, name, rootfs string, want pathWant) {
	t.Helper()
	p := filepath.Join(rootfs, want.path)
	info, err := os.Lstat(p)
	if want.mode == 0 {
		if err == nil {
			t.Errorf("%s: /%s is there", name, want.path)
		}
		return
	}
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	st := info.Sys().(*syscall.Stat_t)
	if info.Mode() != want.mode || st.Uid != want.uid || st.Gid != want.gid {
		t.Errorf("%s: /%s is %v %d:%d, expected %v %d:%d", name, want.path, info.Mode(), st.Uid, st.Gid, want.mode, want.uid, want.gid)
	}
	if want.holds == "" {
		return
	}
	text, err := os.ReadFile(p)
	if err != nil || !strings.Contains(string(text), want.holds) {
		t.Errorf("%s: /%s does not hold %q (%v)", name, want.path, want.holds, err)
	}
}

// testFlaky builds the flawed example twice from nothing: whoever finds equal
// digests here has a build that does not run its steps.
func (w *world) testFlaky(t *testing.T) {
	e := w.example(t, "flaky")
	again := w.buildIn(t, e, surroundings{name: "again"})
	if again.digest == e.digest {
		t.Errorf("two builds of flaky agree on %s", e.digest)
	}
	// diffoscope pairs files by name, and blobs are named by digest: give it the layer.
	c := run(t, exec.Command(tool(t, "diffoscope"), "--text", "-", onlyLayer(t, e.archive), onlyLayer(t, again.archive)))
	if c.code != 1 {
		t.Fatalf("diffoscope found no difference (exit code %d)\n%s", c.code, c.stderr)
	}
	for _, path := range []string{"etc/flaky/time", "etc/flaky/chance"} {
		if !strings.Contains(c.stdout, path) {
			t.Errorf("diffoscope does not name %s:\n%.2000s", path, c.stdout)
		}
	}
}

// onlyLayer is the file with the one layer of an OCI archive.
func onlyLayer(t *testing.T, archive string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, "tar", "-xf", archive, "-C", dir)
	layers := layerFiles(t, dir)
	if len(layers) != 1 {
		t.Fatalf("%s has %d layers, expected one", archive, len(layers))
	}
	named := filepath.Join(dir, "layer.tar.gz")
	if err := os.Rename(layers[0], named); err != nil {
		t.Fatal(err)
	}
	return named
}
