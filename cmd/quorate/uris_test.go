package main

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ourURI is one that statements may hold.
var ourURI = regexp.MustCompile(`"https://quorate\.dev/([a-z0-9./-]+?)/?"`)

// Every URI of ours that the program writes is described beside the code that
// writes it: whoever meets one in a statement has to find out what it means.
func TestURIsAreDescribed(t *testing.T) {
	const described = "rebuild/attestation/doc"
	list, err := os.ReadFile(filepath.Join(source, described, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	walkSource(t, func(name string, d fs.DirEntry) {
		if d.IsDir() || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return
		}
		text, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ourURI.FindAllSubmatch(text, -1) {
			uri := string(m[1])
			found[uri] = true
			file := path.Join(described, uri+".md")
			page, err := os.ReadFile(filepath.Join(source, file))
			if err != nil {
				t.Errorf("%s writes the URI https://quorate.dev/%s, which %s should describe: %v", name, uri, file, err)
				continue
			}
			if !strings.HasPrefix(string(page), "# https://quorate.dev/"+uri) {
				t.Errorf("%s does not begin with the URI that it describes", file)
			}
			if !strings.Contains(string(list), "("+uri+".md)") {
				t.Errorf("%s/README.md does not list %s", described, uri)
			}
		}
	})
	if len(found) < 5 {
		t.Errorf("found %d URIs only: the test looks at nothing", len(found))
	}
}
