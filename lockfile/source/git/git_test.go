package git

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/source/local"
	"quorate.dev/lockfile/source/sourcetest"
)

// upstream is a real repository that tests work in.
type upstream struct {
	t   *testing.T
	dir string
	env []string
}

func newUpstream(t *testing.T, initArgs ...string) *upstream {
	t.Helper()
	u := &upstream{t: t, dir: t.TempDir(), env: []string{
		"HOME=" + t.TempDir(), "GIT_CONFIG_NOSYSTEM=1", "PATH=" + os.Getenv("PATH"),
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=C", "GIT_COMMITTER_EMAIL=c@example.org",
		"GIT_AUTHOR_DATE=2026-01-02T03:04:05+01:00", "GIT_COMMITTER_DATE=2026-02-03T04:05:06+02:00",
	}}
	u.git(append([]string{"init", "-q", "-b", "main"}, initArgs...)...)
	return u
}

func (u *upstream) git(args ...string) string {
	u.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Env = u.dir, u.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		u.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (u *upstream) write(name, text string) {
	u.t.Helper()
	file := filepath.Join(u.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		u.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		u.t.Fatal(err)
	}
}

// commit commits all there is and returns the id.
func (u *upstream) commit(args ...string) string {
	u.t.Helper()
	u.git("add", "-A")
	u.git(append([]string{"commit", "-q", "--allow-empty", "-m", "change"}, args...)...)
	return u.git("rev-parse", "HEAD")
}

func (u *upstream) url() string { return "file://" + u.dir }

func (u *upstream) request(ref string) lockfile.InputRequest {
	return lockfile.InputRequest{Name: "src", Kind: lockfile.KindGit, Ask: lockfile.Facts{"url": u.url(), "ref": ref}}
}

// kind reads keys from the upstream's folder.
func (u *upstream) kind() *Kind {
	return New(Options{Key: func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(u.dir, "..", name)) }})
}

func TestContract(t *testing.T) {
	sourcetest.Test(t, func(t *testing.T) *sourcetest.World {
		u := newUpstream(t)
		u.write("README", "hello\n")
		u.commit()
		return &sourcetest.World{
			Kind: u.kind(), Request: u.request("main"),
			Spoil: func() { // history is rewritten, and the old commit is gone
				u.write("README", "other\n")
				u.commit("--amend")
				u.git("reflog", "expire", "--expire=now", "--all")
				u.git("gc", "-q", "--prune=now")
			},
			Down: func() { _ = os.RemoveAll(u.dir) },
		}
	})
}

// lock resolves a ref into fresh blobs.
func (u *upstream) lock(ref string, ask ...string) (*lockfile.Lock, *sourcetest.Blobs, error) {
	u.t.Helper()
	w := &sourcetest.World{Kind: u.kind(), Request: u.request(ref)}
	for i := 0; i+1 < len(ask); i += 2 {
		w.Request.Ask[ask[i]] = ask[i+1]
	}
	blobs := sourcetest.NewBlobs(u.t)
	lock, err := w.Resolve(u.t, blobs, nil)
	return lock, blobs, err
}

// What git records is what is locked: the same archive and tree digest as of a
// folder with these files, whatever attributes, filters and line endings ask.
func TestTreeIsWhatGitRecorded(t *testing.T) {
	u := newUpstream(t)
	want := t.TempDir()
	files := map[string]string{
		"run": "#!/bin/sh\n", "dos.txt": "a\r\nb\r\n", "secret": "kept", "id.c": "$Id$\n", "dir/sub/x": "x", "dir-a": "sorts before dir/", "ü.txt": "ü", "empty": "",
		".gitattributes": "secret export-ignore\n*.c ident\n*.txt text eol=crlf working-tree-encoding=UTF-16\nid.c export-subst\n* filter=evil\n",
	}
	for name, text := range files {
		if name != ".gitattributes" {
			u.write(name, text)
		}
		file := filepath.Join(want, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{u.dir, want} {
		if err := errors.Join(os.Chmod(filepath.Join(dir, "run"), 0o755), os.Symlink("../outside", filepath.Join(dir, "link"))); err != nil {
			t.Fatal(err)
		}
	}
	u.git("config", "core.autocrlf", "false")
	u.commit() // as bytes, before attributes have a say
	u.write(".gitattributes", files[".gitattributes"])
	u.git("add", ".gitattributes")
	u.git("commit", "-q", "-m", "attributes")
	commit := u.git("rev-parse", "HEAD")

	lock, blobs, err := u.lock("main")
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	tree, err := local.Pack(want, &packed, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	facts := lock.Inputs[0].Facts
	if facts["tree"] != tree.Digest.Hex() || facts["commit"] != commit || facts["time"] != "2026-02-03T02:05:06Z" {
		t.Errorf("got %v; the folder is %s", facts, tree.Digest.Hex())
	}
	if got := lock.Pins[0].SHA256; got != digest.Of(packed.Bytes()) {
		r, _ := blobs.Open(got)
		b, _ := io.ReadAll(r)
		t.Errorf("the archive is not that of the folder: %d bytes, %d bytes", len(b), packed.Len())
	}
}

func TestSHA256Repository(t *testing.T) {
	u := newUpstream(t, "--object-format=sha256")
	u.write("a/b", "text")
	commit := u.commit()
	lock, _, err := u.lock(commit)
	if err != nil || len(commit) != 64 || lock.Inputs[0].Facts["commit"] != commit {
		t.Fatalf("%v, %s", err, commit)
	}
}

func TestRefs(t *testing.T) {
	u := newUpstream(t)
	u.write("a", "1")
	first := u.commit()
	u.git("tag", "light")
	u.git("tag", "-a", "-m", "release", "v1")
	u.git("branch", "both")
	u.write("a", "2")
	second := u.commit()
	u.git("tag", "both")
	tag := u.git("rev-parse", "v1")
	for _, test := range []struct{ ref, commit, tag, err string }{
		{ref: "HEAD", commit: second},
		{ref: "main", commit: second},
		{ref: "refs/heads/main", commit: second},
		{ref: "light", commit: first},
		{ref: "v1", commit: first, tag: tag},
		{ref: "refs/tags/v1", commit: first, tag: tag},
		{ref: first, commit: first}, // no ref is there any more but by its id
		{ref: tag, commit: first, tag: tag},
		{ref: "refs/heads/both", commit: first},
		{ref: "refs/tags/both", commit: second},
		{ref: "both", err: u.url() + ` has a branch and a tag called "both"; write refs/heads/both or refs/tags/both`},
		{ref: "v2", err: u.url() + ` has no branch or tag "v2"; it has both, light, main, v1`},
		{ref: "heads/main", err: u.url() + ` has no branch or tag "heads/main"; it has both, light, main, v1`},
		{ref: strings.Repeat("0", 40), err: "upload-pack: not our ref 0000"},
		{ref: u.git("rev-parse", "HEAD^{tree}"), err: "is a tree, not a commit"},
	} {
		lock, _, err := u.lock(test.ref)
		switch {
		case test.err != "":
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s:\n got %v\nwant %s", test.ref, err, test.err)
			}
		case err != nil:
			t.Errorf("%s: %v", test.ref, err)
		default:
			if f := lock.Inputs[0].Facts; f["commit"] != test.commit || f["tag"] != test.tag {
				t.Errorf("%s: got %v, want commit %s, tag %q", test.ref, f, test.commit, test.tag)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
	for _, test := range []struct {
		summary string
		make    func(u *upstream)
		want    string
	}{
		{"submodule", func(u *upstream) {
			u.git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("a", 40)+",libs/x")
			u.git("commit", "-q", "-m", "submodule")
		}, `"libs/x" is a submodule (commit aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa), whose files would be missing; bring them with submodules: true, or make its repository an input of its own`},
		{"LFS", func(u *upstream) { u.write("big.bin", pointer); u.commit() }, `"big.bin" is only a pointer to a file in Git LFS; bring the file as an input of its own (inputs.files)`},
		{"a path that leaves", func(u *upstream) { u.raw("..") }, `".." is a name that leads elsewhere`},
		{"a path of git's own", func(u *upstream) { u.raw(".GiT") }, `".GiT" is a name that git keeps for itself`},
		{"a name that is not UTF-8", func(u *upstream) { u.raw("a\xff") }, `"a\xff" is not UTF-8`},
		{"a slash in a name", func(u *upstream) { u.raw("a/b") }, `"a/b" is a name that leads elsewhere`},
		{"nothing", func(u *upstream) { u.commit() }, `its tree is empty`},
	} {
		t.Run(strings.ReplaceAll(test.summary, " ", "-"), func(t *testing.T) {
			u := newUpstream(t)
			test.make(u)
			_, _, err := u.lock("main")
			if err == nil || !strings.HasSuffix(err.Error(), test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// raw commits a tree with one file of any name, which git itself would not make.
func (u *upstream) raw(name string) {
	u.t.Helper()
	u.write("f", "x")
	u.commit()
	id := u.git("rev-parse", "HEAD:f")
	var bin [20]byte
	for i := range bin {
		var v int
		for _, c := range id[2*i : 2*i+2] {
			v = v<<4 | strings.IndexRune("0123456789abcdef", c)
		}
		bin[i] = byte(v)
	}
	file := filepath.Join(u.t.TempDir(), "tree")
	if err := os.WriteFile(file, []byte("100644 "+name+"\x00"+string(bin[:])), 0o600); err != nil {
		u.t.Fatal(err)
	}
	tree := u.git("hash-object", "-t", "tree", "--literally", "-w", file)
	u.git("update-ref", "refs/heads/main", u.git("commit-tree", "-m", "raw", tree))
}

// A repository that was damaged, or lies: our own hash of every object tells.
func TestDamagedObject(t *testing.T) {
	u := newUpstream(t)
	u.write("a", strings.Repeat("good", 1000))
	commit := u.commit()
	r := &repository{dir: u.dir, url: u.url()}
	if _, err := r.pack(t.Context(), commit, io.Discard); err != nil {
		t.Fatal(err)
	}
	u.write("b", "evil")
	good, evil := u.git("rev-parse", "HEAD:a"), u.git("hash-object", "-w", "b")
	object := func(id string) string { return filepath.Join(u.dir, ".git", "objects", id[:2], id[2:]) }
	bytes, err := os.ReadFile(object(evil))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(object(good), 0o600), os.WriteFile(object(good), bytes, 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err = r.pack(t.Context(), commit, io.Discard)
	if err == nil || !strings.Contains(err.Error(), good) {
		t.Errorf("got %v", err)
	}
}

func TestMoved(t *testing.T) {
	u := newUpstream(t)
	u.write("a", "1")
	old := u.commit()
	lock, _, err := u.lock("main")
	if err != nil {
		t.Fatal(err)
	}
	u.write("a", "2")
	now := u.commit("--amend")
	u.git("reflog", "expire", "--expire=now", "--all")
	u.git("gc", "-q", "--prune=now")
	sources, err := u.kind().Open(lock.Requests.Inputs[0], lock.Pins[0])
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = sources[0].Open(t.Context(), 0)
	want := "commit " + old + " is not in " + u.url() + ` any more; "main" is at ` + now + " now: its history was rewritten, or the repository replaced"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// A later branch does not matter: the locked commit is brought from behind it.
func TestOldCommitIsBrought(t *testing.T) {
	u := newUpstream(t)
	u.write("a", "1")
	u.commit()
	lock, _, err := u.lock("main")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		u.write("a", strings.Repeat("x", i))
		u.commit()
	}
	sources, _ := u.kind().Open(lock.Requests.Inputs[0], lock.Pins[0])
	r, start, err := sources[0].Open(t.Context(), 100)
	if err != nil || start != 100 {
		t.Fatal(err, start)
	}
	rest, err := io.ReadAll(r)
	if err != nil || int64(len(rest)) != lock.Pins[0].Size-100 {
		t.Errorf("%d bytes, %v", len(rest), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// The machine's own configuration, hooks, and templates have no say.
func TestHardened(t *testing.T) {
	u := newUpstream(t)
	u.write("a", "1")
	u.commit()
	home := t.TempDir()
	marker := filepath.Join(home, "ran")
	config := "[core]\n\tfsmonitor = touch " + marker + "\n\tsshCommand = touch " + marker + "\n[init]\n\ttemplateDir = " + home + "/tpl\n[uploadpack]\n\tpackObjectsHook = touch " + marker +
		"\n[url \"file:///nowhere/\"]\n\tinsteadOf = file:///\n[credential]\n\thelper = !touch " + marker + "\n"
	if err := errors.Join(os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(config), 0o600), os.MkdirAll(home+"/tpl/hooks", 0o755),
		os.WriteFile(home+"/tpl/hooks/reference-transaction", []byte("#!/bin/sh\ntouch "+marker+"\n"), 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	t.Setenv("GIT_DIR", "/nowhere")
	t.Setenv("GIT_CONFIG_COUNT", "1")
	t.Setenv("GIT_CONFIG_KEY_0", "url.file:///nowhere/.insteadOf")
	t.Setenv("GIT_CONFIG_VALUE_0", "file:///")
	if _, _, err := u.lock("main"); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(marker); err == nil {
		t.Error("something of this user's configuration ran")
	}
	// Other protocols run programs.
	r := &repository{dir: t.TempDir(), url: "ext::touch " + marker}
	if _, err := r.resolve(t.Context(), "main"); err == nil || !strings.Contains(err.Error(), "transport 'ext' not allowed") {
		t.Errorf("got %v", err)
	}
}

func TestHTTPS(t *testing.T) {
	u := newUpstream(t)
	u.write("a", "1")
	u.commit()
	backend := strings.TrimSpace(u.git("--exec-path")) + "/git-http-backend"
	server := httptest.NewTLSServer(&cgi.Handler{Path: backend, Env: []string{"GIT_PROJECT_ROOT=" + u.dir, "GIT_HTTP_EXPORT_ALL=1"}})
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := u.lock("main", "url", server.URL+"/.git"); err == nil {
		t.Error("a certificate that nobody vouches for was taken")
	}
	t.Setenv("GIT_SSL_CAINFO", ca)
	lock, _, err := u.lock("main", "url", server.URL+"/.git")
	if err != nil {
		t.Fatal(err)
	}
	local, _, err := u.lock("main")
	if err != nil || local.Pins[0].SHA256 != lock.Pins[0].SHA256 {
		t.Errorf("over https %s, from the disk %s, %v", lock.Pins[0].SHA256, local.Pins[0].SHA256, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r := &repository{dir: t.TempDir(), url: "https://127.0.0.1:1/x"}
	if _, err := r.resolve(ctx, "main"); err == nil {
		t.Error("a server that is not there answered")
	}
}
