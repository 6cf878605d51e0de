package draft

import (
	"encoding/json"
	"path"
	"regexp"
	"slices"
	"strings"
)

// hints are what a project says elsewhere of how it is run: in a Dockerfile, of which
// the last stage counts, and in a Procfile. They are read as facts about the program, never as steps.
type hints struct {
	command  []string // of ENTRYPOINT and CMD, or of the Procfile's process web
	ports    []string // of EXPOSE: "80/tcp"
	packages []string // what apt-get installs in any stage, sorted
	docker   bool     // there is a Dockerfile
}

func (p project) hints() hints {
	var h hints
	if text := p.read("Dockerfile"); text != "" {
		h = dockerfile(text)
	}
	if web := procfile(p.read("Procfile")); len(h.command) == 0 || web != nil && strings.HasSuffix(h.command[0], ".sh") {
		h.command = web
	}
	return h
}

// stage is what a Dockerfile says from one FROM to the next.
type stage struct{ entrypoint, cmd, ports []string }

var (
	exposed   = regexp.MustCompile(`^[0-9]{1,5}(/(tcp|udp|sctp))?$`)
	debName   = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
	aptGet    = regexp.MustCompile(`\bapt(?:-get)?\s+(?:-\S+\s+)*install\s+([^;&|]*)`)
	continued = regexp.MustCompile(`\\[ \t]*\r?\n`)
	remark    = regexp.MustCompile(`(?m)^[ \t]*#.*\n?`)
)

// dockerfile reads the instructions that say how the image of the last stage is run.
func dockerfile(text string) hints {
	h := hints{docker: true}
	var now stage
	stages := map[string]stage{}
	name := ""
	text = continued.ReplaceAllString(remark.ReplaceAllString(text, ""), " ")
	for line := range strings.Lines(text) {
		instruction, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		words := strings.Fields(rest)
		switch strings.ToUpper(instruction) {
		case "FROM":
			words = slices.DeleteFunc(words, func(w string) bool { return strings.HasPrefix(w, "--") })
			stages[name], now, name = now, stage{}, ""
			if len(words) > 0 {
				now = stages[words[0]] // the zero stage for an image
			}
			if len(words) == 3 {
				name = words[2]
			}
		case "EXPOSE":
			for _, port := range words {
				if exposed.MatchString(port) {
					now.ports = append(slices.Clone(now.ports), port)
				}
			}
		case "ENTRYPOINT":
			now.entrypoint, now.cmd = command(rest), nil // builder.Dispatch: an entrypoint forgets the command of its base
		case "CMD":
			now.cmd = command(rest)
		case "RUN":
			for _, m := range aptGet.FindAllStringSubmatch(rest, -1) {
				for _, w := range strings.Fields(m[1]) {
					if debName.MatchString(w) {
						h.packages = append(h.packages, w)
					}
				}
			}
		}
	}
	h.command, h.ports = append(slices.Clone(now.entrypoint), now.cmd...), ports(now.ports)
	slices.Sort(h.packages)
	h.packages = slices.Compact(h.packages)
	return h
}

// ports are each once, sorted, with their protocol, as a definition wants them.
func ports(words []string) []string {
	var all []string
	for _, w := range words {
		if !strings.Contains(w, "/") {
			w += "/tcp"
		}
		if n := number(w); n >= 1 && n <= 65535 && w[0] != '0' {
			all = append(all, w)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// command reads the words of a command, in a list or in a shell's line; nil when a shell would have to.
func command(rest string) []string {
	var words []string
	if json.Unmarshal([]byte(rest), &words) != nil {
		words = strings.Fields(rest)
	}
	if slices.ContainsFunc(words, func(w string) bool { return !plainArgument.MatchString(w) }) {
		return nil
	}
	return words
}

// plainArgument is a word that means itself to a shell, and in YAML between quotes.
var plainArgument = regexp.MustCompile(`^[A-Za-z0-9_./:=@,+-]+$`)

// procfile returns the words of the process web (devcenter.heroku.com/articles/procfile);
// of several commands those of the last, which the others prepare.
func procfile(text string) []string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "web:"); ok {
			all := regexp.MustCompile(`;|&&`).Split(rest, -1)
			return command(strings.TrimSpace(all[len(all)-1]))
		}
	}
	return nil
}

// program is the name of the program that the command begins with; "" when that is an interpreter's, or a script's.
func (h hints) program() string {
	if len(h.command) == 0 || strings.HasSuffix(h.command[0], ".sh") {
		return ""
	}
	name := path.Base(h.command[0])
	if !plainWord.MatchString(name) || slices.Contains([]string{"sh", "bash", "tini", "env", "exec"}, name) {
		return ""
	}
	return name
}

// apply adds what is known to a recipe: ports to what serves, and what is left for the reader to notes.
func (h hints) apply(r *recipe) {
	if len(h.ports) > 0 && strings.Contains(r.config, "entrypoint:") && !strings.Contains(r.config, "ports:") {
		r.config += "    ports: [" + strings.Join(h.ports, ", ") + "]   # as in Dockerfile\n"
	}
	if len(h.packages) > 0 {
		r.notes = append(r.notes, "Dockerfile installs "+strings.Join(h.packages, ", ")+"; name what the program needs when it runs under image.packages, and what only building needs under the step's packages")
	}
}

// quoted writes words as a list in YAML.
func quoted(words []string) string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = w
		if !plainPath.MatchString(strings.TrimPrefix(w, "/")) || looksTyped(w) {
			b, _ := json.Marshal(w) // a JSON text is a YAML one
			list[i] = string(b)
		}
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// looksTyped reports whether YAML could take a plain word for something else than text: a number, or a word of YAML 1.1.
func looksTyped(word string) bool {
	switch strings.ToLower(word) {
	case "true", "false", "yes", "no", "on", "off", "y", "n", "null":
		return true
	}
	return word != "" && word[0] >= '0' && word[0] <= '9'
}
