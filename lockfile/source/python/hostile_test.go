package python

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source"
	"quorate.dev/lockfile/source/sourcetest"
)

// An index is somebody else's: whatever it says of a file, the hashes of the
// project count, and nothing but names of files comes from it.
func TestHostileIndex(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "left-1.0.0.tar.gz")
	if err := os.WriteFile(secret, []byte("a secret of this machine"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := sum("left-1.0.0.tar.gz")
	entry := func(name, url string) string {
		return fmt.Sprintf(`{"filename": %q, "url": %q, "hashes": {"sha256": %q}}`, name, url, good)
	}
	list := func(entries ...string) string { return `{"files": [` + strings.Join(entries, ",") + `]}` }
	const at = "web/requirements.txt:1: cannot lock left 1.0.0:"
	for _, test := range []struct{ summary, page, want string }{
		{"a name that leaves", list(entry("../../left-1.0.0.tar.gz", "x")), " the index has a file sha256:" + good + ` under the name "../../left-1.0.0.tar.gz", which is none`},
		{"a name with a line end", list(entry("left\nevil-1.0.0.tar.gz", "x")), ` under the name "left\nevil-1.0.0.tar.gz", which is none`},
		{"no name", list(entry("", "x")), ` under the name "", which is none`},
		{"a name that leaves, in HTML", `<a href="x/..%2fleft-1.0.0.tar.gz#sha256=` + good + `">left</a><a href="..#sha256=` + good + `">left</a>`, ` under the name "`},
		{"two names", list(entry("left-1.0.0.tar.gz", "x"), entry("left-1.0.0.zip", "y")), " the index has the file sha256:" + good + ` under two names, "left-1.0.0.tar.gz" and "left-1.0.0.zip"`},
		{"a file of this machine", list(entry("left-1.0.0.tar.gz", "file://"+secret)), `leads to "file://` + secret + `", which is a file of this machine`},
		{"a file of this machine, in HTML", `<a href="file://` + secret + "#sha256=" + good + `">left</a>`, `leads to "file://` + secret + `", which is a file of this machine`},
		{"another scheme", list(entry("left-1.0.0.tar.gz", "ftp://example.org/left-1.0.0.tar.gz")), `URL "ftp://example.org/left-1.0.0.tar.gz" does not begin with https://, http:// or file://`},
		{"another host that has nothing", list(entry("left-1.0.0.tar.gz", "http://127.0.0.1:1/left-1.0.0.tar.gz")), "http://127.0.0.1:1/left-1.0.0.tar.gz: "},
		{"nested deeply", `{"meta": ` + strings.Repeat("[", 1<<20), "it is nested deeper than 10000"},
		{"nested deeply, in a file", `{"files": [` + strings.Repeat(`{"a":`, 20_000), "is not JSON as PEP 691 has it: invalid character '{' exceeded max depth"},
		{"a long word", `{"meta": "` + strings.Repeat("x", 3<<20), "is not JSON as PEP 691 has it: one value in it has more than 1048576 bytes"},
		{"a long file", `{"files": [{"filename": "` + strings.Repeat("x", 3<<20), "one value in it has more than 1048576 bytes"},
		{"cut short", `{"files": [` + entry("left-1.0.0.tar.gz", "x"), "is not JSON as PEP 691 has it: unexpected EOF"},
		{"another form", `{"files": {}}`, `is not JSON as PEP 691 has it: "{" is where an array should be`},
		{"files of another form", `{"files": [1]}`, "is not JSON as PEP 691 has it: json: cannot unmarshal number"},
		{"nothing", "", "none of the 1 hashes of left 1.0.0 is a file that the index has"},
		{"blanks alone", strings.Repeat(" ", 1<<20), "none of the 1 hashes of left 1.0.0 is a file that the index has"},
		{"an endless page", strings.Repeat(" ", 65<<20), "more than 67108864 bytes"},
	} {
		t.Run(strings.ReplaceAll(test.summary, " ", "-"), func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, test.page) }))
			defer server.Close()
			blobs := sourcetest.NewBlobs(t)
			_, err := New(server.URL).Resolve(t.Context(), source.Query{
				Request:   lockfile.InputRequest{Name: "wheels", Kind: lockfile.KindPython, Ask: lockfile.Facts{"from": "app", "path": requirementsFile}},
				Platforms: both[:1], Tree: sourcetest.Tree(t, "app", map[string]string{requirementsFile: "left==1.0.0 --hash=sha256:" + good + "\n"}),
				Blobs: blobs, Fetch: fetch.Options{Tries: 1},
			})
			if err == nil || !strings.HasPrefix(err.Error(), "web/requirements.txt:1: ") || !strings.Contains(err.Error(), test.want) || len(err.Error()) > 1000 {
				t.Errorf("got  %.2000v\nwant %s … %s", err, at, test.want)
			}
			if files, _ := filepath.Glob(filepath.Join(blobs.Dir(), "*")); len(files) > 0 {
				t.Errorf("the store has %q", files)
			}
		})
	}
}

// Millions of files that somebody made up take no memory.
func TestManyFiles(t *testing.T) {
	base, _ := url.Parse("https://example.org/simple/x/")
	good := sum("left-1.0.0.tar.gz")
	for _, test := range []struct{ summary, before, each, after string }{
		{"HTML", "", `<a href="#">`, `<a href="left-1.0.0.tar.gz#sha256=` + good + `">`},
		{"JSON", `{"files":[`, `{},`, `{"filename":"left-1.0.0.tar.gz","hashes":{"sha256":"` + good + `"}}]}`},
		{"JSON of another kind", `{"versions":[`, `[],{},0,`, `0],"files":[{"filename":"left-1.0.0.tar.gz","hashes":{"sha256":"` + good + `"}}]}`},
	} {
		flood := &sourcetest.Flood{Text: test.each, Left: 2 << 20}
		var got []file
		err := parsePage(io.MultiReader(strings.NewReader(test.before), flood, strings.NewReader(test.after)), base, func(f file) error {
			got = append(got, f)
			return nil
		})
		if err != nil || len(got) != 1 || got[0].Name != "left-1.0.0.tar.gz" {
			t.Errorf("%s: %+v, %v", test.summary, got, err)
		}
		if flood.Most > 8<<20 || flood.Looks < 2 {
			t.Errorf("%s: it took %d bytes, in %d looks", test.summary, flood.Most, flood.Looks)
		}
	}
}
