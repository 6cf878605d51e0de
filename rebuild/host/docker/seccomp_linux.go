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

// seccompProfile is the engine's default profile and namespaceCalls.
func seccompProfile() (string, error) {
	p := seccomp.DefaultProfile()
	p.Syscalls = append(p.Syscalls, &seccomp.Syscall{LinuxSyscall: specs.LinuxSyscall{Names: namespaceCalls, Action: specs.ActAllow}})
	b, err := json.Marshal(p)
	return string(b), err
}
