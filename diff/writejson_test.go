package diff

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// WriteJSON says what encoding/json says of the whole result, and when it is
// asked for less, nothing but that.
func TestWriteJSON(t *testing.T) {
	a := []member{{"dir/a.txt", "one\ntwo\n", 5}, {"b.json", `{"k":1}`, 6}}
	b := []member{{"dir/a.txt", "one\ntoo\n", 7}, {"b.json", `{"k":2}`, 6}, {"c", "<more>", 8}}
	res, err := Compare([]string{writeFile(t, "x.zip", zipOf(a)), writeFile(t, "x.zip", zipOf(b))}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	parsed := func(b []byte) (v any) {
		t.Helper()
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatalf("%v in\n%s", err, b)
		}
		return v
	}
	var all, some bytes.Buffer
	if err := res.WriteJSON(&all, nil); err != nil {
		t.Fatal(err)
	}
	whole, err := json.Marshal(res)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(parsed(whole), parsed(all.Bytes())); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if err := res.WriteJSON(&some, func(_ *Node, f *Finding) bool { return f.What == WhatValue }); err != nil {
		t.Fatal(err)
	}
	var got Result
	if err := json.Unmarshal(some.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	var names []string
	got.Pairs[0].Root.Walk(func(n *Node) bool {
		names = append(names, n.Name)
		for _, f := range n.Findings {
			names = append(names, f.What)
		}
		return true
	})
	if d := cmp.Diff([]string{"", "x.zip", "b.json", WhatValue}, names); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if got.Pairs[0].Total != res.Pairs[0].Total {
		t.Errorf("totals changed: %v, %v", got.Pairs[0].Total, res.Pairs[0].Total)
	}
}
