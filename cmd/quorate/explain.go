package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"quorate.dev/diff"
	"quorate.dev/diff/cause"
	reports "quorate.dev/diff/report"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/attestation"
	"quorate.dev/rebuild/keyfile"
)

// explainer says why rebuilders of a project disagree: package diff and its
// causes, with what the reports say of hosts, times and steps. command is what a reader
// types to compare the same again.
func explainer(p *project, command func([]rebuild.Built) string) func(context.Context, []rebuild.Built) (*rebuild.Explanation, error) {
	return func(ctx context.Context, built []rebuild.Built) (*rebuild.Explanation, error) {
		c := &cause.Context{Title: p.Definition.Name, Definition: p.DefinitionBytes, Epoch: p.Lock.Epoch, Locked: true, Inputs: inputCount(p.Lock)}
		var sides []string
		for _, b := range built {
			sides = append(sides, b.Image)
			facts := cause.Facts{}
			if b.Report != nil {
				facts = reportFacts(b.Report, stepNames(p))
			}
			facts.Name = b.Rebuilder
			c.Sides = append(c.Sides, facts)
		}
		c.Command = command(built)
		res, err := diff.Compare(sides, diff.Options{Done: ctx.Done()})
		if err != nil {
			return nil, err
		}
		defer res.Close()
		for i := range res.Sides {
			res.Sides[i].Name = built[i].Rebuilder // they do not lie where they will be kept
		}
		found := cause.Find(res, c)
		e, err := explanation(res, found)
		if err == nil {
			e.Notes = notesOf(found, p.DefinitionBytes)
		}
		return e, err
	}
}

// compareKept compares what a results folder keeps, which is named as the user named it.
func compareKept(p *project, results string) func([]rebuild.Built) string {
	return func(built []rebuild.Built) string {
		var kept []string
		for _, b := range built {
			kept = append(kept, filepath.Join(results, "rebuilders", b.Rebuilder, "image"))
		}
		return diffCommand(kept, filepath.Join(p.Dir, definition.FileName))
	}
}

func explanation(res *diff.Result, found *cause.Report) (*rebuild.Explanation, error) {
	e := &rebuild.Explanation{Files: map[string][]byte{}}
	for format, name := range map[string]string{"html": "report.html", "json": "report.json", "markdown": "report.md"} {
		var b bytes.Buffer
		if err := reports.Write(&b, format, found); err != nil {
			return nil, err
		}
		e.Files[name] = b.Bytes()
	}
	var screen bytes.Buffer
	if err := reports.Text(&screen, found); err != nil {
		return nil, err
	}
	e.Text = screen.Bytes()
	for _, c := range res.Pairs {
		one := *res
		one.Pairs = []*diff.Comparison{c}
		var text bytes.Buffer
		if err := one.WriteText(&text, nil); err != nil {
			return nil, err
		}
		e.Differences = append(e.Differences, rebuild.Differences{
			A: res.Sides[c.A].Name, B: res.Sides[c.B].Name, Paths: c.Paths(), Count: c.Total.Findings, Text: text.Bytes(), All: c,
		})
	}
	return e, nil
}

// inputCount is how many inputs a lock pins.
func inputCount(l *lockfile.Lock) int {
	n := 0
	for _, p := range l.Platforms {
		n += len(p.Packages)
	}
	return n + len(l.Files)
}

func stepNames(p *project) []string {
	var names []string
	for _, s := range p.Definition.Steps {
		names = append(names, s.Name)
	}
	return names
}

// reportFacts turns what a report says of its host into what causes are told from: what
// steps really saw comes first, for surroundings are varied on purpose.
func reportFacts(r *agreement.Report, steps []string) cause.Facts {
	values := map[string]string{}
	for name, v := range r.Environment {
		switch name {
		case "work-folder":
			values["workdir"] = v
		case "time-zone":
			name, offset, _ := strings.Cut(v, " ")
			values["timezone"] = name
			if s, err := strconv.Atoi(offset); err == nil {
				values["utc-offset"] = time.Unix(0, 0).In(time.FixedZone("", s)).Format("-0700")
			}
		default:
			values[name] = v
		}
	}
	values["first-pid"] = "100" // of a step's command, unless it is varied (package sandbox)
	for name, v := range r.Surroundings {
		switch {
		case name == "cpus":
			values["cpus"] = strconv.Itoa(strings.Count(v, ",") + 1)
		case name == "kernel-release":
			values["kernel"] = uname26(values["kernel"])
		case name == "environment-lc-all":
			values["locale"] = v
		case strings.HasPrefix(name, "environment-"):
		default:
			values[name] = v
		}
	}
	f := cause.Facts{Name: r.Rebuilder, Host: values["hostname"], Values: values, Started: r.Started, Finished: r.Finished}
	platforms := map[string]bool{}
	for _, s := range r.Steps {
		platforms[s.Platform] = true
	}
	for _, platform := range slices.Sorted(maps.Keys(platforms)) {
		for _, name := range steps {
			for _, s := range r.Steps {
				if s.Platform == platform && s.Step == name {
					f.Steps = append(f.Steps, cause.Step{Name: name, Tree: s.Tree.String()})
				}
			}
		}
	}
	return f
}

// uname26 is what a kernel calls itself under personality(UNAME26): 2.6 and its
// second number and 60, then what follows its first three numbers (kernel/sys.c, override_release).
func uname26(release string) string {
	end, dots := 0, 0
	for end < len(release) && (release[end] == '.' || release[end] >= '0' && release[end] <= '9') {
		if release[end] == '.' {
			if dots++; dots >= 3 {
				break
			}
		}
		end++
	}
	numbers := strings.SplitN(release[:end], ".", 3)
	if len(numbers) < 2 {
		return release
	}
	minor, err := strconv.Atoi(numbers[1])
	if err != nil {
		return release
	}
	return fmt.Sprintf("2.6.%d%s", minor+60, release[end:])
}

// largestReport bounds a signed report: one of ten thousand inputs has some megabytes.
const largestReport = 64 << 20

// recordedContext finds what was recorded of sides that lie in a results folder of rebuild:
// RESULTS/rebuilders/NAME/image, with its report beside it and its key in RESULTS/keys.
// It is nil when a side has no record that can be opened.
func recordedContext(sides []string, definition []byte) *cause.Context {
	c := &cause.Context{Definition: definition, Locked: true}
	var lock digest.Digest
	for i, side := range sides {
		dir, err := filepath.Abs(side)
		if err != nil || filepath.Base(dir) != "image" {
			return nil
		}
		folder := filepath.Dir(dir)
		results := filepath.Dir(filepath.Dir(folder))
		envelope, err := readSmallFile(filepath.Join(folder, "report.intoto.json"), largestReport)
		if err != nil {
			return nil
		}
		key, err := keyfile.LoadPublic(filepath.Join(results, "keys", filepath.Base(folder)+".pub"))
		if err != nil {
			return nil
		}
		r, err := attestation.OpenReport(envelope, key)
		if err != nil {
			return nil
		}
		c.Sides = append(c.Sides, reportFacts(r, nil))
		if i == 0 {
			lock = r.Lock
		}
		c.Locked = c.Locked && r.Lock == lock
	}
	return c
}
