package rebuild

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"quorate.dev/builder/tree"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/attestation"
	"quorate.dev/rebuild/host"
)

const listHeader = "#quorate-tree 1\n"

// listOf is a listing of one file that holds text.
func listOf(t *testing.T, text string) string {
	t.Helper()
	made, err := tree.New([]tree.Entry{tree.NewFile("token", 0o644, 0, []byte(text))})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := made.Format(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func packed(text string) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	_, _ = io.WriteString(z, text)
	_ = z.Close()
	return b.Bytes()
}

// lists makes a fake's worker report that its step "make" left the listing, and hand in
// these bytes as its list; nil for none.
func (f *fake) lists(t *testing.T, listing string, handedIn []byte) {
	tree := digest.Of([]byte(listing))
	f.spoil = func(r *attestation.BuildRecord) {
		r.Steps = []agreement.StepDigest{{Platform: "linux/amd64", Step: "make", Tree: tree}}
	}
	f.after = func(job host.Job, _ *host.Result) {
		dir := filepath.Join(job.Results, host.ListsDir)
		err := os.Mkdir(dir, 0o755)
		if handedIn != nil {
			err = errors.Join(err, os.WriteFile(filepath.Join(dir, host.ListName(tree)), handedIn, 0o644))
		}
		// What no report names is kept by nobody.
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, host.ListName(digest.Of(nil))), []byte("x"), 0o644))
		if err != nil {
			t.Error(err)
		}
	}
}

func TestKeepLists(t *testing.T) {
	good, other := listOf(t, "one"), listOf(t, "two")
	zeros := strings.Repeat("\x00", 1<<20)
	for _, test := range []struct {
		summary  string
		listing  string // whose digest is signed
		handedIn []byte
		warning  string // "" when it is kept or did not come
		kept     bool
	}{
		{"good", other, packed(other), "", true},
		{"none, from an older quorate", other, nil, "", false},
		{"another list than the report names", other, packed(good), "bytes have digest " + digest.Of([]byte(good)).String() + ", expected " + digest.Of([]byte(other)).String(), false},
		{"truncated", other, packed(other)[:30], "unexpected EOF", false},
		{"not packed", other, []byte(other), "gzip: invalid header", false},
		{"something behind it", other, append(packed(other), "more than the header of another one"...), "gzip: invalid header", false},
		{"no list, though signed", "hello\n", packed("hello\n"), `cannot parse listing: line 1: "hello" found, expected "#quorate-tree 1"`, false},
		{"a path outside, though signed", listHeader + "../x type=d mode=0755 uid=0 gid=0 time=0\n", packed(listHeader + "../x type=d mode=0755 uid=0 gid=0 time=0\n"),
			`cannot parse listing: line 2: "../x" is not clean`, false},
		{"a line without end, though signed", listHeader + zeros + zeros, packed(listHeader + zeros + zeros), "cannot parse listing: line 2: bufio.Scanner: token too long", false},
	} {
		t.Run(test.summary, func(t *testing.T) {
			x := newTeam(t)
			x.fakes[0].lists(t, good, packed(good))
			x.fakes[1].builds = "other"
			x.fakes[1].lists(t, test.listing, test.handedIn)
			var steps []string
			x.options.Explain = explainNothing(func(b Built) { steps = append(steps, b.Steps) })
			out, err := Run(t.Context(), x.options)
			if err != nil || out.Verdict.Decision != agreement.Disagree {
				t.Fatalf("%v, %+v", err, out)
			}
			want := []string{}
			if test.warning != "" {
				want = append(want, `osl: the list of what step "make" left for linux/amd64 is not to be trusted: `+test.warning+"; it is not used")
			}
			if got := slices.DeleteFunc(out.Warnings, func(w string) bool { return !strings.Contains(w, "list") }); !slices.Equal(got, want) {
				t.Errorf("warned %q\nexpected %q", got, want)
			}
			lists := slices.DeleteFunc(kept(t, filepath.Join(out.Results, "rebuilders")), func(name string) bool { return !strings.Contains(name, "list") })
			wanted := []string{"ams/steps/linux-amd64/make.list.gz"}
			if test.kept {
				wanted = append(wanted, "osl/steps/linux-amd64/make.list.gz")
			}
			if !slices.Equal(lists, wanted) {
				t.Errorf("kept %q, expected %q", lists, wanted)
			}
			if len(steps) != 3 || !strings.HasSuffix(steps[0], filepath.Join("rebuilders", "ams", "steps")) {
				t.Errorf("told of the folders %q", steps)
			}
			text, err := readList(filepath.Join(out.Results, "rebuilders", "osl", "steps"), agreement.StepDigest{Platform: "linux/amd64", Step: "make", Tree: digest.Of([]byte(test.listing))})
			switch {
			case test.kept && (err != nil || text != test.listing):
				t.Errorf("read %q, %v", text, err)
			case !test.kept && !errors.Is(err, fs.ErrNotExist):
				t.Errorf("read %q, %v; it is not kept", text, err)
			}
		})
	}
}

// explainNothing is an Options.Explain that looks at what it is given.
func explainNothing(look func(Built)) func(context.Context, []Built) (*Explanation, error) {
	return func(_ context.Context, built []Built) (*Explanation, error) {
		for _, b := range built {
			look(b)
		}
		return &Explanation{Text: []byte("because\n")}, nil
	}
}

func readList(dir string, s agreement.StepDigest) (string, error) {
	l, err := OpenList(dir, s)
	if err != nil {
		return "", err
	}
	defer l.Close()
	b, err := io.ReadAll(l)
	return string(b), err
}

// Nobody reads or keeps lists of those who agree, bad ones included; a dissent that the policy
// allows can still be looked into.
func TestListsOfAgreement(t *testing.T) {
	good := listOf(t, "one")
	for _, allowed := range []bool{false, true} {
		x := newTeam(t)
		for _, f := range x.fakes {
			f.lists(t, good, packed("bad"))
		}
		if allowed {
			x.fakes[1].builds, x.options.Policy.AllowDissent = "other", true
			x.fakes[1].lists(t, listOf(t, "two"), packed(listOf(t, "two")))
		}
		out, err := Run(t.Context(), x.options)
		if err != nil || out.Agreement == nil {
			t.Fatalf("%v, %+v", err, out)
		}
		warned := strings.Contains(fmt.Sprint(out.Warnings), "not to be trusted")
		_, err = os.Stat(filepath.Join(out.Results, "rebuilders", "osl", "steps"))
		if kept := err == nil; kept != allowed || warned != allowed {
			t.Errorf("dissent %v: kept %v, warned %q", allowed, kept, out.Warnings)
		}
		left, _ := filepath.Glob(filepath.Join(out.Results, "rebuilders", "*", host.ListsDir))
		if len(left) > 0 {
			t.Errorf("left %q", left)
		}
	}
}

// A list that is small when packed is not read without end.
func TestListBomb(t *testing.T) {
	listing := listHeader + strings.Repeat("a", 1000)
	s := agreement.StepDigest{Platform: "linux/amd64", Step: "make", Tree: digest.Of([]byte(listing))}
	path := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(path, packed(listing), 0o644); err != nil {
		t.Fatal(err)
	}
	read, err := checkList(path, s, 100)
	if want := `the list of what step "make" left for linux/amd64 is not to be trusted: it is longer than any that is read`; err == nil || err.Error() != want {
		t.Errorf("got %v, expected %s", err, want)
	}
	if read < 100 || read > 100+64<<10 {
		t.Errorf("read %d bytes", read)
	}
	if err := os.Symlink(path, path+"-link"); err != nil {
		t.Fatal(err)
	}
	if _, err := checkList(path+"-link", s, maxListing); err == nil || !strings.HasSuffix(err.Error(), "it is no regular file") {
		t.Errorf("followed a link: %v", err)
	}
}

func TestListPath(t *testing.T) {
	for _, test := range []struct{ platform, step, want string }{
		{"linux/amd64", "make", "linux-amd64/make.list.gz"}, {"linux/arm/v7", "a.b-c", "linux-arm-v7/a.b-c.list.gz"},
		{"linux/amd64", "../x", ""}, {"linux/amd64", "a/b", ""}, {"../..", "make", ""}, {"..", "make", ""}, {"", "make", ""}, {"linux/amd64", "", ""}, {"linux/amd64", "A", ""},
	} {
		got, ok := listPath(agreement.StepDigest{Platform: test.platform, Step: test.step})
		if filepath.ToSlash(got) != test.want || ok != (test.want != "") {
			t.Errorf("%q, %q: %q, %v; expected %q", test.platform, test.step, got, ok, test.want)
		}
	}
}

// BenchmarkList is what the list of a step that left 20,000 files costs whoever asked, for each
// rebuilder and only when they do not agree: to check it, and to compare it with another one.
func BenchmarkList(b *testing.B) {
	var lists [2]string
	for i := range lists {
		var entries []tree.Entry
		for n := range 20_000 {
			text := fmt.Sprint(n)
			if n == 7777 {
				text += fmt.Sprint("differs", i)
			}
			entries = append(entries, tree.NewFile(fmt.Sprintf("usr/share/doc/package-%d/file-%d", n/20, n), 0o644, 0, []byte(text)))
		}
		made, err := tree.New(entries)
		if err != nil {
			b.Fatal(err)
		}
		var text strings.Builder
		if err := made.Format(&text); err != nil {
			b.Fatal(err)
		}
		lists[i] = text.String()
	}
	path := filepath.Join(b.TempDir(), "list")
	if err := os.WriteFile(path, packed(lists[0]), 0o644); err != nil {
		b.Fatal(err)
	}
	b.Run("check", func(b *testing.B) {
		b.SetBytes(int64(len(lists[0])))
		for b.Loop() {
			if _, err := checkList(path, agreement.StepDigest{Tree: digest.Of([]byte(lists[0]))}, maxListing); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("compare", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			for d, err := range tree.Compare(strings.NewReader(lists[0]), strings.NewReader(lists[1])) {
				if n++; err != nil || d.A == nil || d.B == nil {
					b.Fatal(d, err)
				}
			}
			if n != 1 {
				b.Fatalf("%d paths differ", n)
			}
		}
	})
}
