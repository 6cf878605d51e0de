package digest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// abc is the digest of "abc", from FIPS 180-2, appendix B.1.
const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

func TestParse(t *testing.T) {
	d, err := Parse("sha256:" + abc)
	if err != nil || d != Of([]byte("abc")) || d.Hex() != abc || d.String() != "sha256:"+abc || d.Short() != "ba7816bf8f01" || d.IsZero() {
		t.Errorf("got %v, %v", d, err)
	}
	h := NewHash()
	io.WriteString(h, "abc")
	if Sum(h) != d {
		t.Error("Sum and Of differ")
	}
}

func TestParseRefuses(t *testing.T) {
	zeros := strings.Repeat("0", 64)
	for _, test := range []struct{ summary, text, want string }{
		{"nothing", "", `digest "" does not begin with "sha256:"`},
		{"no algorithm", abc, `digest "` + abc + `" does not begin with "sha256:"`},
		{"other algorithm", "sha512:" + abc, `digest "sha512:` + abc + `" does not begin with "sha256:"`},
		{"short", "sha256:abc", `digest "abc" is not 64 lower-case hexadecimal digits`},
		{"long", "sha256:" + abc + "0", `digest "` + abc + `0" is not 64 lower-case hexadecimal digits`},
		{"upper-case", "sha256:" + strings.ToUpper(abc), `digest "` + strings.ToUpper(abc) + `" is not 64 lower-case hexadecimal digits`},
		{"not hexadecimal", "sha256:" + abc[:63] + "g", `digest "` + abc[:63] + `g" is not hexadecimal`},
		{"all zeros", "sha256:" + zeros, `digest "` + zeros + `" is all zeros, which stands for none`},
	} {
		if d, err := Parse(test.text); err == nil || err.Error() != test.want || !d.IsZero() {
			t.Errorf("%s: got %v, want %s", test.summary, err, test.want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("MustParse takes anything")
		}
	}()
	MustParse("x")
}

func TestText(t *testing.T) {
	type holder struct{ D, None Digest }
	text, err := json.Marshal(holder{D: MustParse("sha256:" + abc)})
	if want := `{"D":"sha256:` + abc + `","None":""}`; err != nil || string(text) != want {
		t.Errorf("got %s, %v", text, err)
	}
	var back holder
	if err := json.Unmarshal(text, &back); err != nil || back.D.Hex() != abc || !back.None.IsZero() {
		t.Errorf("got %+v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"D":"sha256:x"}`), &back); err == nil {
		t.Error("a bad digest is taken")
	}
}

func TestReader(t *testing.T) {
	right, wrong := Of([]byte("hello")), Of([]byte("Hello"))
	tests := []struct {
		summary, text string
		want          Digest
		size          int64
		message       string // "" for a good end
	}{
		{"as promised", "hello", right, 5, ""},
		{"of unknown size", "hello", right, -1, ""},
		{"nothing", "", Of(nil), 0, ""},
		{"other bytes", "hello", wrong, 5, "bytes have digest " + right.String() + ", expected " + wrong.String()},
		{"other bytes of unknown size", "hello", wrong, -1, "bytes have digest " + right.String() + ", expected " + wrong.String()},
		{"too short", "hell", right, 5, "ended after 4 bytes, expected 5"},
		{"too long", "hello!", right, 5, "more than the expected 5 bytes"},
		{"no bytes", "", right, 5, "ended after 0 bytes, expected 5"},
		{"no digest was promised", "hello", Digest{}, 5, "bytes have digest " + right.String() + ", and none was given to hold them against"},
	}
	for _, test := range tests {
		for how, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "bytewise": iotest.OneByteReader, "end with data": iotest.DataErrReader,
		} {
			r := NewReader(wrap(strings.NewReader(test.text)), test.want, test.size)
			_, err := io.Copy(io.Discard, r)
			if test.message == "" && err != nil || test.message != "" && (err == nil || err.Error() != test.message) {
				t.Errorf("%s, %s: got %v, want %q", test.summary, how, err, test.message)
			}
			n, again := r.Read(make([]byte, 8))
			if wantAgain := err; n != 0 || wantAgain != nil && again != wantAgain || wantAgain == nil && again != io.EOF {
				t.Errorf("%s, %s: then got %d, %v", test.summary, how, n, again)
			}
		}
	}
}

func TestReaderPassesErrorsOn(t *testing.T) {
	broken := errors.New("the line is down")
	r := NewReader(io.MultiReader(strings.NewReader("hel"), iotest.ErrReader(broken)), Of([]byte("hello")), 5)
	if got, err := io.ReadAll(r); err != broken || string(got) != "hel" {
		t.Errorf("got %q, %v", got, err)
	}
	var size *SizeError
	if _, err := io.ReadAll(NewReader(strings.NewReader("hello"), Of(nil), 3)); !errors.As(err, &size) || size.Want != 3 || size.Got != 4 {
		t.Errorf("got %+v, documented is one byte too many", size)
	}
	var mismatch *MismatchError
	if _, err := io.ReadAll(NewReader(strings.NewReader("a"), Of(nil), 1)); !errors.As(err, &mismatch) || mismatch.Got != Of([]byte("a")) {
		t.Errorf("got %v", err)
	}
}

// Exactly the promised bytes end well, whatever the sizes of reads.
func TestReaderAcceptsOnlyThePromised(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		promised := rapid.SliceOf(rapid.Byte()).Draw(t, "promised")
		sent := rapid.OneOf(rapid.Just(promised), rapid.SliceOf(rapid.Byte())).Draw(t, "sent")
		r := NewReader(bytes.NewReader(sent), Of(promised), int64(len(promised)))
		var passed bytes.Buffer
		_, err := io.CopyBuffer(struct{ io.Writer }{&passed}, r, make([]byte, rapid.IntRange(1, 9).Draw(t, "buffer")))
		if (err == nil) != bytes.Equal(sent, promised) || passed.Len() > len(promised) {
			t.Fatalf("sent %q of promised %q: %v", sent, promised, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("sha256:" + abc)
	f.Add("sha256:")
	f.Add(strings.Repeat("0", 64))
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := Parse(text); err == nil && d.String() != text {
			t.Fatalf("accepted %q, which is written %q", text, d)
		}
	})
}
