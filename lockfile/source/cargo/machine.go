package cargo

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"
)

// PublicIndex is the index that cargo itself asks when nothing is configured.
const PublicIndex = "https://index.crates.io/"

// MachineIndex is the sparse index that stands for the default registry on this
// machine; see the package comment.
func MachineIndex() string {
	if v := os.Getenv("QUORATE_CARGO_INDEX"); v != "" {
		return strings.TrimPrefix(v, "sparse+")
	}
	home := os.Getenv("CARGO_HOME")
	if home == "" {
		if user, err := os.UserHomeDir(); err == nil {
			home = filepath.Join(user, ".cargo")
		}
	}
	for _, name := range []string{"config.toml", "config"} { // the second is what old versions read
		if text, err := os.ReadFile(filepath.Join(home, name)); err == nil {
			if index := replaced(string(text)); index != "" {
				return index
			}
		}
	}
	return PublicIndex
}

// replaced follows replace-with from crates-io to a sparse index (The Cargo
// Book, "Source Replacement"); "" when the configuration names none.
func replaced(text string) string {
	var config struct {
		Source map[string]struct {
			ReplaceWith string `toml:"replace-with"`
			Registry    string `toml:"registry"`
		} `toml:"source"`
		Registries map[string]struct {
			Index string `toml:"index"`
		} `toml:"registries"`
	}
	if _, err := toml.Decode(text, &config); err != nil {
		return ""
	}
	name := config.Source["crates-io"].ReplaceWith
	for range len(config.Source) { // no longer than there are names to go through
		if next := config.Source[name].ReplaceWith; next != "" {
			name = next
		}
	}
	for _, index := range []string{config.Source[name].Registry, config.Registries[name].Index} {
		if sparse, ok := strings.CutPrefix(index, "sparse+"); ok {
			return sparse
		}
	}
	return ""
}
