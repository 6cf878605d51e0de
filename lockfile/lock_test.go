package lockfile

import (
	"testing"
	"time"

	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
)

var amd64 = definition.Platform{OS: "linux", Architecture: "amd64"}

// pkg makes a package whose digest and path follow from its name and version.
func pkg(name, version string, in ...string) Package {
	p := Package{
		Name: name, Version: version, Arch: "amd64", Size: 1000 + int64(len(name)),
		SHA256:  digest.Of([]byte(name + version)),
		Path:    "pool/main/" + name[:1] + "/" + name + "/" + name + "_" + version + "_amd64.deb",
		Archive: "bookworm",
	}
	for i := 0; i < len(in); i += 2 {
		p.In = append(p.In, Member{Set: in[i], By: in[i+1]})
	}
	return p
}

// sample is a small lock with one of everything.
func sample() *Lock {
	return &Lock{
		Format: 1, Assembler: 1, Epoch: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
		Requests: Requests{
			Suite: "bookworm", Components: []string{"main"}, Pockets: []string{"updates", "security"},
			Sets: []SetRequest{
				{Name: "image", Packages: []string{"nginx"}, Scripts: "dpkg", Without: []string{"debconf"}},
				{Name: "step/compile", Packages: []string{"gcc", "nginx=1.22.1-9"}},
			},
			Files: []FileRequest{{Name: "logo", URL: "https://example.org/logo-1.2.tar.gz", Unpack: true}},
		},
		Resolver: Resolver{Name: "apt", Version: "2.6.1"},
		Archives: []Archive{{
			Name: "bookworm", Suite: "oldstable", Date: time.Date(2026, 9, 5, 9, 23, 17, 0, time.UTC),
			InRelease: digest.Of([]byte("InRelease")), SignedBy: []string{"4CB50190207B4758A3F73A796ED0E7B82643E131"},
		}},
		Files: []File{{Name: "logo", URL: "https://example.org/logo-1.2.tar.gz", Size: 12, SHA256: digest.Of([]byte("logo"))}},
		Platforms: []Platform{{
			Platform: amd64,
			Packages: []Package{
				pkg("dpkg", "1.21.22", "configure", "essential", "step/compile", "essential"),
				pkg("gcc", "4:12.2.0-3", "step/compile", "requested"),
				pkg("iproute2", "6.1.0-3", "image", "nginx-common"),
				pkg("libc6", "2.36-9+deb12u10", "image", "nginx", "step/compile", "gcc"),
				pkg("nginx", "1.22.1-9", "image", "requested", "step/compile", "requested"),
				pkg("nginx-common", "1.22.1-9", "image", "nginx"),
				pkg("perl-base", "5.36.0-7", "configure", "iproute2"),
			},
			Waived: []Waiver{{Package: "nginx-common", Needs: "debconf"}},
		}},
	}
}

const sampleText = `# Written by "quorate lock". Commit it; do not edit it.
format: 1
assembler: 1
epoch: "2026-11-01T00:00:00Z"
requests:
  debian: {suite: bookworm, components: [main], pockets: [updates, security]}
  sets:
    - {name: image, packages: [nginx], scripts: dpkg, without: [debconf]}
    - {name: step/compile, packages: [gcc, "nginx=1.22.1-9"]}
  files:
    - {name: logo, url: "https://example.org/logo-1.2.tar.gz", unpack: true}
resolver: {name: apt, version: "2.6.1"}
archives:
`

func TestFormatIsReadable(t *testing.T) {
	got := string(Format(sample()))
	if len(got) < len(sampleText) || got[:len(sampleText)] != sampleText {
		t.Errorf("got:\n%s\nwant it to begin:\n%s", got, sampleText)
	}
	if err := sample().Validate(); err != nil { t.Error(err) }
	l, err := Parse("quorate.lock", []byte(got))
	t.Log(l, err)
	t.Log(got)
}
