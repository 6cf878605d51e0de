package builder

import (
	"slices"
	"testing"
)

// What every process of a build sees is part of the bytes' contract: a change here raises AssemblerVersion.
func TestConstantEnvironment(t *testing.T) {
	want := []string{
		"PATH=" + searchPath, "LC_ALL=C.UTF-8", "TZ=UTC", "USER=root", "LOGNAME=root", "SHELL=/bin/sh",
		"SOURCE_DATE_EPOCH=1793491200", "FORCE_SOURCE_DATE=1", "PERL_HASH_SEED=0", "PYTHONHASHSEED=0",
	}
	if got := (&build{epoch: 1793491200}).constantEnv(); !slices.Equal(got, want) || AssemblerVersion != 2 {
		t.Errorf("got  %q of assembler version %d\nwant %q of version 2", got, AssemblerVersion, want)
	}
}
