package cause

// entry is one cause of the catalogue. Numbers are those of the project's list of
// causes; an ID never changes its meaning, for CI holds on to it.
type entry struct {
	ID    string
	Title string
	Kind  string   // what it hangs on: see Depends.On
	Field detector // claims findings that are fields; nil when it has none
	How   string   // its normaliser, as "… → identical"
	Mend  func(*mender, *Cause)
}

// catalogue is the list of all causes; fields are offered to it from the top, so
// that a detector stands before those that would also take its findings. Causes without
// a Field are found in text and bytes: whole.go, line.go and binary.go.
var catalogue = []entry{
	{ID: "35-inputs", Title: "INPUTS DIFFER", Kind: "inputs", Field: inputField, How: "no normaliser: other inputs are no non-determinism", Mend: mendInputs},
	{ID: "38-toolchain", Title: "TOOLCHAIN differs", Kind: "tools", Field: toolchain, How: "versions and flags of tools replaced by one token", Mend: mendToolchain},
	{ID: "17-timezone", Title: "TIME ZONE", Kind: "host", Field: zipZone, How: "times moved into one zone", Mend: mendTimezone},
	{ID: "1-build-time", Title: "BUILD TIME in text", Kind: "time", How: "dates replaced by one token", Mend: mendBuildTime},
	{ID: "14-ar-header", Title: "AR MEMBER HEADERS", Kind: "time", Field: arHeader, How: "time, owner and mode of members set to 0", Mend: mendAr},
	{ID: "2-file-time", Title: "FILE TIMES in the archive", Kind: "time", Field: tarTime, How: "times set to one value", Mend: mendFileTime},
	{ID: "3-build-path", Title: "BUILD PATH", Kind: "host", How: "the folders replaced by one token", Mend: mendBuildPath},
	{ID: "4-rpath", Title: "RPATH of the build folder", Kind: "host", How: "the emptied RPATH cut out", Mend: mendRpath},
	{ID: "5-build-id", Title: "BUILD ID only", Kind: "chance", How: "the build-id masked", Mend: mendBuildID},
	{ID: "15-link-order", Title: "ORDER OF OBJECTS in an archive or program", Kind: "order", Field: linkOrder, How: "members sorted", Mend: mendLinkOrder},
	{ID: "27-sqlite", Title: "DATABASE PAGES in another layout", Kind: "chance", Field: sqlite, How: "compared row by row", Mend: mendSqlite},
	{ID: "7-hash-order", Title: "ORDER OF A HASH OR SET", Kind: "chance", Field: keyOrder, How: "keys, words or lines sorted", Mend: mendHashOrder},
	{ID: "6-file-order", Title: "FILE LIST NOT SORTED", Kind: "order", Field: memberOrder, How: "names sorted", Mend: mendFileOrder},
	{ID: "8-gzip-header", Title: "GZIP HEADER", Kind: "time", Field: gzipHeader, How: "with time 0 and no name in the header", Mend: mendGzip},
	{ID: "9-compression", Title: "COMPRESSION: program, level or threads", Kind: "tools", Field: compression, How: "unpacked", Mend: mendCompression},
	{ID: "10-zip-header", Title: "ZIP MEMBER HEADERS", Kind: "time", Field: zipTime, How: "times and extra fields of members set to one value", Mend: mendZip},
	{ID: "11-jar-manifest", Title: "JAR MANIFEST AND PROPERTIES", Kind: "time", How: "the fields that say who, when and with what taken out", Mend: mendJar},
	{ID: "12-owner", Title: "OWNER of files", Kind: "host", Field: owner, How: "owners set to 0:0", Mend: mendOwner},
	{ID: "13-umask", Title: "UMASK", Kind: "host", Field: umask, How: "the bits that umasks take cleared", Mend: mendUmask},
	{ID: "16-locale", Title: "LOCALE", Kind: "host", How: "lines sorted by bytes", Mend: mendLocale},
	{ID: "18-host-facts", Title: "HOST NAME, USER OR HOME", Kind: "host", How: "the values of each host replaced by one token", Mend: mendHostFacts},
	{ID: "19-kernel", Title: "KERNEL in text", Kind: "host", How: "the kernels' names replaced by one token", Mend: mendKernel},
	{ID: "20-cpu-count", Title: "CPU COUNT in text", Kind: "host", How: "the numbers replaced by one token", Mend: mendCPUs},
	{ID: "21-cpu-features", Title: "CODE FOR THE HOST'S CPU", Kind: "host", How: "names of processors replaced by one token", Mend: mendCPUFeatures},
	{ID: "22-random", Title: "RANDOM VALUE", Kind: "chance", How: "the made-up values replaced by one token", Mend: mendRandom},
	{ID: "23-pid", Title: "PROCESS NUMBER", Kind: "chance", How: "the numbers replaced by one token", Mend: mendPID},
	{ID: "24-address", Title: "MEMORY ADDRESSES", Kind: "chance", How: "the addresses replaced by one token", Mend: mendAddress},
	{ID: "25-pyc-time", Title: "PYC SOURCE TIME", Kind: "time", Field: pycTime, How: "the time in the header set to 0", Mend: mendPyc},
	{ID: "26-pyc-refs", Title: "PYC REFERENCE FLAGS", Kind: "chance", Field: pycRefs, How: "the FLAG_REF bits cleared", Mend: mendPycRefs},
	{ID: "28-package-state", Title: "STATE OF PACKAGE MANAGERS", Kind: "time", How: "files that nothing needs left out", Mend: mendPackageState},
	{ID: "29-docs", Title: "DOCUMENTS: dates and identifiers", Kind: "time", Field: pdf, How: "dates and /ID replaced by one token", Mend: mendDocs},
	{ID: "30-gettext", Title: "GETTEXT HEADER", Kind: "time", Field: gettext, How: "the dates in the header replaced by one token", Mend: mendGettext},
	{ID: "31-picture-time", Title: "TIME IN A PICTURE", Kind: "time", Field: picture, How: "the chunks with times taken out", Mend: mendPicture},
	{ID: "32-file-system", Title: "FILE SYSTEM IMAGE: time and UUID", Kind: "time", Field: fileSystem, How: "time and UUID in the superblock set to 0", Mend: mendFileSystem},
	{ID: "33-pax-records", Title: "PAX TIMES", Kind: "time", Field: paxTimes, How: "the records taken out", Mend: mendPax},
	{ID: "34-entry-kind", Title: "ARCHIVE WRITTEN IN ANOTHER WAY", Kind: "tools", Field: entryKind, How: "read by what entries mean", Mend: mendEntryKind},
	{ID: "39-go-rust", Title: "GO OR RUST BUILD INFORMATION", Kind: "host", Field: goBuild, How: "the build information taken out", Mend: mendGoRust},
	{ID: "40-image-documents", Title: "IMAGE CONFIG AND MANIFEST", Kind: "time", Field: imageDocument, How: "dates and made-up values replaced by one token", Mend: mendImageDocuments},
	{ID: "57-log", Title: "LOG OF THE RUN", Kind: "time", How: "", Mend: mendLog},
	{ID: "37-measured", Title: "MEASURED WHILE BUILDING", Kind: "chance", How: "", Mend: mendMeasured},
	{ID: "36-race", Title: "UNFINISHED OR MISSING FILE", Kind: "chance", How: "", Mend: mendRace},
}

func entryOf(id string) *entry {
	for i := range catalogue {
		if catalogue[i].ID == id {
			return &catalogue[i]
		}
	}
	return nil
}
