package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"quorate.dev/diff"
	"quorate.dev/diff/cause"
)

// Forty known differences in two images (testdata/forty), and what `quorate diff`
// must say of them: at least thirty-six by their right cause, and no wrong one. Here the images
// are small; BenchmarkRealForty plants the same in one of 700 MB.

const (
	fortyLeast  = 36        // of forty, named by their right cause
	fortyScreen = 60        // lines of the answer
	fortyText   = 100 << 10 // bytes of it
)

// forty is two images, in the OCI layout, with known differences.
type forty struct {
	dir      string
	a, b     string
	expected map[string]string // path → id of its cause
	facts    []cause.Facts
}

// seeds choose all values, so that the detectors fit the causes and not one set of values.
var seeds = []int{1, 20261128}

func TestRealForty(t *testing.T) {
	real(t)
	t.Parallel()
	quorate := released(t)
	for _, seed := range seeds {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			f := plantForty(t, t.TempDir(), seed, 1, "")
			f.judge(t, quorate)
			f.judgeWithFacts(t)
		})
	}
}

// judge holds what the program says of two images that it knows nothing else of to what is expected.
func (f *forty) judge(tb testing.TB, quorate string) {
	tb.Helper()
	text := f.diff(tb, quorate, 1, f.a, f.b)
	if again := f.diff(tb, quorate, 1, f.a, f.b); again != text {
		tb.Errorf("two runs print different answers:\n%s\n%s", text, again)
	}
	if n := strings.Count(text, "\n"); n > fortyScreen || len(text) > fortyText {
		tb.Errorf("the answer has %d lines and %d bytes, expected at most %d and %d", n, len(text), fortyScreen, fortyText)
	}
	if out := f.diff(tb, quorate, 0, f.a, f.a); out != "" {
		tb.Errorf("of one image twice it says %q", out)
	}
	var r cause.Report
	if err := json.Unmarshal([]byte(f.diff(tb, quorate, 1, f.a, f.b, "--format", "json")), &r); err != nil {
		tb.Fatal(err)
	}
	f.hold(tb, "without facts", &r)
}

func (f *forty) diff(tb testing.TB, quorate string, code int, args ...string) string {
	tb.Helper()
	cmd := exec.Command(quorate, append([]string{"diff"}, args...)...)
	cmd.Dir = f.dir
	var out, story bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &story
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || cmd.ProcessState.ExitCode() != code {
		tb.Fatalf("quorate diff %q: %v, expected exit code %d\n%s", args, err, code, story.String())
	}
	return out.String()
}

// judgeWithFacts does the same with what a rebuild would have recorded of the hosts.
func (f *forty) judgeWithFacts(t *testing.T) {
	r, err := diff.Compare([]string{f.a, f.b}, diff.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f.hold(t, "with facts", cause.Find(r, &cause.Context{Sides: f.facts}))
}

// hold counts what is named rightly, and complains of what is named wrongly.
func (f *forty) hold(tb testing.TB, how string, r *cause.Report) {
	tb.Helper()
	named := map[string][]string{}
	for _, k := range r.Causes {
		for _, file := range k.Files {
			named[file] = append(named[file], k.ID)
		}
	}
	right := 0
	for path, ids := range named {
		for _, id := range ids {
			if f.expected[path] != id {
				tb.Errorf("%s: %s is said to have cause %s, expected %q", how, path, id, f.expected[path])
			}
		}
	}
	for path, id := range f.expected {
		open := slices.IndexFunc(r.Unexplained, func(u cause.Unexplained) bool { return u.Path == path })
		if slices.Equal(named[path], []string{id}) && open < 0 {
			right++
		} else {
			tb.Logf("%s: %s is not named %s: %q", how, path, id, named[path])
		}
	}
	if right < fortyLeast || len(f.expected) != 40 {
		tb.Errorf("%s: %d of %d named by their right cause, expected at least %d of 40", how, right, len(f.expected), fortyLeast)
	}
	if r.Total.Differing != len(f.expected) {
		tb.Errorf("%s: %d files are said to differ, expected %d", how, r.Total.Differing, len(f.expected))
	}
	tb.Logf("%s: %d of %d named by their right cause", how, right, len(f.expected))
}

// plantForty makes the differences and two images with them: those of base, a layout of one
// image, or of a few small layers when base is "".
func plantForty(tb testing.TB, dir string, seed, scale int, base string) *forty {
	tb.Helper()
	recipe, err := filepath.Abs("../../testdata/forty/recipe.sh")
	if err != nil {
		tb.Fatal(err)
	}
	work := filepath.Join(dir, "made")
	if err := os.Mkdir(work, 0o755); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command("bash", recipe, strconv.Itoa(seed), strconv.Itoa(scale))
	cache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		tb.Fatal(err)
	}
	cmd.Dir, cmd.Env = work, append(os.Environ(), "ACME_GOCACHE="+strings.TrimSpace(string(cache)))
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%v\n%s", err, out)
	}
	f := &forty{dir: dir, a: filepath.Join(dir, "a"), b: filepath.Join(dir, "b"), expected: map[string]string{}}
	for _, line := range readLines(tb, filepath.Join(work, "expected")) {
		id, path, _ := strings.Cut(line, "\t")
		f.expected[path] = id
	}
	f.facts = fortyFacts(tb, filepath.Join(work, "facts"))
	for side, layout := range map[string]string{"a": f.a, "b": f.b} {
		if err := plant(layout, base, filepath.Join(work, side+".tar")); err != nil {
			tb.Fatal(err)
		}
	}
	return f
}

func readLines(tb testing.TB, name string) []string {
	tb.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

// fortyFacts reads lines "a hostname amsterdam".
func fortyFacts(tb testing.TB, name string) []cause.Facts {
	tb.Helper()
	sides := []cause.Facts{{Name: "h1", Host: "1", Values: map[string]string{}}, {Name: "h2", Host: "2", Values: map[string]string{}}}
	for _, line := range readLines(tb, name) {
		f := strings.SplitN(line, " ", 3)
		side := &sides[f[0][0]-'a']
		at, err := time.Parse(time.RFC3339, f[2])
		switch {
		case f[1] == "started" && err == nil:
			side.Started = at
		case f[1] == "finished" && err == nil:
			side.Finished = at
		default:
			side.Values[f[1]] = f[2]
		}
	}
	return sides
}

// imageName is what both images are called where names have hosts.
const imageName = "quorate.test/forty:1"

// fortyLayers is how many layers the small image has.
const fortyLayers = 3

// plant writes an image whose layers are those of base, each with its part of the planted files.
func plant(layout, base, planted string) error {
	layers, config := make([]string, fortyLayers), map[string]any{"architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z"}
	if base != "" {
		var err error
		if layers, config, err = readBase(base); err != nil {
			return err
		}
	}
	blobs := filepath.Join(layout, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	var descriptors, diffIDs []any
	for i, from := range layers {
		d, id, err := plantLayer(blobs, from, planted, i, len(layers))
		if err != nil {
			return err
		}
		descriptors, diffIDs = append(descriptors, d), append(diffIDs, id)
	}
	config["rootfs"] = map[string]any{"type": "layers", "diff_ids": diffIDs}
	c, err := writeDocument(blobs, "application/vnd.oci.image.config.v1+json", config)
	if err != nil {
		return err
	}
	manifest := map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": c, "layers": descriptors}
	m, err := writeDocument(blobs, manifest["mediaType"].(string), manifest)
	if err != nil {
		return err
	}
	m["platform"] = map[string]any{"architecture": "amd64", "os": "linux"}
	m["annotations"] = map[string]any{"org.opencontainers.image.ref.name": "latest", "io.containerd.image.name": imageName}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []any{m}})
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(layout, "index.json"), index, 0o644),
		os.WriteFile(filepath.Join(layout, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
}

// readBase finds the layers' files and the config of a layout of one image.
func readBase(layout string) (layers []string, config map[string]any, err error) {
	blob := func(digest string) string {
		return filepath.Join(layout, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))
	}
	type descriptor struct{ Digest string }
	var index struct{ Manifests []descriptor }
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	read := func(name string, into any) {
		b, problem := os.ReadFile(name)
		err = cmp.Or(err, problem)
		if err == nil {
			err = json.Unmarshal(b, into)
		}
	}
	if read(filepath.Join(layout, "index.json"), &index); err != nil || len(index.Manifests) != 1 {
		return nil, nil, fmt.Errorf("no image in %q: %w", layout, err)
	}
	read(blob(index.Manifests[0].Digest), &manifest)
	read(blob(manifest.Config.Digest), &config)
	for _, l := range manifest.Layers {
		layers = append(layers, blob(l.Digest))
	}
	return layers, config, err
}

// plantLayer writes one layer: what from has, then each planted file whose turn it is.
func plantLayer(blobs, from, planted string, turn, of int) (descriptor map[string]any, diffID string, err error) {
	f, err := os.CreateTemp(blobs, ".layer-")
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	packed, plain, size := sha256.New(), sha256.New(), &counter{}
	z, err := gzip.NewWriterLevel(io.MultiWriter(f, packed, size), gzip.BestSpeed)
	if err != nil {
		return nil, "", err
	}
	w := tar.NewWriter(io.MultiWriter(z, plain))
	if from != "" {
		if err := copyEntries(w, from, true, func(*tar.Header) bool { return true }); err != nil {
			return nil, "", err
		}
	}
	n := 0
	err = copyEntries(w, planted, false, func(h *tar.Header) bool {
		h.Name = strings.TrimPrefix(h.Name, "./")
		if h.Typeflag == tar.TypeDir && !strings.Contains(h.Name, "acme") {
			return false // the base has it
		}
		n++
		return n%of == turn
	})
	if err := errors.Join(err, w.Close(), z.Close(), f.Close()); err != nil {
		return nil, "", err
	}
	digest := hex.EncodeToString(packed.Sum(nil))
	if err := os.Rename(f.Name(), filepath.Join(blobs, digest)); err != nil {
		return nil, "", err
	}
	return map[string]any{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:" + digest, "size": size.n},
		"sha256:" + hex.EncodeToString(plain.Sum(nil)), nil
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// copyEntries copies those entries of an archive that take accepts.
func copyEntries(w *tar.Writer, name string, packed bool, take func(*tar.Header) bool) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var in io.Reader = f
	if packed {
		if in, err = gzip.NewReader(f); err != nil {
			return err
		}
	}
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if !take(h) {
			continue
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(w, r); err != nil {
			return err
		}
	}
}

func writeDocument(blobs, mediaType string, v any) (map[string]any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	digest := hex.EncodeToString(sum[:])
	return map[string]any{"mediaType": mediaType, "digest": "sha256:" + digest, "size": len(b)}, os.WriteFile(filepath.Join(blobs, digest), b, 0o644)
}
