package archive_test

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"quorate.dev/builder/unpack/archive"
	"quorate.dev/builder/unpack/deb/debfile"
)

// records is a PAX header for the next member (or, of type 'g', all further ones).
func records(kind byte, list ...string) []byte {
	var body strings.Builder
	for i := 0; i+1 < len(list); i += 2 {
		body.WriteString(record(list[i], list[i+1]))
	}
	return paxHeader(kind, body.String())
}

// record is one of PAX: its own length, KEY=VALUE.
func record(key, value string) string {
	rest := fmt.Sprintf(" %s=%s\n", key, value)
	n := len(rest) + 1
	for len(fmt.Sprint(n))+len(rest) != n {
		n++
	}
	return fmt.Sprint(n) + rest
}

func paxHeader(kind byte, body string) []byte {
	b := debfile.Tar(file{Name: "PaxHeaders.0/x", Body: body})
	b[156] = kind
	return fixSum(b[:len(b)-1024])
}

// longName is GNU's way to say the name (L) or the target (K) of the next member.
func longName(kind byte, name string) []byte {
	b := debfile.Tar(file{Name: "././@LongLink", Body: name + "\x00"})
	b[156] = kind
	copy(b[257:265], "ustar  \x00")
	return fixSum(b[:len(b)-1024])
}

// alone is a member of a tar, without an end.
func alone(f file) []byte {
	b := debfile.Tar(f)
	return b[:len(b)-1024]
}

// edited is a member whose header was changed at an offset.
func edited(f file, at int, text string) []byte {
	b := alone(f)
	copy(b[at:], text)
	return fixSum(b)
}

func tarOf(parts ...[]byte) []byte { return append(bytes.Join(parts, nil), make([]byte, 1024)...) }

// What extended headers can say, and archive/tar passes on. Where it is taken, it
// is taken as written; nothing is read twice or half.
func TestTarTricks(t *testing.T) {
	hello := alone(file{Name: "a", Body: "hello"})
	empty := alone(file{Name: "a"})
	body := append([]byte("hello"), make([]byte, 507)...)
	const named, sized, magic = 0, 124, 257
	for _, c := range []struct {
		summary string
		bytes   []byte
		want    string // the listing, or the error after "cannot unpack archive: "
	}{
		{"size over the header's", tarOf(records('x', "size", "5"), empty, body), "f 0644 0:0 0 a \"hello\"\n"},
		{"size below the header's", tarOf(records('x', "size", "0"), hello), `tar stream is damaged after member "a": archive/tar: invalid tar header`},
		{"size below zero", tarOf(records('x', "size", "-5"), hello), `tar stream is damaged after member "": archive/tar: invalid tar header`},
		{"size beyond all numbers", tarOf(records('x', "size", "9223372036854775808"), hello), `tar stream is damaged after member "": archive/tar: invalid tar header`},
		{"size of 8 EiB", tarOf(records('x', "size", "9223372036854775807"), hello), "archive unpacks to more than 8589934592 bytes"},
		{"size beyond the end", tarOf(records('x', "size", "100000"), hello), `member "a" is truncated: 1536 of 100000 bytes`},
		{"size of a folder", tarOf(records('x', "size", "5"), alone(file{Name: "d/"}), body), `member "d/" is not a regular file and claims 5 bytes`},
		{"size of a link", tarOf(records('x', "size", "5"), alone(file{Name: "l", Link: "x"}), body), `member "l" is not a regular file and claims 5 bytes`},
		{"size in 64 bits, negative", tarOf(edited(file{Name: "a", Body: "hello"}, sized, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfb")), `tar stream is damaged after member "": archive/tar: invalid tar header`},
		{"size in 64 bits, beyond all numbers", tarOf(edited(file{Name: "a", Body: "hello"}, sized, "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfb")), `tar stream is damaged after member "": archive/tar: invalid tar header`},
		{"path that leaves", tarOf(records('x', "path", "../../etc/passwd"), hello), `member "../../etc/passwd" has ".." in its name`},
		{"path that is absolute", tarOf(records('x', "path", "/etc/passwd"), hello), `member "/etc/passwd" has an absolute name`},
		{"path with a NUL", tarOf(records('x', "path", "a\x00/../../b"), hello), `tar stream is damaged after member "": archive/tar: invalid tar header`},
		{"path of nothing is that of the header", tarOf(records('x', "path", ""), hello), "f 0644 0:0 0 a \"hello\"\n"},
		{"path of a folder, for a file", tarOf(records('x', "path", "d/"), hello), "f 0644 0:0 0 d \"hello\"\n"},
		{"path twice, the last counts", tarOf(records('x', "path", "b", "path", "../c"), hello), `member "../c" has ".." in its name`},
		{"two headers, the last counts", tarOf(records('x', "path", "../b"), records('x', "path", "c"), hello), "f 0644 0:0 0 c \"hello\"\n"},
		{"GNU's name goes before PAX's", tarOf(longName('L', "../b"), records('x', "path", "c"), hello), `member "../b" has ".." in its name`},
		{"GNU's name goes before PAX's, in the other order too", tarOf(records('x', "path", "c"), longName('L', "../b"), hello), `member "../b" has ".." in its name`},
		{"GNU's name that leaves", tarOf(longName('L', "../b"), hello), `member "../b" has ".." in its name`},
		{"GNU's name with a NUL ends there", tarOf(longName('L', "b\x00/../../c"), hello), "f 0644 0:0 0 b \"hello\"\n"},
		{"GNU's target of a hard link that leaves", tarOf(longName('K', "../b"), alone(file{Name: "h", Type: tar.TypeLink, Link: "a"})), `member "h" is a hard link to "../b", which is refused as a path`},
		{"linkpath of a hard link that leaves", tarOf(hello, records('x', "linkpath", "../../etc/shadow"), alone(file{Name: "h", Type: tar.TypeLink, Link: "a"})), `member "h" is a hard link to "../../etc/shadow", which is refused as a path`},
		{"linkpath with a NUL", tarOf(records('x', "linkpath", "b\x00c"), alone(file{Name: "l", Link: "a"})), `tar stream is damaged after member "": archive/tar: invalid tar header`},
		{"linkpath of a file is nothing", tarOf(records('x', "linkpath", "/etc/shadow"), hello), "f 0644 0:0 0 a \"hello\"\n"},
		{"linkpath that is long", tarOf(records('x', "linkpath", strings.Repeat("b", 5000)), alone(file{Name: "l", Link: "a"})), `member "l" is a symbolic link with a target of 5000 bytes; at most 4096 are accepted`},
		{"charset", tarOf(records('x', "hdrcharset", "BINARY", "path", "b\xff"), hello), "f 0644 0:0 0 b\xff \"hello\"\n"},
		{"charset of nobody knows what changes nothing", tarOf(records('x', "hdrcharset", "ISO-IR 10646 2000 UTF-16", "path", "../b"), hello), `member "../b" has ".." in its name`},
		{"owner below zero", tarOf(records('x', "uid", "-1"), hello), `member "a" has owner -1:0, outside of 0 to 4294967294`},
		{"owner that changes nothing", tarOf(records('x', "gid", "4294967295"), hello), `member "a" has owner 0:4294967295, outside of 0 to 4294967294`},
		{"owner beyond all numbers", tarOf(records('x', "uid", "99999999999999999999"), hello), `tar stream is damaged after member "": archive/tar: invalid tar header`},
		{"time that is none", tarOf(records('x', "mtime", "yesterday"), hello), `tar stream is damaged after member "": archive/tar: invalid tar header`},
		{"length of a record that is too long", tarOf(paxHeader('x', "99 path=b\n"), hello), `tar stream is damaged after member "": archive/tar: invalid tar header`},
		{"length of a record that is negative", tarOf(paxHeader('x', "-9 path=b\n"), hello), `tar stream is damaged after member "": archive/tar: invalid tar header`},
		{"record without an end", tarOf(paxHeader('x', "9 path=bc"), hello), `tar stream is damaged after member "": archive/tar: invalid tar header`},
		{"header of 2 MiB", tarOf(records('x', "comment", strings.Repeat("x", 2<<20)), hello), `tar stream is damaged after member "": archive/tar: header field too long`},
		{"GNU's name of 2 MiB", tarOf(longName('L', strings.Repeat("x", 2<<20)), hello), `tar stream is damaged after member "": archive/tar: header field too long`},
		{"header of nothing", tarOf(records('x', "path", "../b")), ""},
		{"sparse of 0.0", tarOf(records('x', "GNU.sparse.size", "1000000", "GNU.sparse.numblocks", "1", "GNU.sparse.offset", "0", "GNU.sparse.numbytes", "5"), hello), `member "a" is a sparse file`},
		{"sparse of 0.1", tarOf(records('x', "GNU.sparse.size", "1000000", "GNU.sparse.numblocks", "1", "GNU.sparse.map", "999995,5", "GNU.sparse.name", "../b"), hello), `member "../b" is a sparse file`},
		{"sparse of 1.0", tarOf(records('x', "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "9223372036854775807", "GNU.sparse.name", "b"), alone(file{Name: "a", Body: "1\n9223372036854775802\n5\n" + strings.Repeat("\x00", 512-24) + "hello"})), `member "b" is a sparse file`},
		{"sparse of 1.0 with a long map", tarOf(records('x', "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "1000"), alone(file{Name: "a", Body: "100000000\n" + strings.Repeat("1\n1\n", 100_000)})), `tar stream is truncated after member ""`},
		{"sparse with a name alone", tarOf(records('x', "GNU.sparse.name", "../b"), hello), `member "a" is a sparse file`},
		{"global size", tarOf(records('g', "size", "0"), hello), `member "PaxHeaders.0/x" is a global header that sets "size"`},
		{"global link", tarOf(records('g', "linkpath", "/etc/shadow"), hello), `member "PaxHeaders.0/x" is a global header that sets "linkpath"`},
		{"global sparse", tarOf(records('g', "GNU.sparse.name", "b"), hello), `member "PaxHeaders.0/x" is a global header that sets "GNU.sparse.name"`},
		{"global attribute", tarOf(records('g', "SCHILY.xattr.security.capability", "x"), hello), `member "PaxHeaders.0/x" is a global header that sets "SCHILY.xattr.security.capability"`},
		{"global path of nothing", tarOf(records('g', "path", ""), hello), `member "PaxHeaders.0/x" is a global header that sets "path"`},
		{"attribute of a NUL", tarOf(records('x', "SCHILY.xattr.user.\x00", "x"), hello), `tar stream is damaged after member "": archive/tar: invalid tar header`},
		{"attribute that is long", tarOf(records('x', "SCHILY.xattr.user.a", strings.Repeat("x", 65<<10)), hello), `member "a" has an extended attribute "user.a" that Linux cannot hold`},
		{"no magic", tarOf(edited(file{Name: "dd"}, magic, "\x00\x00\x00\x00\x00\x00\x00\x00")), "its first bytes are neither tar, gzip, xz, zstd, bzip2 nor zip"},
		{"name in two parts that leaves", tarOf(edited(file{Name: "b"}, 345, "a/..")), `member "a/../b" has ".." in its name`},
		{"name with a NUL ends there", tarOf(edited(file{Name: "abcdef"}, named, "a\x00/../../b")), "f 0644 0:0 0 a \"\"\n"},
		{"a link comes where a folder was meant", tarOf(alone(file{Name: "a/b/c", Body: "x"}), alone(file{Name: "a", Link: "/etc"}), alone(file{Name: "a/b/passwd"})), `member "a" is not a directory, and members before it lie below it`},
		{"a file comes where a folder was meant", tarOf(alone(file{Name: "a/b"}), alone(file{Name: "a"})), `member "a" is not a directory, and members before it lie below it`},
		{"a folder may come late", tarOf(alone(file{Name: "a/b"}), alone(file{Name: "a/", Mode: 0o700}), alone(file{Name: "a/c"})), "f 0644 0:0 0 a/b \"\"\nd 0700 0:0 0 a\nf 0644 0:0 0 a/c \"\"\n"},
		{"a file inside of the mark of the end", append(append(make([]byte, 512), hello...), make([]byte, 1024)...), `tar stream is damaged after member "": archive/tar: invalid tar header`},
	} {
		holdTrick(t, c.summary, c.bytes, c.want)
	}
}

// Names, links and attributes are kept in memory, where a tar that is small when
// it is compressed can have gigabytes of them, and paths can tell of folders by
// the thousand.
func TestListingIsBounded(t *testing.T) {
	long := strings.Repeat("n", 200) + "/" + strings.Repeat("n", 200) + "/"
	var names, attributes, deep [][]byte
	for i := range 40 {
		names = append(names, alone(file{Name: fmt.Sprint(long, i)}))
		attributes = append(attributes, alone(file{Name: fmt.Sprint(i), PAX: map[string]string{"SCHILY.xattr.user.a": strings.Repeat("x", 400)}}))
		deep = append(deep, alone(file{Name: fmt.Sprint(i, strings.Repeat("/d", 50))}))
	}
	var attribute strings.Builder
	for i := range 7000 {
		attribute.WriteString(record(fmt.Sprint("SCHILY.xattr.user.attribute", i), ""))
	}
	for _, c := range []struct {
		summary string
		parts   [][]byte
		limits  archive.Limits
		want    string
	}{
		{"names", names, archive.Limits{Listing: 10_000}, "archive unpacks to more than 10000 bytes of names, links and attributes"},
		{"names that are few enough", names, archive.Limits{Listing: 20_000}, ""},
		{"attributes", attributes, archive.Limits{Listing: 10_000}, "archive unpacks to more than 10000 bytes of names, links and attributes"},
		{"attributes that are few enough", attributes, archive.Limits{Listing: 20_000}, ""},
		{"folders", deep, archive.Limits{Entries: 1000}, "archive unpacks to more than 1000 entries"},
		{"folders that are few enough", deep, archive.Limits{Entries: 40 * 51}, ""},
		{"attributes of one member", [][]byte{paxHeader('x', attribute.String()), alone(file{Name: "a"})}, archive.Limits{}, `member "a" has more extended attributes than Linux can list`},
	} {
		_, _, err := unpack(tarOf(c.parts...), archive.Options{Limits: c.limits})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasSuffix(err.Error(), c.want)) {
			t.Errorf("%s: %v\nexpected: %s", c.summary, err, c.want)
		}
	}
}

// trick is a zip of one member whose two headers need not agree.
type trick struct {
	local, central         zipHeader
	body                   string
	records, recordsOnDisk uint16 // of the end; 0 for the truth
	end64                  *end64
	directoryAt            int64 // moves what the end says
}

type zipHeader struct {
	name         string
	flags        uint16
	method       uint16
	crc          uint32
	packed, size uint32
	at           uint32
	extra        []byte
}

type end64 struct{ records, size, at uint64 }

// zip64 is the extra field with sizes and offset.
func zip64(values ...uint64) []byte {
	b := binary.LittleEndian.AppendUint16(nil, 1)
	b = binary.LittleEndian.AppendUint16(b, uint16(8*len(values)))
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

func (z trick) bytes(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	put := littleEndian(t, &b)
	l, c := z.local, z.central
	put(uint32(0x04034b50), uint16(45), l.flags, l.method, uint32(0), l.crc, l.packed, l.size, uint16(len(l.name)), uint16(len(l.extra)), []byte(l.name), l.extra, []byte(z.body))
	at := int64(b.Len())
	put(uint32(0x02014b50), uint16(45), uint16(45), c.flags, c.method, uint32(0), c.crc, c.packed, c.size,
		uint16(len(c.name)), uint16(len(c.extra)), uint16(0), uint16(0), uint16(0), uint32(0), c.at, []byte(c.name), c.extra)
	size := int64(b.Len()) - at
	if e := z.end64; e != nil {
		here := uint64(b.Len())
		put(uint32(0x06064b50), uint64(44), uint16(45), uint16(45), uint32(0), uint32(0), e.records, e.records, e.size, e.at)
		put(uint32(0x07064b50), uint32(0), here, uint32(1))
		put(uint32(0x06054b50), uint16(0), uint16(0), uint16(0xffff), uint16(0xffff), uint32(0xffffffff), uint32(0xffffffff), uint16(0))
		return b.Bytes()
	}
	records := max(z.records, 1)
	put(uint32(0x06054b50), uint16(0), uint16(0), max(z.recordsOnDisk, 1), records, uint32(size), uint32(at+z.directoryAt), uint16(0))
	return b.Bytes()
}

// What sizes, offsets and counts of a zip can say. The directory at the end
// counts, as for archive/zip and the go command; what it says of a member has to
// hold, whatever the member's own header says.
func TestZipTricks(t *testing.T) {
	crc := crc32.ChecksumIEEE([]byte("hello"))
	same := func() trick {
		h := zipHeader{name: "a", crc: crc, packed: 5, size: 5}
		return trick{local: h, central: h, body: "hello"}
	}
	change := func(f func(z *trick)) trick {
		z := same()
		f(&z)
		return z
	}
	const all = 0xffffffff
	const taken, broken = "f 0644 0:0 312768000 a \"hello\"\n", "zip: not a valid zip file"
	for _, c := range []struct {
		summary string
		zip     trick
		want    string
	}{
		{"both say the same", same(), taken},
		{"sizes in 64 bits", change(func(z *trick) {
			z.central.packed, z.central.size, z.central.extra = all, all, zip64(5, 5)
		}), taken},
		{"the member's own header has another size", change(func(z *trick) { z.local.size, z.local.packed = 1000, 1000 }), taken},
		{"the member's own header has another size in 64 bits", change(func(z *trick) { z.local.size, z.local.packed, z.local.extra = all, all, zip64(1<<40, 1<<40) }), taken},
		{"the member's own header has another name", change(func(z *trick) { z.local.name = "../../b" }), taken},
		{"the member's own header is encrypted", change(func(z *trick) { z.local.flags = 1 }), taken},
		{"more bytes in 64 bits than there are", change(func(z *trick) { z.central.packed, z.central.size, z.central.extra = all, all, zip64(1<<20, 1<<20) }), `member "a" cannot be read: unexpected EOF`},
		{"fewer bytes than there are", change(func(z *trick) { z.central.size, z.central.packed = 4, 4 }), `member "a" cannot be read: zip: checksum error`},
		{"fewer unpacked than packed", change(func(z *trick) { z.central.size = 4 }), `member "a" cannot be read: ` + broken},
		{"8 EiB", change(func(z *trick) { z.central.size, z.central.extra = all, zip64(1<<63) }), "archive unpacks to more than 268435456 bytes"},
		{"as many as there are numbers", change(func(z *trick) {
			z.central.packed, z.central.size, z.central.extra = all, all, zip64(1<<64-1, 1<<64-1)
		}), "archive unpacks to more than 268435456 bytes"},
		{"packed in as many as there are numbers", change(func(z *trick) { z.central.packed, z.central.extra = all, zip64(1<<64-1) }), `member "a" cannot be read: `},
		{"sizes in 64 bits that are not there", change(func(z *trick) { z.central.size = all }), `archive unpacks to more than 268435456 bytes`},
		{"half a size in 64 bits", change(func(z *trick) { z.central.size, z.central.extra = all, zip64(5)[:8] }), "archive unpacks to more than 268435456 bytes"},
		{"member in 64 bits far away", change(func(z *trick) { z.central.at, z.central.extra = all, zip64(1<<40) }), `member "a" cannot be read: `},
		{"member before the beginning", change(func(z *trick) { z.central.at, z.central.extra = all, zip64(1<<63) }), `member "a" cannot be read: `},
		{"member inside of the directory", change(func(z *trick) { z.central.at = 36 }), `member "a" cannot be read: ` + broken},
		{"directory before where it is", change(func(z *trick) { z.directoryAt = -10 }), `member "a" cannot be read: ` + broken}, // as if ten bytes stood before the archive
		{"directory behind the end", change(func(z *trick) { z.directoryAt = 1 << 20 }), `member "a" cannot be read: `},
		{"more members than there are", change(func(z *trick) { z.records = 2 }), "unexpected EOF"},
		{"as many members as fit", change(func(z *trick) { z.records = 65534 }), "unexpected EOF"},
		{"members in 64 bits", change(func(z *trick) { z.end64 = &end64{1, 47, 36} }), taken},
		{"a directory in 64 bits far away", change(func(z *trick) { z.end64 = &end64{1, 47, 1 << 62} }), `member "a" cannot be read: `},
		{"a directory in 64 bits of as many bytes as there are numbers", change(func(z *trick) { z.end64 = &end64{1, 1<<64 - 1, 36} }), broken},
		{"2 to the 62nd members, and one", change(func(z *trick) { z.end64 = &end64{1<<62 + 1, 47, 36} }), taken}, // archive/zip compares 16 bits of it
		{"2 to the 62nd members, and two", change(func(z *trick) { z.end64 = &end64{1<<62 + 2, 47, 36} }), broken},
		{"name with a NUL", change(func(z *trick) { z.central.name = "a\x00b" }), `member "a\x00b" has a NUL byte in its name`},
		{"no name", change(func(z *trick) { z.central.name = "" }), `member "" has no name`},
		{"a folder of bytes", change(func(z *trick) { z.central.name = "a/" }), `member "a/" is a directory and claims 5 bytes`},
		{"strong encryption", change(func(z *trick) { z.central.flags = 1 | 1<<6 }), `member "a" is encrypted`},
		{"another method", change(func(z *trick) { z.central.method = 93 }), `member "a" is compressed by method 93; only 0 (stored) and 8 (deflate) are read`},
	} {
		holdTrick(t, c.summary, c.zip.bytes(t), c.want)
	}
}

// holdTrick unpacks an archive, and expects what it lists or why it is refused; of
// a reason that ends with a colon, its beginning.
func holdTrick(t *testing.T, summary string, b []byte, want string) {
	t.Helper()
	a, data, err := unpack(b, archive.Options{})
	got := ""
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "cannot unpack archive: ")
	} else {
		got = listing(a, data)
	}
	if got != want && !(strings.HasSuffix(want, ": ") && strings.HasPrefix(got, want)) {
		t.Errorf("%s:\n got %.300q\nwant %q", summary, got, want)
	}
}
