//go:build amd64 || arm64

package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Open finds out how this machine isolates, by making one empty sandbox, and
// answers *UnavailableError when it does not. It never settles for less
// isolation; what differs between the mappings is only which owners exist inside.
// Main must have been called before.
func Open(o Options) (*Native, error) {
	candidates := []Mapping{Range, Single}
	if os.Geteuid() == 0 {
		candidates = []Mapping{Identity, Range, Single}
	}
	if o.Mapping != "" {
		candidates = []Mapping{o.Mapping}
	}
	var last error
	for _, m := range candidates {
		n, err := openMapping(m)
		if err == nil {
			n.emulatorsIn = o.Emulators
			return n, nil
		}
		var unavailable *UnavailableError
		if !errors.As(err, &unavailable) {
			return nil, err
		}
		// The least demanding mapping that failed says best what is missing.
		last = err
	}
	return nil, last
}

func openMapping(m Mapping) (*Native, error) {
	maps, err := mapsFor(m)
	if err != nil {
		return nil, err
	}
	n := &Native{mapping: m, maps: maps}
	if err := n.probe(); err != nil {
		return nil, unavailable(m, err)
	}
	n.groups = findGroups()
	return n, nil
}

// probeTime is how long an empty sandbox may take: a hundred times what it takes
// on a busy machine.
const probeTime = 10 * time.Second

// probe makes an empty sandbox.
func (n *Native) probe() error {
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	r := &run{native: n, spec: n.spec(Command{})}
	r.spec.Probe = true
	return r.run(ctx)
}

// unavailable turns the failure of a probe into what to do about it.
func unavailable(m Mapping, err error) error {
	var setup *SetupError
	if !errors.As(err, &setup) {
		return &UnavailableError{What: fmt.Sprintf("an empty sandbox could not be made: %v", err), Hint: "see the error; strace -f shows the system call"}
	}
	return &UnavailableError{
		What: fmt.Sprintf("cannot %s with the %s mapping: %v", setup.Step, m, setup.Err),
		Hint: strings.Join(hints(m, setup), "\n"),
	}
}

// hints are the known reasons why a kernel or a container refuses namespaces,
// those that apply here.
func hints(m Mapping, err *SetupError) []string {
	sysctl := func(name string) string {
		b, err := os.ReadFile("/proc/sys/" + name)
		if err != nil {
			return ""
		}
		return string(bytes.TrimSpace(b))
	}
	var h []string
	if sysctl("user/max_user_namespaces") == "0" {
		h = append(h, "user namespaces are switched off; as root: sysctl -w user.max_user_namespaces=15000")
	}
	if sysctl("kernel/unprivileged_userns_clone") == "0" {
		h = append(h, "user namespaces are for root only here; as root: sysctl -w kernel.unprivileged_userns_clone=1")
	}
	if sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1" {
		h = append(h, "AppArmor takes the powers of user namespaces away; as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give quorate a profile with the rule userns")
	}
	if errors.Is(err, unix.ENOSPC) {
		h = append(h, "too many namespaces exist already; see /proc/sys/user/max_*_namespaces")
	}
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) {
		h = append(h, "Linux 5.12 or later with overlayfs, user, pid and network namespaces and seccomp is needed (modprobe overlay)")
	}
	if m == Range {
		h = append(h, "the package uidmap must be installed with its set-user-ID bit, and nothing may have set no_new_privs before")
	}
	if status, e := os.ReadFile("/proc/self/status"); e == nil && !bytes.Contains(status, []byte("\nSeccomp:\t0\n")) || exists("/.dockerenv") || exists("/run/.containerenv") {
		h = append(h, "this is a container: give it a seccomp profile that allows clone, unshare, mount, umount2, pivot_root, sethostname, setdomainname, the new mount calls and seccomp (docker run --security-opt seccomp=FILE --security-opt apparmor=unconfined --security-opt systempaths=unconfined; for a full mapping also --user 0 --cap-add SETUID --cap-add SETGID --cap-add SETFCAP)")
	}
	if len(h) == 0 {
		h = append(h, "check that this kernel allows unprivileged user namespaces: unshare --user --map-root-user --mount --pid --net --fork true")
	}
	return h
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
