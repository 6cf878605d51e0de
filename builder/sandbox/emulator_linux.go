//go:build amd64 || arm64

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// NoEmulators is the Options.Emulators of those who want none.
const NoEmulators = "none"

// emulatorFolders are searched after PATH, which workers need not have.
var emulatorFolders = []string{"/usr/bin", "/usr/local/bin", "/bin"}

// Emulator finds what runs programs of an architecture, by running one. The
// error is an *EmulatorError.
func (n *Native) Emulator(ctx context.Context, arch string) (Emulator, error) {
	n.emulators.Lock()
	defer n.emulators.Unlock()
	if e, ok := n.emulatorOf[arch]; ok {
		return e, nil
	}
	e, err := n.findEmulator(ctx, arch)
	if err == nil {
		if n.emulatorOf == nil {
			n.emulatorOf = map[string]Emulator{}
		}
		n.emulatorOf[arch] = e
	}
	return e, err
}

func (n *Native) findEmulator(ctx context.Context, arch string) (Emulator, error) {
	fail := &EmulatorError{Arch: arch}
	if n.emulatorsIn == NoEmulators {
		fail.Tried = []string{"emulators are switched off"}
		return Emulator{}, fail
	}
	m, ok := machines[arch]
	if !ok {
		return Emulator{}, fail
	}
	dir, err := os.MkdirTemp("", "quorate-probe-")
	if err != nil {
		return Emulator{}, err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "probe"), m.probe(), 0o755); err != nil { //nolint:gosec // a program
		return Emulator{}, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // as any root
		return Emulator{}, err
	}
	for _, program := range append([]string{""}, n.programs(arch)...) {
		e := Emulator{Arch: arch, Program: program}
		err := n.Run(ctx, Command{Root: Root{Lower: []string{dir}}, Args: []string{"/probe"}, Emulator: e})
		var exit *ExitError
		switch {
		case errors.As(err, &exit) && exit.Code == probeStatus:
			return e, nil
		case ctx.Err() != nil:
			return e, context.Cause(ctx)
		case program != "":
			if err == nil {
				err = errors.New("the program that tries it ended with status 0")
			}
			fail.Tried = append(fail.Tried, fmt.Sprintf("%q does not do: %v", program, err))
		}
	}
	return Emulator{}, fail
}

// programs are the emulators of an architecture that there are.
func (n *Native) programs(arch string) []string {
	var found []string
	for _, name := range emulatorNames(arch) {
		folders := append([]string{n.emulatorsIn}, emulatorFolders...)
		if n.emulatorsIn == "" {
			if p, err := exec.LookPath(name); err == nil && filepath.IsAbs(p) {
				found = append(found, p)
				continue
			}
		} else {
			folders = folders[:1]
		}
		for _, dir := range folders {
			p := filepath.Join(dir, name)
			if info, err := os.Stat(p); dir != "" && err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				found = append(found, p)
				break
			}
		}
	}
	return found
}

// emulate registers the command's emulator in a binfmt_misc that belongs to our
// user namespace alone. The mount is never attached anywhere; it lasts as long
// as this process keeps its descriptor.
func (r *root) emulate(e Emulator) error {
	if e.Program == "" {
		return nil
	}
	line, err := registration(e.Arch, e.Program)
	if err != nil {
		return err
	}
	ctx, err := unix.Fsopen("binfmt_misc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(ctx)
	if err := unix.FsconfigCreate(ctx); err != nil {
		return explained(ctx, err)
	}
	if r.binfmt, err = unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, 0); err != nil {
		return explained(ctx, err)
	}
	register, err := unix.Openat(r.binfmt, "register", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(register)
	if _, err := unix.Write(register, []byte(line)); err != nil {
		return fmt.Errorf("the kernel does not take %q: %w", e.Program, err)
	}
	return nil
}
