package draft

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"
)

const cargoFile = "Cargo.toml"

// cargoManifest is what Cargo.toml says.
type cargoManifest struct {
	Package struct {
		Name    string `toml:"name"`
		Edition any    `toml:"edition"`      // a text, or inherited
		Rust    any    `toml:"rust-version"` // the same
	} `toml:"package"`
	Bin []struct {
		Name string `toml:"name"`
	} `toml:"bin"`
}

var lockVersion4 = regexp.MustCompile(`(?m)^version = 4$`)

// cargoWanted is the oldest Rust that Cargo.toml and Cargo.lock accept; "" when they do not say.
func (p project) cargoWanted() string {
	var m cargoManifest
	_, _ = toml.Decode(p.read(cargoFile), &m) // cargoCrate says what is wrong with it
	wanted, _ := m.Package.Rust.(string)
	least := func(version string) {
		if less(triple(strings.Split(wanted, ".")), triple(strings.Split(version, "."))) {
			wanted = version
		}
	}
	if m.Package.Edition == "2024" {
		least("1.85.0") // the release that brought it
	}
	if lockVersion4.MatchString(p.read("Cargo.lock")) {
		least("1.78.0") // likewise
	}
	return wanted
}

// cargoCrate is built by Debian's cargo from vendored crates.
func cargoCrate(p project) (*recipe, error) {
	text := p.read(cargoFile)
	if text == "" {
		return nil, nil
	}
	var manifest cargoManifest
	if _, err := toml.Decode(text, &manifest); err != nil {
		return nil, fmt.Errorf("%s: %w", cargoFile, err)
	}
	name := manifest.Package.Name
	if len(manifest.Bin) > 0 {
		name = manifest.Bin[0].Name
	}
	r := &recipe{kind: "a Rust crate", ignore: "target/\n"}
	if name == "" {
		name = p.Name
		r.notes = append(r.notes, "Cargo.toml names no package; say in the step which program of the workspace to install")
	}
	if !plainWord.MatchString(name) {
		return nil, fmt.Errorf("%s names the program %q, which is none", cargoFile, name)
	}
	r.inputs = "  cargo: {crates: {from: source}}   # what Cargo.lock names\n"
	r.step = fmt.Sprintf(`    packages: [cargo, libc6-dev]
    inputs: [source, crates]
    env: {RUSTFLAGS: "--remap-path-prefix=/inputs/source=. -C link-arg=-Wl,--build-id=none"}
    run: |
      cd /inputs/source
      cargo --config /inputs/crates/config.toml build --release --offline --locked --target-dir /build/target
      install -D --strip /build/target/release/%[1]s $OUT/usr/bin/%[1]s
`, name)
	r.image = "  packages: [libc6, libgcc-s1, ca-certificates]\n" + onlyShipped + "  without: [debconf, openssl]\n"
	r.copy, r.config = fromBuild, fmt.Sprintf("    entrypoint: [/usr/bin/%s]\n", name)
	p.hints().apply(r)
	if !p.has("Cargo.lock") {
		r.notes = append(r.notes, "there is no Cargo.lock; run: cargo generate-lockfile")
	}
	return r, nil
}
