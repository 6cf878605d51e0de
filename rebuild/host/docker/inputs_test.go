package docker

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"quorate.dev/builder/store"
	"quorate.dev/lockfile/digest"
)

// blobStore is a store with these blobs.
func blobStore(t testing.TB, blobs ...string) *store.Store {
	t.Helper()
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for _, b := range blobs {
		if err := s.Put(strings.NewReader(b), digest.Of([]byte(b)), int64(len(b))); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func inputsFrom(blobs ...string) []input {
	var all []input
	for _, b := range blobs {
		all = append(all, input{"blob " + b, digest.Of([]byte(b)), int64(len(b))})
	}
	return all
}

// exchange runs both sides; counted is how many bytes of blobs were moved.
func exchange(t *testing.T, ours, theirs *store.Store, inputs []input) (counted int64, offered, received error) {
	t.Helper()
	toIt, in := io.Pipe()
	fromIt, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := ReceiveInputs(t.Context(), theirs.Dir(), toIt, out)
		toIt.CloseWithError(errEnded)
		out.Close()
		done <- err
	}()
	offered = offer(in, fromIt, inputs, ours, func(n, _ int64) { counted = n })
	in.CloseWithError(offered)
	go io.Copy(io.Discard, fromIt)
	return counted, offered, <-done
}

// TestInputsMoveOnce moves blobs to an empty store, then the same and one more.
func TestInputsMoveOnce(t *testing.T) {
	ours, theirs := blobStore(t, "one", "three", "seven bytes"), blobStore(t)
	for _, test := range []struct {
		inputs []input
		moved  int64
	}{
		{inputsFrom("one", "three"), 8},
		{inputsFrom("one", "three"), 0},
		{inputsFrom("one", "three", "seven bytes"), 11},
	} {
		moved, offered, received := exchange(t, ours, theirs, test.inputs)
		if err := errors.Join(offered, received); err != nil || moved != test.moved {
			t.Errorf("moved %d bytes, want %d; %v", moved, test.moved, err)
		}
		for _, in := range test.inputs {
			r, err := theirs.Open(in.digest)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				t.Error(err)
			}
			r.Close()
		}
	}
}

func TestInputMissingHere(t *testing.T) {
	_, offered, received := exchange(t, blobStore(t, "one"), blobStore(t), inputsFrom("one", "two"))
	var missing *inputError
	if !errors.As(offered, &missing) || offered.Error() != "cannot send blob two: the store does not have it" || received == nil {
		t.Errorf("got %v; the other side %v", offered, received)
	}
}

// TestReceiveInputsRefuses sends what no honest orchestrator does.
func TestReceiveInputsRefuses(t *testing.T) {
	one := digest.Of([]byte("one")).Hex()
	file := func(name, text string) string {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text))})
		w.Write([]byte(text))
		w.Close()
		return b.String()
	}
	for _, test := range []struct{ summary, said, want string }{
		{"no end", one + " 3\n", "the list of inputs has no end"},
		{"no digest", "x 3\n\n", `list of inputs: line "x 3\n"`},
		{"no size", one + "\n\n", `list of inputs: line "` + one + `\n"`},
		{"not a tar", one + " 3\n\n" + strings.Repeat("x", 1024), "inputs are no archive: archive/tar: invalid tar header"},
		{"not asked for", one + " 3\n\n" + file(digest.Of(nil).Hex(), "two"), "which was not asked for"},
		{"another size", one + " 3\n\n" + file(one, "ones"), "which was not asked for"},
		{"a path", one + " 3\n\n" + file("../../"+one, "one"), "which was not asked for"},
		{"other bytes", one + " 3\n\n" + file(one, "two"), "sha256"},
		{"truncated", one + " 3\n\n" + file(one, "one")[:514], "unexpected EOF"},
	} {
		s := blobStore(t)
		err := ReceiveInputs(t.Context(), s.Dir(), strings.NewReader(test.said), io.Discard)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.summary, err, test.want)
		}
		if s.Has(digest.Of([]byte("one")), -1) {
			t.Errorf("%s: it was kept", test.summary)
		}
	}
}

// TestOfferRefuses has the other side ask for nonsense.
func TestOfferRefuses(t *testing.T) {
	for said, want := range map[string]string{
		"":                                       "it does not say what it lacks",
		"etc/passwd\n.\n":                        `it asks for "etc/passwd", which no input is`,
		digest.Of([]byte("two")).Hex() + "\n.\n": "which no input is",
		strings.Repeat(digest.Of([]byte("one")).Hex()+"\n", 2) + ".\n": "which no input is",
	} {
		err := offer(io.Discard, strings.NewReader(said), inputsFrom("one"), blobStore(t, "one"), func(int64, int64) {})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: got %v, want %q", said, err, want)
		}
	}
}

func FuzzLackingOf(f *testing.F) {
	f.Add([]byte(digest.Of(nil).Hex() + " 0\n\n"))
	f.Add([]byte("\n"))
	s := blobStore(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		lacks, err := lackingOf(s, bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		for d, size := range lacks {
			if !bytes.Contains(b, fmt.Appendf(nil, "%s ", d.Hex())) || size < 0 {
				t.Errorf("%s of %d bytes was not asked for", d, size)
			}
		}
	})
}
