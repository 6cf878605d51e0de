package lockfile

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestMarkdown(t *testing.T) {
	update := Change{Kind: ChangePackage, Name: "openssl", Old: "1", New: "2", Why: "image: requested"}
	on := func(c Change, platform string) Change { c.Platform = platform; return c }
	other := update
	other.New = "3"
	for _, test := range []struct {
		summary string
		changes []Change
		want    string
	}{
		{"nothing", nil, "Nothing changed.\n"},
		{"the same on two platforms is one line", []Change{on(update, "linux/amd64"), on(update, "linux/arm64")},
			"### 1 package changed\n\n| changed | old | new | why |\n|---|---|---|---|\n| openssl | 1 | 2 | image: requested |\n"},
		{"not the same on two platforms", []Change{on(update, "linux/amd64"), on(other, "linux/arm64")},
			"### 2 packages changed\n\n| changed | old | new | why |\n|---|---|---|---|\n" +
				"| openssl (linux/amd64) | 1 | 2 | image: requested |\n| openssl (linux/arm64) | 1 | 3 | image: requested |\n"},
		{"a file", []Change{{Kind: ChangeFile, Name: "logo", Old: "https://example.org/a|b", New: "https://example.org/_c_"}},
			"### 1 file changed\n\n- file logo: https://example.org/a\\|b → https://example.org/\\_c\\_\n"},
		{"no package", []Change{{Kind: ChangeEpoch, Old: "1", New: "2"}}, "### No package changed\n\n- epoch: 1 → 2\n"},
		{"of several kinds", []Change{{Kind: KindGit, Name: "src", Old: strings.Repeat("a", 40) + " (now)", New: strings.Repeat("b", 40)}, {Kind: KindGo, Name: "x", New: "v1", Why: "modules"}, {Kind: "silk", Name: "y", New: "2"}},
			"### 1 commit changed, 1 Go module added\n\n| changed | old | new | why |\n|---|---|---|---|\n| src | aaaaaaaaaaaa (now) | bbbbbbbbbbbb | - |\n\n" +
				"| new | version | why |\n|---|---|---|\n| x | v1 | modules |\n| y | 2 | - |\n"},
		{"what a forge would act on", []Change{{Kind: ChangePackage, Name: "<img src=x>", New: "@team #1\n# big", Why: "`x`"}},
			"### 1 package added\n\n| new | version | why |\n|---|---|---|\n| &lt;img src=x&gt; | &#64;team &#35;1 &#35; big | \\`x\\` |\n"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			if diff := cmp.Diff(test.want, Markdown(test.changes, 2)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Whatever stands in a change, it stays in its cell.
func TestMarkdownStaysInItsCell(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.RuneFrom([]rune("a|`\\\n\r<>@#*_[]~&")), 0, 20, -1)
		c := Change{Kind: ChangePackage, Name: "n" + text.Draw(t, "name"), Old: "o" + text.Draw(t, "old"), New: "n" + text.Draw(t, "new"), Why: text.Draw(t, "why")}
		lines := strings.Split(strings.TrimSuffix(Markdown([]Change{c}, 1), "\n"), "\n")
		if len(lines) != 5 {
			t.Fatalf("%d lines, expected 5: %q", len(lines), lines)
		}
		cells := strings.NewReplacer(`\\`, "", `\|`, "").Replace(lines[4])
		if n := strings.Count(cells, "|"); n != 5 {
			t.Fatalf("%d borders, expected 5: %q", n, lines[4])
		}
		if strings.ContainsAny(lines[4], "<>@#") && !strings.Contains(lines[4], "&#") {
			t.Fatalf("something to act on: %q", lines[4])
		}
	})
}

// One security update of a lock of 500 packages is one changed line for each
// package that it changes, and one line of Diff.
func TestDiffOfOneUpdate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old := large(500)
		fresh := large(500)
		packages := fresh.Platforms[0].Packages
		moved := rapid.SliceOfNDistinct(rapid.IntRange(0, len(packages)-1), 1, 20, rapid.ID[int]).Draw(t, "moved")
		for _, i := range moved {
			packages[i].Version += "+deb12u1"
			packages[i].SHA256[0] ^= 1
			packages[i].Size++
			packages[i].Archive = "bookworm-security"
		}
		if got := len(Diff(old, fresh)); got != len(moved) {
			t.Errorf("Diff has %d lines for %d updates", got, len(moved))
		}
		before, after := strings.Split(string(Format(old)), "\n"), strings.Split(string(Format(fresh)), "\n")
		if len(before) != len(after) {
			t.Fatalf("%d lines became %d", len(before), len(after))
		}
		changed := 0
		for i := range before {
			if before[i] != after[i] {
				changed++
			}
		}
		if changed != len(moved) {
			t.Errorf("%d lines of the lock changed for %d updates", changed, len(moved))
		}
	})
}
