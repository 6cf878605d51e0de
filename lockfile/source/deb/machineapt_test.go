package deb

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// machineApt runs the apt of this machine, with nothing of its configuration.
type machineApt struct{}

func (machineApt) Run(ctx context.Context, r AptRun) error {
	conf := filepath.Join(r.Dir, "machine.conf")
	if err := os.WriteFile(conf, []byte("Dir::Etc::parts \"-\";\nDir::Etc::main \"-\";\n"), 0o644); err != nil {
		return err
	}
	args := make([]string, len(r.Args))
	for i, a := range r.Args {
		args[i] = a
		if rest, ok := strings.CutPrefix(a, AptDir+"/"); ok {
			args[i] = filepath.Join(r.Dir, rest)
		}
		if name, rest, ok := strings.Cut(a, "="+AptDir+"/"); ok {
			args[i] = name + "=" + r.Dir + "/" + rest
		}
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "APT_CONFIG=" + conf}
	cmd.Stdout, cmd.Stderr = r.Stdout, r.Stderr
	return cmd.Run()
}
