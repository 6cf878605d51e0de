package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"runtime"
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
	// Of the running kernel, seen from inside every container: two rebuilders with the
	// same are one machine, whatever they are called.
	if boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		facts["boot-id"] = strings.TrimSpace(string(boot))
	}
	facts["machine-id"] = machineID("/etc/machine-id")
	facts["cpu-vendor"], facts["cpu-model"] = cpu()
	facts["capabilities"], facts["seccomp"] = confinement()
	var fs unix.Statfs_t
	if unix.Statfs(workDir, &fs) == nil {
		facts["filesystem"] = filesystemName(int64(fs.Type))
	}
	return facts
}

// applicationID is Quorate's own, for machineID; random, and for ever the same.
const applicationID = "8b25b4d802344650919c55dbe9e24aaa"

// machineID is the machine's id as an application may tell it: machine-id(5) asks that the id itself
// be kept, and that applications derive their own by a keyed hash
// (sd_id128_get_machine_app_specific(3): HMAC-SHA256 of the application's id, keyed with the
// machine's, 16 bytes of it as a UUID of version 4). "" where there is none, as in a worker's container.
func machineID(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	id, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(id) != 16 {
		return "" // "uninitialized", or a file that is no id
	}
	application, _ := hex.DecodeString(applicationID)
	mac := hmac.New(sha256.New, id)
	mac.Write(application)
	sum := mac.Sum(nil)[:16]
	sum[6], sum[8] = sum[6]&0x0f|0x40, sum[8]&0x3f|0x80
	return hex.EncodeToString(sum)
}

// confinement is what the kernel says that we were given, whoever started us:
// the capabilities that we can ever have, in hexadecimal, and 2 with a filter
// of system calls, 0 without one (proc(5)).
func confinement() (capabilities, seccomp string) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "", ""
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "CapBnd":
			capabilities = strings.TrimSpace(value)
		case "Seccomp":
			seccomp = strings.TrimSpace(value)
		}
	}
	return capabilities, seccomp
}

// asOwnerOf calls f with the file access of dir's owner, when we are root and
// dir is somebody else's. A worker in a container may be root without power
// over the files of others, and its key belongs to the user that it is at other times.
func asOwnerOf(dir string, f func()) {
	var st unix.Stat_t
	if os.Geteuid() != 0 || unix.Stat(dir, &st) != nil || st.Uid == 0 {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread ends with the goroutine, which does not unlock it: no other gets these ids.
		runtime.LockOSThread()
		_, _ = unix.SetfsgidRetGid(int(st.Gid)) // what they refuse, opening the file refuses
		_, _ = unix.SetfsuidRetUid(int(st.Uid))
		f()
	}()
	<-done
}

// freeAt is how many bytes the disk of a folder has left for us; -1 when not known.
func freeAt(dir string) int64 {
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil {
		return -1
	}
	return int64(fs.Bavail) * int64(fs.Bsize)
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
