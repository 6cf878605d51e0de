package main

import (
	"maps"
	"strings"
	"testing"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
)

func TestUname26(t *testing.T) {
	for release, want := range map[string]string{
		"6.18.44-fc-v595": "2.6.78-fc-v595", // as the kernel itself said under the personality
		"6.1.0-28-amd64":  "2.6.61-28-amd64",
		"5.15.0":          "2.6.75",
		"3.2":             "2.6.62",
		"odd":             "odd",
		"":                "",
	} {
		if got := uname26(release); got != want {
			t.Errorf("%q is %q, expected %q", release, got, want)
		}
	}
}

func TestReportFacts(t *testing.T) {
	r := &agreement.Report{
		Rebuilder:    "local-2",
		Environment:  map[string]string{"hostname": "vm", "cpus": "8", "kernel": "6.1.0-28-amd64", "time-zone": "NST -12600", "work-folder": "/tmp/w", "filesystem": "ext4"},
		Surroundings: map[string]string{"cpus": "1,3,5", "kernel-release": "2.6", "first-pid": "1977", "filesystem": "tmpfs", "environment-lc-all": "fr_CH.UTF-8", "environment-tz": "America/St_Johns"},
		Steps:        []agreement.StepDigest{{Platform: "linux/amd64", Step: "a", Tree: digest.Of([]byte("2"))}, {Platform: "linux/amd64", Step: "b", Tree: digest.Of([]byte("1"))}, {Platform: "linux/amd64", Step: "scripts"}},
	}
	f := reportFacts(r, stepsInOrder(r, []string{"b", "a"}))
	want := map[string]string{
		"hostname": "vm", "cpus": "3", "kernel": "2.6.61-28-amd64", "timezone": "NST", "utc-offset": "-0330", "workdir": "/tmp/w",
		"filesystem": "tmpfs", "first-pid": "1977", "locale": "fr_CH.UTF-8",
	}
	if !maps.Equal(f.Values, want) {
		t.Errorf("got %v, expected %v", f.Values, want)
	}
	if f.Name != "local-2" || f.Host != "vm" {
		t.Errorf("got %+v", f)
	}
	if got := stepsInOrder(&agreement.Report{Steps: []agreement.StepDigest{{Step: "a"}, {Step: "scripts"}, {Step: "scripts"}}}, []string{"scripts", "a"}); len(got) != 1 || got[0].Step != "a" {
		t.Errorf("two of one name: %v", got)
	}
	if got := stepsInOrder(&agreement.Report{Steps: []agreement.StepDigest{{Step: "scripts"}}}, nil); len(got) != 1 {
		t.Errorf("scripts alone: %v", got)
	}
	var steps []string
	for _, s := range f.Steps {
		steps = append(steps, s.Platform+" "+s.Name)
	}
	if got, want := strings.Join(steps, ", "), "linux/amd64 b, linux/amd64 a, linux/amd64 scripts"; got != want {
		t.Errorf("steps %s, expected %s", got, want)
	}
}
