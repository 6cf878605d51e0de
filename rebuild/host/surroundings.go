package host

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Surroundings are the differences that a rebuilder sets on purpose, in what a
// sandbox cannot hold constant between real hosts. None of them may change a
// byte of what is built. The zero value changes nothing.
type Surroundings struct {
	CPUs         []int  `json:"cpus,omitempty"` // CPU affinity; numbers of the machine's CPUs
	ReverseOrder bool   `json:"reverseOrder,omitempty"`
	Uname26      bool   `json:"uname26,omitempty"`
	NoASLR       bool   `json:"noAslr,omitempty"`
	FirstPID     int    `json:"firstPid,omitempty"`
	Filesystem   string `json:"filesystem,omitempty"` // of the work folder: "tmpfs", or "" for the disk's
	// Environment is set for the worker itself (time zone, locale); steps have a constant one.
	Environment map[string]string `json:"environment,omitempty"`
}

// Map describes the surroundings for a report: what was varied, by name.
// It is empty when nothing was.
func (s Surroundings) Map() map[string]string {
	m := map[string]string{}
	if len(s.CPUs) > 0 {
		var list []string
		for _, c := range s.CPUs {
			list = append(list, strconv.Itoa(c))
		}
		m["cpus"] = strings.Join(list, ",")
	}
	if s.ReverseOrder {
		m["directory-order"] = "reverse"
	}
	if s.Uname26 {
		m["kernel-release"] = "2.6"
	}
	if s.NoASLR {
		m["address-space"] = "fixed"
	}
	if s.FirstPID > 0 {
		m["first-pid"] = strconv.Itoa(s.FirstPID)
	}
	if s.Filesystem != "" {
		m["filesystem"] = s.Filesystem
	}
	for _, k := range slices.Sorted(maps.Keys(s.Environment)) {
		m["environment-"+strings.ToLower(strings.ReplaceAll(k, "_", "-"))] = s.Environment[k]
	}
	return m
}

// String is Map in one line, for people.
func (s Surroundings) String() string {
	m := s.Map()
	if len(m) == 0 {
		return "nothing varied"
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s=%s", k, m[k]))
	}
	return strings.Join(parts, " ")
}
