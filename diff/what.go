package diff

// What a finding is about: Finding.What. Those of entries and members (from a
// tar, zip, ar, cpio or folder) are the same for every container; those of one
// format begin with its name and a dot.
const (
	// Things as a whole.
	WhatPresence    = "presence"    // on one side only; A or B describes it
	WhatRenamed     = "renamed"     // paired by equal or similar content, not by name
	WhatOrder       = "order"       // equal things stand in another order
	WhatContent     = "content"     // bytes differ; the reasons are in children or neighbours (Effect), or nothing more could be said
	WhatCompression = "compression" // packed bytes differ, unpacked ones are equal; Note names compressors where they can be told
	WhatPacked      = "packed"      // packed bytes differ because the unpacked child does (Effect)
	WhatFormat      = "format"      // read as different formats: "gzip" | "text"
	WhatMalformed   = "malformed"   // claims a format and breaks its rules, or unpacks beyond all limits; A, B say how
	WhatUnexplained = "unexplained" // "unexplained: N bytes at offset X": nobody could say more
	WhatFolded      = "folded"      // differences beyond the budget, owned in one go; More says how many

	// Leaves.
	WhatText    = "text"    // changed lines; Line is set; Runs are the changed characters
	WhatBytes   = "bytes"   // aligned differing bytes of an unknown format
	WhatString  = "string"  // a NUL-terminated string of a program, class file or the like
	WhatValue   = "value"   // a leaf of JSON, YAML or properties; Where is its path, Line and Column its place
	WhatSpacing = "spacing" // white space and punctuation between such leaves
	WhatPadding = "padding" // bytes without meaning between things

	// Metadata of entries and members.
	WhatType    = "type"    //
	WhatName    = "name"    // bytes of the name as stored ("./x" | "x"), in effect equal
	WhatMode    = "mode"    // octal
	WhatOwner   = "owner"   // "uid:gid" numbers
	WhatUser    = "user"    // "uname:gname"
	WhatModTime = "mtime"   // "SECONDS[.NANOS] (YYYY-MM-DD hh:mm:ss)"; the exact value is in Meta
	WhatLink    = "link"    // target of a symlink or hard link
	WhatDevice  = "device"  // major:minor
	WhatXattr   = "xattr"   // one extended attribute; Where is its name
	WhatPAX     = "pax"     // one other PAX record; Where is its key: "atime", "ctime", "GNU.sparse.map"
	WhatPAXName = "paxname" // name, mode, mtime … of the PAX header block itself; "PaxHeaders.PID"
	WhatTar     = "tar"     // tar format: "ustar" | "pax" | "gnu" | "v7"
	WhatSize    = "size"    // Effect
	WhatSum     = "checksum"
	WhatSparse  = "sparse" // sparse map

	// OCI and docker images; Where is the JSON path.
	WhatIndex    = "oci.index"
	WhatManifest = "oci.manifest"
	WhatConfig   = "oci.config"  // also rootfs
	WhatHistory  = "oci.history" // history[i] of the config
	WhatLayers   = "oci.layers"  // order and number of layers

	// gzip (RFC 1952), other compressors.
	WhatGzipTime   = "gzip.mtime" // "SECONDS (date)"
	WhatGzipName   = "gzip.name"
	WhatGzipOS     = "gzip.os"
	WhatGzipFlags  = "gzip.flags" // FLG, XFL, extra field, comment
	WhatXzHeader   = "xz.header"  // flags, block sizes and indexes
	WhatZstdHeader = "zstd.header"

	// zip, jar, wheel; Where says "local" or "central" where only one differs.
	WhatZipTime     = "zip.time"       // DOS time, no zone
	WhatZipExtra    = "zip.extra"      // one extra field; Where is its hex number: "5455" (UT), "7875" (ux)
	WhatZipVersion  = "zip.version"    // made by, needed
	WhatZipFlags    = "zip.flags"      //
	WhatZipMethod   = "zip.method"     //
	WhatZipAttrs    = "zip.attributes" // external and internal; unix mode is shown octal
	WhatZipComment  = "zip.comment"    //
	WhatZipOffset   = "zip.offset"     // Effect
	WhatArHeader    = "ar.header"      // mtime, uid, gid, mode have the common keys; this is the rest
	WhatArSymbols   = "ar.symbols"     // symbol index (Effect)
	WhatCpioHeader  = "cpio.header"    // inode, nlink, device numbers; the rest has the common keys
	WhatElfHeader   = "elf.header"     // Where names the field
	WhatElfSections = "elf.sections"   // section header table: Where is the section, offsets and sizes are Effect
	WhatElfSegments = "elf.segments"   // program headers (Effect)
	WhatElfBuildID  = "elf.buildid"    // .note.gnu.build-id and .note.go.buildid; hex (Effect)
	WhatElfDebug    = "elf.debuglink"  // .gnu_debuglink (CRC: Effect)
	WhatElfComment  = "elf.comment"    // .comment: compilers
	WhatElfNote     = "elf.note"       // other notes
	WhatElfSymbol   = "elf.symbol"     // symbol table entry; Where is its name
	WhatElfAddress  = "elf.address"    // code or tables with shifted addresses
	WhatDwarf       = "dwarf"          // debug information: Where is the attribute and its entry: "DW_AT_comp_dir of unit main.c"; owns no bytes
	WhatGoBuildInfo = "go.buildinfo"   // Where is the key: "vcs.modified", "-trimpath", "path", "go", "dep …"
	WhatPycMagic    = "pyc.magic"      // interpreter
	WhatPycFlags    = "pyc.flags"      //
	WhatPycTime     = "pyc.mtime"      //
	WhatPycSize     = "pyc.size"       // of the source
	WhatPycHash     = "pyc.hash"       // of the source
	WhatPycRef      = "pyc.flagref"    // only the FLAG_REF bits (0x80) of marshal types
	WhatPycValue    = "pyc.value"      // a constant, name or file name in the code
	WhatClass       = "class.version"  // Java class file version
	WhatClassConst  = "class.constant" // constant pool entry
	WhatSqlite      = "sqlite.header"  // Where is the field: "change counter", "version-valid-for", "SQLITE_VERSION_NUMBER" …
	WhatSqlitePage  = "sqlite.page"    // layout of pages (Effect when rows differ)
	WhatSqliteRow   = "sqlite.row"     // logical content: Where is "TABLE rowid N"; owns no bytes, the pages do
	WhatSqliteFree  = "sqlite.free"    // free pages and unused space in pages
	WhatPngChunk    = "png.chunk"      // Where is the type: "tIME", "tEXt Date", "IDAT"
	WhatPdfID       = "pdf.id"         // trailer /ID
	WhatPdfDate     = "pdf.date"       // /CreationDate, /ModDate and XMP dates; Where is the key
	WhatPdfInfo     = "pdf.info"       // /Producer, /Creator, …
	WhatMoHeader    = "mo.header"      // header of a gettext catalogue; Where is the key: "POT-Creation-Date"
	WhatMoMessage   = "mo.message"     // a translation; Where is the msgid
	WhatSquashfs    = "squashfs"       // superblock; Where is the field: "mkfs time"
)
