//go:build amd64 || arm64

package sandbox

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ids is how many ids a full mapping has: 0 to 65534 and nobody's 65534 included,
// which is all that Debian's policy (9.2.2) hands out below 65536.
const ids = 65536

// idMaps are the ids of a sandbox.
type idMaps struct {
	uids, gids []syscall.SysProcIDMap
	helper     bool // written by newuidmap and newgidmap
}

// mapsFor finds the id maps of a mapping.
func mapsFor(m Mapping) (idMaps, error) {
	uid, gid := os.Geteuid(), os.Getegid()
	switch m {
	case Identity:
		if uid != 0 {
			return idMaps{}, &UnavailableError{What: "the identity mapping is for root", Hint: "run as root, or leave the choice of the mapping to Quorate"}
		}
		all := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: ids}}
		return idMaps{uids: all, gids: all}, nil
	case Range:
		return rangeMaps(uid, gid)
	case Single:
		return idMaps{uids: []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}, gids: []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}}}, nil
	}
	return idMaps{}, fmt.Errorf("there is no mapping %q", m)
}

// rangeMaps makes the caller the sandbox's root and gives it subordinate ids for
// all others.
func rangeMaps(uid, gid int) (idMaps, error) {
	for _, program := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(program); err != nil {
			return idMaps{}, &UnavailableError{What: program + " is not installed", Hint: "install the package uidmap"}
		}
	}
	names := []string{strconv.Itoa(uid)}
	if u, err := user.LookupId(names[0]); err == nil {
		names = append(names, u.Username)
	}
	maps := idMaps{helper: true}
	for _, file := range []struct {
		name string
		own  int
		to   *[]syscall.SysProcIDMap
	}{{"/etc/subuid", uid, &maps.uids}, {"/etc/subgid", gid, &maps.gids}} {
		content, err := os.ReadFile(file.name)
		if err != nil && !os.IsNotExist(err) {
			return idMaps{}, err
		}
		*file.to = append([]syscall.SysProcIDMap{{ContainerID: 0, HostID: file.own, Size: 1}}, subordinate(content, names)...)
		got := 0
		for _, m := range *file.to {
			got += m.Size
		}
		if got < ids {
			return idMaps{}, &UnavailableError{
				What: fmt.Sprintf("%s gives user %s only %d ids of the %d that are needed", file.name, names[len(names)-1], got-1, ids-1),
				Hint: fmt.Sprintf("as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s", names[len(names)-1]),
			}
		}
	}
	return maps, nil
}

// subordinate reads a file of subuid(5) and maps ids from 1 on to the ranges of
// the user with these names, until there are enough. Lines that mean nothing are
// skipped, as newuidmap itself does.
func subordinate(content []byte, names []string) []syscall.SysProcIDMap {
	var maps []syscall.SysProcIDMap
	next := 1
	for s := bufio.NewScanner(bytes.NewReader(content)); s.Scan() && next < ids; {
		f := strings.Split(strings.TrimSpace(s.Text()), ":")
		if len(f) != 3 || f[0] == "" || f[0] != names[0] && f[0] != names[len(names)-1] {
			continue
		}
		start, err1 := strconv.ParseUint(f[1], 10, 31)
		count, err2 := strconv.ParseUint(f[2], 10, 31)
		if err1 != nil || err2 != nil || count == 0 {
			continue
		}
		size := min(int(count), ids-next)
		maps = append(maps, syscall.SysProcIDMap{ContainerID: next, HostID: int(start), Size: size})
		next += size
	}
	return maps
}

// write has newuidmap and newgidmap write the maps of process pid.
func (m idMaps) write(pid int) error {
	for _, h := range []struct {
		program string
		maps    []syscall.SysProcIDMap
	}{{"newuidmap", m.uids}, {"newgidmap", m.gids}} {
		args := []string{strconv.Itoa(pid)}
		for _, r := range h.maps {
			args = append(args, strconv.Itoa(r.ContainerID), strconv.Itoa(r.HostID), strconv.Itoa(r.Size))
		}
		if out, err := exec.Command(h.program, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", h.program, err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// stageCmd is a process about to be re-executed as a stage.
type stageCmd struct {
	exec.Cmd
	maps  idMaps
	files []*os.File // descriptors from controlFD on
}

// stage prepares a process of this program in new namespaces, with the ids of
// the mapping, as id 0 with all capabilities over them.
func (n *Native) stage(part string, flags uintptr, args ...string) (*stageCmd, error) {
	c := &stageCmd{maps: n.maps}
	c.Path = "/proc/self/exe"
	c.Args = append([]string{stageName, part}, args...)
	// Pid 1 should start no threads late: it lives for one command and collects
	// no garbage, and with an idle second processor Go's scheduler has no reason
	// to add a thread when a system call takes long. A task decides for itself.
	if part == partInit {
		c.Env = []string{"GOMAXPROCS=2", "GOGC=off"}
	} else {
		c.Env = os.Environ()
	}
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: unix.SIGKILL}
	if n.maps.helper {
		c.Args = append([]string{stageName, partMapped}, c.Args[1:]...)
		return c, nil
	}
	c.SysProcAttr.UidMappings, c.SysProcAttr.GidMappings = n.maps.uids, n.maps.gids
	c.SysProcAttr.GidMappingsEnableSetgroups = n.mapping != Single
	c.SysProcAttr.Credential = &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true}
	return c, nil
}

// start starts the process, which reads from specFD what feed writes. feed is
// told the pid, and runs before start returns, so it must write less than a pipe
// holds or have its reader alive.
func (c *stageCmd) start(feed func(pid int, w io.Writer) error) error {
	theirs, ours, err := os.Pipe()
	if err != nil {
		return &SetupError{Step: "make a pipe", Err: err}
	}
	defer ours.Close()
	c.ExtraFiles = append([]*os.File{theirs}, c.files...)
	err = c.Start()
	theirs.Close()
	if err != nil {
		return &SetupError{Step: "make the namespaces", Err: err}
	}
	err = nil
	if c.maps.helper {
		if err = c.maps.write(c.Process.Pid); err == nil {
			_, err = ours.Write([]byte{0})
		}
		if err != nil {
			err = &SetupError{Step: "map the ids", Err: err}
		}
	}
	if err == nil && feed != nil {
		// A process that died already explains itself better than a broken pipe.
		_ = feed(c.Process.Pid, ours)
	}
	if err != nil {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	return err
}
