// Package cargo shows crates as a folder of vendored sources, as `cargo vendor`
// writes one, and the configuration that makes cargo look there:
//
//	/inputs/NAME/config.toml
//	/inputs/NAME/vendor/CRATE-VERSION/Cargo.toml …
//	/inputs/NAME/vendor/CRATE-VERSION/.cargo-checksum.json
//
// A step says: cargo --config /inputs/NAME/config.toml build --offline --locked.
// The checksum file has the crate's sha256, which cargo holds against
// Cargo.lock; it lists no files, since each was held against the lock before.
package cargo

import (
	"fmt"
	"strings"

	"quorate.dev/builder/unpack"
	"quorate.dev/lockfile"
)

// Unpack is an unpack.Kind.
func Unpack(in lockfile.Input, blobs []unpack.Blob, files *unpack.Files) error {
	for _, b := range blobs {
		top := b.Pin.Name + "-" + b.Pin.Version
		outside := ""
		err := files.AddArchive("vendor", b, func(p string) (string, bool) {
			if p != top && !strings.HasPrefix(p, top+"/") && outside == "" {
				outside = p
			}
			// Cargo itself leaves this out when it unpacks: it is where it marks that it has.
			return p, p != top+"/.cargo-ok" && p != top+"/.cargo-checksum.json"
		})
		if err == nil && outside != "" {
			err = fmt.Errorf("it holds %q, which is not in its folder %q", outside, top)
		}
		if err != nil {
			return fmt.Errorf("crate %s %s: %w", b.Pin.Name, b.Pin.Version, err)
		}
		sum := fmt.Sprintf("{\"files\":{},\"package\":\"%s\"}\n", b.Pin.SHA256.Hex())
		if err := files.Add("vendor/"+top+"/.cargo-checksum.json", 0o644, strings.NewReader(sum)); err != nil {
			return err
		}
	}
	return files.Add("config.toml", 0o644, strings.NewReader(config(in)))
}

// config replaces every registry that the crates come from.
func config(in lockfile.Input) string {
	var b strings.Builder
	b.WriteString("[source.crates-io]\nreplace-with = \"quorate\"\n\n")
	for i, registry := range strings.Fields(in.Facts["registries"]) {
		fmt.Fprintf(&b, "[source.registry-%d]\nregistry = %q\nreplace-with = \"quorate\"\n\n", i+1, registry)
	}
	fmt.Fprintf(&b, "[source.quorate]\ndirectory = %q\n", "/inputs/"+in.Name+"/vendor")
	return b.String()
}
