package deb

import (
	"bytes"
	"crypto"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// The fingerprints that Debian publishes for the keys we ship.
func TestShippedKeys(t *testing.T) {
	k, err := ShippedKeys()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"04B54C3CDCA79751B16BC6B5225629DF75B188BD", // archive, trixie
		"05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0", // security, bookworm
		"41587F7DB8C774BCCF131416762F67A0B2C39DE4", // stable, trixie
		"4D64FEC119C2029067D6E791F8D2585B8783D481", // stable, bookworm
		"5E04A1E3223A19A20706E20F9904613D4CCE68C6", // security, trixie
		"B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8", // archive, bookworm
	}
	if got := k.Fingerprints(); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestParseKeysRefuses(t *testing.T) {
	for _, test := range []struct {
		file []byte
		want string
	}{
		{nil, "key files hold no OpenPGP key"},
		{[]byte("hello"), "key file 1 is not an OpenPGP key: "},
		{[]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n"), "key file 1 is not an OpenPGP key: "},
		{make([]byte, maxKeyFile+1), "key file 1 is larger than 1048576 bytes"},
	} {
		_, err := ParseKeys(test.file)
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("got  %v\nwant %s…", err, test.want)
		}
	}
}

var (
	today = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	born  = today.AddDate(-3, 0, 0)
)

func testKey(t testing.TB, lifetime time.Duration) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity("t", "", "t@example.org", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: uint32(lifetime.Seconds()), Time: func() time.Time { return born },
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func signAll(t testing.TB, text string, at time.Time, keys ...*openpgp.Entity) []byte {
	t.Helper()
	var private []*packet.PrivateKey
	for _, k := range keys {
		private = append(private, k.PrivateKey)
	}
	var out bytes.Buffer
	w, err := clearsign.EncodeMulti(&out, private, &packet.Config{DefaultHash: crypto.SHA256, Time: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return append(out.Bytes(), '\n')
}

func TestVerifyClearsigned(t *testing.T) {
	known, second, unknown := testKey(t, 0), testKey(t, 0), testKey(t, 0)
	old := testKey(t, 365*24*time.Hour)
	keys := &Keyring{entities: openpgp.EntityList{known, second, old}}
	const text = "Suite: s\n- dashed\nend"
	good := signAll(t, text, today, known)
	for _, test := range []struct {
		summary string
		signed  []byte
		by      []*openpgp.Entity
		want    string
	}{
		{"one known key", good, []*openpgp.Entity{known}, ""},
		{"two known keys", signAll(t, text, today, known, second), []*openpgp.Entity{known, second}, ""},
		{"an unknown key beside a known one", signAll(t, text, today, unknown, known), []*openpgp.Entity{known}, ""},
		{"a key that expired since it signed", signAll(t, text, born.AddDate(0, 6, 0), old), []*openpgp.Entity{old}, ""},
		{"a key that had expired", signAll(t, text, born.AddDate(2, 0, 0), old), nil, "the signature by KEY does not hold: openpgp: key expired"},
		{"an expired key beside a good one", signAll(t, text, today, old, known), []*openpgp.Entity{known}, ""},
		{"a signature from the future", signAll(t, text, today.AddDate(0, 0, 2), known), nil, "the signature by KEY is dated 2026-11-03 00:00:00 UTC, in the future"},
		{"an unknown key", signAll(t, text, today, unknown), nil, "none of its signatures is by a known key"},
		{"text before", append([]byte("Suite: other\n\n"), good...), nil, "it does not begin with a signed message"},
		{"text after", append(slices.Clone(good), "Suite: other\n"...), nil, "there is text after the signature"},
		{"a second message after", append(slices.Clone(good), good...), nil, "it is cut off, or does not hold exactly one signature block"},
		{"text changed", bytes.Replace(good, []byte("Suite: s"), []byte("Suite: t"), 1), nil,
			"the signature by KEY does not hold: openpgp: invalid signature: EdDSA verification failure"},
		{"a header that is no hash", bytes.Replace(good, []byte("Hash: "), []byte("Suite: "), 1), nil, "its signed message is malformed or cut off"},
		{"a key instead of a signature", keyInstead(t, good, known), nil, "its signature block holds something else than signatures"},
		{"nothing", nil, nil, "it does not begin with a signed message"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			got, by, err := verifyClearsigned(test.signed, keys, today)
			if test.want != "" {
				s, ok := err.(*SignatureError)
				if !ok || hideKeys(s.Problem, known, old) != test.want {
					t.Errorf("got  %v\nwant %s", err, test.want)
				}
				return
			}
			var want []string
			for _, e := range test.by {
				want = append(want, fingerprint(e))
			}
			slices.Sort(want)
			if err != nil || string(got) != text || !slices.Equal(by, want) {
				t.Errorf("got %q by %v, %v; expected %q by %v", got, by, err, text, want)
			}
		})
	}
}

func hideKeys(s string, keys ...*openpgp.Entity) string {
	for _, k := range keys {
		s = strings.ReplaceAll(s, k.PrimaryKey.KeyIdString(), "KEY")
	}
	return s
}

func keyInstead(t *testing.T, good []byte, e *openpgp.Entity) []byte {
	t.Helper()
	var block bytes.Buffer
	w, err := armor.Encode(&block, openpgp.SignatureType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Serialize(w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(good, []byte("-----BEGIN PGP SIGNATURE"))
	return append(slices.Clone(good[:i]), block.Bytes()...)
}

func FuzzVerifyClearsigned(f *testing.F) {
	known := testKey(f, 0)
	keys := &Keyring{entities: openpgp.EntityList{known}}
	const text = "Suite: s\nend"
	good := signAll(f, text, today, known)
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, _, err := verifyClearsigned(b, keys, today)
		if err == nil && string(got) != text {
			t.Errorf("accepted %q, which was never signed", got)
		}
	})
}
