package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// hostFacts are facts of this machine, by the names that policies may demand to
// be distinct. What cannot be found is left out.
func hostFacts(workDir string) map[string]string {
	facts := map[string]string{}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		facts["kernel"] = unix.ByteSliceToString(uts.Release[:])
	}
	facts["cpu-vendor"], facts["cpu-model"] = cpu()
	var fs unix.Statfs_t
	if unix.Statfs(workDir, &fs) == nil {
		facts["filesystem"] = filesystemName(int64(fs.Type))
	}
	return facts
}

// filesystemName names the file systems that builds are seen on (statfs(2)).
func filesystemName(magic int64) string {
	switch magic {
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	}
	return fmt.Sprintf("%#x", magic)
}

// cpu reads the vendor and model of the first processor; ARM's kernel gives numbers only.
func cpu() (vendor, model string) {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", ""
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(name) {
		case "vendor_id", "CPU implementer":
			vendor = value
		case "model name", "CPU part":
			model = value
		case "":
			return vendor, model // the second processor's follow
		}
	}
	return vendor, model
}
