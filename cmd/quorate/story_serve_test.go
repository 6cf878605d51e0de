package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"quorate.dev/rebuild/host/remote"
)

// The commands of stories about other people's machines:
//
//	free-port NAME
//	    set the variable NAME to a port that nobody listens on
//	fill FILE…
//	    put the values of the variables that stand in FILE as $NAME in their places
//	await FILE
//	    wait until FILE is there
//	certificate FOLDER [host=NAME] [expired]
//	    make FOLDER/cert.pem and key.pem: of a service on the host, or of a submitter
//	proxy NAME ADDRESS BYTES
//	    set the variable NAME to the port of a proxy to ADDRESS that cuts each of its
//	    first five connections after so many bytes of answers
var serveCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"free-port":   setFreePort,
	"fill":        fill,
	"await":       await,
	"certificate": makeCertificate,
	"proxy":       cuttingProxy,
}

func setFreePort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: free-port NAME")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	ts.Check(l.Close())
}

func fill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: fill FILE…")
	}
	for _, name := range args {
		path := ts.MkAbs(name)
		data, err := os.ReadFile(path)
		ts.Check(err)
		ts.Check(os.WriteFile(path, []byte(os.Expand(string(data), ts.Getenv)), 0o644))
	}
}

// awaitTime is for what takes a second on an idle machine.
const awaitTime = 30 * time.Second

func await(ts *testscript.TestScript, neg bool, args []string) {
	path := storyFile(ts, neg, args, 1, 1, "await FILE")
	for deadline := time.Now().Add(awaitTime); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
	}
	ts.Fatalf("%s did not appear within %s", args[0], awaitTime)
}

func makeCertificate(ts *testscript.TestScript, neg bool, args []string) {
	dir := storyFile(ts, neg, args, 1, 3, "certificate FOLDER [host=NAME] [expired]")
	until := time.Now().Add(time.Hour)
	var hosts []string
	for _, arg := range args[1:] {
		if name, ok := strings.CutPrefix(arg, "host="); ok {
			hosts = []string{name}
		} else if arg == "expired" {
			until = time.Now().Add(-time.Hour)
		} else {
			ts.Fatalf("unknown option %q", arg)
		}
	}
	c, err := remote.NewCertificate(args[0], hosts, time.Now().Add(-48*time.Hour), until)
	ts.Check(err)
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(os.WriteFile(filepath.Join(dir, "cert.pem"), c.Cert, 0o644))
	ts.Check(os.WriteFile(filepath.Join(dir, "key.pem"), c.Key, 0o600))
}

func cuttingProxy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: proxy NAME ADDRESS BYTES")
	}
	bytes, err := strconv.ParseInt(args[2], 10, 64)
	ts.Check(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	var cuts atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go cutAfter(c, args[1], bytes, &cuts)
		}
	}()
	ts.Defer(func() {
		l.Close()
		if cuts.Load() == 0 {
			ts.Fatalf("the proxy has cut nothing")
		}
	})
	ts.Setenv(args[0], fmt.Sprint(l.Addr().(*net.TCPAddr).Port))
}

func cutAfter(down net.Conn, address string, bytes int64, cuts *atomic.Int64) {
	defer down.Close()
	up, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer up.Close()
	go func() { _, _ = io.Copy(up, down); up.Close() }()
	if cuts.Load() < 5 {
		if n, _ := io.CopyN(down, up, bytes); n == bytes {
			cuts.Add(1)
		}
		return
	}
	_, _ = io.Copy(down, up)
}
