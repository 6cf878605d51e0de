package diff

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// mutate changes a file in one to four places, in any way.
func mutate(t *rapid.T, b []byte) []byte {
	b = bytes.Clone(b)
	for range rapid.IntRange(1, 4).Draw(t, "changes") {
		at := rapid.IntRange(0, len(b)).Draw(t, "at")
		n := min(rapid.IntRange(1, 40).Draw(t, "n"), len(b)-at)
		switch rapid.IntRange(0, 6).Draw(t, "how") {
		case 0: // other bytes
			for i := range n {
				b[at+i] ^= byte(rapid.IntRange(1, 255).Draw(t, "xor"))
			}
		case 1: // one bit
			if n > 0 {
				b[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			}
		case 2: // more bytes
			b = slices.Insert(b, at, rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "more")...)
		case 3: // fewer bytes
			b = slices.Delete(b, at, at+n)
		case 4: // bytes twice
			b = slices.Insert(b, at, bytes.Clone(b[at:at+n])...)
		case 5: // cut short
			if rapid.IntRange(0, 3).Draw(t, "really") == 0 {
				b = b[:at]
			}
		case 6: // two stretches change places
			if m := at + n; m+n <= len(b) {
				x := bytes.Clone(b[at:m])
				copy(b[at:], b[m:m+n])
				copy(b[m:], x)
			}
		}
	}
	return b
}

// TestAccount holds the account of any two files of any format: what findings own adds
// up, and what they do not own is equal.
func TestAccount(t *testing.T) {
	base := samples(t)
	names := slices.Sorted(maps.Keys(base))
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.SampledFrom(names).Draw(rt, "format")
		a, b := base[name], mutate(rt, base[name])
		if rapid.Bool().Draw(rt, "both") {
			a = mutate(rt, a)
		}
		checkPair(rt, dir, name, a, b)
	})
}

// TestAccountAcross does so for files of different formats and for files that were changed and packed again.
func TestAccountAcross(t *testing.T) {
	base := samples(t)
	names := slices.Sorted(maps.Keys(base))
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		x, y := rapid.SampledFrom(names).Draw(rt, "x"), rapid.SampledFrom(names).Draw(rt, "y")
		a, b := base[x], base[y]
		if x == y {
			b = mutate(rt, b)
		}
		pack := rapid.SampledFrom([]func([]byte) []byte{
			func(b []byte) []byte { return b },
			zstdOf,
			func(b []byte) []byte { return zipOf([]member{{"m", string(b), 5}, {"n", string(b), 6}}) },
			func(b []byte) []byte { return arOf([]member{{"m", string(b), 5}, {"n", string(b), 6}}) },
			func(b []byte) []byte { return cpioOf([]member{{"m", string(b), 5}}) },
			func(b []byte) []byte { return tarOf(t, []file{regular("m", string(b)), regular("n", "n")}) },
		}).Draw(rt, "pack")
		checkPair(rt, dir, "any", pack(a), pack(b))
	})
}

func checkPair(t *rapid.T, dir, name string, a, b []byte) {
	t.Helper()
	left, right := filepath.Join(dir, "a-"+name), filepath.Join(dir, "b-"+name)
	for file, content := range map[string][]byte{left: a, right: b} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	res, err := Compare([]string{left, right}, Options{Temp: dir})
	var damaged *InputError
	if errors.As(err, &damaged) && packerOf(a) != nil {
		return // a packed archive that cannot be unpacked is no side
	}
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	if res.Same() != bytes.Equal(a, b) {
		t.Fatalf("same is %v", res.Same())
	}
	for _, p := range res.Pairs {
		p.Root.Walk(func(n *Node) bool {
			if err := n.Check(); err != nil {
				t.Error(err)
			}
			return true
		})
		// The whole file's own account, too: nothing may differ that no finding owns.
		top := p.Root.Children[0]
		if c := top.Account; top.A.src.r != nil && top.B.src.r != nil && top.Kind == KindEntry && c.A.Differing+c.B.Differing == 0 {
			t.Errorf("%s: files differ, but no byte of them", top.Path())
		}
	}
	again, err := Compare([]string{left, right}, Options{Temp: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	x, _ := json.Marshal(res)
	y, _ := json.Marshal(again)
	if !bytes.Equal(x, y) {
		t.Errorf("two runs differ:\n%s\n%s", x, y)
	}
}

// The samples are read as what they are: an account of what nobody takes apart would hold of itself.
func TestSamplesAreTakenApart(t *testing.T) {
	for name, b := range samples(t) {
		want, _, _ := strings.Cut(name, ".")
		if other, ok := map[string]string{"text": "", "bytes": "", "gz": "gzip", "zst": "zstd", "nested": "gzip"}[want]; ok {
			want = other
		}
		s := inMemory(b)
		f := sniff(s, name)
		switch {
		case f == nil && want == "":
		case f == nil || f.name != want:
			t.Errorf("%s is read as %v, expected %q", name, f, want)
		case !f.tar && f.take(s) == nil:
			t.Errorf("%s is not taken apart", name)
		}
	}
}
