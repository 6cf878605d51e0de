package python

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"quorate.dev/lockfile/definition"
)

// machines are Python's names of processors (platform.machine) by GOARCH.
var machines = map[string]string{
	"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "arm": "armv7l", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64",
}

// wheelsFor returns the wheels that may be installed on a platform with glibc
// (Debian's), by their tags (PEP 425, 600): NAME-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl.
func wheelsFor(files []file, p definition.Platform, python string) []file {
	var fit []file
	for _, f := range files {
		base, ok := strings.CutSuffix(f.Name, ".whl")
		parts := strings.Split(base, "-")
		if !ok || len(parts) < 5 {
			continue
		}
		tags := parts[len(parts)-3:]
		if pythonFits(tags[0], tags[1], python) && slices.ContainsFunc(strings.Split(tags[2], "."), func(t string) bool { return platformFits(t, p) }) {
			fit = append(fit, f)
		}
	}
	return fit
}

func platformFits(tag string, p definition.Platform) bool {
	if tag == "any" {
		return true
	}
	machine, ok := machines[p.Architecture]
	linux := strings.HasPrefix(tag, "manylinux") || strings.HasPrefix(tag, "linux_")
	return ok && p.OS == "linux" && linux && strings.HasSuffix(tag, "_"+machine)
}

var pythonTag = regexp.MustCompile(`^(py|cp)([23])([0-9]*)$`)

// pythonFits says whether CPython of a version, "3.11", or of any, may use a wheel.
func pythonFits(tags, abis, version string) bool {
	minor, wanted := 0, version != ""
	if wanted {
		_, rest, _ := strings.Cut(version, ".")
		minor, _ = strconv.Atoi(rest)
	}
	stable := slices.Contains(strings.Split(abis, "."), "abi3")
	return slices.ContainsFunc(strings.Split(tags, "."), func(tag string) bool {
		m := pythonTag.FindStringSubmatch(tag)
		if m == nil || m[2] != "3" {
			return false
		}
		has, err := strconv.Atoi(m[3])
		switch {
		case !wanted || err != nil: // "py3"
			return true
		case m[1] == "py" || stable:
			return has <= minor
		}
		return has == minor && slices.ContainsFunc(strings.Split(abis, "."), func(a string) bool { return a == "none" || a == tag || a == tag+"m" })
	})
}

// sdists returns the source distributions (PEP 625), of which a release has one.
func sdists(files []file) []file {
	var out []file
	for _, f := range files {
		if strings.HasSuffix(f.Name, ".tar.gz") || strings.HasSuffix(f.Name, ".zip") {
			out = append(out, f)
		}
	}
	return out
}
