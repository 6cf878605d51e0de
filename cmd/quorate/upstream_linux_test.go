package main

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"quorate.dev/diff/cause"
)

// TestUpstream builds programs of others twice in other surroundings
// (testdata/upstream), and holds `quorate diff` to its word: when what it names is mended
// as it says, two further builds are the same.
func TestUpstream(t *testing.T) {
	if os.Getenv("QUORATE_UPSTREAM") == "" {
		t.Skip("builds programs of others in other surroundings, as root: make upstream")
	}
	rebuildAll(t, "", 9)
}

// TestRealUpstream is TestUpstream of the programs that take a second or two to build.
func TestRealUpstream(t *testing.T) {
	real(t)
	t.Parallel()
	rebuildAll(t, "\ncheap=yes\n", 3)
}

// rebuildAll rebuilds with all recipes that have this text in them.
func rebuildAll(t *testing.T, mark string, least int) {
	recipes, err := filepath.Glob("../../testdata/upstream/*.sh")
	if err != nil {
		t.Fatal(err)
	}
	quorate := released(t)
	done := 0
	for _, recipe := range recipes {
		text, err := os.ReadFile(recipe)
		if err != nil {
			t.Fatal(err)
		}
		if name := strings.TrimSuffix(filepath.Base(recipe), ".sh"); name != "lib" && strings.Contains(string(text), mark) {
			done++
			t.Run(name, func(t *testing.T) { rebuildUpstream(t, quorate, recipe, string(text)) })
		}
	}
	if done < least {
		t.Errorf("%d programs, expected at least %d", done, least)
	}
}

func rebuildUpstream(t *testing.T, quorate, recipe, text string) {
	u := &upstream{recipe: recipe, dir: t.TempDir()}
	u.sources = fetchUpstream(t, text)
	expects := strings.Fields(regexp.MustCompile(`(?m)^expects="(.*)"$`).FindStringSubmatch(text)[1])
	r := u.compare(t, quorate, nil)
	if r == nil {
		t.Fatal("both builds are the same, so that there is nothing to name")
	}
	named := map[string]bool{}
	for _, k := range r.Causes {
		named[k.ID] = true
	}
	ids := slices.Sorted(maps.Keys(named))
	if !slices.Equal(ids, expects) || len(r.Unexplained) > 0 {
		t.Errorf("named are %q, expected %q; unexplained: %+v", ids, expects, r.Unexplained)
	}
	if again := u.compare(t, quorate, ids); again != nil {
		for _, k := range again.Causes {
			t.Errorf("mended, %s still differs by %s: %+v", k.Files, k.ID, k.Evidence[0])
		}
		t.Errorf("mended as told, the builds still differ; unexplained: %+v", again.Unexplained)
	}
}

// fetchUpstream brings the sources that a recipe names: a folder.
func fetchUpstream(t *testing.T, recipe string) string {
	t.Helper()
	dir := t.TempDir()
	// Only the sources of upstream, and of a list of its own: machines rarely have one of sources.
	script := `
mirror=$(apt-get indextargets --format '$(SITE) $(RELEASE)' 'Identifier: Packages' | sed -n 's/ bookworm$//p' | head -n 1)
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm main" >list
mkdir -p lists/partial
own="-o Dir::Etc::sourcelist=$PWD/list -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists=$PWD/lists -o APT::Sandbox::User=root"
apt-get $own -qq update
apt-get $own -qq source --download-only --tar-only "$1"
chmod -R a+rX .`
	cmd := exec.Command("bash", "-euc", script, "fetch", regexp.MustCompile(`(?m)^debian=(\S+)$`).FindStringSubmatch(recipe)[1])
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil { // another user builds from it
		t.Fatal(err)
	}
	return dir
}

type upstream struct{ recipe, dir, sources string }

// compare builds both sides with the mends of these causes; nil when they are the same.
func (u *upstream) compare(t *testing.T, quorate string, mends []string) *cause.Report {
	t.Helper()
	absolute, err := filepath.Abs(u.recipe)
	if err != nil {
		t.Fatal(err)
	}
	for _, side := range []string{"a", "b"} {
		cmd := exec.Command("bash", filepath.Join(filepath.Dir(absolute), "lib.sh"), absolute, side, filepath.Join(u.dir, side+".tar"), u.sources, strings.Join(mends, " "))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("side %s: %v\n%s", side, err, out)
		}
	}
	cmd := exec.Command(quorate, "diff", "a.tar", "b.tar", "--format", "json")
	cmd.Dir = u.dir
	out, err := cmd.Output()
	switch cmd.ProcessState.ExitCode() {
	case 0:
		return nil
	case 1:
	default:
		t.Fatal(err)
	}
	r := &cause.Report{}
	if err := json.Unmarshal(out, r); err != nil {
		t.Fatal(err)
	}
	return r
}
