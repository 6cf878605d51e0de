package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
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
	for _, name := range []string{"greeter", "nginx"} {
		t.Run(name, func(t *testing.T) {
			e := w.example(t, name)
			w.build(t, e.project, "--sbom", "spdx="+spdx, "--sbom", "cyclonedx="+cyclonedx)
			if n := strings.TrimSpace(must(t, "sh", "-c", "cd "+dir+" && node judge.js")); n == "0" {
				t.Error("no package declares a licence")
			}
			if listed, there := spdxFiles(t, spdx), countFiles(t, w.unpack(t, e)); listed != there {
				t.Errorf("the SBOM lists %d files, the image unpacks to %d", listed, there)
			}
			if name == "greeter" {
				greeterParts(t, cyclonedx)
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

// greeterParts checks that greeter is made by a step, of local sources and of
// packages that are not shipped.
func greeterParts(t *testing.T, name string) {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var bom cdx.BOM
	if err := json.Unmarshal(raw, &bom); err != nil {
		t.Fatal(err)
	}
	scopes := map[string]cdx.Scope{}
	for _, c := range *bom.Components {
		scopes[c.BOMRef] = c.Scope
	}
	for ref, want := range map[string]cdx.Scope{
		"part/step/compile": cdx.ScopeRequired, "part/deb/gcc:amd64": cdx.ScopeExcluded, "part/local/app": cdx.ScopeExcluded,
	} {
		if scopes[ref] != want {
			t.Errorf("%s has scope %q, expected %q", ref, scopes[ref], want)
		}
	}
}
