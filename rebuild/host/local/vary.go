package local

import "quorate.dev/rebuild/host"

// Vary returns the surroundings of the i-th local rebuilder, from 0. Rebuilders
// on one machine would agree by accident on everything that the machine has only
// one of, so each differs from the others in whatever is free to differ. The
// first changes nothing; the second changes everything; later ones are further
// mixes. The answer depends on i and on how many CPUs there are, on nothing else.
//
// The kernel's release is varied for steps alone: libc6's preinst refuses to
// install on a kernel before 3.2, so the builder keeps it from maintainer scripts.
func Vary(i int) host.Surroundings { return vary(i, cpus()) }

func vary(i int, cpus []int) host.Surroundings {
	if i <= 0 {
		return host.Surroundings{}
	}
	s := host.Surroundings{
		ReverseOrder: i%2 == 1,
		Uname26:      i%3 == 1,
		NoASLR:       i%4 <= 1,
		// Far from the 2 of an unvaried sandbox, and below the smallest pid_max (32768).
		FirstPID:    1000 + 977*(i%30),
		Environment: environments[i%len(environments)],
	}
	if i%2 == 1 {
		s.Filesystem = "tmpfs"
	}
	if n := len(cpus); n > 1 {
		half := (n + 1) / 2
		start := n - half // the second rebuilder has the last half, the third the first …
		if i%2 == 0 {
			start = 0
		}
		s.CPUs = cpus[start : start+half]
	}
	return s
}

// environments are time zones and locales that have mattered: a date line away,
// half an hour off, another decimal point, another alphabet's order.
var environments = []map[string]string{
	{"TZ": "Pacific/Kiritimati", "LC_ALL": "C"},
	{"TZ": "America/St_Johns", "LC_ALL": "fr_CH.UTF-8"},
	{"TZ": "Asia/Kathmandu", "LC_ALL": "et_EE.UTF-8"},
	{"TZ": "Etc/GMT+12", "LC_ALL": "tr_TR.UTF-8"},
}
