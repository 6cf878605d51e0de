package cause_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"quorate.dev/diff"
	"quorate.dev/diff/cause"
	"quorate.dev/diff/report"
)

// sidesOf writes one file for each text and compares them.
func sidesOf(t *testing.T, texts ...string) *diff.Result {
	dir := t.TempDir()
	var sides []string
	for i, text := range texts {
		side := filepath.Join(dir, string(rune('a'+i)))
		if err := os.WriteFile(side, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		sides = append(sides, side)
	}
	r, err := diff.Compare(sides, diff.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestDepends(t *testing.T) {
	host := func(name, cpus string) cause.Facts {
		return cause.Facts{Name: name, Host: name, Values: map[string]string{"hostname": name, "cpus": cpus}}
	}
	tests := []struct {
		summary string
		texts   []string
		hosts   []cause.Facts
		on      []string
		fact    string
	}{
		{"one host twice, equal; another differs", []string{"x\n", "y\n", "x\n"}, []cause.Facts{host("red", "4"), host("blue", "4"), host("red", "4")}, []string{"host"}, "hostname"},
		{"one host twice, differing", []string{"x\n", "y\n", "x\n"}, []cause.Facts{host("red", "4"), host("red", "4"), host("blue", "4")}, []string{"chance"}, ""},
		{"the split is that of the CPUs", []string{"x\n", "y\n", "x\n"}, []cause.Facts{host("red", "4"), host("blue", "8"), host("green", "4")}, []string{"host"}, "cpus"},
		{"two sides of which nothing is known", []string{"x\n", "y\n"}, nil, nil, ""},
		{"two sides with a date", []string{"2026-01-01\n", "2026-01-02\n"}, nil, []string{"time"}, ""},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			got := cause.Find(sidesOf(t, test.texts...), &cause.Context{Sides: test.hosts}).Depends
			if !slices.Equal(got.On, test.on) || got.Fact != test.fact || got.Says == "" {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestFirstStep(t *testing.T) {
	steps := func(trees ...string) cause.Facts {
		var f cause.Facts
		for i, tree := range trees {
			f.Steps = append(f.Steps, cause.Step{Name: string(rune('a' + i)), Tree: tree})
		}
		return f
	}
	r := sidesOf(t, "x\n", "y\n")
	got := cause.Find(r, &cause.Context{Sides: []cause.Facts{steps("1", "2", "3"), steps("1", "4", "5")}}).First
	if want := (cause.FirstStep{Number: 2, Of: 3, Name: "b"}); got == nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("got %+v", got)
	}
	if got := cause.Find(r, &cause.Context{Sides: []cause.Facts{steps("1"), {}}}).First; got != nil {
		t.Errorf("got %+v of one record", got)
	}
}

func TestSame(t *testing.T) {
	got := cause.Find(sidesOf(t, "x\n", "x\n"), nil)
	var text bytes.Buffer
	if err := report.Text(&text, got); err != nil || !got.Same || text.Len() > 0 || len(got.Causes) > 0 {
		t.Errorf("got %+v, %q, %v", got, &text, err)
	}
}

// The same sides give the same bytes in every form.
func TestStable(t *testing.T) {
	for _, name := range []string{"03-build-path", "15-link-order", "18-host-facts", "28-package-state", "39-go-rust", "hostile-garbage"} {
		dir := filepath.Join(pairs, name)
		var first []string
		for range 5 {
			r, err := diff.Compare([]string{filepath.Join(dir, "a.tar"), filepath.Join(dir, "b.tar")}, diff.Options{})
			if err != nil {
				t.Fatal(err)
			}
			found := cause.Find(r, &cause.Context{Sides: pairFacts(t, dir)})
			var all []string
			for _, format := range report.Formats {
				var b bytes.Buffer
				if err := report.Write(&b, format, found); err != nil {
					t.Fatal(err)
				}
				all = append(all, b.String())
			}
			r.Close()
			if first == nil {
				first = all
			}
			if !slices.Equal(first, all) {
				t.Errorf("%s: two runs differ", name)
			}
		}
	}
}
