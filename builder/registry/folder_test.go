package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"quorate.dev/builder/filelock"
	"quorate.dev/builder/image"
	"quorate.dev/lockfile/digest"
)

// layoutOf writes a layout of any blobs, and entries that name some of them.
func layoutOf(t testing.TB, entries []string, blobs ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"oci-layout": layoutVersion,
		"index.json": fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, image.IndexMediaType, strings.Join(entries, ",")),
	}
	for _, b := range blobs {
		files["blobs/sha256/"+digest.Of([]byte(b)).Hex()] = b
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// descriptorOf is an index's entry for a document; tag may be "".
func descriptorOf(mediaType, document, tag string) string {
	d := Descriptor{MediaType: mediaType, Digest: digest.Of([]byte(document)), Size: int64(len(document))}
	if tag != "" {
		d.Annotations = map[string]string{refName: tag}
	}
	b, _ := json.Marshal(d)
	return string(b)
}

// Documents of hand-made layouts.
var (
	someConfig = `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`
	someImage  = fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[]}`, image.ManifestMediaType, descriptorOf(image.ConfigMediaType, someConfig, ""))
)

// referring is the manifest of something that refers to a document, by any digest.
func referring(to string, n int) string {
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":"application/x","config":%s,"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":1},"annotations":{"n":"%d",%q:"v1"}}`,
		image.ManifestMediaType, descriptorOf(EmptyMediaType, emptyConfig, ""), image.ManifestMediaType, to, n, refName)
}

func indexOf(entries ...string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, image.IndexMediaType, strings.Join(entries, ","))
}

// Other tools put referrers where they like: each in index.json (oras), in a
// list under the tag sha256-HEX (regclient), in a list without a name (crane pull).
func TestFolderOfOthers(t *testing.T) {
	subject := digest.Of([]byte(someImage))
	one, two := referring(subject.String(), 1), referring(subject.String(), 2)
	other := referring(digest.Of([]byte(one)).String(), 3) // refers to what refers
	manifest := image.ManifestMediaType
	list := indexOf(descriptorOf(manifest, one, ""), descriptorOf(manifest, two, ""))
	fromCrane := "registry.example/app:" + fallbackTag(subject)
	for _, test := range []struct {
		summary string
		entries []string
	}{
		{"oras", []string{descriptorOf(manifest, two, ""), descriptorOf(manifest, someImage, "v1"), descriptorOf(manifest, other, ""), descriptorOf(manifest, one, "")}},
		{"regclient", []string{descriptorOf(manifest, someImage, "v1"), descriptorOf(image.IndexMediaType, list, fallbackTag(subject)), descriptorOf(manifest, other, "")}},
		{"crane", []string{descriptorOf(manifest, someImage, ""), descriptorOf(image.IndexMediaType, list, "")}},
		{"crane with whole names", []string{descriptorOf(manifest, someImage, "registry.example/app:v1"), descriptorOf(image.IndexMediaType, list, fromCrane)}},
		{"ours", []string{descriptorOf(manifest, someImage, "v1"), descriptorOf(manifest, one, ""), descriptorOf(manifest, two, ""), descriptorOf(image.IndexMediaType, list, fallbackTag(subject))}},
	} {
		t.Run(test.summary, func(t *testing.T) {
			ref := layoutAt(layoutOf(t, test.entries, someImage, someConfig, one, two, other, list, emptyConfig))
			c := New(Options{})
			top, err := c.Resolve(context.Background(), ref)
			if err != nil || top.Digest != subject {
				t.Fatalf("the folder's image is %+v, %v", top, err)
			}
			if test.summary != "crane" {
				if top, err = c.Resolve(context.Background(), ref.WithTag("v1")); err != nil || top.Digest != subject {
					t.Errorf("the tag names %+v, %v", top, err)
				}
			}
			got, err := c.Referrers(context.Background(), ref, subject)
			if err != nil || len(got) != 2 || got[0].ArtifactType != "application/x" || got[0].Annotations[refName] != "" {
				t.Errorf("got the referrers %+v, %v", got, err)
			}
		})
	}
}

// What a folder says is held against what it holds, within limits.
func TestFolderHostile(t *testing.T) {
	manifest := image.ManifestMediaType
	subject := digest.Of([]byte(someImage)).String()
	top := descriptorOf(manifest, someImage, "v1")
	deep := indexOf(top)
	blobs := []string{someImage, someConfig, deep}
	for range nestedMost {
		deep = indexOf(descriptorOf(image.IndexMediaType, deep, ""))
		blobs = append(blobs, deep)
	}
	loop := strings.Replace(indexOf(descriptorOf(image.IndexMediaType, "", "")), digest.Of(nil).Hex(), strings.Repeat("1", 64), 1)
	turned := strings.Replace(someImage, manifest, image.IndexMediaType, 1)
	both := strings.Replace(someImage, `"layers":[]`, `"layers":[],"manifests":[]`, 1)
	for _, test := range []struct {
		summary string
		dir     string
		kind    Kind
		err     string
	}{
		{"indexes too deep", layoutOf(t, []string{top, descriptorOf(image.IndexMediaType, deep, "")}, blobs...), Other, "indexes more than 4 deep"},
		{"an index that names itself", changedBlob(t, layoutOf(t, []string{top, strings.Replace(descriptorOf(image.IndexMediaType, loop, ""), digest.Of([]byte(loop)).Hex(), strings.Repeat("1", 64), 1)}, someImage), strings.Repeat("1", 64), loop), Changed, "bytes have digest"},
		{"no digest", layoutOf(t, []string{`{"mediaType":"` + manifest + `","digest":"sha256:12","size":1}`}), Other, "has an index that cannot be read"},
		{"a negative size", layoutOf(t, []string{strings.Replace(top, `"size":`, `"size":-`, 1)}, someImage), Other, "has the size -"},
		{"a wrong size", layoutOf(t, []string{strings.Replace(top, `"size":`, `"size":1`, 1)}, someImage), Changed, "ended after"},
		{"one digest as two things", layoutOf(t, []string{top, descriptorOf(image.IndexMediaType, someImage, "")}, someImage), Other, "lists " + subject + " as two things"},
		{"a manifest that says that it is an index", layoutOf(t, []string{descriptorOf(manifest, turned, "v1")}, turned), Other, "and says that it is"},
		{"a manifest and an index at once", layoutOf(t, []string{descriptorOf(manifest, both, "v1")}, both), Other, "and says that it is"},
		{"two of one name", layoutOf(t, []string{top, descriptorOf(manifest, referring(subject, 1), "v1")}, someImage), Other, `gives the tag "v1" to 2 images`},
		{"not JSON", changedFile(t, layoutOf(t, nil), "index.json", "hello"), Other, "has an index that cannot be read"},
		{"too long", changedFile(t, layoutOf(t, nil), "index.json", strings.Repeat(" ", manifestMax+1)), TooLarge, "the file index.json has more than"},
		{"another version", changedFile(t, layoutOf(t, []string{top}, someImage), "oci-layout", `{"imageLayoutVersion":"2"}`), Other, `of version "2"`},
		{"without a version", removed(t, layoutOf(t, []string{top}, someImage), "oci-layout"), NotFound, "is no OCI image layout"},
		{"without an index", removed(t, layoutOf(t, []string{top}, someImage), "index.json"), NotFound, "is no OCI image layout"},
		{"without the image", layoutOf(t, []string{top}), NotFound, "lacks the blob " + subject},
		{"a folder in the place of a blob", inPlace(t, layoutOf(t, []string{top}), digest.Of([]byte(someImage)), func(name string) error { return os.Mkdir(name, 0o755) }), Other, "which is no regular file"},
		{"a link that leads out", inPlace(t, layoutOf(t, []string{top}), digest.Of([]byte(someImage)), func(name string) error {
			return os.Symlink(filepath.Join(changedFile(t, t.TempDir(), "x", someImage), "x"), name)
		}), Other, "a symbolic link that leads out of it or nowhere"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			ref := layoutAt(test.dir).WithTag("v1")
			c := New(Options{})
			_, err := c.Resolve(context.Background(), ref)
			wantKind(t, err, test.kind, ref.String())
			if err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %v, expected %q in it", err, test.err)
			}
		})
	}
}

func changedFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func changedBlob(t *testing.T, dir, hex, text string) string {
	t.Helper()
	return changedFile(t, dir, filepath.Join("blobs", "sha256", hex), text)
}

func removed(t *testing.T, dir, name string) string {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func inPlace(t *testing.T, dir string, d digest.Digest, put func(name string) error) string {
	t.Helper()
	if err := put(filepath.Join(dir, filepath.FromSlash(blobName(d)))); err != nil {
		if runtime.GOOS != "windows" {
			t.Fatal(err)
		}
		t.Skip(err) // Windows lets nobody make links
	}
	return dir
}

// A referrer that is listed and cannot be read is told: what it refers to is
// not known, and it may be what a summary rests on.
func TestFolderUnreadReferrer(t *testing.T) {
	subject := digest.Of([]byte(someImage))
	one, two, three := referring(subject.String(), 1), referring(subject.String(), 2), referring(subject.String(), 3)
	manifest := image.ManifestMediaType
	dir := layoutOf(t, []string{descriptorOf(manifest, someImage, "v1"), descriptorOf(manifest, one, ""), descriptorOf(manifest, two, ""), descriptorOf(manifest, three, "")}, someImage, one, three)
	changedBlob(t, dir, digest.Of([]byte(three)).Hex(), one)
	got, err := New(Options{}).Referrers(context.Background(), layoutAt(dir), subject)
	if err != nil || len(got) != 3 {
		t.Errorf("got %+v, %v", got, err)
	}
	list := indexOf(descriptorOf(manifest, one, ""))
	dir = layoutOf(t, []string{descriptorOf(manifest, someImage, "v1"), descriptorOf(image.IndexMediaType, list, fallbackTag(subject))}, someImage)
	_, err = New(Options{}).Referrers(context.Background(), layoutAt(dir), subject)
	wantKind(t, err, NotFound, subject.String())
}

// Many readers and writers, in clients that know nothing of each other: nothing
// is lost, and no reader sees a half-written layout.
func TestFolderAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	ref := layoutAt(dir)
	ctx := context.Background()
	images, store := makeImages(t, "amd64")
	top, err := New(Options{}).PushImages(ctx, ref, images, store)
	if err != nil {
		t.Fatal(err)
	}
	const writers, each = 4, 5
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			c := New(Options{})
			for i := range each {
				a := documents(fmt.Sprintf("%d of %d", i, w))
				if _, err := c.Attach(ctx, ref, top, a); err != nil {
					t.Error(err)
				}
				if err := c.Tag(ctx, ref.WithTag(fmt.Sprintf("v%d", w)), top.Digest); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := New(Options{}).Referrers(ctx, ref, top.Digest); err != nil {
				t.Errorf("read meanwhile: %v", err)
			}
		}
	})
	group.Wait()
	close(done)
	reader.Wait()
	c := New(Options{})
	listed, err := c.Referrers(ctx, ref, top.Digest)
	if err != nil || len(listed) != writers*each {
		t.Errorf("%d artifacts are listed, expected %d: %v", len(listed), writers*each, err)
	}
	tagged, err := c.Resolve(ctx, ref.WithTag(fallbackTag(top.Digest)))
	if err != nil {
		t.Fatal(err)
	}
	if all, err := tagged.Children(); err != nil || len(all) != writers*each {
		t.Errorf("the list under the tag has %d, expected %d: %v", len(all), writers*each, err)
	}
	noneAside(t, dir)
	orphans(t, dir)
}

// orphans fails when a layout holds blobs that nothing names.
func orphans(t *testing.T, dir string) {
	t.Helper()
	l, err := openLayoutDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := l.document(indexFile)
	if err != nil {
		t.Fatal(err)
	}
	c, err := readContents(l, raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range c.known {
		b, err := l.blobDocument(d)
		if err != nil {
			t.Fatal(err)
		}
		raw = append(raw, b...)
	}
	list, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if !bytes.Contains(raw, []byte(e.Name())) {
			t.Errorf("nothing names the blob %s", e.Name())
		}
	}
}

// What killed writers left is removed by the next, and what others are writing is not.
func TestFolderLeftBehind(t *testing.T) {
	if !renamesOpen {
		t.Skip("nothing is swept here")
	}
	dir := layoutOf(t, nil)
	left, busy := filepath.Join(dir, asidePrefix+"left"), filepath.Join(dir, "blobs", "sha256", asidePrefix+"busy")
	for _, name := range []string{left, busy} {
		if err := os.WriteFile(name, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(busy, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := filelock.Try(f, filelock.Exclusive); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{}).PushArtifact(context.Background(), layoutAt(dir), documents("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); err == nil {
		t.Errorf("%s is still there", left)
	}
	if _, err := os.Stat(busy); err != nil {
		t.Error(err)
	}
}

// A writer that hangs is not waited for without end.
func TestFolderTurn(t *testing.T) {
	dir := layoutOf(t, nil)
	l, err := openLayoutDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	turn, err := l.lock(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer stop()
	if _, err := l.lock(ctx); err == nil {
		t.Error("two writers have their turn at once")
	}
	turn.Close()
	if turn, err = l.lock(context.Background()); err != nil {
		t.Fatal(err)
	}
	turn.Close()
}

// A tag that moves leaves what it named where its digest finds it, an index
// takes its images in, and what others wrote keeps its fields.
func TestFolderIndex(t *testing.T) {
	ctx := context.Background()
	images, store := makeImages(t, "amd64", "arm64")
	foreign := `{"mediaType":"application/vnd.example","digest":"sha512:` + strings.Repeat("0", 128) + `","size":7,"x":1}`
	platform := strings.Replace(descriptorOf(image.ManifestMediaType, string(images[0].Manifest), "v1"), `"size"`, `"platform":{"os":"linux","architecture":"amd64"},"size"`, 1)
	dir := layoutOf(t, []string{foreign, platform}, string(images[0].Manifest), string(images[0].Config))
	ref := layoutAt(dir)
	c := New(Options{})
	if _, err := c.PushImages(ctx, ref, images[1:], store); err != nil {
		t.Fatal(err)
	}
	if err := c.Tag(ctx, ref.WithTag("v1"), images[1].ManifestDigest); err != nil {
		t.Fatal(err)
	}
	names := func() (all []string) {
		t.Helper()
		raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
		if err != nil {
			t.Fatal(err)
		}
		var index struct{ Manifests []v1.Descriptor }
		if err := json.Unmarshal(raw, &index); err != nil {
			t.Fatal(err)
		}
		for _, m := range index.Manifests[1:] {
			name := m.Digest.Hex[:6] + " " + m.Annotations[refName]
			if m.Platform != nil {
				name += " " + m.Platform.String()
			}
			all = append(all, strings.TrimSpace(name))
		}
		if !bytes.Contains(raw, []byte(foreign)) {
			t.Errorf("what others wrote has changed: %s", raw)
		}
		return all
	}
	first, second := images[0].ManifestDigest.Hex()[:6], images[1].ManifestDigest.Hex()[:6]
	if got, want := names(), []string{first + " linux/amd64", second + " v1"}; !slices.EqualFunc(got, want, func(a, b string) bool { return strings.Join(strings.Fields(a), " ") == b }) {
		t.Errorf("got %q, want %q", got, want)
	}
	if m, err := c.Resolve(ctx, ref.At(images[0].ManifestDigest)); err != nil || m.Digest != images[0].ManifestDigest {
		t.Errorf("what the tag left cannot be had: %v", err)
	}
	if _, err := c.Resolve(ctx, ref); err == nil || !strings.Contains(err.Error(), "has 2 images; name one: "+ref.At(images[0].ManifestDigest).String()+", "+ref.WithTag("v1").String()) && !strings.Contains(err.Error(), "name one: "+ref.WithTag("v1").String()) {
		t.Errorf("got %v", err)
	}
	top, err := c.PushImages(ctx, ref, images, store)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := names(), []string{second + " v1", top.Digest.Hex()[:6]}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if m, err := c.Resolve(ctx, ref); err != nil || m.Digest != top.Digest {
		t.Errorf("the one image is %+v, %v", m, err)
	}
}

func TestFolderAccepts(t *testing.T) {
	ctx := context.Background()
	c := New(Options{})
	fresh := filepath.Join(t.TempDir(), "a", "b")
	if err := c.CanPush(ctx, layoutAt(fresh)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(fresh)); err == nil {
		t.Error("asking made the folder")
	}
	if err := c.CanPush(ctx, layoutAt(layoutOf(t, nil))); err != nil {
		t.Error(err)
	}
	wantKind(t, c.CanPush(ctx, layoutAt(changedFile(t, t.TempDir(), "notes", ""))), Other, "notes")
	file := filepath.Join(changedFile(t, t.TempDir(), "file", ""), "file")
	wantKind(t, c.CanPush(ctx, layoutAt(file)), Other, "is not a folder")
	if os.Getuid() != 0 && runtime.GOOS != "windows" {
		closed := t.TempDir()
		if err := os.Chmod(closed, 0o500); err != nil {
			t.Fatal(err)
		}
		wantKind(t, c.CanPush(ctx, layoutAt(filepath.Join(closed, "x"))), Other, "permission denied")
	}
}

// Folders come from anybody.
func FuzzFolder(f *testing.F) {
	subject := digest.Of([]byte(someImage))
	one := referring(subject.String(), 1)
	list := indexOf(descriptorOf(image.ManifestMediaType, one, ""))
	f.Add(indexOf(descriptorOf(image.ManifestMediaType, someImage, "v1"), descriptorOf(image.IndexMediaType, list, fallbackTag(subject))), someImage, list, one)
	f.Add(indexOf(descriptorOf(image.ManifestMediaType, someImage, "registry.example/x:v1")), someImage, "", "")
	f.Add(`{"manifests":[null,{"digest":"sha256:"}]}`, "{}", `{"manifests":null}`, "[]")
	f.Fuzz(func(t *testing.T, index, a, b, c string) {
		dir := layoutOf(t, nil, a, b, c)
		if err := os.WriteFile(filepath.Join(dir, indexFile), []byte(index), 0o644); err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		client := New(Options{})
		ref := layoutAt(dir)
		for _, asked := range []Reference{ref, ref.WithTag("v1"), ref.At(digest.Of([]byte(a)))} {
			m, err := client.Resolve(ctx, asked)
			if err != nil {
				continue
			}
			if digest.Of(m.Bytes) != m.Digest {
				t.Fatalf("%s gave other bytes than their digest", asked)
			}
			if _, err := m.Children(); err == nil {
				_, _ = client.Pull(ctx, ref.At(m.Digest), nil)
			}
		}
		before, err := client.Referrers(ctx, ref, subject)
		if err != nil {
			return
		}
		top := Descriptor{MediaType: image.ManifestMediaType, Digest: subject, Size: int64(len(someImage))}
		added, err := client.Attach(ctx, ref, top, documents("x"))
		if err != nil {
			return
		}
		after, err := client.Referrers(ctx, ref, subject)
		if err != nil || len(after) < len(before) || !slices.ContainsFunc(after, func(d Descriptor) bool { return d.Digest == added[0].Digest }) {
			t.Fatalf("had %d, attached one, has %d: %v", len(before), len(after), err)
		}
	})
}
