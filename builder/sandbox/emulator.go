package sandbox

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Emulator runs programs of another architecture in a sandbox. It is a program
// of qemu-user on the host that needs no libraries, and nothing of it is shown
// inside: the kernel opens it when the sandbox is made (binfmt_misc, flag F).
//
// A user namespace may have a binfmt_misc of its own since Linux 6.7, so the
// sandbox registers the emulator for itself and the machine needs no set-up.
// Where the machine's administrator has registered one, or where the processor
// runs such programs, nothing is to be done.
type Emulator struct {
	Arch    string // Go's name of the architecture: "arm64"
	Program string // path on the host; "" when the kernel runs such programs anyway
}

// String names the emulator for reports.
func (e Emulator) String() string {
	if e.Program == "" {
		return "the kernel"
	}
	return e.Program
}

// EmulatorError says that programs of an architecture cannot run here.
type EmulatorError struct {
	Arch  string
	Tried []string // what was found, and why it does not do
}

func (e *EmulatorError) Error() string {
	if len(e.Tried) == 0 {
		return fmt.Sprintf("nothing here runs programs for %s: there is no %s", e.Arch, strings.Join(emulatorNames(e.Arch), " and no "))
	}
	return fmt.Sprintf("nothing here runs programs for %s: %s", e.Arch, strings.Join(e.Tried, "; "))
}

// Hint says what to do.
func (e *EmulatorError) Hint() string {
	if len(e.Tried) > 0 {
		return "a sandbox can have an emulator of its own since Linux 6.7; before, register it with the kernel once: install the packages qemu-user-static and binfmt-support"
	}
	return "install the package qemu-user-static, or build this platform on a machine of its kind"
}

// machine is what ELF says of an architecture (ELF specification and its
// supplements), with a program that ends with status probeStatus.
type machine struct {
	qemu  string // as qemu calls it
	class byte   // 1: 32 bits, 2: 64 bits
	order binary.ByteOrder
	elf   uint16 // e_machine
	flags uint32 // e_flags
	code  []byte // exit(probeStatus)
}

// probeStatus is the exit status of the program that tries an emulator: no
// failure of a program or a shell has it.
const probeStatus = 42

// machines are the architectures that Debian has, by Go's names.
var machines = map[string]machine{
	"amd64":   {"x86_64", 2, binary.LittleEndian, 62, 0, []byte{0xbf, 42, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05}},             // mov edi,42; mov eax,60; syscall
	"arm64":   {"aarch64", 2, binary.LittleEndian, 183, 0, words(binary.LittleEndian, 0xd2800540, 0xd2800ba8, 0xd4000001)},     // mov x0,42; mov x8,93; svc 0
	"386":     {"i386", 1, binary.LittleEndian, 3, 0, []byte{0xbb, 42, 0, 0, 0, 0xb8, 1, 0, 0, 0, 0xcd, 0x80}},                 // mov ebx,42; mov eax,1; int 0x80
	"arm":     {"arm", 1, binary.LittleEndian, 40, 0x05000000, words(binary.LittleEndian, 0xe3a0002a, 0xe3a07001, 0xef000000)}, // mov r0,42; mov r7,1; svc 0
	"riscv64": {"riscv64", 2, binary.LittleEndian, 243, 0, words(binary.LittleEndian, 0x02a00513, 0x05d00893, 0x00000073)},     // li a0,42; li a7,93; ecall
	"ppc64le": {"ppc64le", 2, binary.LittleEndian, 21, 2, words(binary.LittleEndian, 0x38000001, 0x3860002a, 0x44000002)},      // li r0,1; li r3,42; sc
	"s390x":   {"s390x", 2, binary.BigEndian, 22, 0, []byte{0xa7, 0x29, 0, 42, 0x0a, 1}},                                       // lghi r2,42; svc 1
}

func words(order binary.ByteOrder, all ...uint32) []byte {
	var b bytes.Buffer
	_ = binary.Write(&b, order, all)
	return b.Bytes()
}

// emulatorNames are the programs that run an architecture's programs, those
// that surely need no libraries first.
func emulatorNames(arch string) []string {
	m, ok := machines[arch]
	if !ok {
		return []string{"emulator that we know"}
	}
	return []string{"qemu-" + m.qemu + "-static", "qemu-" + m.qemu}
}

// registration is the line for the file "register" of binfmt_misc: ELF files of
// the machine, executable or position independent, of whatever OS ABI, are run
// by program. The flags: O hands over the opened file, P keeps argv[0], F opens the
// program now (Documentation/admin-guide/binfmt-misc.rst).
func registration(arch, program string) (string, error) {
	m, ok := machines[arch]
	if !ok {
		return "", fmt.Errorf("no ELF machine is known for %q", arch)
	}
	if strings.ContainsAny(program, ":\\\n") {
		return "", fmt.Errorf("the path %q of the emulator has characters that the kernel takes for its own", program)
	}
	magic := m.header(0)[:20]
	magic[16], magic[17] = 0, 0
	m.order.PutUint16(magic[16:], 2) // ET_EXEC; with the mask below ET_DYN, too
	mask := bytes.Repeat([]byte{0xff}, 20)
	mask[7] = 0 // EI_OSABI
	m.order.PutUint16(mask[16:], 0xfffe)
	return fmt.Sprintf(":quorate-%s:M::%s:%s:%s:OPF", arch, escaped(magic), escaped(mask), program), nil
}

func escaped(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		fmt.Fprintf(&s, `\x%02x`, c)
	}
	return s.String()
}

// probeAddress is where the probe is loaded: where linkers put programs by default.
const probeAddress = 0x400000

// probe is a whole program that ends with probeStatus: an ELF header, one
// program header, the code.
func (m machine) probe() []byte {
	size := 64 + 56
	if m.class == 1 {
		size = 52 + 32
	}
	file := uint64(size + len(m.code))
	var segment bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			_ = binary.Write(&segment, m.order, v)
		}
	}
	if m.class == 1 { // p_type, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_flags, p_align
		put(uint32(1), uint32(0), uint32(probeAddress), uint32(probeAddress), uint32(file), uint32(file), uint32(5), uint32(0x10000))
	} else { // p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align
		put(uint32(1), uint32(5), uint64(0), uint64(probeAddress), uint64(probeAddress), file, file, uint64(0x10000))
	}
	return slices.Concat(m.header(uint64(probeAddress+size)), segment.Bytes(), m.code)
}

// header is the ELF header of a program with one program header.
func (m machine) header(entry uint64) []byte {
	data := byte(1)
	if m.order == binary.BigEndian {
		data = 2
	}
	b := bytes.NewBuffer([]byte{0x7f, 'E', 'L', 'F', m.class, data, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	put := func(values ...any) {
		for _, v := range values {
			_ = binary.Write(b, m.order, v)
		}
	}
	put(uint16(2), m.elf, uint32(1)) // ET_EXEC, EV_CURRENT
	if m.class == 1 {
		put(uint32(entry), uint32(52), uint32(0), m.flags, uint16(52), uint16(32), uint16(1), uint16(40), uint16(0), uint16(0))
	} else {
		put(entry, uint64(64), uint64(0), m.flags, uint16(64), uint16(56), uint16(1), uint16(64), uint16(0), uint16(0))
	}
	return b.Bytes()
}
