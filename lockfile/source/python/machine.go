package python

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
)

// PublicIndex is the index that pip itself asks when nothing is configured.
const PublicIndex = "https://pypi.org/simple/"

// MachineIndexes reads pip's own configuration, in pip's order (pip's
// documentation, "Configuration"): the environment, then $PIP_CONFIG_FILE, the
// user's files and the global one. Only the index counts; credentials may stand in its URL, as for pip.
func MachineIndexes() []string {
	config := map[string]string{}
	for _, file := range configFiles() {
		readConfig(file, config)
	}
	for option, name := range map[string]string{"index-url": "PIP_INDEX_URL", "extra-index-url": "PIP_EXTRA_INDEX_URL"} {
		if v := os.Getenv(name); v != "" {
			config[option] = v
		}
	}
	indexes := strings.Fields(config["index-url"])
	if len(indexes) == 0 {
		indexes = []string{PublicIndex}
	}
	return append(indexes, strings.Fields(config["extra-index-url"])...)
}

// configFiles are pip's, what counts more coming later.
func configFiles() []string {
	files := []string{"/etc/xdg/pip/pip.conf", "/etc/pip.conf"}
	if home, err := os.UserHomeDir(); err == nil {
		files = append(files, filepath.Join(home, ".pip", "pip.conf"))
	}
	if dir, err := os.UserConfigDir(); err == nil {
		files = append(files, filepath.Join(dir, "pip", "pip.conf"))
	}
	if file := os.Getenv("PIP_CONFIG_FILE"); file == os.DevNull {
		return nil // pip's way of having no file at all
	} else if file != "" {
		files = append(files, file)
	}
	return files
}

// readConfig reads the section [global] of an ini file, a value's further lines indented.
func readConfig(file string, config map[string]string) {
	f, err := os.Open(file)
	if err != nil {
		return
	}
	defer f.Close()
	section, option := "", ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		text := strings.TrimSpace(line)
		switch {
		case text == "" || text[0] == '#' || text[0] == ';':
		case strings.HasPrefix(text, "["):
			section = strings.Trim(text, "[]")
		case section != "global":
		case line[0] == ' ' || line[0] == '\t':
			if option != "" {
				config[option] += " " + text
			}
		default:
			key, value, _ := strings.Cut(text, "=")
			option = strings.ReplaceAll(strings.TrimSpace(key), "_", "-")
			config[option] = strings.TrimSpace(value)
		}
	}
}
