package npm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"quorate.dev/lockfile/source/sourcetest"
)

const leftText = `{"name": "left", "version": "1.2.3", "dist": {"integrity": "sha512-x", "signatures": [{"keyid": "k", "sig": "s"}]}}`

func TestFindRelease(t *testing.T) {
	for _, text := range []string{
		`{"versions": {"1.2.3": ` + leftText + `}, "time": {"1.2.3": "2026-01-02T03:04:05.000Z"}}`,
		`{"time":{"unpublished":{"a":[1,-2.5e+3,true,null,"\\\""]},"1.2.3":"2026-01-02T03:04:05.000Z"},"x":[[],{}],"versions":{"1.2.2":{},"1\u002e2.3":` + leftText + "}}\n",
	} {
		rel, err := findRelease(strings.NewReader(text), "left", "1.2.3")
		if err != nil || rel.Dist.Integrity != "sha512-x" || rel.signatures() != "k=s" || rel.published.Year() != 2026 {
			t.Errorf("%s: %+v, %v", text, rel, err)
		}
	}
	for _, text := range []string{`{}`, `{"versions": null}`, `{"versions": {}}`, `{"versions": {"1.2.4": ` + leftText + `}}`, `{"versions": {"1.2.3": {"name": "right", "version": "1.2.3"}}}`, `{"versions": {"1.2.3": {"name": "left", "version": "1.2.4"}}}`} {
		if _, err := findRelease(strings.NewReader(text), "left", "1.2.3"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", text, err)
		}
	}
	const no = "what the registry says of left is no package metadata: "
	for _, test := range []struct{ summary, text, want string }{
		{"nothing", "", no + "unexpected EOF"},
		{"a page", "<html>log in</html>", no + "invalid character '<' looking for beginning of value"},
		{"a list", "[]", no + `"[" is where an object should be`},
		{"cut short", `{"versions": {"1.2.3": {"name"`, no + "unexpected EOF"},
		{"more ends than beginnings", `{"versions": ]}`, no + "invalid character ']' looking for beginning of value"},
		{"no colon", `{"versions" {}}`, no + "invalid character '{' after object key"},
		{"a version that is none", `{"versions": {"1.2.3": [}}`, no + "invalid character '}' looking for beginning of value"},
		{"a version of another form", `{"versions": {"1.2.3": [1]}}`, no + "json: cannot unmarshal array into Go value of type npm.released"},
		{"nested deeply", `{"x": ` + strings.Repeat("[", 1<<20), no + "it is nested deeper than 10000"},
		{"nested deeply where it is wanted", `{"versions": {"1.2.3": ` + strings.Repeat(`{"a":`, 1<<20), no + "invalid character '{' exceeded max depth"},
		{"a long name", `{"` + strings.Repeat("x", 5<<20), no + "one value in it has more than 4194304 bytes"},
		{"a long version", `{"versions": {"1.2.3": "` + strings.Repeat("x", 5<<20), no + "one value in it has more than 4194304 bytes"},
		{"twice", `{"versions": {"1.2.3": {}, "1.2.3": {}}}`, no + `"1.2.3" stands twice`},
		{"twice, apart", `{"versions": {"1.2.3": {}}, "versions": {"1.2.3": {}}}`, no + `"1.2.3" stands twice`},
	} {
		if _, err := findRelease(strings.NewReader(test.text), "left", "1.2.3"); err == nil || err.Error() != test.want {
			t.Errorf("%s: got  %v\nwant %s", test.summary, err, test.want)
		}
	}
}

// A registry that makes up millions of versions takes no memory for them.
func TestManyVersions(t *testing.T) {
	flood := &sourcetest.Flood{Text: `"0":{"dist":{"signatures":[]}},`, Left: 32 << 20}
	r := io.MultiReader(strings.NewReader(`{"versions":{`), flood, strings.NewReader(`"1.2.3":`+leftText+`}}`))
	if rel, err := findRelease(r, "left", "1.2.3"); err != nil || rel.Dist.Integrity != "sha512-x" {
		t.Errorf("%+v, %v", rel, err)
	}
	if flood.Most > 8<<20 || flood.Looks < 2 {
		t.Errorf("it took %d bytes, in %d looks", flood.Most, flood.Looks)
	}
}

// What a registry may say is bounded, whatever it is asked for.
func TestLongAnswers(t *testing.T) {
	for _, test := range []struct {
		at, want string
	}{
		{"/-/npm/v1/keys", ": more than 1048576 bytes"},
		{"/left/1.2.3", ": more than 4194304 bytes"},
		{"/left", ": more than 134217728 bytes"},
	} {
		t.Run(strings.ReplaceAll(test.at[1:], "/", "-"), func(t *testing.T) {
			w := newWorld(t)
			w.left.Signatures = nil
			front := httptest.NewServer(http.HandlerFunc(func(resp http.ResponseWriter, req *http.Request) {
				switch {
				case req.URL.Path == test.at:
					more := []byte(strings.Repeat("[],\n", 256<<10))
					_, _ = resp.Write([]byte(`{"more": [`))
					for range 130 {
						if _, err := resp.Write(more); err != nil {
							return
						}
					}
				case req.URL.Path == "/left/1.2.3":
					http.NotFound(resp, req)
				default:
					w.Config.Handler.ServeHTTP(resp, req)
				}
			}))
			defer front.Close()
			s := New(Options{Config: &Config{Registries: Registries{"": front.URL}}})
			_, err := lockOf(t, s, w.blobs, nil, nil, w.left.LockEntry())
			if err == nil || !strings.HasSuffix(err.Error(), front.URL+test.at+test.want) {
				t.Errorf("got %v\nwant … %s%s", err, front.URL, test.at+test.want)
			}
		})
	}
}

// A registry that fails when it is asked for signatures is not asked for those of
// thousands of packages; one that has none is, and each is told.
func TestSignaturesInVain(t *testing.T) {
	for _, test := range []struct {
		status int
		most   int64
		told   int
	}{{http.StatusBadGateway, 24 + 8, 0}, {http.StatusNotFound, 400, 200}} {
		w := newWorld(t)
		entries := []string{}
		for i := range 200 {
			entries = append(entries, w.Publish(fmt.Sprintf("p%d", i), "1.0.0").LockEntry())
		}
		var asked atomic.Int64
		front := httptest.NewServer(http.HandlerFunc(func(resp http.ResponseWriter, req *http.Request) {
			if !strings.Contains(req.URL.Path, "/-/") {
				asked.Add(1)
				resp.WriteHeader(test.status)
				return
			}
			w.Config.Handler.ServeHTTP(resp, req)
		}))
		defer front.Close()
		s := New(Options{Config: &Config{Registries: Registries{"": front.URL}}})
		_, err := lockOf(t, s, w.blobs, nil, nil, entries...)
		var verdict *SignatureError
		if err == nil || !strings.HasSuffix(err.Error(), "\n… and 192 more, of 200") || errors.As(err, &verdict) != (test.told > 0) {
			t.Errorf("%d: got %v", test.status, err)
		}
		if n := asked.Load(); n > test.most || test.told > 0 && n != test.most {
			t.Errorf("%d: it was asked %d times", test.status, n)
		}
	}
}

// FuzzFindRelease compares with a decoder that keeps everything.
func FuzzFindRelease(f *testing.F) {
	f.Add(`{"versions": {"1.2.3": ` + leftText + `}, "time": {"1.2.3": "2026-01-02T03:04:05.000Z"}}`)
	f.Add(`{"a": [1, {"b": "\\\""}], "versions": {"1": {}, "1.2.3": {"name": "left", "version": "1.2.3"}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		rel, err := findRelease(strings.NewReader(text), "left", "1.2.3")
		var all, versions map[string]json.RawMessage
		if json.Unmarshal([]byte(text), &all) != nil || json.Unmarshal(all["versions"], &versions) != nil || versions["1.2.3"] == nil {
			return
		}
		var want released
		if json.Unmarshal(versions["1.2.3"], &want) != nil || want.Name != "left" || want.Version != "1.2.3" {
			return
		}
		// What is plain JSON is found, unless a name stands twice or is very long.
		if err != nil && !strings.Contains(err.Error(), "stands twice") && !strings.Contains(err.Error(), "more than") {
			t.Errorf("%q: %v", text, err)
		}
		if err == nil && (rel.Name != want.Name || rel.signatures() != want.signatures()) {
			t.Errorf("%q: %+v, want %+v", text, rel, want)
		}
	})
}
