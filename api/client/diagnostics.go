package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// NextHop tells where packets from a customer address to another one go.
func (c *Client) NextHop(ctx context.Context, vsid uint32, src, dst string) (v1.NextHop, error) {
	return get[v1.NextHop](ctx, c, with(path("next-hop"), "vsid", number(vsid), "srcCA", src, "dstCA", dst))
}

// Ping sends one echo in the name of a station of the gateway's machine.
func (c *Client) Ping(ctx context.Context, q v1.PingRequest) (v1.PingReply, error) {
	return send[v1.PingReply](ctx, c, http.MethodPost, path("ping"), q)
}

// ProviderPing sends one echo from a provider address of the gateway.
func (c *Client) ProviderPing(ctx context.Context, q v1.ProviderPingRequest) (v1.PingReply, error) {
	return send[v1.PingReply](ctx, c, http.MethodPost, path("provider-ping"), q)
}

// Trace takes a packet through the layers for show.
func (c *Client) Trace(ctx context.Context, q v1.TraceRequest) (v1.Trace, error) {
	return send[v1.Trace](ctx, c, http.MethodPost, path("trace"), q)
}

// InspectPort tells all about a port: its interface, or compartment/TENANT. At
// most so many flows are listed, of the customer address or prefix if it is not
// empty.
func (c *Client) InspectPort(ctx context.Context, port string, flows int, ca string) (v1.PortInspection, error) {
	at := path("ports", port, "inspection")
	if tenant, is := strings.CutPrefix(port, "compartment/"); is {
		at = path("compartments", tenant, "inspection")
	}
	return get[v1.PortInspection](ctx, c, with(at, "flows", strconv.Itoa(flows), "ca", ca))
}

// Capture writes a capture to w until it is over, or ctx ends, and tells how many
// packets it holds. What is written is a whole pcapng file in any case.
func (c *Client) Capture(ctx context.Context, q v1.CaptureRequest, w io.Writer) (packets uint64, err error) {
	b, err := json.Marshal(q)
	if err != nil {
		return 0, fmt.Errorf("encode request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path("captures"), bytes.NewReader(b))
	if err != nil {
		return 0, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	switch {
	case err != nil && ctx.Err() != nil:
		return 0, nil
	case err != nil:
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			err = op.Err
		}
		return 0, &Unreachable{c.target, err}
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= 400 {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return 0, problem(resp, b)
	}
	packets, err = copyBlocks(w, resp.Body)
	if err != nil && ctx.Err() == nil {
		return packets, fmt.Errorf("the capture broke off: %w", err)
	}
	return packets, nil
}

// The frame of a pcapng block, as the gateway writes them: little-endian.
const (
	blockHeader = 8
	blockPacket = 6 // enhanced packet block
	maxBlock    = 1 << 20
)

// copyBlocks copies whole blocks of a pcapng file, and counts its packets.
func copyBlocks(w io.Writer, r io.Reader) (packets uint64, err error) {
	var buf bytes.Buffer
	for {
		buf.Reset()
		if _, err := io.CopyN(&buf, r, blockHeader); err != nil {
			if errors.Is(err, io.EOF) && buf.Len() == 0 {
				return packets, nil
			}
			return packets, err
		}
		typ, n := binary.LittleEndian.Uint32(buf.Bytes()), binary.LittleEndian.Uint32(buf.Bytes()[4:])
		if n < blockHeader+4 || n > maxBlock {
			return packets, fmt.Errorf("a block says that it has %d bytes", n)
		}
		if _, err := io.CopyN(&buf, r, int64(n)-blockHeader); err != nil {
			return packets, err
		}
		if _, err := w.Write(buf.Bytes()); err != nil {
			return packets, err
		}
		if typ == blockPacket {
			packets++
		}
	}
}
