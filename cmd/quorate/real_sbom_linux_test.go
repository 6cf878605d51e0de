package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"
)

// What judges the documents that we did not write: CycloneDX's own validator
// (their schema, strict), SPDX's own library, and npm's parser of licence
// expressions with SPDX's list of licences.
const judgeSBOM = `
const fs = require('fs'), C = require('@cyclonedx/cyclonedx-library'), parse = require('spdx-expression-parse');
(async () => {
	const bad = await new C.Validation.JsonStrictValidator(C.Spec.Version.v1dot6).validate(fs.readFileSync('image.cdx.json', 'utf8'));
	if (bad) { console.log(JSON.stringify(bad)); process.exit(1); }
	let n = 0;
	for (const p of JSON.parse(fs.readFileSync('image.spdx.json')).packages)
		if (p.licenseDeclared !== 'NOASSERTION') { parse(p.licenseDeclared); n++; }
	console.log(n);
})().catch(e => { console.log(String(e)); process.exit(1); });
`

func (w *world) testSBOM(t *testing.T) {
	dir := filepath.Join(w.dir, "sbom")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "judge.js"), []byte(judgeSBOM), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, tool(t, "npm"), "--prefix", dir, "install", "--no-audit", "--no-fund", "--ignore-scripts",
		"@cyclonedx/cyclonedx-library@10.3.0", "ajv@8", "ajv-formats@3", "ajv-formats-draft2019@1", "spdx-expression-parse@4")
	spdx, cyclonedx := filepath.Join(dir, "image.spdx.json"), filepath.Join(dir, "image.cdx.json")
	for _, name := range []string{"greeter", "nginx", "node", "web"} {
		t.Run(name, func(t *testing.T) {
			e := w.example(t, name)
			w.build(t, e.project, "--sbom", "spdx="+spdx, "--sbom", "cyclonedx="+cyclonedx)
			if n := strings.TrimSpace(must(t, "sh", "-c", "cd "+dir+" && node judge.js")); n == "0" {
				t.Error("no package declares a licence")
			}
			root := w.unpack(t, e)
			if listed, there := spdxFiles(t, spdx), countFiles(t, root); listed != there {
				t.Errorf("the SBOM lists %d files, the image unpacks to %d", listed, there)
			}
			switch name {
			case "greeter":
				greeterParts(t, cyclonedx)
			case "node":
				sameParts(t, shippedParts(t, cyclonedx, "part/npm/"), installed(t, filepath.Join(root, "srv/app")))
			case "web":
				sameParts(t, shippedParts(t, cyclonedx, "part/go/"), linked(t, filepath.Join(root, "usr/bin/web")))
			}
		})
	}
}

// spdxFiles counts the files of a document that SPDX's library accepts.
func spdxFiles(t *testing.T, name string) int {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	doc, err := spdxjson.Read(f)
	if err == nil {
		err = spdxlib.ValidateDocument(doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(doc.Files)
}

func countFiles(t *testing.T, root string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(must(t, "sh", "-c", "find "+root+" -type f | wc -l")))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sameParts compares NAME@VERSION of parts with those of somebody else.
func sameParts(t *testing.T, got, want []string) {
	t.Helper()
	if len(want) == 0 {
		t.Error("the judge found none")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the judge says (-), the SBOM says (+):\n%s", diff)
	}
}

func readBOM(t *testing.T, name string) *cdx.BOM {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var bom cdx.BOM
	if err := json.Unmarshal(raw, &bom); err != nil {
		t.Fatal(err)
	}
	return &bom
}

func shippedParts(t *testing.T, name, prefix string) []string {
	t.Helper()
	var out []string
	for _, c := range *readBOM(t, name).Components {
		if strings.HasPrefix(c.BOMRef, prefix) && c.Scope == cdx.ScopeRequired {
			out = append(out, c.Name+"@"+c.Version)
		}
	}
	slices.Sort(out)
	return out
}

// installed is what npm installed, by each package's own package.json.
func installed(t *testing.T, app string) []string {
	t.Helper()
	own := regexp.MustCompile(`/node_modules/(@[^/]+/)?[^/]+/package\.json$`)
	var out []string
	err := filepath.WalkDir(app, func(name string, _ fs.DirEntry, err error) error {
		if err != nil || !own.MatchString(name) {
			return err
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var p struct{ Name, Version string }
		err = json.Unmarshal(raw, &p)
		out = append(out, p.Name+"@"+p.Version)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// linked is what the go command says that a program is made of.
func linked(t *testing.T, program string) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(must(t, tool(t, "go"), "version", "-m", program)) {
		if f := strings.Fields(line); len(f) >= 3 && f[0] == "dep" {
			out = append(out, f[1]+"@"+f[2])
		}
	}
	slices.Sort(out)
	return out
}

// greeterParts checks that greeter is made by a step, of local sources and of
// packages that are not shipped.
func greeterParts(t *testing.T, name string) {
	t.Helper()
	scopes := map[string]cdx.Scope{}
	for _, c := range *readBOM(t, name).Components {
		scopes[c.BOMRef] = c.Scope
	}
	for ref, want := range map[string]cdx.Scope{
		"part/step/compile": cdx.ScopeRequired, "part/deb/gcc:amd64": cdx.ScopeExcluded, "part/local/app": "",
	} {
		if scopes[ref] != want {
			t.Errorf("%s has scope %q, expected %q", ref, scopes[ref], want)
		}
	}
}
