// Package sandbox runs one step of a build in isolation: the step sees the root
// that it is given and nothing else of the machine, and what it sees is the same
// on every host.
//
//	func main() {
//		sandbox.Main(tasks) // first of all; see Stages
//		s, err := sandbox.Open(sandbox.Options{})
//		…
//		err = s.Run(ctx, sandbox.Command{
//			Root:   sandbox.Root{Lower: []string{"/store/gcc", "/store/libc"}, Upper: upper, Work: work},
//			Args:   []string{"/bin/sh", "-c", "make -C /inputs/app install"},
//			Env:    []string{"PATH=/usr/bin:/bin", "TZ=UTC"},
//			Binds:  []sandbox.Bind{{Source: app, Target: "/inputs/app"}},
//			Stdout: os.Stdout,
//		})
//	}
//
// # Words
//
// A Root is what a command sees as /. Its Lower folders are never changed; all
// that the command does is in Upper, which makes Upper the list of changes. A
// Mapping says how ids inside relate to ids of the host. Limits stop a command
// that runs away. Surroundings are facts of the host that cannot be made equal
// everywhere, and that rebuilders vary on purpose. A Task is a piece of our own
// program that handles files of mapped owners.
//
// # Stages
//
// There is no helper program. Run starts this program again, and Main recognises
// it by its argv[0]:
//
//	parent   Run: starts pid 1 in new user, mount, pid, network, IPC and UTS
//	         namespaces, sends it a spec, watches the limits, waits
//	mapped   only for Range: waits until newuidmap has written the id map, and
//	         execs once more, because the first exec lost the capabilities
//	init     pid 1: makes the root and enters it, sets names and limits; in one
//	         thread gives up what the command must not have, and starts the
//	         command from there; reaps; kills what the command left running
//	command  starts as pid 100 (or Surroundings.FirstPID) in a session of its own
//	sweep    outlives a killed parent and removes its control groups
//
// The powers that a Linux thread gives up (capabilities by the bounding set,
// system calls by seccomp, CPUs, personality) are its own, and its children
// inherit them. This is what spares a second re-exec; a start costs about 3 ms
// more than the command.
//
// # What is isolated, and how
//
//	files        an overlay, entered with pivot_root; the host's mounts are let
//	             go of; sources appear in the mount table as /proc/self/fd/N, not
//	             by their paths on the host
//	inputs       recursive bind mounts, read-only by mount_setattr, no devices
//	/tmp, /dev   a tmpfs; of the host's devices only null zero full random
//	             urandom tty; own pseudo terminals and shared memory
//	/proc        of the pid namespace; /proc/sys and all else that is not a
//	             process read-only; memory, keys, logs and hardware masked.
//	             There is no /sys. /run is part of the root, since packages
//	             install into it
//	processes    a pid namespace: when the command ends, everything in it does
//	network      a network namespace whose only interface, lo, is down; sockets
//	             other than AF_UNIX answer EAFNOSUPPORT
//	privileges   no_new_privs; the capabilities below; about 50 system calls
//	             denied, no new namespaces, calls newer than Linux 6.17 answer
//	             ENOSYS, 32-bit and x32 calls kill
//	constants    host name quorate, id 0:0, umask 022, /dev/null as input, pipes
//	             as outputs, resource limits, exactly the given environment
//
// All capabilities are dropped but CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID
// SETUID SETFCAP: maintainer scripts give files to accounts and become them. They
// count only for ids of the mapping and files that the command can see. SYS_CHROOT
// is not among them: dpkg calls chroot only for another root than /, and dpkg
// --configure of 91 packages with accounts, daemons and triggers works without.
//
// # Mappings
//
//	identity  we are root: 0 to 65535 are themselves. Owners are real
//	range     newuidmap and newgidmap: 0 is the user, 1 to 65535 are the user's
//	          subordinate ids of /etc/subuid and /etc/subgid. Owners are real,
//	          seen from inside and from a Task
//	single    only 0 exists and is the user. chown, setuid and their kin answer
//	          0 and do nothing. With Command.RefuseLostOwners those that asked
//	          for anybody else are recorded and Run answers *OwnerError
//
// Open takes the first that this machine allows. They differ in the owners that
// can exist and in nothing else: a sandbox with fewer walls is never made, and
// Open answers *UnavailableError with what to do about it. Making a device node
// answers EPERM in every mapping.
//
// Files of a tarball may belong to an id above 65535, which no mapping has. So
// that a command which unpacks one as root ends in the same way in all of them,
// giving a file to such an id answers 0 and does nothing; with RefuseLostOwners
// it answers EINVAL, as the kernel does.
//
// # Files of Upper
//
// Upper belongs to id 0 of the mapping, and files in it to any other id of it;
// so read and remove it with a Task, which also reads security.capability in the
// form that files of an image have. overlayfs writes its marks as user.overlay.*
// (the mount has userxattr): an opaque folder has user.overlay.opaque=y, a
// removed file is a character device 0:0. Mount points that had to be made (/dev,
// /proc, /tmp, targets of binds) are removed again after Run; the folders that
// held them keep their copies in Upper. The mount is volatile: Upper is not
// synced to the disk, and after a crash of the machine it is worth nothing.
// Upper cannot be a folder of another overlay, such as a container's root: use
// a volume or a tmpfs.
//
// # Limits
//
// Time is kept by the parent. Processes and memory are kept by control groups
// (version 1 or 2) where we are root and may make them, and by looking every
// 50 ms everywhere; the largest pid and RLIMIT_NPROC help where they are the
// namespace's own. Files in /tmp, /dev/shm and in a throw-away root are memory.
// Disk is kept by RLIMIT_FSIZE for one file and by summing Upper; and a command
// is stopped when 256 MiB are left on Upper's file system. The sum leaves out
// folders that the caller may not read, which exist with Range only.
//
// Cancelling ctx, a limit, and SIGKILL of the parent all kill pid 1, and with it
// the whole namespace. Mounts exist only in the namespace. Run answers once all
// is gone.
//
// # What is not promised
//
// The kernel is shared: this is isolation of honest builds from their
// surroundings and of careless ones from the machine, with the usual walls
// against malice, not a virtual machine. The command sees the clock, the kernel
// release, the CPUs, the size of memory, the file systems that its mounts come
// from, and the machine's load. The record of lost owners can be fooled by a
// program that changes its arguments while it waits. Limits are passed by a
// little before they are noticed. A Stdout or Stderr that blocks, blocks Run.
package sandbox
