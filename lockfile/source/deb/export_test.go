package deb

// MachineApt lets tests from outside run the apt of this machine.
type MachineApt = machineApt
