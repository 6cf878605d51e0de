package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// sshArguments is the command that joins its standard streams to the engine's
// socket on another machine. The user's own configuration of ssh holds: keys,
// known hosts, jump hosts.
func sshArguments(u *url.URL) ([]string, error) {
	host := u.Hostname()
	switch {
	case host == "" || strings.HasPrefix(host, "-"):
		return nil, errors.New("it names no host")
	case u.User != nil && strings.HasPrefix(u.User.Username(), "-"):
		return nil, errors.New("that is no user")
	case u.Path != "" && u.Path != "/":
		return nil, errors.New("a path has no meaning here")
	}
	if _, has := u.User.Password(); has {
		return nil, errors.New("ssh takes no password from here; use keys")
	}
	args := []string{"ssh",
		"-o", "BatchMode=yes", "-o", "ConnectTimeout=30", // nobody is there to type; below dialTime
		"-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4", // a dead line is noticed after a minute
		"-T"}
	if u.User != nil {
		args = append(args, "-l", u.User.Username())
	}
	if port := u.Port(); port != "" {
		args = append(args, "-p", port)
	}
	return append(args, "--", host, "docker", "system", "dial-stdio"), nil
}

// sshDialer makes each connection a process of its own, as the docker command does.
func sshDialer(args []string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(_ context.Context, _, _ string) (net.Conn, error) {
		// Not bound to ctx, which is the dialling's: connections are kept for later requests.
		cmd := exec.Command(args[0], args[1:]...)
		c := &commandConn{cmd: cmd, name: args[len(args)-4], silent: make(chan struct{})}
		// A pipe that Wait closes: a connection that ssh shares goes on in a process of
		// its own, which keeps what it was given.
		complaint, err := cmd.StderrPipe()
		if err != nil {
			return nil, err
		}
		if c.in, err = cmd.StdinPipe(); err != nil {
			return nil, err
		}
		if c.out, err = cmd.StdoutPipe(); err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, fmt.Errorf("cannot start ssh: %w", err)
		}
		go func() {
			_, _ = io.Copy(&c.complaint, complaint) // its end, however it comes
			close(c.silent)
		}()
		return c, nil
	}
}

// commandConn is a process's standard streams as a connection. It has no
// deadlines, which the engine's client does not set.
type commandConn struct {
	cmd       *exec.Cmd
	name      string
	in        io.WriteCloser
	out       io.ReadCloser
	complaint tailBuffer
	silent    chan struct{} // closed when nothing more is added to complaint
	answered  atomic.Bool
	once      sync.Once
}

// Read adds what ssh says to an end that comes before the engine's first byte.
func (c *commandConn) Read(b []byte) (int, error) {
	n, err := c.out.Read(b)
	if n > 0 {
		c.answered.Store(true)
	}
	if err != nil {
		err = c.explain(err)
	}
	return n, err
}

func (c *commandConn) Write(b []byte) (int, error) {
	n, err := c.in.Write(b)
	if err != nil {
		err = c.explain(err)
	}
	return n, err
}

// explainTime is for what ssh says to be read to its end, once its streams have
// ended: a process that goes on behind it may keep that end away.
const explainTime = 2 * time.Second

func (c *commandConn) explain(err error) error {
	if c.answered.Load() {
		return err
	}
	select {
	case <-c.silent:
	case <-time.After(explainTime):
	}
	if text := c.complaint.String(); text != "" {
		return fmt.Errorf("ssh to %s: %s", c.name, text)
	}
	return err
}

// CloseWrite says that nothing more will be sent.
func (c *commandConn) CloseWrite() error { return c.in.Close() }

// Close ends the process.
func (c *commandConn) Close() error {
	c.once.Do(func() {
		_ = c.in.Close()
		_ = c.out.Close()
		_ = c.cmd.Process.Kill() // it may have ended
		_ = c.cmd.Wait()         // its status says nothing after that
	})
	return nil
}

func (c *commandConn) LocalAddr() net.Addr              { return commandAddr("ssh") }
func (c *commandConn) RemoteAddr() net.Addr             { return commandAddr(c.name) }
func (c *commandConn) SetDeadline(time.Time) error      { return nil }
func (c *commandConn) SetReadDeadline(time.Time) error  { return nil }
func (c *commandConn) SetWriteDeadline(time.Time) error { return nil }

type commandAddr string

func (a commandAddr) Network() string { return "ssh" }
func (a commandAddr) String() string  { return string(a) }

// tailBuffer keeps the last kilobyte.
type tailBuffer struct {
	mu sync.Mutex
	b  []byte
}

func (t *tailBuffer) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	t.b = bytes.Clone(t.b[max(0, len(t.b)-1024):])
	return len(b), nil
}

func (t *tailBuffer) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.b))
}
