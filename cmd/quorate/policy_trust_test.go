package main

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/attestation"
	"quorate.dev/rebuild/keyfile"
)

// Two that see different versions at the same time must not leave the older one remembered.
func TestRememberTheNewest(t *testing.T) {
	key, err := keyfile.Generate()
	if err != nil {
		t.Fatal(err)
	}
	p := &agreement.Policy{
		Threshold: 1, Name: "acme", Version: 1, MaintainerThreshold: 1,
		Rebuilders:  []agreement.Rebuilder{{Name: "a", Operator: "a", Key: key.Public()}},
		Maintainers: []agreement.SignerKey{{Name: "m", Key: key.Public()}},
	}
	var versions []*attestation.PolicyVersion
	for p.Version = 1; p.Version <= 3; p.Version++ {
		if versions, err = attestation.SignPolicy(context.Background(), p, versions, key, time.Unix(1_790_000_000, 0)); err != nil {
			t.Fatal(err)
		}
	}
	one, two, three := versions[0], versions[1], versions[2]

	memory := filepath.Join(t.TempDir(), "policies", "acme.intoto.jsonl")
	steps := []struct {
		seen, now *attestation.PolicyVersion
		want      error
	}{
		{nil, two, nil},
		{nil, one, errSeenMeanwhile}, // looked before two was remembered
		{two, three, nil},
		{two, one, errSeenMeanwhile},
	}
	for i, s := range steps {
		if err := remember(memory, s.seen, s.now); !errors.Is(err, s.want) {
			t.Fatalf("step %d: %v, expected %v", i, err, s.want)
		}
	}
	if v, err := newestSeen(memory); err != nil || v.Version != 3 {
		t.Errorf("remembered is %v (%v), expected version 3", v, err)
	}
}
