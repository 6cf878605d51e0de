package builder

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Whatever the records and the size of a run are: all come out, in the order of
// their bytes, each time.
func TestSorter(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 9)).Draw(t, "records")
		s := &sorter{dir: dir, limit: rapid.IntRange(1, 40).Draw(t, "limit")}
		defer s.close()
		for _, r := range records {
			half := len(r) / 2
			if err := s.add(r[:half], r[half:]); err != nil {
				t.Fatal(err)
			}
		}
		slices.SortFunc(records, bytes.Compare)
		for range 2 {
			var got [][]byte
			for r, err := range s.all() {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, bytes.Clone(r))
			}
			if !slices.EqualFunc(got, records, bytes.Equal) {
				t.Fatalf("got %q, want %q", got, records)
			}
		}
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// A list whose file was cut short is an error, and no shorter list.
func TestSorterCut(t *testing.T) {
	s := &sorter{dir: t.TempDir(), limit: 1}
	defer s.close()
	for _, r := range []string{"one", "two", "three"} {
		if err := s.add([]byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.file.Truncate(s.size - 1); err != nil {
		t.Fatal(err)
	}
	for _, err := range s.all() {
		if err != nil {
			return
		}
	}
	t.Error("no error")
}
