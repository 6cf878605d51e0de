package main

import (
	"fmt"

	"quorate.dev/builder"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/resolve"
	inputsource "quorate.dev/lockfile/source" // "source" is the checkout to this package's tests
	"quorate.dev/lockfile/source/deb"
)

// What packages tell of their work, as events for the terminal.

// buildPhases says a build's phases in words; %s is the event's name.
var buildPhases = map[string]string{
	"decode":  "unpack packages",
	"root":    "make the root of %s",
	"scripts": "configure packages of %s",
	"step":    "step %s",
	"layer":   "layer %s",
	"image":   "image %s",
}

func (t *terminal) buildEvent(e builder.Event) {
	if e.Line != "" && e.Phase == "scripts" {
		return // dpkg says three lines for each package; what matters of them stands in an error
	}
	if e.Phase == "mend" {
		t.warn("%s was damaged; making it again", e.Name)
		return
	}
	if e.Phase == "withheld" {
		t.warn("left /%s out of the image: %s", e.Name, e.Line)
		return
	}
	text := buildPhases[e.Phase]
	if e.Name != "" {
		text = fmt.Sprintf(text, e.Name)
	}
	key := e.Phase + "/" + e.Name
	if e.Platform != "" && e.Phase != "image" { // whose name is the platform
		text += " for " + e.Platform
		key += "/" + e.Platform
	}
	note := ""
	if e.Cached {
		note = "cached"
	}
	t.report(event{
		Key: key, Text: text, Current: e.Current, Total: e.Total,
		Line: e.Line, Done: e.Done, Note: note, Elapsed: e.Elapsed,
	})
}

// fetchEvent shows a fetch as one thing that moves, and what went wrong on the way.
func (t *terminal) fetchEvent(e fetch.Event) {
	switch e.Kind {
	case fetch.Retry:
		t.warn("%s from %s: %v; trying again in %.1f s", e.Item, e.Source, e.Err, e.Wait.Seconds())
		return
	case fetch.NextSource:
		t.warn("%s from %s: %v; trying the next source", e.Item, e.Source, e.Err)
		return
	}
	t.report(event{
		Key: "fetch", Text: "fetch " + count(e.Items, "file"), Current: e.TotalDone, Total: e.Total, Bytes: true,
		Done: e.Items > 0 && e.ItemsDone == e.Items,
	})
}

// lockEvent shows what is brought to be locked, whose size nobody knows yet.
func (t *terminal) lockEvent(e fetch.Event) {
	if e.Kind == fetch.Retry {
		t.fetchEvent(e)
		return
	}
	if e.Kind == inputsource.Checked {
		t.report(event{Key: "check", Text: "check " + count(e.Items, "signature"), Current: int64(e.ItemsDone), Total: int64(e.Items), Done: e.ItemsDone == e.Items})
		return
	}
	t.report(event{Key: "bring", Text: "bring " + count(e.Items, "input"), Current: int64(e.ItemsDone), Total: int64(e.Items), Done: e.ItemsDone == e.Items})
}

// debEvent shows what takes its time while packages are chosen, as lines of the
// one thing that goes on.
func (t *terminal) debEvent(e deb.Event) {
	if e.Kind == "moved" {
		t.say("%s %s", e.Name, e.Text)
		return
	}
	t.report(event{Key: "choose", Text: "choose inputs", Line: debKinds[e.Kind] + e.Name + " " + e.Text})
}

var debKinds = map[string]string{"index": "read index of ", "apt": "ask apt for "}

func (t *terminal) resolveEvent(e resolve.Event) {
	if e.Kind == "file" {
		t.say("file %s: %s", e.Name, e.Text)
		return
	}
	if e.Kind == "input" {
		t.say("%s input %s", e.Text, e.Name)
		return
	}
	t.say("%s", e.Text)
}
