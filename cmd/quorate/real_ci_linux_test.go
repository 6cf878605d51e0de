package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestRealCI has examples/ci/rebuild.sh rebuild the flawed example, and programs of
// others read what it left: a validator of GitHub's workflows, and a reader of JUnit files.
func TestRealCI(t *testing.T) {
	w := theWorld(t)
	dir := enterable(t)
	npm := func(args ...string) command {
		t.Helper()
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = dir
		return run(t, cmd)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("package.json", `{"name":"judges","version":"1.0.0","private":true}`)
	if c := npm("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "@action-validator/cli@0.6.0", "@action-validator/core@0.6.0", "junit2json@4.0.0"); c.code != 0 {
		t.Fatalf("cannot install the judges:\n%s%s", c.stdout, c.stderr)
	}
	workflow, err := os.ReadFile(repositoryDir(t, "examples/ci/github.yml"))
	if err != nil {
		t.Fatal(err)
	}
	write("github.yml", string(workflow))
	if c := npm("npx", "--no-install", "action-validator", "github.yml"); c.code != 0 {
		t.Errorf("the workflow is none, says action-validator:\n%s%s", c.stdout, c.stderr)
	}
	update, err := os.ReadFile(repositoryDir(t, "examples/ci/update.yml"))
	if err != nil {
		t.Fatal(err)
	}
	write("update.yml", string(update))
	if c := npm("npx", "--no-install", "action-validator", "update.yml"); c.code != 0 {
		t.Errorf("the workflow of updates is none, says action-validator:\n%s%s", c.stdout, c.stderr)
	}
	write("bad.yml", strings.Replace(string(workflow), "runs-on:", "runs-one:", 1))
	if c := npm("npx", "--no-install", "action-validator", "bad.yml"); c.code == 0 {
		t.Error("action-validator takes anything")
	}

	project := w.example(t, "flaky").project
	cmd := exec.Command(repositoryDir(t, "examples/ci/rebuild.sh"), project)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(w.quorate)+":"+os.Getenv("PATH"), "QUORATE_STORE="+w.store, "XDG_STATE_HOME="+filepath.Join(dir, "state"),
		"GITHUB_ACTIONS=true", "GITHUB_STEP_SUMMARY="+filepath.Join(dir, "step.md"), "REBUILDERS=", "REGISTRY=")
	c := run(t, cmd)
	if c.code != exitDifferent {
		t.Fatalf("exit code %d, want 1\n%s%s", c.code, c.stdout, c.stderr)
	}
	// The step's line that asks for the time.
	definition, err := os.ReadFile(filepath.Join(project, "quorate.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	line := 1 + strings.Count(string(definition[:strings.Index(string(definition), "date --iso-8601")]), "\n")
	if want := "::error file=" + project + "/quorate.yaml,line=" + strconv.Itoa(line) + ",title=BUILD TIME"; !strings.Contains(c.stderr, want) {
		t.Errorf("lacks %q:\n%s", want, c.stderr)
	}
	step, err := os.ReadFile(filepath.Join(dir, "step.md"))
	if err != nil || !strings.HasPrefix(string(step), "## Not reproducible: flaky\n") || !strings.Contains(string(step), "\n| # | cause | files | proof | made by |\n") {
		t.Errorf("the job's summary: %v\n%.2000s", err, step)
	}
	write("read.mjs", `import { parse } from "junit2json"; import { readFileSync } from "fs";
console.log(JSON.stringify(await parse(readFileSync("junit.xml"))));`)
	read := npm("node", "read.mjs")
	var suites struct {
		Tests, Failures, Errors int
		Testsuite               []struct {
			Name     string
			Testcase []struct {
				Classname, Name string
				Failure         []struct{ Type, Message string }
			}
		}
	}
	if err := json.Unmarshal([]byte(read.stdout), &suites); err != nil {
		t.Fatalf("junit2json: %v\n%s%s", err, read.stdout, read.stderr)
	}
	if suites.Tests != 3 || suites.Failures+suites.Errors == 0 || len(suites.Testsuite) != 1 || len(suites.Testsuite[0].Testcase) != 3 {
		t.Errorf("junit2json reads %s", read.stdout)
	} else if last := suites.Testsuite[0].Testcase[2]; last.Name != "agreement" || len(last.Failure) != 1 || last.Failure[0].Type != "disagree" {
		t.Errorf("junit2json reads as the agreement %+v", last)
	}
}
