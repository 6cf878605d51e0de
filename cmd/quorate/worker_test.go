package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quorate.dev/builder"
	"quorate.dev/builder/store"
	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/source/local"
	"quorate.dev/rebuild/host"
)

// TestTreeDigest holds the worker's reading of an archive against the tree it was packed from.
func TestTreeDigest(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a/b/file": "text", "a/empty": "", "zz": strings.Repeat("long", 100000), "a/" + strings.Repeat("n", 180): "x"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../b", filepath.Join(dir, "a", "link")); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	packed, err := local.Pack(dir, &archive, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := treeDigest(bytes.NewReader(archive.Bytes()))
	if err != nil || got != packed.Digest {
		t.Errorf("got %s, %v; want %s", got, err, packed.Digest)
	}
	changed := bytes.Replace(archive.Bytes(), []byte("text"), []byte("texx"), 1)
	if got, err := treeDigest(bytes.NewReader(changed)); err != nil || got == packed.Digest {
		t.Errorf("a changed archive gives %s, %v", got, err)
	}
}

func TestTreeDigestRefuses(t *testing.T) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeChar, Name: "null", Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := treeDigest(&archive); err == nil || err.Error() != `archive holds "null" of type '3'` {
		t.Errorf("got %v", err)
	}
}

func TestWorkerKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "w.key")
	first, err := workerKey(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := workerKey(path)
	if err != nil || again.Public() != first.Public() {
		t.Errorf("the second time: %v, %v", again, err)
	}
	public, err := os.ReadFile(publicPath(path))
	if err != nil || !bytes.Equal(public, first.Public().PEM()) {
		t.Errorf("public half is %q, %v", public, err)
	}
}

func TestFileList(t *testing.T) {
	a, b := digest.Of([]byte("a")), digest.Of([]byte("b"))
	if got := fileList(nil); !got.IsZero() {
		t.Errorf("no list: %s", got)
	}
	if got := fileList([]builder.FileList{{Platform: "linux/amd64", Digest: a}}); got != a {
		t.Errorf("one list: %s", got)
	}
	two := []builder.FileList{{Platform: "linux/amd64", Digest: a}, {Platform: "linux/arm64", Digest: b}}
	if got, want := fileList(two), digest.Of([]byte("linux/amd64 "+a.String()+"\nlinux/arm64 "+b.String()+"\n")); got != want {
		t.Errorf("two lists: %s, want %s", got, want)
	}
}

// TestWorkerTells runs the story of a worker through the protocol.
func TestWorkerTells(t *testing.T) {
	var out, log bytes.Buffer
	w := &workerRenderer{say: host.NewSpeaker(&out), log: newPlain(&log)}
	w.event(event{Key: "step/x", Text: "step x", Line: "hello"})
	w.event(event{Key: "step/x", Text: "step x", Done: true, Note: "cached", Elapsed: 5})
	w.line("warning", "quorate: warning: ", "careful")
	w.line("message", "", "only for the log")
	w.close()
	var got []host.Event
	if _, err := host.NewListener(func(e host.Event) { got = append(got, e) }).Write(out.Bytes()); err != nil {
		t.Fatal(err)
	}
	want := []host.Event{
		{Kind: host.KindLine, Phase: "step/x", Name: "step x", Line: "hello"},
		{Kind: host.KindPhase, Phase: "step/x", Name: "step x", Done: true, Cached: true, Elapsed: 5},
		{Kind: host.KindWarning, Message: "careful"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
	for _, text := range []string{"hello", "quorate: warning: careful", "only for the log"} {
		if !strings.Contains(log.String(), text) {
			t.Errorf("log lacks %q:\n%s", text, &log)
		}
	}
}

// TestWriteLists packs what the store has, each list once; one that cannot be had is warned of.
func TestWriteLists(t *testing.T) {
	var log bytes.Buffer
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	listing := []byte("#quorate-tree 1\netc type=d mode=0755 uid=0 gid=0 time=0\n")
	d, missing := digest.Of(listing), digest.Of([]byte("missing"))
	if err := s.Put(bytes.NewReader(listing), d, int64(len(listing))); err != nil {
		t.Fatal(err)
	}
	w := &worker{job: host.Job{WorkDir: t.TempDir()}, machine: &machine{ui: &terminal{out: &log, err: &log}, store: s}}
	w.writeLists(t.Context(), &builder.Result{Steps: []builder.StepResult{{Step: "a", Tree: d}, {Step: "gone", Tree: missing}, {Step: "b", Tree: d}}})
	found, err := os.ReadDir(filepath.Join(w.job.WorkDir, host.ListsDir))
	if err != nil || len(found) != 1 || found[0].Name() != host.ListName(d) {
		t.Fatalf("found %v, %v", found, err)
	}
	f, err := os.Open(filepath.Join(w.job.WorkDir, host.ListsDir, found[0].Name()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, listing) {
		t.Errorf("unpacked %q, %v", got, err)
	}
	if want := `cannot keep the list of what step "gone" left: cannot open blob ` + missing.String(); strings.Count(log.String(), "warning") != 1 || !strings.Contains(log.String(), want) {
		t.Errorf("said %s", &log)
	}
}
