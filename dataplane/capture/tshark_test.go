//go:build privileged

package capture

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// tool runs one of Wireshark's commands, which must be there.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, &stderr)
	}
	return string(out)
}

// TestWiresharkReadsIt has the tools that our users have read a capture.
func TestWiresharkReadsIt(t *testing.T) {
	var tap Tap
	path := filepath.Join(t.TempDir(), "test.pcapng")
	file := must(os.Create(path))
	s := must(NewSession(file, Options{Queue: 4, SnapLen: 100, Application: "hnvgate test"}))
	m, b := arp(t, contoso, rdid1)
	s.offer(&m, b)
	m.Point, m.Reason = Drop, drop.ARPSpoofed
	s.offer(&m, b)
	ping := packet.NewFrame(1000)
	ping.Append(500)
	echo := ping.Bytes()
	copy(echo, []byte{0x45, 0, 1, 0xf4, 0, 0, 0, 0, 64, 17, 0, 0, 192, 168, 1, 10, 192, 168, 1, 20})
	raw := Meta{Time: start + 7_000_000_001, Point: FabricOut, Link: RawIP, SrcPA: pa1, DstPA: pa2}
	s.offer(&raw, echo)
	s.offer(&raw, echo)
	s.offer(&raw, echo) // finds no room
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tap.Run(ctx, s); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}

	// tshark -r fails on anything it finds wrong with the file.
	got := tool(t, "tshark", "-n", "-r", path, "-T", "fields", "-E", "separator=|",
		"-e", "frame.time_epoch", "-e", "frame.interface_name", "-e", "frame.cap_len", "-e", "frame.len",
		"-e", "frame.packet_flags_direction", "-e", "frame.protocols", "-e", "frame.comment")
	id := "tenant=contoso rdid=11111111-2222-4333-8444-555555555555 vsid=5001 port=c11"
	want := strings.Join([]string{
		"1767323045.000000006|c11|42|42|0x00000001|eth:ethertype:arp|point=port-in " + id,
		"1767323045.000000006|c11|42|42||eth:ethertype:arp|point=drop " + id + " drop=arp-spoofed (" + drop.ARPSpoofed.Meaning() + ")",
		"1767323052.000000007|fabric|100|500|0x00000002|raw:ip:udp|point=fabric-out src-pa=192.168.1.10 dst-pa=192.168.1.20",
		"1767323052.000000007|fabric|100|500|0x00000002|raw:ip:udp|point=fabric-out src-pa=192.168.1.10 dst-pa=192.168.1.20",
	}, "\n") + "\n"
	if got != want {
		t.Errorf("tshark reads\n%s\nwant\n%s", got, want)
	}
	if n := strings.Count(tool(t, "tshark", "-n", "-r", path, "-Y", `frame.comment contains "vsid=5001 "`), "\n"); n != 2 {
		t.Errorf("a display filter for the VSID finds %d packets", n)
	}
	info := tool(t, "capinfos", "-M", path)
	for _, want := range []string{
		"File type:           pcapng",
		"File timestamp precision:  nanoseconds (9)",
		"Number of packets:   4",
		"Capture application: hnvgate test",
		"Capture comment:     capture of everything",
		"Number of interfaces in file: 2",
		"Name = c11", "Name = fabric",
		"Description = port of tenant contoso",
		"Encapsulation = Ethernet", "Encapsulation = Raw IP",
		"Time precision = nanoseconds (9)",
		"Number of packets = 2",
		"Strict time order:   True",
	} {
		if !strings.Contains(info, want) {
			t.Errorf("capinfos does not say %q:\n%s", want, info)
		}
	}
}
