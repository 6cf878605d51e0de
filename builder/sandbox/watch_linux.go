//go:build amd64 || arm64

package sandbox

import (
	"bytes"
	"context"
	"errors"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// How the watcher paces itself. A look every 50 ms stops a program that touches
// 2 GB a second some 100 MB after its limit; a look that takes d is followed by
// a rest of at least 20·d, so that watching costs less than 5 % of one CPU.
const (
	watchEvery = 50 * time.Millisecond
	watchRest  = 20
	walkEvery  = 2 * time.Second // of Upper, unless its file system fills quickly
)

// keepFree is what stays free on Upper's file system: enough for the host's own
// logs and for us to write what we already have.
const keepFree = 256 << 20

// watcher looks after the limits that the kernel does not enforce by itself.
type watcher struct {
	limits  Limits
	proc    int    // the sandbox's /proc
	scratch int    // its tmpfs
	upper   string // empty when changes go to the tmpfs
	group   *group // nil without control groups
	cancel  context.CancelFunc
	done    sync.WaitGroup

	mu    sync.Mutex
	found error
}

// start begins to watch a sandbox that is ready; what it finds goes to exceeded.
func (w *watcher) start(r *run, fds []int, exceeded chan<- error) error {
	if len(fds) < 2 {
		return &SetupError{Step: "watch the sandbox", Err: errors.New("its descriptors did not arrive")}
	}
	w.limits, w.proc, w.scratch, w.upper, w.group = r.spec.Limits, fds[0], fds[1], r.spec.Command.Root.Upper, r.group
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(context.Background())
	if len(fds) > 2 {
		r.owners = &ownerLog{listener: fds[2]}
		w.done.Go(func() { r.owners.serve(ctx) })
	}
	watch := func(look func() error) {
		w.done.Go(func() {
			for pause := watchEvery; sleep(ctx, pause); {
				began := time.Now()
				if err := look(); err != nil {
					w.mu.Lock()
					if w.found == nil {
						w.found = err
					}
					w.mu.Unlock()
					exceeded <- err
					return
				}
				pause = max(watchEvery, watchRest*time.Since(began))
			}
		})
	}
	watch(w.processes)
	watch((&diskWatch{watcher: w}).look)
	return nil
}

// stop ends the watching and answers a limit that was passed at the end.
func (w *watcher) stop() error {
	if w.cancel == nil {
		return nil // the sandbox never got ready
	}
	w.cancel()
	w.done.Wait()
	defer unix.Close(w.proc)
	defer unix.Close(w.scratch)
	if w.found != nil {
		return w.found
	}
	if err := w.group.exceeded(w.limits); err != nil {
		return err
	}
	if err := (&diskWatch{watcher: w, last: true}).look(); err != nil {
		return err
	}
	if w.scratchUsed() > w.limits.Memory { // it ran into the size of the tmpfs between two looks
		return &LimitError{What: "memory", Limit: formatBytes(w.limits.Memory)}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}

// processes counts processes and their memory.
func (w *watcher) processes() error {
	if err := w.group.exceeded(w.limits); err != nil {
		return err
	}
	u, err := w.usage()
	if err != nil {
		return nil // the sandbox is going away
	}
	if u.threads > w.limits.Processes {
		return &LimitError{What: "processes", Limit: strconv.Itoa(w.limits.Processes)}
	}
	if w.group != nil { // the kernel counts memory, and exactly
		return nil
	}
	shared := w.scratchUsed()
	if u.resident+shared <= w.limits.Memory {
		return nil
	}
	// Pages that a fork shares were counted once for each process. The exact
	// figure is dear, so it is only asked for here.
	if exact, err := w.proportional(u.pids); err == nil && exact+shared <= w.limits.Memory {
		return nil
	}
	return &LimitError{What: "memory", Limit: formatBytes(w.limits.Memory)}
}

// usage is what the processes of the sandbox use, pid 1 left out.
type usage struct {
	pids     []string
	threads  int
	resident int64 // bytes; pages that processes share count for each of them
}

func (w *watcher) usage() (usage, error) {
	var u usage
	names, err := readNames(w.proc)
	if err != nil {
		return u, err
	}
	var buf [1024]byte
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' || name == "1" {
			continue
		}
		n, err := readAt(w.proc, name+"/stat", buf[:])
		if err != nil {
			continue // it ended meanwhile
		}
		// proc_pid_stat(5): fields are counted from the state, after "(name)";
		// 20 is num_threads, 24 is rss in pages.
		i := bytes.LastIndexByte(buf[:n], ')')
		if i < 0 {
			continue
		}
		f := bytes.Fields(buf[i+1 : n])
		if len(f) < 22 {
			continue
		}
		threads, _ := strconv.Atoi(string(f[17]))
		pages, _ := strconv.ParseInt(string(f[21]), 10, 64)
		u.pids = append(u.pids, name)
		u.threads += threads
		u.resident += pages * int64(os.Getpagesize())
	}
	return u, nil
}

// proportional is the memory of processes with shared pages shared out.
func (w *watcher) proportional(pids []string) (int64, error) {
	var total int64
	var buf [4096]byte
	for _, pid := range pids {
		n, err := readAt(w.proc, pid+"/smaps_rollup", buf[:])
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return 0, err
		}
		// "Pss_Anon:   123 kB" counts what has no file behind it; files can be
		// dropped from memory at any time. Shared memory is our tmpfs.
		_, after, ok := bytes.Cut(buf[:n], []byte("\nPss_Anon:"))
		if !ok {
			return 0, errors.New("smaps_rollup has no Pss_Anon")
		}
		f := bytes.Fields(after)
		kb, err := strconv.ParseInt(string(f[0]), 10, 64)
		if err != nil {
			return 0, err
		}
		total += kb << 10
	}
	return total, nil
}

// scratchUsed is how many bytes the sandbox's tmpfs holds.
func (w *watcher) scratchUsed() int64 {
	var st unix.Statfs_t
	if err := unix.Fstatfs(w.scratch, &st); err != nil {
		return 0
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

// readNames lists the folder that fd shows.
func readNames(fd int) ([]string, error) {
	d, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(d), "folder")
	defer f.Close()
	return f.Readdirnames(-1)
}

// readAt reads the start of a small file.
func readAt(dir int, name string, buf []byte) (int, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return unix.Read(fd, buf)
}

// diskWatch follows how much the command writes.
type diskWatch struct {
	*watcher
	last     bool // the only and final look
	walked   time.Time
	freeThen int64
	resting  time.Duration
}

func (d *diskWatch) look() error {
	tooMuch := &LimitError{What: "disk", Limit: formatBytes(d.limits.Disk)}
	if d.upper == "" {
		if d.scratchUsed() >= d.limits.Disk {
			return tooMuch
		}
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(d.upper, &st); err != nil {
		return nil
	}
	free := int64(st.Bavail) * st.Bsize
	if free < keepFree {
		return &LimitError{What: "disk", Limit: formatBytes(keepFree), Free: true}
	}
	// Walk seldom, but at once when the file system lost what could be the rest
	// of what is allowed.
	if !d.last && time.Since(d.walked) < max(walkEvery, d.resting) && (d.walked.IsZero() || d.freeThen-free < d.limits.Disk/4) {
		return nil
	}
	if d.walked.IsZero() && !d.last {
		d.walked, d.freeThen = time.Now(), free
		return nil
	}
	began := time.Now()
	used := diskUsed(d.upper)
	d.walked, d.freeThen, d.resting = time.Now(), free, watchRest*time.Since(began)
	if used >= d.limits.Disk {
		return tooMuch
	}
	return nil
}

// diskUsed sums the blocks of a folder that may change meanwhile. What the
// caller may not read (a private folder of another id of the range) is not
// counted; the bound on free space still holds for it.
func diskUsed(dir string) int64 {
	d := &diskSum{links: map[inode]bool{}, spare: make(chan struct{}, runtime.GOMAXPROCS(0)-1)}
	d.folder(dir, make([]byte, 32<<10))
	d.busy.Wait()
	return d.total.Load()
}

// diskSum is such a sum while it is made. Everybody who builds waits for the last
// one of a step, which may have left a hundred thousand files.
type diskSum struct {
	total atomic.Int64
	spare chan struct{} // has room while another folder may be read beside this one
	busy  sync.WaitGroup

	mu    sync.Mutex
	links map[inode]bool // files with several names, counted already
}

type inode struct{ device, number uint64 }

// folder adds what is in a folder; buffer is the caller's to lend.
func (d *diskSum) folder(dir string, buffer []byte) {
	for _, name := range d.files(dir, buffer) {
		select {
		case d.spare <- struct{}{}:
			d.busy.Go(func() {
				d.folder(dir+"/"+name, make([]byte, len(buffer)))
				<-d.spare
			})
		default:
			d.folder(dir+"/"+name, buffer)
		}
	}
}

// files adds a folder and its files, and returns the names of the folders in it.
func (d *diskSum) files(dir string, buffer []byte) (folders []string) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil {
		d.total.Add(st.Blocks * 512)
	}
	var names []string
	for {
		n, err := unix.ReadDirent(fd, buffer)
		if err != nil || n <= 0 {
			return folders
		}
		_, _, names = unix.ParseDirent(buffer[:n], -1, names[:0])
		for _, name := range names {
			if unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
				continue
			}
			if st.Mode&unix.S_IFMT == unix.S_IFDIR {
				folders = append(folders, name)
			} else if st.Nlink == 1 || d.first(st) {
				d.total.Add(st.Blocks * 512)
			}
		}
	}
}

// first reports whether a file with several names is met for the first time.
func (d *diskSum) first(st unix.Stat_t) bool {
	at := inode{st.Dev, st.Ino}
	d.mu.Lock()
	defer d.mu.Unlock()
	seen := d.links[at]
	d.links[at] = true
	return !seen
}
