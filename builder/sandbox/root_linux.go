//go:build amd64 || arm64

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// root is the file system of a sandbox while pid 1 makes it.
//
// Every source on the host is opened first and only named by its descriptor
// afterwards (/proc/self/fd/N). So nothing that we mount can hide a source, the
// names stay short however long the host's paths are, and a command that reads
// its mount table does not learn them.
type root struct {
	scratch int      // our tmpfs: /dev, /tmp, and Upper and Work when they are thrown away
	top     int      // the new root
	proc    int      // the sandbox's /proc
	lastPID int      // its sys/kernel/ns_last_pid, which is read-only by path
	binfmt  int      // the sandbox's own binfmt_misc, when it has an emulator
	made    []string // mount points that we made, below the root, parents first
}

// scratchAt is where our tmpfs is until the host's root is gone: a folder that
// exists on every host. What it hides was opened before.
const scratchAt = "/tmp"

// devices are the nodes of the host that every sandbox has. They hold no state
// of the host but the randomness.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// maskedFiles are files of /proc that everybody may read and that tell of the
// host's memory, keys and hardware. Those that only root may read, or that
// anybody may write, are masked by their modes.
var maskedFiles = map[string]bool{"kcore": true, "keys": true, "key-users": true, "kallsyms": true, "timer_list": true, "timer_stats": true,
	"sched_debug": true, "latency_stats": true, "iomem": true, "ioports": true, "config.gz": true, "sysrq-trigger": true}

// maskedFolders are folders of /proc that describe the host's hardware.
var maskedFolders = map[string]bool{"acpi": true, "asound": true, "bus": true, "driver": true, "irq": true, "scsi": true, "dynamic_debug": true,
	"mpt": true}

// sources are the opened paths of the host.
type sources struct {
	lower       []int
	upper, work int
	binds       []int
	devices     []int
}

// make makes the root and moves this process into it.
func (r *root) make(s *spec) error {
	// Nothing that we mount may reach the host, nor the other way round.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return &stageError{"take the mounts for ourselves", err}
	}
	if err := r.emulate(s.Command.Emulator); err != nil { // by a path of the host, so before anything hides it
		return &stageError{"register the emulator", err}
	}
	src, err := openSources(&s.Command)
	if err != nil {
		return err
	}
	defer src.close()
	unix.Umask(0)
	defer unix.Umask(0o022)
	if err := r.mountScratch(s); err != nil {
		return &stageError{"mount a tmpfs", err}
	}
	if err := r.mountOverlay(s, src); err != nil {
		return &stageError{"mount the root", err}
	}
	if err := r.mountProc(s); err != nil {
		return &stageError{"mount /proc", err}
	}
	if err := r.mountDev(src); err != nil {
		return &stageError{"make /dev", err}
	}
	if err := r.attachScratch("tmp", "/tmp", 0); err != nil {
		return &stageError{"make /tmp", err}
	}
	for i, b := range s.Command.Binds {
		if err := r.bind(src.binds[i], b); err != nil {
			return &stageError{fmt.Sprintf("show %q at %q", b.Source, b.Target), err}
		}
	}
	if err := r.enter(); err != nil {
		return &stageError{"enter the root", err}
	}
	return nil
}

func fdPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// openSources opens every path of the host that the command names.
func openSources(c *command) (*sources, error) {
	s := &sources{upper: -1, work: -1}
	open := func(name string, flags int) (int, error) {
		fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC|flags, 0)
		if err != nil {
			return -1, &stageError{fmt.Sprintf("open %q", name), err}
		}
		return fd, nil
	}
	list := func(to *[]int, flags int, names ...string) error {
		for _, name := range names {
			fd, err := open(name, flags)
			if err != nil {
				return err
			}
			*to = append(*to, fd)
		}
		return nil
	}
	if err := list(&s.lower, unix.O_DIRECTORY, c.Root.Lower...); err != nil {
		return nil, err
	}
	if c.Root.Upper != "" {
		var err error
		if s.upper, err = open(c.Root.Upper, unix.O_DIRECTORY); err != nil {
			return nil, err
		}
		if s.work, err = open(c.Root.Work, unix.O_DIRECTORY); err != nil {
			return nil, err
		}
	}
	for _, b := range c.Binds {
		if err := list(&s.binds, 0, b.Source); err != nil {
			return nil, err
		}
	}
	for _, d := range devices {
		if err := list(&s.devices, 0, "/dev/"+d); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *sources) close() {
	for _, fds := range [][]int{s.lower, s.binds, s.devices, {s.upper, s.work}} {
		for _, fd := range fds {
			if fd >= 0 {
				unix.Close(fd)
			}
		}
	}
}

// mountScratch mounts our tmpfs out of the way and makes its folders.
func (r *root) mountScratch(s *spec) error {
	ctx, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(ctx)
	for _, kv := range [][2]string{{"source", "quorate"}, {"mode", "0755"}, {"size", fmt.Sprint(scratchSize(s))}} {
		if err := unix.FsconfigSetString(ctx, kv[0], kv[1]); err != nil {
			return err
		}
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		return err
	}
	if r.scratch, err = unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV); err != nil {
		return err
	}
	// It must be attached somewhere to be an overlay's upper layer.
	if err := unix.MoveMount(r.scratch, "", unix.AT_FDCWD, scratchAt, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return err
	}
	if err := makeFolders(r.scratch, 0o1777, "tmp", "shm"); err != nil {
		return err
	}
	return makeFolders(r.scratch, 0o755, "root", "empty", "dev", "upper", "work")
}

// makeFolders makes folders in dir. The order is given, for a tmpfs lists its
// entries by it.
func makeFolders(dir int, mode uint32, names ...string) error {
	for _, name := range names {
		if err := unix.Mkdirat(dir, name, mode); err != nil {
			return err
		}
	}
	return nil
}

// scratchSize is how many bytes the tmpfs may hold: half of the machine's memory
// (the kernel's own default), or less when a limit is lower. It is a little more
// than the limit, so that the watcher sees it passed and names it.
func scratchSize(s *spec) int64 {
	limit := s.Limits.Memory
	if s.Command.Root.Upper == "" {
		limit = min(limit, s.Limits.Disk)
	}
	limit += 64 << 20
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err == nil {
		limit = min(limit, int64(uint64(info.Totalram)*uint64(info.Unit)/2))
	}
	return limit
}

// mountOverlay mounts the new root at scratch's root.
func (r *root) mountOverlay(s *spec, src *sources) error {
	upper, work := fdPath(r.scratch)+"/upper", fdPath(r.scratch)+"/work"
	if src.upper >= 0 {
		upper, work = fdPath(src.upper), fdPath(src.work)
	}
	lower := make([]string, len(src.lower))
	for i, fd := range src.lower {
		lower[i] = fdPath(fd)
	}
	if len(lower) == 0 { // only a probe has no lower layer
		lower = []string{fdPath(r.scratch) + "/empty"}
	}
	if err := likeLower(upper, lower[0]); err != nil {
		return err
	}
	err := r.overlayByParts(lower, upper, work)
	if errors.Is(err, errNoParts) {
		err = r.overlayByString(lower, upper, work)
	}
	if err != nil {
		return err
	}
	r.top, err = unix.Openat(r.scratch, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return err
}

// likeLower gives a folder without entries the mode and owner of like.
func likeLower(dir, like string) error {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		return err
	}
	var want, have unix.Stat_t
	if err := unix.Stat(like, &want); err != nil {
		return err
	}
	if err := unix.Stat(dir, &have); err != nil {
		return err
	}
	if have.Uid != want.Uid || have.Gid != want.Gid {
		if err := unix.Chown(dir, int(want.Uid), int(want.Gid)); err != nil && err != unix.EINVAL { // EINVAL: an owner outside the mapping
			return err
		}
	}
	if have.Mode&0o7777 == want.Mode&0o7777 {
		return nil
	}
	return unix.Chmod(dir, want.Mode&0o7777)
}

// errNoParts says that this kernel takes an overlay's options only as one string.
var errNoParts = errors.New("overlayfs has no lowerdir+")

// overlayByParts names one layer at a time (Linux 6.5 and later), so that there
// is no limit on the length of all of them together.
func (r *root) overlayByParts(lower []string, upper, work string) error {
	ctx, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(ctx)
	for _, l := range lower {
		if err := unix.FsconfigSetString(ctx, "lowerdir+", l); err == unix.EINVAL {
			return errNoParts
		} else if err != nil {
			return explained(ctx, err)
		}
	}
	for _, kv := range [][2]string{{"source", "quorate"}, {"upperdir", upper}, {"workdir", work}} {
		if err := unix.FsconfigSetString(ctx, kv[0], kv[1]); err != nil {
			return explained(ctx, err)
		}
	}
	for _, flag := range []string{"userxattr", "volatile"} {
		if err := unix.FsconfigSetFlag(ctx, flag); err != nil {
			return explained(ctx, err)
		}
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		return explained(ctx, err)
	}
	m, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return explained(ctx, err)
	}
	defer unix.Close(m)
	return unix.MoveMount(m, "", r.scratch, "root", unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// explained adds what the kernel wrote about a failed mount.
func explained(ctx int, err error) error {
	var b [512]byte
	n, readErr := unix.Read(ctx, b[:])
	if readErr != nil || n < 3 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.TrimSpace(string(b[2:n]))) // "e text"
}

// overlayByString is for older kernels: one page of options holds about 240
// layers under the short names that we give them.
func (r *root) overlayByString(lower []string, upper, work string) error {
	options := fmt.Sprintf("userxattr,volatile,upperdir=%s,workdir=%s,lowerdir=%s", upper, work, strings.Join(lower, ":"))
	if len(options) >= os.Getpagesize() {
		return fmt.Errorf("%d folders are more than this kernel can stack (Linux 6.5 and later: 500)", len(lower))
	}
	return unix.Mount("quorate", fdPath(r.scratch)+"/root", "overlay", unix.MS_NOSUID|unix.MS_NODEV, options)
}

// mountPoint opens the place target inside the root, through links but never out
// of it, and makes it when it is missing.
func (r *root) mountPoint(target string, folder bool) (int, error) {
	target = path.Clean("/" + target)
	fd, err := r.open(target)
	if err == nil || err != unix.ENOENT {
		return fd, err
	}
	parent, err := r.mountPoint(path.Dir(target), true)
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	if folder {
		err = unix.Mkdirat(parent, path.Base(target), 0o755)
	} else {
		err = unix.Mknodat(parent, path.Base(target), unix.S_IFREG|0o644, 0)
	}
	if err != nil {
		return -1, err
	}
	if fd, err = r.open(target); err != nil {
		return -1, err
	}
	// Where it really is, links resolved.
	if at, err := os.Readlink(fdPath(fd)); err == nil {
		if name, ok := strings.CutPrefix(at, scratchAt+"/root/"); ok {
			r.made = append(r.made, name)
		}
	}
	return fd, nil
}

func (r *root) open(target string) (int, error) {
	return unix.Openat2(r.top, "."+target, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
}

// attach shows the mount m at target.
func (r *root) attach(m int, target string, folder bool) error {
	at, err := r.mountPoint(target, folder)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return err
	}
	if isFolder := st.Mode&unix.S_IFMT == unix.S_IFDIR; isFolder && !folder {
		return errors.New("a file cannot cover a folder")
	} else if !isFolder && folder {
		return errors.New("a folder cannot cover a file")
	}
	return unix.MoveMount(m, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// clone makes a mount of its own of what fd shows, everything beneath included.
func clone(fd int, name string, attributes uint64) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE)
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	m, err := unix.OpenTree(fd, name, flags)
	if err != nil || attributes == 0 {
		return m, err
	}
	if err := unix.MountSetattr(m, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: attributes}); err != nil {
		unix.Close(m)
		return -1, err
	}
	return m, nil
}

// bind shows a file or folder of the host.
func (r *root) bind(fd int, b Bind) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	attributes := uint64(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV)
	if !b.Writable {
		attributes |= unix.MOUNT_ATTR_RDONLY
	}
	m, err := clone(fd, "", attributes)
	if err != nil {
		return err
	}
	defer unix.Close(m)
	return r.attach(m, b.Target, st.Mode&unix.S_IFMT == unix.S_IFDIR)
}

// attachScratch shows a folder of our tmpfs.
func (r *root) attachScratch(name, target string, attributes uint64) error {
	m, err := clone(r.scratch, name, attributes)
	if err != nil {
		return err
	}
	defer unix.Close(m)
	return r.attach(m, target, true)
}

// mountDev makes /dev: the harmless nodes of the host, links to the process's
// own descriptors, shared memory, and pseudo terminals of the sandbox's own.
func (r *root) mountDev(src *sources) error {
	if err := r.attachScratch("dev", "/dev", 0); err != nil {
		return err
	}
	dev, err := unix.Openat(r.scratch, "dev", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dev)
	for i, name := range devices {
		if err := r.attachNode(dev, src.devices[i], name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, link := range [][2]string{{"fd", "/proc/self/fd"}, {"stdin", "fd/0"}, {"stdout", "fd/1"}, {"stderr", "fd/2"}, {"ptmx", "pts/ptmx"}} {
		if err := unix.Symlinkat(link[1], dev, link[0]); err != nil {
			return err
		}
	}
	if err := makeFolders(dev, 0o755, "shm", "pts"); err != nil {
		return err
	}
	if err := r.attachScratch("shm", "/dev/shm", 0); err != nil {
		return err
	}
	return r.attachNew("devpts", "/dev/pts", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, [2]string{"ptmxmode", "0666"}, [2]string{"mode", "0620"})
}

// attachNode shows a device of the host in our /dev.
func (r *root) attachNode(dev, source int, name string) error {
	if err := unix.Mknodat(dev, name, unix.S_IFREG|0o666, 0); err != nil {
		return err
	}
	m, err := clone(source, "", 0)
	if err != nil {
		return err
	}
	defer unix.Close(m)
	return r.attach(m, "/dev/"+name, false)
}

// attachNew mounts a file system of the kernel's own.
func (r *root) attachNew(kind, target string, attributes int, options ...[2]string) error {
	ctx, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(ctx)
	for _, kv := range options {
		if err := unix.FsconfigSetString(ctx, kv[0], kv[1]); err != nil {
			return explained(ctx, err)
		}
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		return explained(ctx, err)
	}
	m, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return explained(ctx, err)
	}
	defer unix.Close(m)
	return r.attach(m, target, true)
}

// mountProc mounts the /proc of our pid namespace, sets what must be written
// there, and takes from it what is the host's. That matters most for a build by
// root, who owns the files of /proc even without any capability.
func (r *root) mountProc(s *spec) error {
	if err := r.attachNew("proc", "/proc", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC); err != nil {
		return err
	}
	var err error
	if r.proc, err = r.open("/proc"); err != nil {
		return err
	}
	if err := r.setMaxPID(s); err != nil {
		return err
	}
	if r.lastPID, err = unix.Openat(r.proc, "sys/kernel/ns_last_pid", unix.O_WRONLY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	list, err := unix.Openat(r.proc, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(list), "proc")
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name[0] >= '0' && name[0] <= '9' {
			continue
		}
		if err := r.restrict(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// restrict makes an entry of /proc read-only, or empty when it is none of a
// build's business.
func (r *root) restrict(name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(r.proc, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	const readOnly = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	var m int
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if maskedFolders[name] {
			m, err = clone(r.scratch, "empty", readOnly)
		} else {
			m, err = clone(r.proc, name, readOnly)
		}
	case unix.S_IFREG:
		if st.Mode&0o222 == 0 && st.Mode&0o004 != 0 && !maskedFiles[name] {
			return nil
		}
		m, err = clone(unix.AT_FDCWD, "/dev/null", unix.MOUNT_ATTR_RDONLY)
	default:
		return nil // self, thread-self, mounts, net: links into the process's own folder
	}
	if err != nil {
		return err
	}
	defer unix.Close(m)
	return r.attach(m, "/proc/"+name, st.Mode&unix.S_IFMT == unix.S_IFDIR)
}

// setMaxPID bounds the number of processes by the highest pid, where that number
// belongs to the pid namespace. Before Linux 6.14 it was the whole machine's.
func (r *root) setMaxPID(s *spec) error {
	if !kernelAtLeast(6, 14) {
		return nil
	}
	highest := max(firstPID(s), 300) + s.Limits.Processes + spareProcesses // pids wrap around to 300 (RESERVED_PIDS)
	err := writeNumber(r.proc, "sys/kernel/pid_max", highest)
	if err == unix.EINVAL || err == unix.EACCES || err == unix.EPERM {
		return nil // above the parent namespace's own, or forbidden by the host: the watcher still counts
	}
	return err
}

// firstPID is the command's own pid. It is not 2, because the threads of pid 1
// have numbers too, and not always the same ones.
func firstPID(s *spec) int {
	if n := s.Command.Surroundings.FirstPID; n != 0 {
		return n
	}
	return 100
}

// setFirstPID decides the pid of the next process.
func (r *root) setFirstPID(s *spec) error {
	if _, err := unix.Write(r.lastPID, fmt.Appendf(nil, "%d", firstPID(s)-1)); err != nil {
		return &stageError{fmt.Sprintf("set the first pid to %d", firstPID(s)), err}
	}
	return nil
}

// kernelAtLeast says whether this kernel is of the given release or later. It
// must not be asked under personality(UNAME26).
func kernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false
	}
	var a, b int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b); err != nil {
		return false
	}
	return a > major || a == major && b >= minor
}

// enter makes the new root this process's and lets go of the host's.
func (r *root) enter() error {
	if err := unix.Fchdir(r.top); err != nil {
		return err
	}
	// The old root ends up on top of the new one, where it is detached.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the host's root: %w", err)
	}
	return unix.Chdir("/")
}
