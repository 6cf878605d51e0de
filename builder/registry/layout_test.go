package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"quorate.dev/lockfile/digest"
)

const testType = "application/vnd.quorate.test.v1"

// layoutAt is the folder as a reference.
func layoutAt(dir string) Reference { return Reference{dir: dir} }

func documents(texts ...string) *Artifact {
	a := &Artifact{Type: testType}
	for i, s := range texts {
		a.Layers = append(a.Layers, Document("text/plain", fmt.Sprintf("%d.txt", i), []byte(s)))
	}
	return a
}

func files(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&b, "%s %s\n", filepath.ToSlash(rel), digest.Of(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Whatever lay in the folder of an earlier artifact, or was left by an
// interrupted run: the same artifact is the same files, and reads back.
func TestWriteLayout(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		texts := rapid.SliceOfN(rapid.String(), 1, 6)
		dir, clean := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
		old, want := documents(texts.Draw(rt, "old")...), documents(texts.Draw(rt, "new")...)
		ctx := context.Background()
		if _, err := WriteLayout(ctx, dir, old, nil); err != nil {
			rt.Fatal(err)
		}
		if rapid.Bool().Draw(rt, "interrupted") {
			failing := *want
			failing.Layers = append([]ArtifactLayer{}, want.Layers...)
			failing.Layers[len(failing.Layers)-1].Open = func() (io.ReadCloser, error) { return nil, errors.New("pulled the plug") }
			_, _ = WriteLayout(ctx, dir, &failing, nil)
		}
		if rapid.Bool().Draw(rt, "damaged") {
			if err := os.WriteFile(filepath.Join(dir, blobName(want.Layers[0].Digest)), []byte("junk"), 0o644); err != nil {
				rt.Fatal(err)
			}
		}
		top, err := WriteLayout(ctx, dir, want, nil)
		if err != nil {
			rt.Fatal(err)
		}
		if _, err := WriteLayout(ctx, clean, want, nil); err != nil {
			rt.Fatal(err)
		}
		if a, b := files(t, dir), files(t, clean); a != b {
			rt.Fatalf("not the same files:\n%s\n%s", a, b)
		}
		got, gotTop, err := New(Options{}).PullArtifact(ctx, layoutAt(dir))
		if err != nil || gotTop.Digest != top.Digest || gotTop.ArtifactType != testType || len(got.Layers) != len(want.Layers) {
			rt.Fatalf("read back %+v, %v", got, err)
		}
		for i, l := range got.Layers {
			r, err := l.Open()
			if err != nil {
				rt.Fatal(err)
			}
			b, err := io.ReadAll(r)
			r.Close()
			if err != nil || digest.Of(b) != want.Layers[i].Digest || l.Title() != want.Layers[i].Title() {
				rt.Fatalf("layer %d reads %q, %v", i, b, err)
			}
		}
	})
}

func TestLayoutRefuses(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "layout")
	a := documents("one", "two")
	if _, err := WriteLayout(ctx, dir, a, nil); err != nil {
		t.Fatal(err)
	}
	other := documents("three")
	other.Type = "application/vnd.other"
	if _, err := WriteLayout(ctx, dir, other, nil); err == nil || !strings.HasSuffix(err.Error(), "is the layout of something else") {
		t.Errorf("replaced another artifact: %v", err)
	}
	cancelled, stop := context.WithCancelCause(ctx)
	stop(errors.New("enough"))
	if _, err := WriteLayout(cancelled, filepath.Join(t.TempDir(), "x"), a, nil); err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("a cancelled write answered %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, blobName(a.Layers[0].Digest)), []byte("eno"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, _, err := New(Options{}).PullArtifact(ctx, layoutAt(dir))
	if err != nil {
		t.Fatal(err)
	}
	r, err := got.Layers[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var mismatch *digest.MismatchError
	if _, err := io.ReadAll(r); !errors.As(err, &mismatch) {
		t.Errorf("a changed blob reads with %v", err)
	}
}

// What is accepted as an artifact's manifest has layers with digests and sizes that can be.
func FuzzParseArtifact(f *testing.F) {
	raw, err := documents("one", "two").manifest(Descriptor{MediaType: "x/y", Digest: digest.Of(nil), Size: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"layers":[{}]}`))
	f.Add([]byte(`{"subject":{"digest":"sha512:00"}}`))
	f.Add(bytes.ReplaceAll(raw, []byte(`"size":`), []byte(`"size":-`)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, _, err := parseArtifact(raw, func(Descriptor) (io.ReadCloser, error) { return nil, fs.ErrNotExist })
		if err != nil {
			return
		}
		for _, l := range a.Layers {
			if l.Digest.IsZero() || l.Size < 0 {
				t.Fatalf("accepted %+v", l)
			}
		}
	})
}

// noneAside fails when a writer left anything that has no name yet.
func noneAside(t *testing.T, dir string) {
	t.Helper()
	if list := files(t, dir); strings.Contains(list, asidePrefix) {
		t.Errorf("something is left:\n%s", list)
	}
}
