package peering

import (
	"fmt"
	"strconv"
	"strings"
)

// Community is a community of RFC 1997; as text "65001:100" or a name that IANA
// registered, such as "no-export".
type Community uint32

// Well-known communities (RFC 1997, RFC 9494, RFC 7999).
const (
	NoExport          Community = 0xFFFFFF01
	NoAdvertise       Community = 0xFFFFFF02
	NoExportSubconfed Community = 0xFFFFFF03
	LLGRStale         Community = 0xFFFF0006
	NoLLGR            Community = 0xFFFF0007
	Blackhole         Community = 0xFFFF029A
)

func wellKnown(c Community) string {
	switch c {
	case NoExport:
		return "no-export"
	case NoAdvertise:
		return "no-advertise"
	case NoExportSubconfed:
		return "no-export-subconfed"
	case LLGRStale:
		return "llgr-stale"
	case NoLLGR:
		return "no-llgr"
	case Blackhole:
		return "blackhole"
	default:
		return ""
	}
}

// ParseCommunity reads a community's text.
func ParseCommunity(s string) (Community, error) {
	for _, c := range []Community{NoExport, NoAdvertise, NoExportSubconfed, LLGRStale, NoLLGR, Blackhole} {
		if s == wellKnown(c) {
			return c, nil
		}
	}
	parts, err := decimals(s, 2, 16)
	if err != nil {
		return 0, fmt.Errorf("community %q: %w, as in 65001:100, or a name, as in no-export", s, err)
	}
	return Community(parts[0]<<16 | parts[1]), nil
}

// Pair gives the community as two numbers, without names.
func (c Community) Pair() string { return fmt.Sprintf("%d:%d", c>>16, c&0xFFFF) }

func (c Community) String() string {
	if name := wellKnown(c); name != "" {
		return name
	}
	return c.Pair()
}

// MarshalText gives String.
func (c Community) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText is ParseCommunity.
func (c *Community) UnmarshalText(b []byte) (err error) {
	*c, err = ParseCommunity(string(b))
	return err
}

// LargeCommunity is a community of RFC 8092; as text "65001:1:2".
type LargeCommunity struct{ Global, Local1, Local2 uint32 }

// ParseLargeCommunity reads a large community's text.
func ParseLargeCommunity(s string) (LargeCommunity, error) {
	p, err := decimals(s, 3, 32)
	if err != nil {
		return LargeCommunity{}, fmt.Errorf("large community %q: %w, as in 65001:1:2", s, err)
	}
	return LargeCommunity{p[0], p[1], p[2]}, nil
}

func (c LargeCommunity) String() string { return fmt.Sprintf("%d:%d:%d", c.Global, c.Local1, c.Local2) }

// MarshalText gives String.
func (c LargeCommunity) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText is ParseLargeCommunity.
func (c *LargeCommunity) UnmarshalText(b []byte) (err error) {
	*c, err = ParseLargeCommunity(string(b))
	return err
}

// decimals reads n numbers of so many bits with colons between them, in the one
// way they are written (RFC 8092, 5: no leading zeros).
func decimals(s string, n, bits int) ([]uint32, error) {
	parts := strings.Split(s, ":")
	if len(parts) != n {
		return nil, fmt.Errorf("must be %d numbers", n)
	}
	out := make([]uint32, n)
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 10, bits)
		if err != nil || strconv.FormatUint(v, 10) != p {
			return nil, fmt.Errorf("%q is not a decimal number of %d bits", p, bits)
		}
		out[i] = uint32(v)
	}
	return out, nil
}
