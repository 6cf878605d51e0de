package docker

import (
	"testing"
	"time"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/host"
)

// An engine gets the blobs of every kind of input, for the job's platforms only.
func TestInputsOfNamesPins(t *testing.T) {
	lock := &lockfile.Lock{
		Format: 1, Assembler: 1, Epoch: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		Requests: lockfile.Requests{Inputs: []lockfile.InputRequest{{Name: "base", Kind: lockfile.KindImage}}},
		Inputs:   []lockfile.Input{{Name: "base", Kind: lockfile.KindImage}},
	}
	for _, arch := range []string{"amd64", "arm64"} {
		p := definition.Platform{OS: "linux", Architecture: arch}
		lock.Platforms = append(lock.Platforms, lockfile.Platform{Platform: p})
		lock.Pins = append(lock.Pins, lockfile.Pin{Input: "base", Name: "manifest", Platform: p.String(), Size: 5, SHA256: digest.Of([]byte(arch)), Path: "blobs/" + arch})
	}
	lock.Pins = append(lock.Pins, lockfile.Pin{Input: "base", Name: "shared", Size: 6, SHA256: digest.Of([]byte("shared")), Path: "blobs/shared"})
	if err := lock.Validate(); err != nil {
		t.Fatal(err)
	}
	list, err := inputsOf(host.Job{Lock: lockfile.Format(lock), Platforms: []string{"linux/arm64"}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[digest.Digest]bool{}
	for _, in := range list {
		got[in.digest] = true
	}
	if len(list) != 2 || !got[digest.Of([]byte("arm64"))] || !got[digest.Of([]byte("shared"))] {
		t.Errorf("got %+v", list)
	}
}
