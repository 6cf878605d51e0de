package cause

import (
	"bufio"
	"bytes"
	"maps"
	"slices"
	"strings"

	"quorate.dev/diff"
)

// maxStatus bounds the package lists that are read; that of a full desktop is 10 MB.
const maxStatus = 64 << 20

// inputs compares the package lists that lie in the images. Differing inputs are
// no non-determinism, so they are said before all else.
func inputs(root *diff.Node) []InputChange {
	var out []InputChange
	root.Walk(func(n *diff.Node) bool {
		if n.Kind != diff.KindEntry && (n.Kind != diff.KindMember || strings.TrimPrefix(n.Name, "./") != "control") {
			return true
		}
		var parse func([]byte) map[string]string
		name := strings.TrimPrefix(n.Name, "./")
		switch {
		case name == "control" && n.Kind == diff.KindMember, // of a .deb
			name == "var/lib/dpkg/status", strings.HasPrefix(name, "var/lib/dpkg/status.d/") && !strings.HasSuffix(name, ".md5sums"):
			parse = dpkgStatus
		case name == "lib/apk/db/installed", name == "usr/lib/apk/db/installed":
			parse = apkInstalled
		default:
			return true
		}
		a, b := packages(n, diff.A, parse), packages(n, diff.B, parse)
		names := maps.Clone(a)
		maps.Copy(names, b)
		for _, k := range slices.Sorted(maps.Keys(names)) {
			if a[k] != b[k] {
				out = append(out, InputChange{What: "package", Name: k, A: a[k], B: b[k]})
			}
		}
		return false
	})
	return out
}

func packages(n *diff.Node, w diff.Which, parse func([]byte) map[string]string) map[string]string {
	b, err := n.Bytes(w, maxStatus)
	if err != nil {
		return map[string]string{}
	}
	return parse(b)
}

// dpkgStatus reads name:arch → version of the installed packages of a dpkg status file.
func dpkgStatus(b []byte) map[string]string {
	out := map[string]string{}
	fields := map[string]string{}
	end := func() {
		status, installed := fields["Status"]
		if fields["Package"] != "" && fields["Version"] != "" && (!installed || strings.HasSuffix(status, " installed")) {
			name := fields["Package"]
			if a := fields["Architecture"]; a != "" && a != "all" {
				name += ":" + a
			}
			out[name] = fields["Version"]
		}
		clear(fields)
	}
	for line := range paragraphs(b) {
		if line == "" {
			end()
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if ok && line[0] != ' ' && (key == "Package" || key == "Version" || key == "Architecture" || key == "Status") {
			fields[key] = strings.TrimSpace(value)
		}
	}
	end()
	return out
}

// apkInstalled reads name → version of Alpine's database: lines "P:name", "V:version".
func apkInstalled(b []byte) map[string]string {
	out := map[string]string{}
	name, version := "", ""
	for line := range paragraphs(b) {
		switch {
		case strings.HasPrefix(line, "P:"):
			name = line[2:]
		case strings.HasPrefix(line, "V:"):
			version = line[2:]
		case line == "" && name != "":
			out[name] = version
			name, version = "", ""
		}
	}
	if name != "" {
		out[name] = version
	}
	return out
}

// paragraphs yields lines; too long ones end it, for no package list has them.
func paragraphs(b []byte) func(func(string) bool) {
	return func(yield func(string) bool) {
		s := bufio.NewScanner(bytes.NewReader(b))
		s.Buffer(make([]byte, 0, 64<<10), 1<<20)
		for s.Scan() {
			if !yield(s.Text()) {
				return
			}
		}
	}
}
