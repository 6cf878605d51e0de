package dockertest

import (
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
)

// Network is a network namespace of a test's own, with one line to this machine.
// It has a loopback interface, an address, and no way further.
type Network struct {
	Name    string
	Address string // of the far side

	near string // the line's end here
}

// networks numbers the namespaces of this process.
var networks atomic.Int32

// NewNetwork makes a namespace; it goes with the test.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	// 198.18.0.0/15 is for tests of network equipment (RFC 2544) and never routed. A subnet of four
	// for each of 64 namespaces, in the block of this process's number.
	n := networks.Add(1)
	id := os.Getpid()
	subnet := fmt.Sprintf("198.18.%d", id%256)
	last := int(n-1) % 64 * 4
	w := &Network{Name: fmt.Sprintf("qtest%d-%d", id, n), Address: fmt.Sprintf("%s.%d", subnet, last+2), near: fmt.Sprintf("qt%d-%d", id%100000, n)}
	far := w.near + "f"
	t.Cleanup(func() {
		// The line goes with its far side.
		if out, err := exec.Command("ip", "netns", "delete", w.Name).CombinedOutput(); err != nil {
			t.Errorf("ip netns delete: %v\n%s", err, out)
		}
	})
	for _, args := range [][]string{
		{"netns", "add", w.Name},
		{"link", "add", w.near, "type", "veth", "peer", "name", far, "netns", w.Name},
		{"address", "add", fmt.Sprintf("%s.%d/30", subnet, last+1), "dev", w.near},
		{"link", "set", w.near, "up"},
		{"-netns", w.Name, "address", "add", w.Address + "/30", "dev", far},
		{"-netns", w.Name, "link", "set", far, "up"},
		{"-netns", w.Name, "link", "set", "lo", "up"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %q: %v\n%s", args, err, out)
		}
	}
	return w
}

// Cut takes the line away, as a pulled plug does; nothing on either side is told.
func (w *Network) Cut(t testing.TB) { w.set(t, "down") }

// Heal puts it back.
func (w *Network) Heal(t testing.TB) { w.set(t, "up") }

func (w *Network) set(t testing.TB, state string) {
	t.Helper()
	if out, err := exec.Command("ip", "-netns", w.Name, "link", "set", w.near+"f", state).CombinedOutput(); err != nil {
		t.Errorf("ip link set: %v\n%s", err, out)
	}
}

// inside is a command in the namespace; without one, the command itself.
func (w *Network) inside(program string, args ...string) *exec.Cmd {
	if w == nil {
		return exec.Command(program, args...)
	}
	// nsenter changes nothing but the network; ip netns exec would also hide mounts from the test.
	return exec.Command("nsenter", append([]string{"--net=/run/netns/" + w.Name, "--", program}, args...)...)
}
