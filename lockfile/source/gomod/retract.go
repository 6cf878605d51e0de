package gomod

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/sync/errgroup"

	"quorate.dev/lockfile/fetch"
)

// checkRetracted refuses versions that go.mod requires and that their author
// took back, in the go.mod of the latest version (go.dev/ref/mod, "retract").
// Asked is only for what is new since the lock before: an author who retracts
// later does not stop builds of what was locked. That a proxy cannot tell what
// is latest is no reason to refuse; private ones often cannot. One that hangs is
// left in peace.
func (b *bringing) checkRetracted(ctx context.Context, config *Config, wishes []wish) error {
	accepted := strings.Fields(b.q.Request.Ask["retracted"])
	var asked []require
	for _, r := range b.project.requires {
		fresh := slices.ContainsFunc(wishes, func(w wish) bool { return w.v == r.Version })
		twice := slices.ContainsFunc(asked, func(a require) bool { return a.Version == r.Version })
		if fresh && !twice && !slices.Contains(accepted, r.Version.String()) {
			asked = append(asked, r)
		}
	}
	errs := make([]error, len(asked))
	var vain fetch.Vain
	var g errgroup.Group
	g.SetLimit(8) // as many as are brought at once
	for i, r := range asked {
		g.Go(func() error {
			if vain.Skip(r.Path) != nil {
				return nil
			}
			why, ok, err := retraction(ctx, config, r.Version, b.q.Fetch)
			vain.Note(err)
			if ok {
				errs[i] = &RetractedError{LineError{r.file, r.line, fmt.Sprintf("%s %s was retracted by its author%s", r.Path, r.Version.Version, why)}, r.Version.String()}
			}
			return nil
		})
	}
	_ = g.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(errs...)
}

// RetractedError says that a required version was taken back.
type RetractedError struct {
	LineError
	Version string // MODULE@VERSION
}

// Hint says what to do.
func (e *RetractedError) Hint() string {
	return fmt.Sprintf("require another version (go get %s@latest); or, knowing why, accept it: retracted: [%s] in the input", strings.Split(e.Version, "@")[0], e.Version)
}

// retraction asks for the latest version's go.mod, and what it says of v. The
// error is that the proxy could not be asked.
func retraction(ctx context.Context, config *Config, v module.Version, o fetch.Options) (why string, ok bool, err error) {
	path, err := module.EscapePath(v.Path)
	if err != nil {
		return "", false, nil
	}
	latest, err := config.latest(ctx, v.Path, path, o)
	if err != nil {
		return "", false, err
	}
	modPath, err := pinPath(module.Version{Path: v.Path, Version: latest}, ".mod")
	if err != nil {
		return "", false, nil
	}
	text, err := config.get(ctx, v.Path, modPath, maxLatestMod, o)
	if err != nil {
		return "", false, err
	}
	f, err := modfile.ParseLax("go.mod", text, nil)
	if err != nil {
		return "", false, nil
	}
	for _, r := range f.Retract {
		if semver.Compare(r.Low, v.Version) <= 0 && semver.Compare(v.Version, r.High) <= 0 {
			if line, _, _ := strings.Cut(strings.TrimSpace(r.Rationale), "\n"); line != "" {
				why = ": " + line
			}
			return why, true, nil
		}
	}
	return "", false, nil
}

// maxLatestMod bounds the go.mod of a latest version, which nothing vouches for. They
// have some kB; read as 16 MiB, which modules may have, a made-up one takes 3 GB.
const maxLatestMod = 256 << 10

// maxVersions bounds a list of versions; those with thousands have some 50 kB.
const maxVersions = 4 << 20

// latest returns the version whose go.mod says what is retracted: the highest
// release, retracted or not, or else the highest pre-release, as for the go
// command (go.dev/ref/mod#version-queries). A proxy's own @latest leaves retracted
// versions out, and so those that were made only to retract themselves and
// others; it is asked where there is no list.
func (c *Config) latest(ctx context.Context, modulePath, escaped string, o fetch.Options) (string, error) {
	raw, err := c.get(ctx, modulePath, escaped+"/@v/list", maxVersions, o)
	if err != nil && !notThere(err) {
		return "", err
	}
	release, before := "", ""
	for line := range strings.Lines(string(raw)) {
		version, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case !semver.IsValid(version), module.IsPseudoVersion(version), semver.Build(version) != "":
			// The last are versions of before modules, whose go.mod is made up.
		case semver.Prerelease(version) == "" && (release == "" || semver.Compare(version, release) > 0):
			release = version
		case semver.Prerelease(version) != "" && (before == "" || semver.Compare(version, before) > 0):
			before = version
		}
	}
	if highest := cmp.Or(release, before); highest != "" {
		return highest, nil
	}
	if raw, err = c.get(ctx, modulePath, escaped+"/@latest", maxRecord, o); err != nil {
		return "", err
	}
	var latest struct{ Version string }
	_ = json.Unmarshal(raw, &latest) // "" when it does not say
	return latest.Version, nil
}

// get reads a small file of a module from the first proxy that has it.
func (c *Config) get(ctx context.Context, module, path string, limit int64, o fetch.Options) ([]byte, error) {
	sources, err := c.sources(module, path)
	if err != nil {
		return nil, err
	}
	return fetch.Read(ctx, sources[0], limit, o)
}
