package cause

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// capabilities are Linux's, by their bit (linux/capability.h).
var capabilities = strings.Fields(`chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable
	net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct
	sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override
	mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore`)

// capabilityText says the value of security.capability as getcap does ("cap_net_raw=ep"); "" when it is not of
// version 2 or 3 (struct vfs_cap_data: magic and flags, then twice permitted and inheritable bits).
func capabilityText(b string) string {
	if version := len(b); version != 20 && version != 24 {
		return ""
	}
	word := func(i int) uint32 { return binary.LittleEndian.Uint32([]byte(b[4*i:])) }
	if v := word(0) >> 24; v != 2 && v != 3 {
		return ""
	}
	permitted, inheritable := uint64(word(1))|uint64(word(3))<<32, uint64(word(2))|uint64(word(4))<<32
	var names []string
	for bit := range 64 {
		if (permitted|inheritable)>>bit&1 == 0 {
			continue
		}
		name := fmt.Sprint(bit)
		if bit < len(capabilities) {
			name = "cap_" + capabilities[bit]
		}
		names = append(names, name)
	}
	flags := ""
	for _, f := range []struct {
		set  bool
		name string
	}{{word(0)&1 != 0, "e"}, {inheritable != 0, "i"}, {permitted != 0, "p"}} {
		if f.set {
			flags += f.name
		}
	}
	return strings.Join(names, ",") + "=" + flags
}
