package sandbox

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

// deniedHere are the denied calls that only this architecture has.
var deniedHere = []uint32{unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_MODIFY_LDT, unix.SYS_USELIB, unix.SYS_USTAT, unix.SYS_SYSFS, unix.SYS__SYSCTL,
	unix.SYS_CREATE_MODULE, unix.SYS_GET_KERNEL_SYMS, unix.SYS_QUERY_MODULE, unix.SYS_NFSSERVCTL, unix.SYS_LOOKUP_DCOOKIE}

// ownerCallsHere are the owner calls that only this architecture has.
var ownerCallsHere = []ownerCall{
	{unix.SYS_CHOWN, "chown", 0, -1, 1, 2, 1},
	{unix.SYS_LCHOWN, "lchown", 0, -1, 1, 2, 1},
}
