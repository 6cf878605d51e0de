package diff

import "strings"

// format is one way to read a file. Readers take one side apart, without
// knowledge of the other; they may be given any bytes under a right beginning.
type format struct {
	name string
	is   func(head []byte, name string) bool
	take func(s source) *anatomy // nil: cannot be read so
	tar  bool                    // tar files have a reader of their own, for they may be huge
}

// headSize is how many bytes a format is told by: tar's magic stands at 257.
const headSize = 1024

// formats in the order they are asked; the first that knows the head takes the file.
var formats = []*format{
	packers[0].format, // gzip
	packers[1].format, // zstd
	packers[2].format, // xz
	packers[3].format, // bzip2
	{name: "zip", is: isZip, take: takeZip},
	{name: "ar", is: begins("!<arch>\n"), take: takeAr},
	{name: "cpio", is: isCpio, take: takeCpio},
	{name: "elf", is: begins("\x7fELF"), take: takeElf},
	{name: "pyc", is: isPyc, take: takePyc},
	{name: "class", is: begins("\xca\xfe\xba\xbe\x00\x00\x00"), take: takeClass},
	{name: "sqlite", is: begins("SQLite format 3\x00"), take: takeSqlite},
	{name: "png", is: begins("\x89PNG\r\n\x1a\n"), take: takePng},
	{name: "pdf", is: begins("%PDF-"), take: takePdf},
	{name: "mo", is: isMo, take: takeMo},
	{name: "squashfs", is: begins("hsqs"), take: takeSquashfs},
	{name: "json", is: isJSON, take: takeJSON},
	{name: "yaml", is: isYAML, take: takeYAML},
	{name: "properties", is: isProperties, take: takeProperties},
	{name: "tar", is: isTar, tar: true},
}

// isTar knows the magic of ustar, PAX and GNU; older ones have none and are left to the checksum.
func isTar(head []byte, name string) bool {
	if len(head) < tarBlock || allZero(head[:tarBlock]) {
		return false
	}
	return string(head[257:262]) == "ustar" && tarChecksum(head) || strings.HasSuffix(name, ".tar") && tarChecksum(head)
}

// sniff tells a file's format, nil for text, unknown bytes and nothing.
func sniff(s source, name string) *format {
	head := s.head(headSize)
	for _, f := range formats {
		if f.is(head, name) {
			return f
		}
	}
	return nil
}

func formatName(f *format, s source) string {
	switch {
	case f != nil:
		return f.name
	case s.size == 0:
		return "empty"
	case textual(s.head(64 << 10)):
		return "text"
	}
	return "bytes"
}
