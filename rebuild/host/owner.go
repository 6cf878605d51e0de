package host

import "strings"

// Owner is a process that started workers somewhere else and may die before
// they end. What is labelled with it can be removed by whoever sees that it is
// gone. Empty parts are not known.
type Owner struct {
	Machine string // digest of the machine id and the host's name, since machines are cloned
	Boot    string // boot id
	Space   string // pid namespace: "pid:[4026531836]"
	PID     string
	Started string // clock ticks after the boot (proc(5), stat's field 22)
}

// String is an owner as a label: its parts, divided by "/".
func (o Owner) String() string {
	return strings.Join([]string{o.Machine, o.Boot, o.Space, o.PID, o.Started}, "/")
}

// ParseOwner reads what String wrote.
func ParseOwner(s string) (Owner, bool) {
	p := strings.Split(s, "/")
	if len(p) != 5 {
		return Owner{}, false
	}
	return Owner{p[0], p[1], p[2], p[3], p[4]}, true
}

// Gone says whether the owner surely lives no more, as seen by a process of the
// owner me. started is ProcessStart. One on another machine cannot be asked.
func (o Owner) Gone(me Owner, started func(pid string) string) bool {
	if me.Machine == "" || me.Boot == "" || o.Machine != me.Machine {
		return false
	}
	if o.Boot != me.Boot {
		return true // that machine has been started anew
	}
	return o.Space != "" && o.Space == me.Space && o.PID != "" && started(o.PID) != o.Started
}
