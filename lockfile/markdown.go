package lockfile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Markdown writes changes as the body of a pull request: a heading that counts,
// a table each of what changed, is new and is gone, and a list of the rest. A
// change that is the same on several platforms is one line. Names come from
// archives and definitions, so everything that Markdown or a forge would act on
// is escaped. platforms is how many the new lock has.
func Markdown(changes []Change, platforms int) string {
	if len(changes) == 0 {
		return "Nothing changed.\n"
	}
	rows := foldPlatforms(changes, platforms)
	kinds, files := [3][]change{}, [3][]change{} // changed, added, removed
	var rest []change
	for _, c := range rows {
		i := 0
		switch {
		case c.Old == "":
			i = 1
		case c.New == "":
			i = 2
		}
		if c.tabled() {
			kinds[i] = append(kinds[i], c)
			continue
		}
		if rest = append(rest, c); c.Kind == ChangeFile {
			files[i] = append(files[i], c)
		}
	}
	var counted, parts []string
	for i, k := range []struct {
		done    string
		heading []string
		cells   func(change) []string
	}{
		{"changed", []string{"changed", "old", "new", "why"}, func(c change) []string { return []string{c.label(), short(c.Old), short(c.New), c.Why} }},
		{"added", []string{"new", "version", "why"}, func(c change) []string { return []string{c.label(), short(c.New), c.Why} }},
		{"removed", []string{"gone", "version", "why it was there"}, func(c change) []string { return []string{c.label(), short(c.Old), c.Why} }},
	} {
		if all := append(slices.Clone(kinds[i]), files[i]...); len(all) > 0 {
			counted = append(counted, countKinds(all)+" "+k.done)
		}
		if len(kinds[i]) == 0 {
			continue
		}
		table := markdownRow(k.heading) + "|" + strings.Repeat("---|", len(k.heading)) + "\n"
		for _, c := range kinds[i] {
			table += markdownRow(k.cells(c))
		}
		parts = append(parts, table)
	}
	if len(rest) > 0 {
		slices.SortStableFunc(rest, func(a, b change) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
		var list strings.Builder
		for _, c := range rest {
			fmt.Fprintf(&list, "- %s\n", c.item())
		}
		parts = append(parts, list.String())
	}
	if len(counted) == 0 {
		counted = []string{"No package changed"}
	}
	return "### " + strings.Join(counted, ", ") + "\n\n" + strings.Join(parts, "\n")
}

// change is a Change with the platforms on which it is the same.
type change struct {
	Change
	only []string // platforms; nil for all
}

// tabled says that a change is of something with a version: a package, or what
// other sources pin by one.
func (c change) tabled() bool {
	return !slices.Contains([]string{
		ChangeEpoch, ChangeAssembler, ChangeResolver, ChangeArchive, ChangeFile, ChangePlatform, ChangeSets, ChangeWaiver, ChangeHeld, ChangeInput, ChangeRead,
	}, c.Kind)
}

func (c change) label() string {
	if len(c.only) == 0 {
		return c.Name
	}
	return c.Name + " (" + strings.Join(c.only, ", ") + ")"
}

// item is a change in words: "archive bookworm: OLD → NEW".
func (c change) item() string {
	text := c.Kind
	if c.Name != "" {
		text += " " + c.label()
	}
	if c.Kind == ChangeRead {
		text += ", which decides " + c.Why
	}
	switch {
	case c.Kind == ChangePlatform && c.Old == "": // named already
	case c.Kind == ChangePlatform:
		text += ": gone"
	case c.Old == "":
		text += ": " + short(c.New)
	case c.New == "":
		text += ": gone, was " + short(c.Old)
	default:
		text += ": " + short(c.Old) + " → " + short(c.New)
	}
	return escapeMarkdown(text)
}

// foldPlatforms makes one of changes that are the same on several platforms. A
// change on all the platforms that there are names none.
func foldPlatforms(changes []Change, platforms int) []change {
	var rows []change
	at := map[Change]int{}
	for _, c := range changes {
		p := c.Platform
		c.Platform = ""
		i, ok := at[c]
		if !ok {
			i = len(rows)
			at[c], rows = i, append(rows, change{Change: c})
		}
		if p != "" {
			rows[i].only = append(rows[i].only, p)
		}
	}
	for i := range rows {
		if len(rows[i].only) >= platforms {
			rows[i].only = nil
		}
	}
	return rows
}

func markdownRow(cells []string) string {
	var b strings.Builder
	b.WriteString("|")
	for _, cell := range cells {
		fmt.Fprintf(&b, " %s |", cmp.Or(escapeMarkdown(cell), "-"))
	}
	return b.String() + "\n"
}

// markdownSpecial are the characters that begin something in GitHub's flavour
// of Markdown, in GitLab's, or in HTML; "@" would notify a person, "#" link an issue.
var markdownSpecial = strings.NewReplacer(
	`\`, `\\`, "|", `\|`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "~~", `\~\~`,
	"<", "&lt;", ">", "&gt;", "&", "&amp;", "@", "&#64;", "#", "&#35;", "\n", " ", "\r", " ",
)

func escapeMarkdown(s string) string { return markdownSpecial.Replace(s) }

// countKinds counts changes by what they are of: "2 packages and 1 Go module".
func countKinds(list []change) string {
	byKind := map[string]int{}
	for _, c := range list {
		byKind[c.Kind]++
	}
	var parts []string
	for _, kind := range append([]string{ChangePackage, ChangeFile}, Kinds...) {
		if n := byKind[kind]; n > 0 {
			parts = append(parts, Count(n, kind))
		}
	}
	return Enumerate(parts)
}

// nouns say what one of the things is that an input of a kind is made of.
var nouns = map[string]string{
	ChangePackage: "package", ChangeFile: "file",
	KindGit: "commit", KindImage: "base image", KindGo: "Go module", KindNpm: "npm package", KindPython: "Python package", KindCargo: "crate",
	KindSource: "source package",
}

// Count is a number of what inputs of a kind are made of: "1 package", "3 Go modules".
func Count(n int, kind string) string {
	noun := cmp.Or(nouns[kind], kind+" pin")
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// Enumerate writes "a", "a and b", "a, b and c".
func Enumerate(parts []string) string {
	if len(parts) < 2 {
		return strings.Join(parts, "")
	}
	last := len(parts) - 1
	return strings.Join(parts[:last], ", ") + " and " + parts[last]
}
