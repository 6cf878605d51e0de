package npmkey_test

import (
	"strings"
	"testing"

	"quorate.dev/lockfile/npmkey"
	"quorate.dev/lockfile/source/npm/npmtest"
)

func TestFact(t *testing.T) {
	a, b := npmtest.NewKey(), npmtest.NewKey()
	ring, err := npmkey.Parse(npmtest.Document(a, b))
	if err != nil {
		t.Fatal(err)
	}
	fact := npmkey.Format(ring)
	again, err := npmkey.ParseFact(fact)
	if err != nil || npmkey.Format(again) != fact || len(again) != 2 || !again[a.ID].Same(ring[a.ID]) || again[a.ID].Same(ring[b.ID]) {
		t.Errorf("%s: %v, %v", fact, again, err)
	}
	rel := &npmtest.Release{Name: "left", Version: "1.0.0", Integrity: "sha512-x"}
	one, two := a.Sign(rel), b.Sign(rel)
	both := one.KeyID + "=" + one.Sig + " " + two.KeyID + "=" + two.Sig
	if by, err := again.VerifyPin("left", "1.0.0", "sha512-x", both); err != nil || len(by) != 2 {
		t.Errorf("%v, %v", by, err)
	}
	for _, signatures := range []string{one.KeyID, one.KeyID + "=", one.KeyID + "=" + two.Sig, both + " x=y", "=" + one.Sig, strings.Replace(both, "=", "==", 1)} {
		if by, err := again.VerifyPin("left", "1.0.0", "sha512-x", signatures); err == nil {
			t.Errorf("%q: %v", signatures, by)
		}
	}
}

func FuzzParseFact(f *testing.F) {
	f.Add("SHA256:x=MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEY6Ya7W++7aUPzvMTrezH6Ycx3c+HOKYCcNGybJZSCJq/fd7Qa8uuAKtdIkUQtQiEKERhAmE5lMMJhP8OkDOa2g==")
	f.Fuzz(func(t *testing.T, fact string) {
		ring, err := npmkey.ParseFact(fact)
		if err != nil {
			return
		}
		if again, err := npmkey.ParseFact(npmkey.Format(ring)); err != nil || npmkey.Format(again) != npmkey.Format(ring) {
			t.Errorf("%q is read again as %v, %v", fact, again, err)
		}
	})
}
