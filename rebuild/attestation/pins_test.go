package attestation

import (
	"encoding/json"
	"strings"
	"testing"

	"quorate.dev/lockfile"
)

// Inputs of every kind are named as their ecosystems do, as far as the report's
// platforms need them.
func TestReportNamesPins(t *testing.T) {
	commit := strings.Repeat("ab", 20)
	r := record("a", "image", func(r *BuildRecord) {
		r.Lock.Requests.Inputs = []lockfile.InputRequest{
			{Name: "base", Kind: lockfile.KindImage, Ask: lockfile.Facts{"image": "registry.example/os:12"}},
			{Name: "modules", Kind: lockfile.KindGo, Ask: lockfile.Facts{"from": "app"}},
			{Name: "src", Kind: lockfile.KindGit, Ask: lockfile.Facts{"url": "https://example.org/src.git"}},
		}
		r.Lock.Pins = []lockfile.Pin{
			{Input: "base", Name: "manifest", Platform: "linux/amd64", SHA256: of("amd64"), Path: "blobs/a"},
			{Input: "base", Name: "manifest", Platform: "linux/arm64", SHA256: of("arm64"), Path: "blobs/b"},
			{Input: "modules", Name: "golang.org/x/text", Version: "v0.14.0", SHA256: of("text"), Path: "golang.org/x/text/@v/v0.14.0.zip"},
			{Input: "src", Name: "src", Version: commit, SHA256: of("src"), Path: "src.tar"},
		}
	})
	got, err := json.Marshal(r.dependencies())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"name":"image/base/blobs/a","uri":"oci://registry.example/os@` + of("amd64").String() + `"`,
		`"name":"go/modules/golang.org/x/text/@v/v0.14.0.zip","uri":"pkg:golang/golang.org/x/text@v0.14.0"`,
		`"name":"git/src/src.tar","uri":"git+https://example.org/src.git@` + commit + `"`,
		`"gitCommit":"` + commit + `"`, `"sha256":"` + of("src").Hex() + `"`,
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if strings.Contains(string(got), of("arm64").Hex()) {
		t.Error("what another platform needs is named")
	}
	if _, err := SignReport(ctx, r, keyOf("a")); err != nil {
		t.Error(err)
	}
}
