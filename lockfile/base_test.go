package lockfile

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quorate.dev/lockfile/digest"
)

const baseYAML = `apiVersion: quorate/v1
name: greeter
platforms: [linux/amd64]
epoch: 2026-10-01T02:03:04Z
inputs:
  debian: {suite: bookworm}
  images: {os: {image: "oci:os"}, other: {image: "oci:os"}}
steps:
  - {name: probe, root: os, packages: [jq], run: "true"}
  - {name: plain, root: os, run: "true"}
image: {base: os, packages: [curl, bash]}
`

// onBase is a lock of baseYAML.
func onBase(t *testing.T) *Lock {
	sum := digest.Of(nil)
	d := defineInputs(t, baseYAML)
	return Sorted(&Lock{
		Format: 1, Assembler: 1, Epoch: d.Epoch.Time,
		Requests: RequestsOf(d),
		Archives: []Archive{{Name: "bookworm", Suite: "bookworm", Date: d.Epoch.Time, InRelease: sum, SignedBy: []string{strings.Repeat("A", 40)}}},
		Inputs:   []Input{{Name: "os", Kind: KindImage}, {Name: "other", Kind: KindImage}},
		Platforms: []Platform{{
			Platform: amd64,
			Packages: []Package{
				{Name: "curl", Version: "7", Arch: "amd64", Size: 1, SHA256: sum, Path: "curl.deb", Archive: "bookworm", In: []Member{{SetImage, ByRequest}}},
				{Name: "libcurl4", Version: "7", Arch: "amd64", Size: 1, SHA256: sum, Path: "libcurl4.deb", Archive: "bookworm", In: []Member{{SetImage, "curl"}}},
			},
			Held: []Held{{"step/probe", "jq", "1.6"}, {SetImage, "bash", "5.2"}},
		}},
	})
}

// The sets that are added to an image say so, with what it meets by itself. A
// step that only runs in the image's files asks for no packages.
func TestBaseFormat(t *testing.T) {
	l := onBase(t)
	text := string(Format(l))
	for _, line := range []string{
		"    - {name: image, packages: [bash, curl], scripts: dpkg, base: os}\n    - {name: step/probe, packages: [jq], base: os}\n  inputs:\n",
		"    held:\n      - {set: image, package: bash, version: \"5.2\"}\n      - {set: step/probe, package: jq, version: \"1.6\"}\n",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("the lock lacks\n%s\nit is\n%s", line, text)
		}
	}
	again, err := Parse("quorate.lock", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(l, again); d != "" {
		t.Error(d)
	}
}

func TestBaseValidate(t *testing.T) {
	for _, test := range []struct {
		summary string
		change  func(*Lock)
		want    string
	}{
		{"good", func(*Lock) {}, "<nil>"},
		{"on no image", func(l *Lock) { l.Requests.Sets[0].Base = "sky" }, `the lock is not valid: set "image" is added to "sky", which is no image input of the lock`},
		{"held by nothing", func(l *Lock) { l.Platforms[0].Held[0].Set = "step/plain" }, `the lock is not valid: "bash" "5.2" is held for set "step/plain", which is added to no image or has not asked for it, or is there twice`},
		{"held twice", func(l *Lock) { l.Platforms[0].Held = append(l.Platforms[0].Held, l.Platforms[0].Held[0]) }, `the lock is not valid: "bash" "5.2" is held for set "image", which is added to no image or has not asked for it, or is there twice`},
		{"held in no version", func(l *Lock) { l.Platforms[0].Held[0].Version = "" }, `the lock is not valid: "bash" "" is held for set "image", which is added to no image or has not asked for it, or is there twice`},
		{"held, and never asked for", func(l *Lock) { l.Platforms[0].Held[0].Package = "vim" }, `the lock is not valid: "vim" "5.2" is held for set "image", which is added to no image or has not asked for it, or is there twice`},
	} {
		l := onBase(t)
		test.change(l)
		if got := fmt.Sprint(l.Validate()); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.summary, got, test.want)
		}
	}
}

func TestBaseCovers(t *testing.T) {
	l := onBase(t)
	if err := l.Covers(defineInputs(t, baseYAML), 1); err != nil {
		t.Error(err)
	}
	for _, test := range []struct{ old, new, want string }{
		{"{base: os, ", "{base: other, ", "image is built on image other, the lock has os"},
		{"{base: os, packages: [curl, bash]}", "{essential: false, packages: [curl, bash]}", "image is built on image none, the lock has os"},
		{"root: os, packages: [jq]", "root: os", `step "probe" is gone`},
		{"{name: plain, root: os,", "{name: plain, root: os, packages: [jq],", `step "plain" is new`},
	} {
		err := l.Covers(defineInputs(t, strings.Replace(baseYAML, test.old, test.new, 1)), 1)
		if want := "the lock does not fit the definition:\n  " + test.want + "\nrun: quorate lock"; fmt.Sprint(err) != want {
			t.Errorf("%s:\n got %v\nwant %s", test.new, err, want)
		}
	}
}

func TestBaseDiffAndWhy(t *testing.T) {
	old, new := onBase(t), onBase(t)
	new.Platforms[0].Held[0].Version = "5.3"
	want := []Change{{Kind: ChangeHeld, Name: "bash", Platform: "linux/amd64", Old: "5.2", New: "5.3", Why: "image: in os"}}
	if d := cmp.Diff(want, Diff(old, new)); d != "" {
		t.Error(d)
	}
	if got, want := Markdown(want, 1), "### No package changed\n\n- held bash: 5.2 → 5.3\n"; got != want {
		t.Errorf("got %q, expected %q", got, want)
	}
	for name, want := range map[string]string{
		"libcurl4": "image on os: curl (requested) → libcurl4",
		"bash":     "image on os: bash (requested), which os has in version 5.2",
		"jq":       "step/probe on os: jq (requested), which os has in version 1.6",
	} {
		chains, err := Why(old, name)
		var got []string
		for _, c := range chains {
			got = append(got, c.String())
		}
		if err != nil || !slices.Equal(got, []string{want}) {
			t.Errorf("%s: got %q, %v; expected %s", name, got, err, want)
		}
	}
}
