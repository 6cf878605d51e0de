package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"quorate.dev/builder/sandbox"
	"quorate.dev/builder/unpack/deb"
)

// searchPath is dpkg's own (dpkg refuses to run without sbin in PATH).
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// policyDenied is what invoke-rc.d(8) asks before it starts a service: none is
// ever started in a root. Exit code 101 is "action forbidden by policy".
const policyDenied = "#!/bin/sh\nexit 101\n"

const policyPath = "usr/sbin/policy-rc.d"

// hosts gives the sandbox's constant host name its only address, as every
// installed system does: programs that ask for their full name fail without
// (postfix would configure the host "UNKNOWN" and stop). It is never shipped.
const hosts = "127.0.0.1 localhost\n127.0.1.1 quorate.localdomain quorate\n::1 localhost ip6-localhost ip6-loopback\n"

const hostsPath = "etc/hosts"

// constantFile makes a file below work that the sandbox shows read-only at target.
func (b *build) constantFile(work, target, text string, mode os.FileMode) (sandbox.Bind, error) {
	name := filepath.Join(work, filepath.Base(target))
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		return sandbox.Bind{}, err
	}
	if err := os.Chmod(name, mode); err != nil { // whatever the umask
		return sandbox.Bind{}, err
	}
	epoch := time.Unix(b.epoch, 0)
	return sandbox.Bind{Source: name, Target: "/" + target}, os.Chtimes(name, epoch, epoch)
}

// ScriptError says that maintainer scripts failed, with the end of what they printed.
type ScriptError struct {
	Set    string   // "image", "step/compile"
	Failed []string // packages that dpkg could not configure, when it says so
	Output string   // the last lines
	Err    error
}

func (e *ScriptError) Error() string {
	what := "maintainer scripts"
	if len(e.Failed) > 0 {
		what += " of " + strings.Join(e.Failed, ", ")
	}
	return fmt.Sprintf("%s failed in the root of %s: %v\n%s", what, e.Set, e.Err, indent(e.Output))
}

func (e *ScriptError) Unwrap() error { return e.Err }

// runScripts runs preinst scripts in Pre-Depends order and then dpkg's own
// configuration of everything, which finds the order of the rest.
func (b *build) runScripts(ctx context.Context, name string, set *packageSet, r root) error {
	script, err := configureScript(set)
	if err != nil {
		return err
	}
	work, done, err := b.Store.Scratch(ctx)
	if err != nil {
		return err
	}
	defer done()
	policy, err := b.constantFile(work, policyPath, policyDenied, 0o755)
	if err != nil {
		return err
	}
	names, err := b.constantFile(work, hostsPath, hosts, 0o644)
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(work, "work"), 0o755); err != nil {
		return err
	}
	log := b.log.writer("scripts", name, b.event)
	defer log.Close()
	err = b.Sandbox.Run(ctx, sandbox.Command{
		Root:         sandbox.Root{Lower: []string{r.lower()}, Upper: r.state(), Work: filepath.Join(work, "work")},
		Args:         []string{"/bin/sh", "-c", script},
		Env:          b.scriptEnv(),
		Binds:        []sandbox.Bind{policy, names},
		Stdout:       log,
		Stderr:       log,
		Surroundings: b.scriptSurroundings(),
		Emulator:     b.emulator,
		// With a single id, owners that scripts set would silently be lost from
		// the image. In a step's root they only matter to the step.
		RefuseLostOwners: name == setImage,
	})
	var lost *sandbox.OwnerError
	if errors.As(err, &lost) {
		return fmt.Errorf("maintainer scripts of the image: %w", err)
	}
	if err == nil {
		err = allInstalled(filepath.Join(r.state(), "var/lib/dpkg/status"), set)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	text := strings.TrimRight(log.text(), "\n")
	return &ScriptError{Set: name, Failed: failedPackages(text), Output: firstFailure(text), Err: err}
}

// firstFailure is the part of dpkg's output where the first script failed: its
// own words come before "dpkg: error processing package", and what follows,
// often for hundreds of lines, is what could still be configured.
func firstFailure(output string) string {
	lines := strings.Split(output, "\n")
	end := len(lines)
	for i, line := range lines {
		if strings.HasPrefix(line, "dpkg: error processing package") {
			end = min(i+2, end) // the next line says how it ended
			break
		}
	}
	shown := lines[max(0, end-tailLines):end]
	for i, line := range shown {
		shown[i] = cutLine(line)
	}
	return strings.Join(shown, "\n")
}

// scriptSurroundings leaves the kernel's release alone: libc6's preinst refuses
// to install on a kernel before 3.2, and personality(UNAME26) says 2.6.
func (b *build) scriptSurroundings() sandbox.Surroundings {
	s := b.Surroundings.Sandbox
	s.Uname26 = false
	return s
}

func (b *build) scriptEnv() []string {
	return append(b.constantEnv(), "DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true", "HOME=/root")
}

// constantEnv is what every process of a build sees, whoever builds.
func (b *build) constantEnv() []string {
	return []string{
		"PATH=" + searchPath, "LC_ALL=C.UTF-8", "TZ=UTC", "USER=root", "LOGNAME=root", "SHELL=/bin/sh",
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", b.epoch),
		"FORCE_SOURCE_DATE=1", // the dates in TeX formats follow the epoch only then
		// Both order their hashes by chance otherwise, at every start: perl(1) says
		// so of PERL_HASH_SEED (0 fixes PERL_PERTURB_KEYS too), python3(1) of its own.
		// texlive's update-language and mktexlsr write in that order.
		"PERL_HASH_SEED=0", "PYTHONHASHSEED=0",
	}
}

// configureScript is the shell program that brings an unpacked root to the
// state of a real installation. preinst scripts see the environment that
// dpkg(1) documents for maintainer scripts, and the owner of their questions,
// which debconf otherwise reads from where dpkg itself unpacks a preinst.
func configureScript(set *packageSet) (string, error) {
	ordered, err := deb.Order(set.debs())
	if err != nil {
		return "", err
	}
	var sh strings.Builder
	sh.WriteString("set -eu\ncd /\n")
	done := map[*deb.Package]bool{}
	for _, early := range [][]*deb.Package{deb.Essential(ordered), deb.PreDepended(ordered), ordered} {
		var stage []*deb.Package
		for _, p := range ordered { // whatever the stage, Pre-Depends order
			if !done[p] && slices.Contains(early, p) {
				done[p] = true
				stage = append(stage, p)
				sh.WriteString(preinst(p, set.version("dpkg")))
			}
		}
		if len(stage) > 0 && len(done) < len(ordered) {
			fmt.Fprintf(&sh, "dpkg --force-unsafe-io --configure %s </dev/null\n", dpkgNames(stage))
		}
	}
	sh.WriteString("exec dpkg --force-unsafe-io --configure -a </dev/null\n")
	return sh.String(), nil
}

// preinst is the line that runs a package's preinst script, if it has one.
func preinst(p *deb.Package, dpkg string) string {
	if p.ControlFile("preinst") == nil {
		return ""
	}
	return fmt.Sprintf("DPKG_RUNNING_VERSION='%s' DPKG_ROOT= DPKG_ADMINDIR=/var/lib/dpkg "+
		"DPKG_MAINTSCRIPT_PACKAGE='%[2]s' DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1 DPKG_MAINTSCRIPT_ARCH='%[3]s' DPKG_MAINTSCRIPT_NAME=preinst DEBCONF_PACKAGE='%[2]s' "+
		"/var/lib/dpkg/info/%[4]s.preinst install </dev/null || { echo \""+strings.Replace(preinstFailed, "%s", "%[2]s", 1)+"\" >&2; exit 1; }\n",
		dpkg, p.Name(), p.Arch(), p.InfoName())
}

// dpkgNames lists what dpkg configures early, as its arguments. Every
// bootstrapper begins with the Essential set: passwd's postinst reads login's
// /etc/login.defs, which is not in place before login is configured, and need
// not depend on login. mariadb-server's preinst calls addgroup, which its
// Pre-Depends has configured.
func dpkgNames(pkgs []*deb.Package) string {
	var names []string
	for _, p := range pkgs {
		name := p.Name()
		if p.Arch() != "all" {
			name += ":" + p.Arch()
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

// allInstalled checks dpkg's own record, since --configure -a also succeeds
// when it finds nothing to do.
func allInstalled(status string, set *packageSet) error {
	was := map[string]string{} // of what an image had
	if set.on != nil {
		was = set.on.ground.States()
	}
	data, err := os.ReadFile(status)
	if err != nil {
		return errors.New("dpkg configured nothing")
	}
	paragraphs, err := deb.ParseStatus(data)
	if err != nil {
		return err
	}
	for _, p := range paragraphs {
		if got := p.Get("Status"); got != "install ok installed" && got != was[p.Get("Package")+":"+p.Get("Architecture")] {
			return fmt.Errorf("dpkg left package %q as %q", p.Get("Package"), got)
		}
	}
	return nil
}

// preinstFailed is what the script below says of a preinst that failed; dpkg
// has no part in those.
const preinstFailed = "preinst of %s failed"

// failedPackages reads dpkg's closing list of what it could not configure, or
// which preinst failed.
func failedPackages(output string) []string {
	_, list, ok := strings.Cut(output, "Errors were encountered while processing:\n")
	if !ok {
		last := output[strings.LastIndexByte(output, '\n')+1:]
		var name string
		if _, err := fmt.Sscanf(last, preinstFailed, &name); err != nil {
			return nil
		}
		return []string{name}
	}
	var names []string
	for line := range strings.Lines(list) {
		name, ok := strings.CutPrefix(line, " ")
		if !ok {
			break
		}
		names = append(names, strings.TrimSpace(name))
	}
	return names
}

func indent(s string) string {
	s = strings.TrimRight(s, "\n")
	if s == "" {
		return "  (no output)"
	}
	return "  | " + strings.ReplaceAll(s, "\n", "\n  | ")
}
