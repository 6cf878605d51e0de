package cause

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const sample = `# A comment that stays.
name: x
steps:
  - name: one
    run: |
      mkdir $OUT/a   # here

      date >$OUT/a/time
      uname -r >$OUT/a/kernel
  - name: two
    env: {A: b}
    run: find . >list
  - name: three
    env:
      B: c
    run: |
      gzip x
image:
  copy: [{from: one, to: /}]
`

func TestFix(t *testing.T) {
	tests := []struct {
		summary string
		edits   []Edit
		removed string // lines of the patch, without their sign
		added   string
		err     string
	}{
		{"a line changes", []Edit{{Step: "one", From: "date >$OUT/a/time", To: "echo >$OUT/a/time"}}, "      date >$OUT/a/time", "      echo >$OUT/a/time", ""},
		{"a line goes", []Edit{{Step: "one", From: "uname -r >$OUT/a/kernel", Gone: true}}, "      uname -r >$OUT/a/kernel", "", ""},
		{"a line on run's own", []Edit{{Step: "two", From: "find . >list", To: "find . | sort >list"}}, "    run: find . >list", "    run: find . | sort >list", ""},
		{"a first line", []Edit{{Step: "one", To: "umask 022", First: true}}, "", "      umask 022", ""},
		{"last lines", []Edit{{Step: "one", To: "rm a", Last: true}, {Step: "one", To: "rm b", Last: true}}, "", "      rm a\n      rm b", ""},
		{"a last line that is there", []Edit{{Step: "three", To: "gzip x", Last: true}}, "", "", ""},
		{"a last line of what is no block", []Edit{{Step: "two", To: "rm a", Last: true}}, "", "", `cannot mend cause 1 in the definition: the run of step "two" is no block (run: |)`},
		{"a variable where there are none", []Edit{{Step: "one", Env: "TZ", To: "UTC"}}, "", `    env: {TZ: "UTC"}`, ""},
		{"a variable in braces", []Edit{{Step: "two", Env: "TZ", To: "UTC"}}, "    env: {A: b}", `    env: {TZ: "UTC", A: b}`, ""},
		{"a variable in a block", []Edit{{Step: "three", Env: "TZ", To: "UTC"}}, "", `      TZ: "UTC"`, ""},
		{"a variable that is set otherwise", []Edit{{Step: "three", Env: "B", To: "d"}}, "", "", `cannot mend cause 1 in the definition: step "three" sets B to "c" already`},
		{"a variable that is there", []Edit{{Step: "three", Env: "B", To: "c"}}, "", "", ""},
		{"the only line", []Edit{{Step: "two", From: "find . >list", Gone: true}}, "", "", `cannot mend cause 1 in the definition: step "two" would be left without a command`},
		{"a step that is gone", []Edit{{Step: "four", From: "x", To: "y"}}, "", "", `cannot mend cause 1 in the definition: there is no step "four"`},
		{"a line that is gone", []Edit{{Step: "one", From: "x", To: "y"}}, "", "", `cannot mend cause 1 in the definition: step "one" has no line of its own that is "x"`},
		{"a line of another step", []Edit{{Step: "one", From: "gzip x", To: "gzip -n x"}}, "", "", `cannot mend cause 1 in the definition: step "one" has no line of its own that is "gzip x"`},
		{"no change of the definition", nil, "", "", "cannot mend cause 1 in the definition: its mend is no change of quorate.yaml: think"},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			r := &Report{Causes: []*Cause{{Number: 1, Mend: Mend{Lines: []string{"think"}, Edits: test.edits}}}}
			fixed, patch, err := Fix([]byte(sample), r, []int{1})
			if got := errorText(err); got != test.err {
				t.Fatalf("error %q, expected %q", got, test.err)
			}
			if err != nil {
				return
			}
			var removed, added []string
			for l := range strings.Lines(patch) {
				l = strings.TrimSuffix(l, "\n")
				switch {
				case strings.HasPrefix(l, "---"), strings.HasPrefix(l, "+++"):
				case strings.HasPrefix(l, "-"):
					removed = append(removed, l[1:])
				case strings.HasPrefix(l, "+"):
					added = append(added, l[1:])
				}
			}
			if strings.Join(removed, "\n") != test.removed || strings.Join(added, "\n") != test.added {
				t.Errorf("patch\n%s", patch)
			}
			if !strings.Contains(string(fixed), "# A comment that stays.") || !strings.Contains(string(fixed), "# here") {
				t.Errorf("comments are lost:\n%s", fixed)
			}
		})
	}
	var fixError *FixError
	if _, _, err := Fix([]byte(sample), &Report{}, []int{3}); !errors.As(err, &fixError) || fixError.Number != 3 {
		t.Errorf("a cause that does not exist: %v", err)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// A patch put to its first side gives its second one.
func TestUnifiedApplies(t *testing.T) {
	lines := rapid.SliceOfN(rapid.SampledFrom([]string{"a\n", "b\n", "c\n", "d\n"}), 0, 30)
	rapid.Check(t, func(t *rapid.T) {
		a, b := strings.Join(lines.Draw(t, "a"), ""), strings.Join(lines.Draw(t, "b"), "")
		if got := applyPatch(t, a, Unified("x", a, b)); got != b {
			t.Fatalf("%q patched is %q, expected %q", a, got, b)
		}
	})
}

func applyPatch(t *rapid.T, a, patch string) string {
	if patch == "" {
		return a
	}
	old := strings.SplitAfter(a, "\n")
	var out strings.Builder
	at := 0
	for i, l := range strings.SplitAfter(patch, "\n") {
		switch {
		case i < 2 || l == "":
		case strings.HasPrefix(l, "@@"):
			var x, n, y, m int
			if _, err := fmt.Sscanf(l, "@@ -%d,%d +%d,%d @@", &x, &n, &y, &m); err != nil {
				t.Fatalf("bad head %q", l)
			}
			for ; at < x-1; at++ {
				out.WriteString(old[at])
			}
		case l[0] == ' ', l[0] == '-':
			if old[at] != l[1:] {
				t.Fatalf("line %d is %q, the patch says %q", at+1, old[at], l)
			}
			if l[0] == ' ' {
				out.WriteString(l[1:])
			}
			at++
		case l[0] == '+':
			out.WriteString(l[1:])
		}
	}
	for ; at < len(old); at++ {
		out.WriteString(old[at])
	}
	return out.String()
}
