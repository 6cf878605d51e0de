package sandbox

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

// deniedHere are the denied calls that only this architecture has.
var deniedHere = []uint32{unix.SYS_NFSSERVCTL, unix.SYS_LOOKUP_DCOOKIE}

// ownerCallsHere is empty: arm64 has only the newer calls.
var ownerCallsHere []ownerCall
