package docker

import (
	"encoding/json"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// namespaceCalls are what a sandbox's first process does before it puts its own
// filter on itself and its command. The engine's default profile keeps them for
// CAP_SYS_ADMIN; the kernel still wants that capability over the namespace
// that they change.
var namespaceCalls = []string{"clone", "unshare", "mount", "umount2", "pivot_root", "sethostname", "setdomainname",
	"mount_setattr", "fsopen", "fsconfig", "fsmount", "move_mount", "open_tree"}

// personalities are ADDR_NO_RANDOMIZE, alone and with UNAME26, which rebuilders
// vary. The default profile has UNAME26 alone.
var personalities = []uint64{0x0040000, 0x0060000}

// seccompProfile is the engine's default profile, namespaceCalls and personalities.
func seccompProfile() (string, error) {
	p := seccomp.DefaultProfile()
	p.Syscalls = append(p.Syscalls, &seccomp.Syscall{LinuxSyscall: specs.LinuxSyscall{Names: namespaceCalls, Action: specs.ActAllow}})
	for _, value := range personalities {
		p.Syscalls = append(p.Syscalls, &seccomp.Syscall{LinuxSyscall: specs.LinuxSyscall{
			Names: []string{"personality"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Value: value, Op: specs.OpEqualTo}},
		}})
	}
	b, err := json.Marshal(p)
	return string(b), err
}
