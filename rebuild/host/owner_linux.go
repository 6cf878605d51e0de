package host

import (
	"os"
	"strconv"
	"strings"

	"quorate.dev/lockfile/digest"
)

// Self is this process as an owner.
func Self() Owner {
	pid := strconv.Itoa(os.Getpid())
	o := Owner{PID: pid, Started: ProcessStart(pid)}
	machine, err := os.ReadFile("/etc/machine-id")
	name, nameErr := os.Hostname()
	if err == nil && nameErr == nil {
		// The id itself is not for others (machine-id(5)).
		o.Machine = digest.Of(append(machine, name...)).Hex()[:16]
	}
	if boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		o.Boot = strings.TrimSpace(string(boot))
	}
	o.Space, _ = os.Readlink("/proc/self/ns/pid") // empty: only time tells
	return o
}

// ProcessStart is when a process was started; "" when there is none.
func ProcessStart(pid string) string {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return ""
	}
	// The second field, the name in parentheses, may hold anything; 20 fields after it.
	_, rest, ok := strings.Cut(string(stat[max(0, strings.LastIndexByte(string(stat), ')')):]), ")")
	f := strings.Fields(rest)
	if !ok || len(f) < 20 {
		return ""
	}
	if f[0] == "Z" || f[0] == "X" { // dead, only not buried
		return ""
	}
	return f[19]
}
