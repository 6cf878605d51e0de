package diff

import "testing"

// What sides hold is known of files that differ, that are equal, that lie in layers which are equal, and in archives.
func TestHolds(t *testing.T) {
	common := []file{regular("usr/share/texmf/web2c/texmf.cnf", "of a layer that is equal"), regular("usr/share/texmf/README", "as well")}
	inside := string(zipOf([]member{{name: "docs/guide.html", content: "x"}, {name: "docs/index.html", content: "y"}}))
	other := string(zipOf([]member{{name: "docs/guide.html", content: "z"}, {name: "docs/index.html", content: "y"}}))
	own := func(list, zip string) []file {
		return []file{regular("etc/app/list", list), regular("etc/app/app.conf", "equal on both sides"), regular("etc/app/zip", zip)}
	}
	a, b := imageOf(t, common, own("1", inside)), imageOf(t, common, own("2", other))
	r, err := Compare([]string{a.write(t), b.write(t)}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := r.Pairs[0]
	for p, want := range map[string]bool{
		"etc/app/list": true, "app/app.conf": true, "app.conf": true, "./app.conf": true, "/etc/app/": true, "far/away/etc/app/app.conf": true,
		"conf": false, "etc/app.conf": false, "": false, "/": false, "pp.conf": false,
		"docs/index.html": true, "guide.html": true,
		"web2c/texmf.cnf": true, "share/texmf.cnf": false,
	} {
		if got := c.Holds(p); got != want {
			t.Errorf("Holds(%q) = %v", p, got)
		}
	}
	for _, test := range []struct {
		names []string
		more  int
		ok    bool
	}{
		{[]string{"list", "app.conf"}, 1, true},
		{[]string{"web2c", "README"}, 0, true},
		{[]string{"list", "README"}, 0, false},
		{[]string{"README"}, 1, true},
		{nil, 0, false},
		{[]string{"list", "list"}, 0, false},
	} {
		if more, ok := c.Siblings(test.names); more != test.more || ok != test.ok {
			t.Errorf("Siblings(%q) = %d, %v, expected %d, %v", test.names, more, ok, test.more, test.ok)
		}
	}
	if !c.HoldsContents([]byte("equal on both sides")) || !c.HoldsSize(19) {
		t.Error("the contents of a file are not known")
	}
	if !c.HoldsContents([]byte("of a layer that is equal")) || !c.HoldsSize(24) {
		t.Error("the contents of a file in an equal layer are not known")
	}
	if c.HoldsContents([]byte("no contents")) || c.HoldsSize(1000) {
		t.Error("contents are known that no file has")
	}
	if (&Comparison{}).Holds("etc") {
		t.Error("a comparison of nothing holds something")
	}
}
