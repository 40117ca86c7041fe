package service

import (
	"encoding/json"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// listenEcho opens one socket for a family, "udp4" or "udp6". It notes to which
// of the machine's addresses a packet came, so that the answer comes from there:
// a machine with several addresses would otherwise answer from another one, and
// no NAT on the way would take it for an answer.
func listenEcho(network, addr string) (*net.UDPConn, error) {
	a, err := net.ResolveUDPAddr(network, addr)
	if err != nil {
		return nil, fmt.Errorf("serve UDP echo: %w", err)
	}
	c, err := net.ListenUDP(network, a)
	if err != nil {
		return nil, fmt.Errorf("serve UDP echo: %w", err)
	}
	raw, err := c.SyscallConn()
	if err == nil {
		level, option := unix.IPPROTO_IP, unix.IP_PKTINFO
		if network == "udp6" {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
		}
		var set error
		err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), level, option, 1) })
		if err == nil {
			err = set
		}
	}
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("serve UDP echo: %w", err)
	}
	return c, nil
}

// serveEcho sends back what comes, behind a line that says who answers and whom
// it saw.
func serveEcho(c *net.UDPConn, name string) error {
	buf, oob := make([]byte, 1<<16), make([]byte, 128)
	for {
		n, m, _, peer, err := c.ReadMsgUDPAddrPort(buf, oob)
		if err != nil {
			return err
		}
		head, err := json.Marshal(Identity{name, peer.String()})
		if err != nil {
			return err
		}
		// A peer that is gone is no reason to stop.
		_, _, _ = c.WriteMsgUDPAddrPort(append(append(head, '\n'), buf[:n]...), cameTo(oob[:m]), peer)
	}
}

// cameTo turns what was received about a packet's destination into what makes
// the answer come from there, by whatever interface.
func cameTo(oob []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			var info unix.Inet4Pktinfo
			copy(info.Spec_dst[:], m.Data[8:12]) // ipi_addr, the header's destination
			return unix.PktInfo4(&info)
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			var info unix.Inet6Pktinfo
			copy(info.Addr[:], m.Data[:16])
			return unix.PktInfo6(&info)
		}
	}
	return nil
}
