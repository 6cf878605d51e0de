package deb_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/source/deb"
	"quorate.dev/lockfile/source/deb/debtest"
)

// countedApt counts how often apt is asked.
type countedApt struct {
	debtest.Apt
	asked *int
}

func (c countedApt) Run(ctx context.Context, r deb.AptRun) error {
	*c.asked++
	return c.Apt.Run(ctx, r)
}

// What was answered is answered again while the question is the same in all
// that decides it, and not otherwise.
func TestRemember(t *testing.T) {
	a := debtest.New(t, world, debtest.Options{})
	other := debtest.New(t, world, debtest.Options{}) // signed anew, by another key
	cache := t.TempDir()
	asked := 0
	resolve := func(a *debtest.Archive, rules string, q deb.Query) *deb.Answer {
		t.Helper()
		m, err := deb.ParseMirror("test", a.URL)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := deb.New(deb.Options{Mirrors: []deb.Mirror{m}, Cache: cache, Rules: rules, Apt: countedApt{asked: &asked}}).Resolve(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	image := lockfile.SetRequest{Name: "image", Packages: []string{"server"}, Scripts: "dpkg", Without: []string{"setup"}}
	q := query(a, image, step("libssl"))
	first := resolve(a, "one", q)
	keep := q
	keep.Keep, keep.Previous = true, deb.Previous{Archives: first.Archives, Platforms: first.Platforms}
	for _, test := range []struct {
		summary string
		a       *debtest.Archive
		rules   string
		q       deb.Query
		want    bool // apt is asked
		before  func()
	}{
		{"the same question", a, "one", q, false, nil},
		{"other rules", a, "two", q, true, nil},
		{"no rules", a, "", q, true, nil},
		{"another set", a, "one", query(a, image, step("perl")), true, nil},
		{"other indexes", other, "one", query(other, image, step("libssl")), true, nil},
		{"with an earlier lock that counts", a, "one", keep, true, nil},
		{"a damaged answer", a, "one", q, true, func() { damageAnswers(t, cache) }},
	} {
		if test.before != nil {
			test.before()
		}
		asked = 0
		got := resolve(test.a, test.rules, test.q)
		if (asked > 0) != test.want {
			t.Errorf("%s: apt was asked %d times", test.summary, asked)
		}
		if !test.want {
			if diff := cmp.Diff(first, got); diff != "" {
				t.Errorf("%s: another answer (-first +now):\n%s", test.summary, diff)
			}
		}
	}
}

func damageAnswers(t *testing.T, cache string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(cache, "answer-*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no answer is kept: %v", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2]++
		if err := os.WriteFile(f, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
